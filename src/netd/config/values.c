/* SPDX-License-Identifier: MIT */
#include "netd/config/values.h"

#include "common/util.h"
#include "netd-tls/interface.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

#define TEXTS_FULL "the TLS settings of all listeners are too long together"

#define FINGERPRINT_DIGITS ((size_t)2 * TLS_FINGERPRINT_SIZE)

#define MODE_DIGITS_MAX 4
#define MODE_MAX        0777

void config_set_origin(char origin[static CONFIG_ORIGIN_MAX], const char *where)
{
    size_t length = strlen(where);

    if (length < CONFIG_ORIGIN_MAX)
        memcpy(origin, where, length + 1);
    else
        snprintf(origin, CONFIG_ORIGIN_MAX, "...%s", where + length - (CONFIG_ORIGIN_MAX - 4));
}

/* --- Numbers --- */

int config_set_number(const struct config_target *t, const struct config_key *key,
                      const char *where, int64_t value)
{
    if (value < key->low || value > key->high)
        return config_fail(t->error, "%s: %" PRIi64 " is not between %" PRIi64 " and %" PRIi64,
                           where, value, key->low, key->high);
    config_key_store(key, &t->config->service, t->listener, (uint64_t)value);
    if (key->kind == KEY_PORT)
        config_set_origin(t->listener->origin.port, where);
    return 0;
}

int config_set_port(const struct config_target *t, const char *where, const char *text)
{
    const struct config_key *key = config_find_key("port", false);
    uint64_t value;

    if (*text == '\0')
        return config_fail(t->error, "%s: is empty", where);
    switch (parse_u64(text, (uint64_t)key->high, &value)) {
    case 0:
        return config_set_number(t, key, where, (int64_t)value);
    case -ERANGE:
        return config_fail(t->error, "%s: " SHOWN " is not between %" PRIi64 " and %" PRIi64, where,
                           SHOW(text), key->low, key->high);
    default:
        return config_fail(t->error, "%s: '" SHOWN "' is not a number", where, SHOW(text));
    }
}

/* --- Text --- */

/* Of at most MAX bytes, all of them printable ASCII: char may be signed, the others are then below
 * a blank. */
static int config_check_text(const struct config_target *t, const char *where, const char *text,
                             size_t max)
{
    if (*text == '\0')
        return config_fail(t->error, "%s: is empty", where);
    if (strlen(text) > max)
        return config_fail(t->error, "%s: is longer than %zu bytes", where, max);
    for (const char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            return config_fail(t->error, "%s: '" SHOWN "' is not printable ASCII", where,
                               SHOW(text));
    return 0;
}

/* True for an address with a port behind it: one colon, or one behind a bracket. */
static bool config_has_port(const char *host)
{
    const char *colon = strchr(host, ':');

    return strstr(host, "]:") || (colon && !strchr(colon + 1, ':'));
}

static int config_set_host(const struct config_target *t, const char *where, const char *text)
{
    size_t length = strlen(text);

    if (length == 0)
        return config_fail(t->error, "%s: is empty", where);
    if (length > HOST_MAX)
        return config_fail(t->error, "%s: is longer than %d bytes", where, HOST_MAX);
    for (const char *p = text; *p; p++)
        if (*p <= ' ' || *p > '~' || *p == '/')
            return config_fail(t->error, "%s: '" SHOWN "' is not an address or a host name", where,
                               SHOW(text));
    if (config_has_port(text))
        return config_fail(t->error, "%s: '" SHOWN "': the port is a setting of its own", where,
                           SHOW(text));
    memcpy(t->listener->address.host, text, length + 1);
    config_set_origin(t->listener->origin.host, where);
    return 0;
}

static int config_set_path(const struct config_target *t, const char *where, const char *text)
{
    size_t length = strlen(text);

    if (config_check_text(t, where, text, CONFIG_PATH_SIZE - 1) < 0)
        return -EINVAL;
    if ((text[0] != '/' && text[0] != '@') || length == 1 || text[length - 1] == '/')
        return config_fail(t->error,
                           "%s: '" SHOWN "' is neither an absolute path of a file nor '@' and a "
                           "name",
                           where, SHOW(text));
    memcpy(t->listener->address.path, text, length + 1);
    config_set_origin(t->listener->origin.host, where);
    return 0;
}

static int config_set_mode(const struct config_target *t, const char *where, const char *text)
{
    unsigned long mode;
    size_t digits = strspn(text, "01234567");

    mode = strtoul(text, NULL, 8);
    if (digits == 0 || digits > MODE_DIGITS_MAX || text[digits] || mode > MODE_MAX)
        return config_fail(t->error, "%s: '" SHOWN "' is not an octal mode such as \"0660\"", where,
                           SHOW(text));
    t->listener->address.mode = (uint16_t)mode;
    return 0;
}

static int config_set_name(const struct config_target *t, const char *where, const char *text)
{
    size_t length = strlen(text);

    if (length == 0)
        return config_fail(t->error, "%s: is empty", where);
    if (length > LISTENER_NAME_MAX)
        return config_fail(t->error, "%s: is longer than %d bytes", where, LISTENER_NAME_MAX);
    if (text[strspn(text, NAME_BYTES)])
        return config_fail(t->error,
                           "%s: '" SHOWN "' has more than letters, digits, '.', '_' and '-'", where,
                           SHOW(text));
    memcpy(t->listener->settings.name, text, length + 1);
    return 0;
}

static int config_set_identifier(const struct config_target *t, const char *where, const char *text)
{
    if (config_check_text(t, where, text, IDENTIFIER_MAX) < 0)
        return -EINVAL;
    for (const char *p = text; (p = strchr(p, '%')); p += 2)
        if (p[1] == '\0' || !strchr("apsl%", p[1]))
            return config_fail(t->error,
                               "%s: '%.2s' is not known; expected one of %%a, %%p, %%s, %%l, %%%%",
                               where, p);
    memset(t->listener->settings.identifier, 0, sizeof(t->listener->settings.identifier));
    strcpy(t->listener->settings.identifier, text);
    return 0;
}

static int config_set_choice(const struct config_target *t, const struct config_key *key,
                             const char *where, const char *text)
{
    char all[128] = "";
    size_t length = 0;

    for (const struct key_choice *c = key->choices; c->word; c++) {
        if (strcmp(c->word, text) == 0) {
            config_key_store(key, &t->config->service, t->listener, c->value);
            return 0;
        }
        length += (size_t)snprintf(all + length, sizeof(all) - length, "%s%s",
                                   length > 0 ? ", " : "", c->word);
    }
    return config_fail(t->error, "%s: invalid %s '" SHOWN "'; expected one of %s", where,
                       key->path ? key->path : strchr(key->name, '.') + 1, SHOW(text), all);
}

/* --- Texts --- */

uint32_t config_store_text(struct config *c, const char *text)
{
    size_t length = strlen(text) + 1;
    uint32_t offset = c->texts_used > 0 ? c->texts_used : 1; /* 0 is none */

    if (length > CONFIG_TEXTS_MAX - offset)
        return 0;
    memcpy(c->texts + offset, text, length);
    c->texts_used = offset + (uint32_t)length;
    return offset;
}

static int config_set_file(const struct config_target *t, const struct config_key *key,
                           const char *where, const char *text)
{
    uint32_t offset;

    if (config_check_text(t, where, text, PATH_MAX - 1) < 0)
        return -EINVAL;
    offset = config_store_text(t->config, text);
    if (offset == 0)
        return config_fail(t->error, "%s: " TEXTS_FULL, where);
    config_key_store(key, &t->config->service, t->listener, offset);
    return 0;
}

/* Writes the 64 digits of the SHA-256 fingerprint TEXT, which may have colons. */
static int config_parse_fingerprint(const char *text, char ret[static FINGERPRINT_DIGITS + 1])
{
    size_t n = 0;

    for (; *text; text++) {
        if (*text == ':' && n % 2 == 0)
            continue;
        if (n == FINGERPRINT_DIGITS || !strchr("0123456789abcdefABCDEF", *text))
            return -EINVAL;
        ret[n++] = (char)(*text >= 'A' && *text <= 'F' ? *text - 'A' + 'a' : *text);
    }
    ret[n] = '\0';
    return n == FINGERPRINT_DIGITS ? 0 : -EINVAL;
}

/* A DNS name, with "*" as its left-most label or without, or an address. */
static bool config_is_client_name(const char *text)
{
    const char *name = strncmp(text, "*.", 2) == 0 ? text + 2 : text;

    return *name && strlen(text) <= TLS_NAME_MAX && !name[strspn(name, NAME_BYTES ":")];
}

int config_add_text(const struct config_target *t, const struct config_key *key, const char *text,
                    char why[static ACCESS_ERROR_MAX])
{
    struct listener_tls *tls = &t->listener->tls;
    bool prints = key->kind == KEY_FINGERPRINTS;
    uint32_t *first = prints ? &tls->client_fingerprints : &tls->client_names, offset;
    uint32_t *count = prints ? &tls->n_client_fingerprints : &tls->n_client_names;
    uint32_t most = prints ? TLS_FINGERPRINTS_MAX : TLS_NAMES_MAX;
    char print[FINGERPRINT_DIGITS + 1];

    if (prints && config_parse_fingerprint(text, print) < 0)
        snprintf(why, ACCESS_ERROR_MAX, "'" SHOWN "' is not a SHA-256 fingerprint", SHOW(text));
    else if (!prints && !config_is_client_name(text))
        snprintf(why, ACCESS_ERROR_MAX, "'" SHOWN "' is not a DNS name or address", SHOW(text));
    else if (*count == most)
        snprintf(why, ACCESS_ERROR_MAX, "more than %" PRIu32, most);
    else if ((offset = config_store_text(t->config, prints ? print : text)) == 0)
        snprintf(why, ACCESS_ERROR_MAX, TEXTS_FULL);
    else {
        *first = (*count)++ == 0 ? offset : *first;
        return 0;
    }
    return -EINVAL;
}

int config_set_text(const struct config_target *t, const struct config_key *key, const char *where,
                    const char *text)
{
    switch (key->kind) {
    case KEY_HOST:
        return config_set_host(t, where, text);
    case KEY_PATH:
        return config_set_path(t, where, text);
    case KEY_MODE:
        return config_set_mode(t, where, text);
    case KEY_NAME:
        return config_set_name(t, where, text);
    case KEY_IDENTIFIER:
        return config_set_identifier(t, where, text);
    case KEY_FILE:
        return config_set_file(t, key, where, text);
    default:
        return config_set_choice(t, key, where, text);
    }
}

/* --- Rules --- */

int config_add_rule(const struct config_target *t, const struct config_key *key, const char *text,
                    char why[static ACCESS_ERROR_MAX])
{
    struct config *c = t->config;
    struct access_rule rule = {.allow = key->kind == KEY_ALLOW};

    if (access_parse(text, &rule.network, why) < 0)
        return -EINVAL;
    if (c->n_rules == CONFIG_RULES_MAX) {
        snprintf(why, ACCESS_ERROR_MAX, "more than %d networks in all listeners together",
                 CONFIG_RULES_MAX);
        return -EINVAL;
    }
    if (t->listener->n_rules++ == 0)
        t->listener->first_rule = c->n_rules;
    c->rules[c->n_rules++] = rule;
    return 0;
}
