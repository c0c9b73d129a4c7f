/* SPDX-License-Identifier: MIT */
/* Checks of the result of config_load(), for any input. */
#pragma once

#include "netd/config/config.h"

#include "../unit/libconfig-leaks.h"
#include "fuzz.h"

#include <errno.h>
#include <syslog.h>

static inline void settings_check_listener(const struct config *c,
                                           const struct listener_config *listener)
{
    const struct listener_settings *l = &listener->settings;
    const struct listener_address *a = &listener->address;

    MUST(memchr(a->host, '\0', sizeof(a->host)) && a->host[0]);
    MUST(memchr(a->path, '\0', sizeof(a->path)));
    MUST(!a->path[0] || ((a->path[0] == '/' || a->path[0] == '@') && a->path[1]));
    MUST(a->mode <= 0777);
    MUST(memchr(l->name, '\0', sizeof(l->name)));
    MUST(l->name[0] || c->n_listeners == 1);
    MUST(listener->n_rules <= c->n_rules && listener->first_rule <= c->n_rules - listener->n_rules);
    MUST(listener->n_rules == 0 || !a->path[0] || l->name[0]);
    MUST(l->max_record >= MAX_RECORD_LOW && l->max_record <= MAX_RECORD_HIGH);
    MUST(l->framing < FRAMINGS && l->format < FORMATS);
    MUST(l->priority >= LOG_NOTICE && l->priority <= LOG_DEBUG);
    MUST(l->sessions_max >= 1 && l->sessions_max <= SESSIONS_MAX_HIGH);
    MUST(l->sessions_max_per_address <= SESSIONS_MAX_HIGH);
    MUST(l->flush_timeout <= SECONDS_HIGH);
    MUST(l->max_rate <= MAX_RATE_HIGH);
    MUST(l->idle_timeout <= SECONDS_HIGH);
    MUST(memchr(l->identifier, '\0', sizeof(l->identifier)) && l->identifier[0]);
}

static inline void settings_check(const struct config *c)
{
    MUST(c->n_listeners >= 1 && c->n_listeners <= CONFIG_LISTENERS_MAX);
    MUST(c->n_rules <= CONFIG_RULES_MAX);
    for (uint32_t i = 0; i < c->n_listeners; i++)
        settings_check_listener(c, &c->listeners[i]);
    MUST(c->service.sessions_max >= 1 && c->service.sessions_max <= SESSIONS_MAX_HIGH);
    MUST(c->service.sessions_max_per_address <= SESSIONS_MAX_HIGH);
    MUST(c->service.stop_timeout <= SECONDS_HIGH);
    MUST(c->service.buffer_memory >= BUFFER_MEMORY_LOW &&
         c->service.buffer_memory <= BUFFER_MEMORY_HIGH);
    MUST(c->service.output <= OUTPUT_EXPORT);
}

/* An error is one line of printable ASCII. */
static inline void settings_check_error(int r, const char *error)
{
    MUST(r == -EINVAL || r == -EBADMSG);
    MUST(error[0]);
    for (; *error; error++)
        MUST(*error >= ' ' && *error <= '~');
}

/* Loads INPUT and checks the result. Returns the configuration, or NULL if it was rejected. */
static inline const struct config *settings_try(const struct config_input *input)
{
    static struct config config, before;
    static char error[CONFIG_ERROR_MAX];
    int r;

    /* Both are alike, and the rest of them is never looked at. */
    memset(&config, 0x55, offsetof(struct config, rules));
    memset(&before, 0x55, offsetof(struct config, rules));
    error[0] = '\0';
    r = config_load(&config, input, error);
    if (r == 0) {
        settings_check(&config);
    } else {
        settings_check_error(r, error);
        MUST(memcmp(&config, &before, offsetof(struct config, rules)) == 0);
    }
    return r == 0 ? &config : NULL;
}
