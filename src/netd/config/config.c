/* SPDX-License-Identifier: MIT */
#include "netd/config/config.h"

#include "common/escape.h"
#include "common/names.h"
#include "common/util.h"
#include "netd/config/preprocess.h"

#include <errno.h>
#include <inttypes.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

/* Text from a user, as much of it as a message shows. */
#define SHOWN       "%.40s%s"
#define SHOW(value) (value), strlen(value) > 40 ? "..." : ""

/* Room for where a value was written: "/etc/netd/netd.conf:7: host". */
#define WHERE_MAX (PATH_MAX + 32)

/* A string that is valid for a key, and its meaning. */
struct config_choice {
    const char *word; /* NULL ends a list */
    unsigned value;
};

static const struct config_choice config_framings[] = {
    {"line", FRAMING_LINE},
    {"raw", FRAMING_RAW},
    {"nul", FRAMING_NUL},
    {"octet", FRAMING_OCTET},
    {NULL, 0},
};
static const struct config_choice config_priorities[] = {
    {"notice", LOG_NOTICE}, {"info", LOG_INFO}, {"debug", LOG_DEBUG}, {NULL, 0}};
static const struct config_choice config_outputs[] = {
    {"auto", OUTPUT_AUTO},
    {"journal", OUTPUT_JOURNAL},
    {"text", OUTPUT_TEXT},
    {"export", OUTPUT_EXPORT},
    {NULL, 0},
};

enum config_kind { KIND_GROUP, KIND_HOST, KIND_IDENTIFIER, KIND_NUMBER, KIND_CHOICE, KIND_BOOLEAN };

struct config_key {
    const char *path;
    enum config_kind kind;
    size_t offset, size;                 /* of the field in struct config */
    int64_t low, high;                   /* of a number */
    const struct config_choice *choices; /* of a choice */
};

#define FIELD(f)   .offset = offsetof(struct config, f), .size = sizeof(((struct config *)0)->f)
#define HOST(p, f) .path = (p), .kind = KIND_HOST, FIELD(f)
#define NUMBER(p, f, from, to) \
    .path = (p), .kind = KIND_NUMBER, FIELD(f), .low = (from), .high = (to)
#define CHOICE(p, f, list) .path = (p), .kind = KIND_CHOICE, FIELD(f), .choices = (list)
#define BOOLEAN(p, f)      .path = (p), .kind = KIND_BOOLEAN, FIELD(f)
#define GROUP(p)           .path = (p), .kind = KIND_GROUP

/* Those that options and the environment set, too. */
enum { KEY_PORT, KEY_OUTPUT };

static const struct config_key config_keys[] = {
    [KEY_PORT] = {NUMBER("port", listeners[0].address.port, 0, UINT16_MAX)},
    [KEY_OUTPUT] = {CHOICE("output", service.output, config_outputs)},
    {HOST("host", listeners[0].address.host)},
    {CHOICE("framing", listeners[0].settings.framing, config_framings)},
    {NUMBER("max_record", listeners[0].settings.max_record, MAX_RECORD_LOW, MAX_RECORD_HIGH)},
    {CHOICE("priority", listeners[0].settings.priority, config_priorities)},
    {BOOLEAN("receipt", listeners[0].settings.receipt)},
    {NUMBER("flush_timeout", listeners[0].settings.flush_timeout, 0, SECONDS_HIGH)},
    {NUMBER("max_rate", listeners[0].settings.max_rate, 0, MAX_RATE_HIGH)},
    {.path = "identifier", .kind = KIND_IDENTIFIER},
    {GROUP("sessions")},
    {NUMBER("sessions.max", listeners[0].settings.sessions_max, 1, SESSIONS_MAX_HIGH)},
    {NUMBER("sessions.max_per_address", listeners[0].settings.sessions_max_per_address, 0,
            SESSIONS_MAX_HIGH)},
    {NUMBER("sessions.idle_timeout", listeners[0].settings.idle_timeout, 0, SECONDS_HIGH)},
    {NUMBER("sessions.stop_timeout", service.stop_timeout, 0, SECONDS_HIGH)},
    {NUMBER("sessions.buffer_memory", service.buffer_memory, BUFFER_MEMORY_LOW,
            BUFFER_MEMORY_HIGH)},
};

static const struct service_settings config_default_service = {
    .output = OUTPUT_AUTO,
    .stop_timeout = 5,
    .buffer_memory = 67108864,
};

static const struct listener_config config_default_listener = {
    .settings =
        {
            .framing = FRAMING_LINE,
            .max_record = 65536,
            .priority = LOG_INFO,
            .receipt = true,
            .flush_timeout = 3,
            .sessions_max = 10000,
            .identifier = "netd",
        },
    .address =
        {
            .host = DEFAULT_HOST,
            .port = DEFAULT_PORT,
        },
};

/* The values so far, and where an error goes. */
struct config_reader {
    struct config config;
    struct preprocess_text text;
    char *error;
};

int config_fail(char error[static CONFIG_ERROR_MAX], const char *format, ...)
{
    char line[CONFIG_ERROR_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    escape_copy(error, CONFIG_ERROR_MAX, line, strlen(line));
    return -EINVAL;
}

static const struct config_key *config_find_key(const char *path)
{
    for (size_t i = 0; i < ARRAY_SIZE(config_keys); i++)
        if (strcmp(config_keys[i].path, path) == 0)
            return &config_keys[i];
    return NULL;
}

static void config_store(struct config_reader *r, const struct config_key *key, uint64_t value)
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

/* An address with a port behind it: one colon, or one behind a bracket. */
static bool config_has_port(const char *host)
{
    const char *colon = strchr(host, ':');

    return strstr(host, "]:") || (colon && !strchr(colon + 1, ':'));
}

static int config_set_host(struct config_reader *r, const char *where, const char *text)
{
    size_t length = strlen(text);

    if (length == 0)
        return config_fail(r->error, "%s: is empty", where);
    if (length > HOST_MAX)
        return config_fail(r->error, "%s: is longer than %d bytes", where, HOST_MAX);
    for (const char *p = text; *p; p++)
        if (*p <= ' ' || *p > '~' || *p == '/') /* char may be signed: not ASCII is below ' ' */
            return config_fail(r->error, "%s: '" SHOWN "' is not an address or a host name", where,
                               SHOW(text));
    if (config_has_port(text))
        return config_fail(r->error, "%s: '" SHOWN "': the port is a setting of its own", where,
                           SHOW(text));
    memcpy(r->config.listeners[0].address.host, text, length + 1);
    config_set_origin(r->config.listeners[0].origin.host, where);
    return 0;
}

/* Printable ASCII: char may be signed, other bytes are then below a blank. */
static int config_set_identifier(struct config_reader *r, const char *where, const char *text)
{
    if (*text == '\0')
        return config_fail(r->error, "%s: is empty", where);
    if (strlen(text) > IDENTIFIER_MAX)
        return config_fail(r->error, "%s: is longer than %d bytes", where, IDENTIFIER_MAX);
    for (const char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            return config_fail(r->error, "%s: '" SHOWN "' is not printable ASCII", where,
                               SHOW(text));
    for (const char *p = text; (p = strchr(p, '%')); p += 2)
        if (p[1] == '\0' || !strchr("apsl%", p[1]))
            return config_fail(r->error,
                               "%s: '%.2s' is not known; expected one of %%a, %%p, %%s, %%l, %%%%",
                               where, p);
    strcpy(r->config.listeners[0].settings.identifier, text);
    return 0;
}

static int config_set_number(struct config_reader *r, const struct config_key *key,
                             const char *where, int64_t value)
{
    if (value < key->low || value > key->high)
        return config_fail(r->error, "%s: %" PRIi64 " is not between %" PRIi64 " and %" PRIi64,
                           where, value, key->low, key->high);
    config_store(r, key, (uint64_t)value);
    if (key->offset == offsetof(struct config, listeners[0].address.port))
        config_set_origin(r->config.listeners[0].origin.port, where);
    if (key->offset == offsetof(struct config, listeners[0].settings.sessions_max))
        config_set_origin(r->config.listeners[0].origin.sessions_max, where);
    return 0;
}

static int config_set_port(struct config_reader *r, const char *where, const char *text)
{
    const struct config_key *key = &config_keys[KEY_PORT];
    uint64_t value;

    if (*text == '\0')
        return config_fail(r->error, "%s: is empty", where);
    switch (parse_u64(text, (uint64_t)key->high, &value)) {
    case 0:
        return config_set_number(r, key, where, (int64_t)value);
    case -ERANGE:
        return config_fail(r->error, "%s: " SHOWN " is not between %" PRIi64 " and %" PRIi64, where,
                           SHOW(text), key->low, key->high);
    default:
        return config_fail(r->error, "%s: '" SHOWN "' is not a number", where, SHOW(text));
    }
}

static int config_set_choice(struct config_reader *r, const struct config_key *key,
                             const char *where, const char *text)
{
    char all[128] = "";
    size_t length = 0;

    for (const struct config_choice *c = key->choices; c->word; c++) {
        if (strcmp(c->word, text) == 0) {
            config_store(r, key, c->value);
            return 0;
        }
        length += (size_t)snprintf(all + length, sizeof(all) - length, "%s%s",
                                   length > 0 ? ", " : "", c->word);
    }
    return config_fail(r->error, "%s: invalid %s '" SHOWN "'; expected one of %s", where, key->path,
                       SHOW(text), all);
}

static const char *config_type_name(int type)
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

static int config_kind_type(enum config_kind kind)
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

static int config_read_group(struct config_reader *r, const config_setting_t *group,
                             const char *prefix);

static int config_read_value(struct config_reader *r, const struct config_key *key,
                             const config_setting_t *s, const char *where)
{
    int type = config_setting_type(s);
    int expected = config_kind_type(key->kind);

    if (type != expected && !(type == CONFIG_TYPE_INT64 && expected == CONFIG_TYPE_INT))
        return config_fail(r->error, "%s: expected %s, not %s", where, config_type_name(expected),
                           config_type_name(type));
    if (expected == CONFIG_TYPE_STRING && !config_setting_get_string(s))
        return -ENOMEM;
    switch (key->kind) {
    case KIND_GROUP:
        return config_read_group(r, s, "sessions.");
    case KIND_HOST:
        return config_set_host(r, where, config_setting_get_string(s));
    case KIND_IDENTIFIER:
        return config_set_identifier(r, where, config_setting_get_string(s));
    case KIND_NUMBER:
        return config_set_number(r, key, where, config_setting_get_int64(s));
    case KIND_CHOICE:
        return config_set_choice(r, key, where, config_setting_get_string(s));
    default:
        config_store(r, key, (uint64_t)config_setting_get_bool(s));
        return 0;
    }
}

/* Writes "FILE:LINE" for LINE of the text. */
static void config_locate(const struct config_reader *r, unsigned line, char ret[static WHERE_MAX])
{
    unsigned file_line;
    const char *file = preprocess_locate(&r->text, line, &file_line);

    snprintf(ret, WHERE_MAX, "%s:%u", file, file_line);
}

static int config_read_setting(struct config_reader *r, const config_setting_t *s,
                               const char *prefix)
{
    const char *name = config_setting_name(s);
    const struct config_key *key;
    char file[WHERE_MAX];
    char path[64];
    char where[WHERE_MAX + 2 + sizeof(path)];

    if (!name) /* libconfig does not check its strdup() */
        return -ENOMEM;
    config_locate(r, config_setting_source_line(s), file);
    snprintf(path, sizeof(path), "%s%s", prefix, name);
    key = config_find_key(path);
    if (!key)
        return config_fail(r->error, "%s: %s" SHOWN ": unknown key", file, prefix, SHOW(name));
    snprintf(where, sizeof(where), "%s: %s", file, path);
    return config_read_value(r, key, s, where);
}

static int config_read_group(struct config_reader *r, const config_setting_t *group,
                             const char *prefix)
{
    unsigned length = (unsigned)config_setting_length(group);

    for (unsigned i = 0; i < length; i++) {
        int result = config_read_setting(r, config_setting_get_elem(group, i), prefix);

        if (result < 0)
            return result;
    }
    return 0;
}

/* What is most likely wrong with the first setting of LINE. */
static const char *config_guess(const char *line)
{
    size_t length = strcspn(line, " \t:=");
    const char *value = line + length + strspn(line + length, " \t:=");
    const struct config_key *key;
    char path[64];

    snprintf(path, sizeof(path), "%.*s", (int)min_size(length, sizeof(path)), line);
    key = config_find_key(path);
    if (key && config_kind_type(key->kind) == CONFIG_TYPE_STRING && !strchr("\"[({", *value))
        return "; a string needs double quotes";
    if (key && key->kind == KIND_BOOLEAN)
        return "; a boolean is true or false";
    return "";
}

/* Reports an error of libconfig's parser, and shows the line. */
static int config_fail_parse(const struct config_reader *r, const config_t *tree)
{
    unsigned line = (unsigned)min_size((size_t)config_error_line(tree), r->text.line);
    const char *text = r->text.text, *hint;
    char file[WHERE_MAX];
    int length;

    config_locate(r, line, file);
    for (; line > 1 && *text != '\0'; line--) {
        text = strchrnul(text, '\n');
        text += *text == '\n';
    }
    text += strspn(text, " \t");
    length = (int)min_size(strcspn(text, "\r\n"), 60);
    if (length == 0)
        return config_fail(r->error, "%s: %s", file, config_error_text(tree));
    hint = config_guess(text);
    return config_fail(r->error, "%s: %s near '%.*s'%s", file, config_error_text(tree), length,
                       text, hint);
}

static int config_parse(struct config_reader *r, config_t *tree)
{
    if (config_read_string(tree, r->text.text) != CONFIG_TRUE)
        return config_fail_parse(r, tree);
    return config_read_group(r, config_root_setting(tree), "");
}

static int config_load_file(struct config_reader *r, const char *file)
{
    config_t tree;
    int result;

    if (file && *file == '\0')
        return config_fail(r->error, "--config: is empty");
    result = preprocess_load(&r->text, file ? file : DEFAULT_CONF, r->error);
    if (result == -ENOENT)
        return file ? -EINVAL : 0;
    if (result < 0)
        return result;
    config_init(&tree);
    result = config_parse(r, &tree);
    config_destroy(&tree);
    preprocess_free(&r->text);
    return result;
}

static int config_load_environment(struct config_reader *r, const struct config_input *input)
{
    int result = 0;

    if (input->env_host)
        result = config_set_host(r, "SERVER_HOST", input->env_host);
    if (result == 0 && input->env_port)
        result = config_set_port(r, "SERVER_PORT", input->env_port);
    return result;
}

static int config_load_options(struct config_reader *r, const struct config_input *input)
{
    int result = 0;

    if (input->option_host)
        result = config_set_host(r, "--host", input->option_host);
    if (result == 0 && input->option_port)
        result = config_set_port(r, "--port", input->option_port);
    if (result == 0 && input->option_output)
        result = config_set_choice(r, &config_keys[KEY_OUTPUT], "--output", input->option_output);
    return result < 0 ? -EBADMSG : 0;
}

/* Warns where LIMIT descriptors leave room for fewer sessions than are configured. */
static void config_check_descriptors(struct config *config, uint64_t limit)
{
    uint64_t room = limit - min_u64(limit / 2, DESCRIPTORS_KEPT), sessions = 0;
    const char *origin = config->listeners[0].origin.sessions_max;

    for (uint32_t i = 0; i < config->n_listeners; i++)
        sessions += config->listeners[i].settings.sessions_max;
    if (sessions > room)
        snprintf(config->warning, sizeof(config->warning),
                 "%s: %" PRIu64 " sessions, but the limit of %" PRIu64
                 " open files (LimitNOFILE=) allows %" PRIu64,
                 origin[0] ? origin : "sessions.max", sessions, limit, room);
}

int config_load(struct config *ret, const struct config_input *input,
                char error[static CONFIG_ERROR_MAX])
{
    struct config_reader r = {
        .config = {.service = config_default_service, .n_listeners = 1},
        .error = error,
    };
    int result;

    r.config.listeners[0] = config_default_listener;
    /* Options are read first, because wrong usage is reported first, and last, because they
     * override everything. */
    result = config_load_options(&r, input);
    if (result < 0)
        return result;
    result = config_load_file(&r, input->file);
    if (result == 0)
        result = config_load_environment(&r, input);
    if (result == 0)
        result = config_load_options(&r, input);
    if (result == -ENOMEM)
        snprintf(error, CONFIG_ERROR_MAX, "out of memory");
    if (result == 0 && input->descriptors > 0)
        config_check_descriptors(&r.config, input->descriptors);
    if (result == 0) {
        *ret = r.config;
        error[0] = '\0'; /* the default file may be missing */
    }
    return result;
}
