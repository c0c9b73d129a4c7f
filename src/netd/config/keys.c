/* SPDX-License-Identifier: MIT */
#include "netd/config/keys.h"

#include "common/names.h"
#include "common/util.h"

#include <string.h>
#include <syslog.h>

static const struct key_choice key_framings[] = {
    {"line", FRAMING_LINE},   {"raw", FRAMING_RAW},   {"nul", FRAMING_NUL},
    {"octet", FRAMING_OCTET}, {"relp", FRAMING_RELP}, {NULL, 0},
};
static const struct key_choice key_formats[] = {
    {"plain", FORMAT_PLAIN}, {"syslog", FORMAT_SYSLOG}, {NULL, 0}};
static const struct key_choice key_priorities[] = {
    {"notice", LOG_NOTICE}, {"info", LOG_INFO}, {"debug", LOG_DEBUG}, {NULL, 0}};
static const struct key_choice key_outputs[] = {
    {"auto", OUTPUT_AUTO},
    {"journal", OUTPUT_JOURNAL},
    {"text", OUTPUT_TEXT},
    {"export", OUTPUT_EXPORT},
    {NULL, 0},
};

static const struct key_choice key_versions[] = {{"1.2", 2}, {"1.3", 3}, {NULL, 0}};

#define DEFAULT_SESSIONS_MAX 10000

#define MEMBER(type, f)  .offset = offsetof(type, f), .size = sizeof(((type *)0)->f)
#define SERVICE(f)       .of_service = true, MEMBER(struct service_settings, f)
#define LISTENER(f)      MEMBER(struct listener_config, f)
#define SETTING(f)       LISTENER(settings.f)
#define NUMBER(from, to) .kind = KEY_NUMBER, .low = (from), .high = (to)
#define CHOICE(list)     .kind = KEY_CHOICE, .choices = (list)
#define TLS(f)           LISTENER(tls.f)

const struct config_key config_keys[] = {
    {NULL, "name", .kind = KEY_NAME},
    {"host", "host", .kind = KEY_HOST},
    {"port", "port", .kind = KEY_PORT, LISTENER(address.port), .high = UINT16_MAX},
    {NULL, "path", .kind = KEY_PATH},
    {NULL, "mode", .kind = KEY_MODE},
    {NULL, "allow", .kind = KEY_ALLOW},
    {NULL, "deny", .kind = KEY_DENY},
    {NULL, TLS_GROUP, .kind = KEY_TLS},
    {NULL, TLS_PREFIX "certificate", .kind = KEY_FILE, TLS(certificate)},
    {NULL, TLS_PREFIX "key", .kind = KEY_FILE, TLS(key)},
    {NULL, TLS_PREFIX "client_ca", .kind = KEY_FILE, TLS(client_ca)},
    {NULL, TLS_PREFIX "client_names", .kind = KEY_NAMES},
    {NULL, TLS_PREFIX "client_fingerprints", .kind = KEY_FINGERPRINTS},
    {NULL, TLS_PREFIX "min_version", CHOICE(key_versions), TLS(min_minor)},

    {"framing", "framing", CHOICE(key_framings), SETTING(framing)},
    {"format", "format", CHOICE(key_formats), SETTING(format)},
    {"trust_severity", "trust_severity", .kind = KEY_BOOLEAN, SETTING(trust_severity)},
    {"max_record", "max_record", NUMBER(MAX_RECORD_LOW, MAX_RECORD_HIGH), SETTING(max_record)},
    {"priority", "priority", CHOICE(key_priorities), SETTING(priority)},
    {"receipt", "receipt", .kind = KEY_BOOLEAN, SETTING(receipt)},
    {NULL, "proxy", .kind = KEY_BOOLEAN, SETTING(proxy)},
    {"flush_timeout", "flush_timeout", NUMBER(0, SECONDS_HIGH), SETTING(flush_timeout)},
    {"max_rate", "max_rate", NUMBER(0, MAX_RATE_HIGH), SETTING(max_rate)},
    {"identifier", "identifier", .kind = KEY_IDENTIFIER},
    {"output", NULL, CHOICE(key_outputs), SERVICE(output)},

    /* The service's limits are also the listeners' defaults. */
    {"sessions.max", NULL, NUMBER(1, SESSIONS_MAX_HIGH), SERVICE(sessions_max)},
    {NULL, "max_sessions", NUMBER(1, SESSIONS_MAX_HIGH), SETTING(sessions_max)},
    {"sessions.max_per_address", NULL, NUMBER(0, SESSIONS_MAX_HIGH),
     SERVICE(sessions_max_per_address)},
    {NULL, "max_sessions_per_address", NUMBER(0, SESSIONS_MAX_HIGH),
     SETTING(sessions_max_per_address)},
    {"sessions.idle_timeout", "idle_timeout", NUMBER(0, SECONDS_HIGH), SETTING(idle_timeout)},
    {"sessions.stop_timeout", NULL, NUMBER(0, SECONDS_HIGH), SERVICE(stop_timeout)},
    {"sessions.buffer_memory", NULL, NUMBER(BUFFER_MEMORY_LOW, BUFFER_MEMORY_HIGH),
     SERVICE(buffer_memory)},

    {SESSIONS_GROUP, NULL, .kind = KEY_GROUP},
    {LISTENERS_LIST, NULL, .kind = KEY_LISTENERS},
};

const size_t config_keys_count = ARRAY_SIZE(config_keys);

const struct service_settings config_default_service = {
    .output = OUTPUT_AUTO,
    .sessions_max = DEFAULT_SESSIONS_MAX,
    .stop_timeout = 5,
    .buffer_memory = 67108864,
};

const struct listener_config config_default_listener = {
    .settings =
        {
            .framing = FRAMING_LINE,
            .max_record = 65536,
            .priority = LOG_INFO,
            .receipt = true,
            .flush_timeout = 3,
            .sessions_max = DEFAULT_SESSIONS_MAX,
            .identifier = "netd",
        },
    .address =
        {
            .host = DEFAULT_HOST,
            .port = DEFAULT_PORT,
            .mode = 0666,
        },
    .tls = {.min_minor = 2},
};

const struct config_key *config_find_key(const char *name, bool in_listener)
{
    for (size_t i = 0; i < config_keys_count; i++) {
        const char *valid = in_listener ? config_keys[i].name : config_keys[i].path;

        if (valid && strcmp(valid, name) == 0)
            return &config_keys[i];
    }
    return NULL;
}

void config_key_store(const struct config_key *key, struct service_settings *service,
                      struct listener_config *listener, uint64_t value)
{
    void *member = (char *)(key->of_service ? (void *)service : listener) + key->offset;

    if (key->size == sizeof(bool))
        *(bool *)member = value != 0;
    else if (key->size == sizeof(uint16_t))
        *(uint16_t *)member = (uint16_t)value;
    else if (key->size == sizeof(uint32_t))
        *(uint32_t *)member = (uint32_t)value;
    else
        *(uint64_t *)member = value;
}

uint64_t config_key_value(const struct config_key *key, const struct service_settings *service,
                          const struct listener_config *listener)
{
    const void *member =
        (const char *)(key->of_service ? (const void *)service : listener) + key->offset;

    if (key->size == sizeof(bool))
        return *(const bool *)member;
    if (key->size == sizeof(uint16_t))
        return *(const uint16_t *)member;
    if (key->size == sizeof(uint32_t))
        return *(const uint32_t *)member;
    return *(const uint64_t *)member;
}
