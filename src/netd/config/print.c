/* SPDX-License-Identifier: MIT */
#include "netd/config/print.h"

#include "common/util.h"
#include "netd/config/keys.h"

#include <inttypes.h>
#include <string.h>

#define INDENT "    "

static void print_string(FILE *f, const char *text)
{
    putc('"', f);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putc('\\', f);
        putc(*text, f);
    }
    putc('"', f);
}

static void print_rules(FILE *f, const struct access_rule *rules, size_t count, bool allow)
{
    const char *separator = "(";
    char text[ACCESS_TEXT_MAX];

    for (size_t i = 0; i < count; i++) {
        if (rules[i].allow != allow)
            continue;
        access_format(&rules[i].network, text);
        fprintf(f, "%s\"%s\"", separator, text);
        separator = ", ";
    }
    putc(')', f);
}

/* COUNT texts, one behind the other. */
static void print_texts(FILE *f, const char *texts, size_t count)
{
    for (size_t i = 0; i < count; i++, texts += strlen(texts) + 1) {
        fputs(i > 0 ? ", " : "(", f);
        print_string(f, texts);
    }
    putc(')', f);
}

static bool has_rules(const struct access_rule *rules, size_t count, bool allow)
{
    for (size_t i = 0; i < count; i++)
        if (rules[i].allow == allow)
            return true;
    return false;
}

static void print_value(FILE *f, const struct config *c, const struct listener_config *l,
                        const struct config_key *key)
{
    const struct key_choice *choice = key->choices;
    uint64_t value;

    switch (key->kind) {
    case KEY_NUMBER:
    case KEY_PORT:
        value = config_key_value(key, &c->service, l);
        fprintf(f, "%" PRIu64 "%s", value, value > INT32_MAX ? "L" : "");
        break;
    case KEY_BOOLEAN:
        fputs(config_key_value(key, &c->service, l) ? "true" : "false", f);
        break;
    case KEY_CHOICE:
        for (value = config_key_value(key, &c->service, l); choice->value != value;)
            choice++;
        print_string(f, choice->word);
        break;
    case KEY_HOST:
        print_string(f, l->address.host);
        break;
    case KEY_PATH:
        print_string(f, l->address.path);
        break;
    case KEY_MODE:
        fprintf(f, "\"%04o\"", (unsigned)l->address.mode);
        break;
    case KEY_NAME:
        print_string(f, l->settings.name);
        break;
    case KEY_IDENTIFIER:
        print_string(f, l->settings.identifier);
        break;
    case KEY_FILE:
        print_string(f, c->texts + config_key_value(key, &c->service, l));
        break;
    case KEY_NAMES:
        print_texts(f, c->texts + l->tls.client_names, l->tls.n_client_names);
        break;
    case KEY_FINGERPRINTS:
        print_texts(f, c->texts + l->tls.client_fingerprints, l->tls.n_client_fingerprints);
        break;
    default:
        print_rules(f, c->rules + l->first_rule, l->n_rules, key->kind == KEY_ALLOW);
        break;
    }
}

/* True if KEY applies to the listener L of the list. */
static bool applies(const struct config *c, const struct listener_config *l,
                    const struct config_key *key)
{
    switch (key->kind) {
    case KEY_HOST:
    case KEY_PORT:
        return !l->address.path[0];
    case KEY_PATH:
        return l->address.path[0];
    case KEY_MODE:
        return l->address.path[0] == '/';
    case KEY_TLS:
        return l->settings.tls;
    case KEY_FILE:
        return config_key_value(key, &c->service, l) != 0;
    case KEY_NAMES:
        return l->tls.n_client_names > 0;
    case KEY_FINGERPRINTS:
        return l->tls.n_client_fingerprints > 0;
    case KEY_ALLOW:
    case KEY_DENY:
        return has_rules(c->rules + l->first_rule, l->n_rules, key->kind == KEY_ALLOW);
    default:
        return true;
    }
}

/* Prints the keys of L whose names begin with PREFIX, or those without one. */
static void print_listener_keys(FILE *f, const struct config *c, const struct listener_config *l,
                                const char *prefix)
{
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *key = &config_keys[i];
        size_t length = strlen(prefix);

        if (!key->name || strncmp(key->name, prefix, length) != 0 ||
            strchr(key->name + length, '.') || !applies(c, l, key))
            continue;
        fprintf(f, "%s%s = ", length > 0 ? " " : INDENT INDENT, key->name + length);
        if (key->kind == KEY_TLS) {
            putc('{', f);
            print_listener_keys(f, c, l, TLS_PREFIX);
            fputs(" }", f);
        } else {
            print_value(f, c, l, key);
        }
        fputs(length > 0 ? ";" : ";\n", f);
    }
}

static void print_listener(FILE *f, const struct config *c, const struct listener_config *l)
{
    fputs(INDENT "{\n", f);
    print_listener_keys(f, c, l, "");
    fputs(INDENT "}", f);
}

/* Prints the keys at the top level, or with GROUP those in "sessions"; without a list the
 * listener's, too. */
static void print_keys(FILE *f, const struct config *c, bool group, bool list)
{
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *key = &config_keys[i];
        const char *name = key->path;

        if (!name || key->kind == KEY_GROUP || key->kind == KEY_LISTENERS ||
            (list && !key->of_service))
            continue;
        if ((strncmp(name, SESSIONS_PREFIX, strlen(SESSIONS_PREFIX)) == 0) != group)
            continue;
        fprintf(f, "%s%s = ", group ? INDENT : "", name + (group ? strlen(SESSIONS_PREFIX) : 0));
        print_value(f, c, &c->listeners[0], key);
        fputs(";\n", f);
    }
}

void config_print(FILE *f, const struct config *config)
{
    bool list = config->listeners[0].settings.name[0];

    print_keys(f, config, false, list);
    fputs(SESSIONS_GROUP ":\n{\n", f);
    print_keys(f, config, true, list);
    fputs("};\n", f);
    if (!list)
        return;
    fputs(LISTENERS_LIST " = (\n", f);
    for (uint32_t i = 0; i < config->n_listeners; i++) {
        print_listener(f, config, &config->listeners[i]);
        fputs(i + 1 < config->n_listeners ? ",\n" : "\n", f);
    }
    fputs(");\n", f);
}
