/* SPDX-License-Identifier: MIT */
#include "netd/config/config.h"

#include "common/names.h"
#include "netd/config/preprocess.h"

#include <errno.h>
#include <inttypes.h>
#include <libconfig.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

/* Of what a person wrote, as much as a message shows. */
#define SHOWN       "%.40s%s"
#define SHOW(value) (value), strlen(value) > 40 ? "..." : ""

/* Room for where a value was written: "/etc/netd/netd.conf:7: host". */
#define WHERE_MAX (PATH_MAX + 32)

/* A string that a key may have, and what it means. */
struct choice {
    const char *word; /* NULL ends a list */
    unsigned value;
};

static const struct choice framings[] = {{"line", FRAMING_LINE}, {"raw", FRAMING_RAW}, {NULL, 0}};
static const struct choice priorities[] = {
    {"notice", LOG_NOTICE}, {"info", LOG_INFO}, {"debug", LOG_DEBUG}, {NULL, 0}};
static const struct choice outputs[] = {
    {"auto", OUTPUT_AUTO},
    {"journal", OUTPUT_JOURNAL},
    {"text", OUTPUT_TEXT},
    {"export", OUTPUT_EXPORT},
    {NULL, 0},
};

enum kind { KIND_GROUP, KIND_HOST, KIND_NUMBER, KIND_CHOICE, KIND_BOOLEAN };

struct key {
    const char *path;
    enum kind kind;
    size_t offset, size;          /* of the field in struct config */
    int64_t low, high;            /* of a number */
    const struct choice *choices; /* of a choice */
};

#define FIELD(f)   .offset = offsetof(struct config, f), .size = sizeof(((struct config *)0)->f)
#define HOST(p, f) .path = (p), .kind = KIND_HOST, FIELD(f)
#define NUMBER(p, f, from, to) \
    .path = (p), .kind = KIND_NUMBER, FIELD(f), .low = (from), .high = (to)
#define CHOICE(p, f, list) .path = (p), .kind = KIND_CHOICE, FIELD(f), .choices = (list)
#define BOOLEAN(p, f)      .path = (p), .kind = KIND_BOOLEAN, FIELD(f)
#define GROUP(p)           .path = (p), .kind = KIND_GROUP

/* Those that are set from elsewhere, too. */
enum { KEY_PORT, KEY_OUTPUT };

static const struct key keys[] = {
    [KEY_PORT] = {NUMBER("port", listeners[0].address.port, 0, UINT16_MAX)},
    [KEY_OUTPUT] = {CHOICE("output", service.output, outputs)},
    {HOST("host", listeners[0].address.host)},
    {CHOICE("framing", listeners[0].settings.framing, framings)},
    {NUMBER("max_record", listeners[0].settings.max_record, MAX_RECORD_LOW, MAX_RECORD_HIGH)},
    {CHOICE("priority", listeners[0].settings.priority, priorities)},
    {BOOLEAN("receipt", listeners[0].settings.receipt)},
    {NUMBER("flush_timeout", listeners[0].settings.flush_timeout, 0, SECONDS_HIGH)},
    {GROUP("sessions")},
    {NUMBER("sessions.max", listeners[0].settings.sessions_max, 1, SESSIONS_MAX_HIGH)},
    {NUMBER("sessions.max_per_address", listeners[0].settings.sessions_max_per_address, 0,
            SESSIONS_MAX_HIGH)},
    {NUMBER("sessions.idle_timeout", listeners[0].settings.idle_timeout, 0, SECONDS_HIGH)},
    {NUMBER("sessions.stop_timeout", service.stop_timeout, 0, SECONDS_HIGH)},
    {NUMBER("sessions.buffer_memory", service.buffer_memory, BUFFER_MEMORY_LOW,
            BUFFER_MEMORY_HIGH)},
};

static const struct config config_defaults = {
    .service =
        {
            .output = OUTPUT_AUTO,
            .stop_timeout = 5,
            .buffer_memory = 67108864,
        },
    .n_listeners = 1,
    .listeners =
        {
            {
                .settings =
                    {
                        .framing = FRAMING_LINE,
                        .max_record = 65536,
                        .priority = LOG_INFO,
                        .receipt = true,
                        .flush_timeout = 3,
                        .sessions_max = 10000,
                    },
                .address =
                    {
                        .host = DEFAULT_HOST,
                        .port = DEFAULT_PORT,
                    },
            },
        },
};

/* What all the functions below pass on: the values so far, and where a complaint goes. */
struct reader {
    struct config config;
    struct config_text text;
    char *error;
};

static const struct key *find_key(const char *path)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (strcmp(keys[i].path, path) == 0)
            return &keys[i];
    return NULL;
}

static void store(struct reader *r, const struct key *key, uint64_t value)
{
    void *field = (char *)&r->config + key->offset;

    if (key->size == sizeof(bool))
        memcpy(field, &(bool){value != 0}, sizeof(bool));
    else if (key->size == sizeof(uint16_t))
        memcpy(field, &(uint16_t){(uint16_t)value}, sizeof(uint16_t));
    else if (key->size == sizeof(uint32_t))
        memcpy(field, &(uint32_t){(uint32_t)value}, sizeof(uint32_t));
    else
        memcpy(field, &value, sizeof(value));
}

static void config_set_origin(char origin[static CONFIG_ORIGIN_MAX], const char *where)
{
    size_t length = strlen(where);

    if (length < CONFIG_ORIGIN_MAX)
        memcpy(origin, where, length + 1);
    else
        snprintf(origin, CONFIG_ORIGIN_MAX, "...%s", where + length - (CONFIG_ORIGIN_MAX - 4));
}

static int set_host(struct reader *r, const char *where, const char *text)
{
    size_t length = strlen(text);

    if (length == 0)
        return config_fail(r->error, "%s: is empty", where);
    if (length > HOST_MAX)
        return config_fail(r->error, "%s: is longer than %d bytes", where, HOST_MAX);
    for (const char *p = text; *p; p++)
        if (*p <= ' ' || *p > '~') /* char may be signed: this is all that is not ASCII, too */
            return config_fail(r->error, "%s: '" SHOWN "' has a byte that no address or name has",
                               where, SHOW(text));
    memcpy(r->config.listeners[0].address.host, text, length + 1);
    config_set_origin(r->config.listeners[0].origin.host, where);
    return 0;
}

static int set_number(struct reader *r, const struct key *key, const char *where, int64_t value)
{
    if (value < key->low || value > key->high)
        return config_fail(r->error, "%s: %" PRIi64 " is not between %" PRIi64 " and %" PRIi64,
                           where, value, key->low, key->high);
    store(r, key, (uint64_t)value);
    if (key->offset == offsetof(struct config, listeners[0].address.port))
        config_set_origin(r->config.listeners[0].origin.port, where);
    return 0;
}

static int set_port_text(struct reader *r, const char *where, const char *text)
{
    const struct key *key = &keys[KEY_PORT];
    uint64_t value;

    switch (parse_u64(text, (uint64_t)key->high, &value)) {
    case 0:
        return set_number(r, key, where, (int64_t)value);
    case -ERANGE:
        return config_fail(r->error, "%s: " SHOWN " is not between %" PRIi64 " and %" PRIi64, where,
                           SHOW(text), key->low, key->high);
    default:
        return config_fail(r->error, "%s: '" SHOWN "' is not a number", where, SHOW(text));
    }
}

static int set_choice(struct reader *r, const struct key *key, const char *where, const char *text)
{
    char all[128] = "";
    size_t length = 0;

    for (const struct choice *c = key->choices; c->word; c++) {
        if (strcmp(c->word, text) == 0) {
            store(r, key, c->value);
            return 0;
        }
        length += (size_t)snprintf(all + length, sizeof(all) - length, "%s%s",
                                   length > 0 ? ", " : "", c->word);
    }
    return config_fail(r->error, "%s: '" SHOWN "' is none of %s", where, SHOW(text), all);
}

static const char *type_name(int type)
{
    switch (type) {
    case CONFIG_TYPE_GROUP:
        return "a group";
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return "an integer";
    case CONFIG_TYPE_FLOAT:
        return "a floating-point number";
    case CONFIG_TYPE_STRING:
        return "a string";
    case CONFIG_TYPE_BOOL:
        return "a boolean";
    case CONFIG_TYPE_ARRAY:
        return "an array";
    default:
        return "a list";
    }
}

static int kind_type(enum kind kind)
{
    switch (kind) {
    case KIND_GROUP:
        return CONFIG_TYPE_GROUP;
    case KIND_NUMBER:
        return CONFIG_TYPE_INT;
    case KIND_BOOLEAN:
        return CONFIG_TYPE_BOOL;
    default:
        return CONFIG_TYPE_STRING;
    }
}

static int read_group(struct reader *r, const config_setting_t *group, const char *prefix);

static int read_value(struct reader *r, const struct key *key, const config_setting_t *s,
                      const char *where)
{
    int type = config_setting_type(s);
    int expected = kind_type(key->kind);

    if (type != expected && !(type == CONFIG_TYPE_INT64 && expected == CONFIG_TYPE_INT))
        return config_fail(r->error, "%s: expected %s, not %s", where, type_name(expected),
                           type_name(type));
    if (expected == CONFIG_TYPE_STRING && !config_setting_get_string(s))
        return -ENOMEM;
    switch (key->kind) {
    case KIND_GROUP:
        return read_group(r, s, "sessions.");
    case KIND_HOST:
        return set_host(r, where, config_setting_get_string(s));
    case KIND_NUMBER:
        return set_number(r, key, where, config_setting_get_int64(s));
    case KIND_CHOICE:
        return set_choice(r, key, where, config_setting_get_string(s));
    default:
        store(r, key, (uint64_t)config_setting_get_bool(s));
        return 0;
    }
}

/* Writes "FILE:LINE" for LINE of the text. */
static void place(const struct reader *r, unsigned line, char ret[static WHERE_MAX])
{
    const struct config_segment *s = config_text_locate(&r->text, line);

    snprintf(ret, WHERE_MAX, "%s:%u", s->file, line - s->line + s->file_line);
}

static int read_setting(struct reader *r, const config_setting_t *s, const char *prefix)
{
    const char *name = config_setting_name(s);
    const struct key *key;
    char file[WHERE_MAX];
    char path[64];
    char where[WHERE_MAX + 2 + sizeof(path)];

    if (!name) /* libconfig does not look at what its strdup() says */
        return -ENOMEM;
    place(r, config_setting_source_line(s), file);
    snprintf(path, sizeof(path), "%s%s", prefix, name);
    key = find_key(path);
    if (!key)
        return config_fail(r->error, "%s: %s" SHOWN ": unknown key", file, prefix, SHOW(name));
    snprintf(where, sizeof(where), "%s: %s", file, path);
    return read_value(r, key, s, where);
}

static int read_group(struct reader *r, const config_setting_t *group, const char *prefix)
{
    unsigned length = (unsigned)config_setting_length(group);

    for (unsigned i = 0; i < length; i++) {
        int result = read_setting(r, config_setting_get_elem(group, i), prefix);

        if (result < 0)
            return result;
    }
    return 0;
}

static int read_text(struct reader *r, config_t *tree)
{
    char file[WHERE_MAX];
    int result;

    if (config_read_string(tree, r->text.text) != CONFIG_TRUE) {
        place(r, (unsigned)config_error_line(tree), file);
        return config_fail(r->error, "%s: %s", file, config_error_text(tree));
    }
    result = read_group(r, config_root_setting(tree), "");
    if (result < 0 || r->text.wide_line == 0)
        return result;
    /* Every other key would have been out of its range. */
    place(r, r->text.wide_line, file);
    return config_fail(r->error, "%s: sessions.buffer_memory: a number over %d needs the suffix L",
                       file, INT32_MAX);
}

static int read_file(struct reader *r, const char *file)
{
    config_t tree;
    int result;

    if (file && *file == '\0')
        return config_fail(r->error, "--config: is empty");
    result = config_text_load(&r->text, file ? file : DEFAULT_CONF, r->error);
    if (result == -ENOENT)
        return file ? -EINVAL : 0;
    if (result < 0)
        return result;
    config_init(&tree);
    result = read_text(r, &tree);
    config_destroy(&tree);
    config_text_free(&r->text);
    return result;
}

static int read_environment(struct reader *r, const struct config_input *input)
{
    int result = 0;

    if (input->env_host)
        result = set_host(r, "SERVER_HOST", input->env_host);
    if (result == 0 && input->env_port)
        result = set_port_text(r, "SERVER_PORT", input->env_port);
    return result;
}

static int read_options(struct reader *r, const struct config_input *input)
{
    int result = 0;

    if (input->option_host)
        result = set_host(r, "--host", input->option_host);
    if (result == 0 && input->option_port)
        result = set_port_text(r, "--port", input->option_port);
    if (result == 0 && input->option_output)
        result = set_choice(r, &keys[KEY_OUTPUT], "--output", input->option_output);
    return result < 0 ? -EBADMSG : 0;
}

int config_load(struct config *ret, const struct config_input *input,
                char error[static CONFIG_ERROR_MAX])
{
    struct reader r = {.config = config_defaults, .error = error};
    int result;

    /* Options are read first, because wrong usage is said first, and last, because they win. */
    result = read_options(&r, input);
    if (result < 0)
        return result;
    result = read_file(&r, input->file);
    if (result == 0)
        result = read_environment(&r, input);
    if (result == 0)
        result = read_options(&r, input);
    if (result == -ENOMEM)
        snprintf(error, CONFIG_ERROR_MAX, "out of memory");
    if (result == 0)
        *ret = r.config;
    return result;
}
