/* SPDX-License-Identifier: MIT */
#include "netd/config/config.h"

#include "common/escape.h"
#include "common/names.h"
#include "common/util.h"
#include "netd/config/keys.h"
#include "netd/config/preprocess.h"
#include "netd/config/values.h"

#include <errno.h>
#include <inttypes.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for where a value was written: "/etc/netd/netd.conf:7". */
#define WHERE_MAX (PATH_MAX + 32)

/* Of the same with the key: "/etc/netd/netd.conf:7: host". */
#define KEY_PATH_MAX  64
#define KEY_WHERE_MAX (WHERE_MAX + 2 + KEY_PATH_MAX)

/* The values so far, and where an error goes. */
struct config_reader {
    struct config config;
    struct listener_config defaults;      /* of all listeners, from the top level */
    char sessions_max[CONFIG_ORIGIN_MAX]; /* where it was set, or "" */
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

static int config_kind_type(enum key_kind kind)
{
    switch (kind) {
    case KEY_GROUP:
    case KEY_TLS:
        return CONFIG_TYPE_GROUP;
    case KEY_NUMBER:
    case KEY_PORT:
        return CONFIG_TYPE_INT;
    case KEY_BOOLEAN:
        return CONFIG_TYPE_BOOL;
    case KEY_ALLOW:
    case KEY_DENY:
    case KEY_NAMES:
    case KEY_FINGERPRINTS:
    case KEY_LISTENERS:
        return CONFIG_TYPE_LIST;
    default:
        return CONFIG_TYPE_STRING;
    }
}

/* True for what is accepted where EXPECTED is meant. */
static bool config_type_matches(int type, const struct config_key *key)
{
    int expected = config_kind_type(key->kind);

    return type == expected || (type == CONFIG_TYPE_INT64 && expected == CONFIG_TYPE_INT) ||
           (type == CONFIG_TYPE_ARRAY && expected == CONFIG_TYPE_LIST &&
            key->kind != KEY_LISTENERS);
}

/* Writes "FILE:LINE" for LINE of the text. */
static void config_locate(const struct config_reader *r, unsigned line, char ret[static WHERE_MAX])
{
    unsigned file_line;
    const char *file = preprocess_locate(&r->text, line, &file_line);

    snprintf(ret, WHERE_MAX, "%s:%u", file, file_line);
}

/* --- Reading --- */

/* A group that is being read. */
struct config_group {
    const config_setting_t *setting;
    const char *prefix;               /* of its keys' names in messages */
    const char *keys;                 /* of the same in the table, in a listener */
    struct listener_config *listener; /* where their values are stored */
    bool in_list;                     /* it is a listener of the list */
};

static int config_read_group(struct config_reader *r, const struct config_group *group);

/* Appends the rule or text that is element INDEX of the list S. */
static int config_read_element(const struct config_reader *r, const struct config_target *target,
                               const struct config_key *key, const config_setting_t *s,
                               unsigned index)
{
    const config_setting_t *element = config_setting_get_elem(s, index);
    const char *text = config_setting_get_string(element);
    int type = config_setting_type(element);
    char file[WHERE_MAX], why[ACCESS_ERROR_MAX];
    bool is_rule = key->kind == KEY_ALLOW || key->kind == KEY_DENY;
    const char *name = strrchr(key->name, '.') ? strrchr(key->name, '.') + 1 : key->name;

    if (type == CONFIG_TYPE_STRING && !text)
        return -ENOMEM;
    if (type != CONFIG_TYPE_STRING)
        snprintf(why, sizeof(why), "expected a string, not %s", config_type_name(type));
    else if ((is_rule ? config_add_rule : config_add_text)(target, key, text, why) == 0)
        return 0;
    config_locate(r, preprocess_find_element(&r->text, config_setting_source_line(s), name, index),
                  file);
    return config_fail(r->error, "%s: " LISTENERS_PREFIX "%s: %s", file, key->name, why);
}

/* Reads the rules or texts of the list S. */
static int config_read_elements(const struct config_reader *r, const struct config_target *target,
                                const struct config_key *key, const config_setting_t *s,
                                const char *where)
{
    unsigned length = (unsigned)config_setting_length(s);
    int result = 0;

    if (length == 0)
        return config_fail(r->error, "%s: is empty", where);
    for (unsigned i = 0; result == 0 && i < length; i++)
        result = config_read_element(r, target, key, s, i);
    return result;
}

static int config_read_value(struct config_reader *r, const struct config_group *group,
                             const struct config_key *key, const config_setting_t *s,
                             const char *where)
{
    const struct config_target target = {&r->config, group->listener, r->error};
    int type = config_setting_type(s);

    if (!config_type_matches(type, key))
        return config_fail(r->error, "%s: expected %s, not %s", where,
                           config_type_name(config_kind_type(key->kind)), config_type_name(type));
    switch (config_kind_type(key->kind)) {
    case CONFIG_TYPE_GROUP:
        if (key->kind == KEY_TLS)
            config_set_origin(group->listener->origin.tls, where);
        group->listener->settings.tls |= key->kind == KEY_TLS;
        return config_read_group(
            r, key->kind == KEY_TLS
                   ? &(struct config_group){s, LISTENERS_PREFIX TLS_PREFIX, TLS_PREFIX,
                                            group->listener, true}
                   : &(struct config_group){s, SESSIONS_PREFIX, "", group->listener, false});
    case CONFIG_TYPE_LIST:
        if (key->kind != KEY_LISTENERS)
            return config_read_elements(r, &target, key, s, where);
        return 0; /* read when the defaults are known */
    case CONFIG_TYPE_INT:
        return config_set_number(&target, key, where, config_setting_get_int64(s));
    case CONFIG_TYPE_BOOL:
        config_key_store(key, &r->config.service, group->listener,
                         (uint64_t)config_setting_get_bool(s));
        return 0;
    default:
        if (!config_setting_get_string(s))
            return -ENOMEM;
        return config_set_text(&target, key, where, config_setting_get_string(s));
    }
}

static int config_read_setting(struct config_reader *r, const struct config_group *group,
                               const config_setting_t *s)
{
    const char *name = config_setting_name(s);
    const struct config_key *key;
    char file[WHERE_MAX], path[KEY_PATH_MAX], where[KEY_WHERE_MAX];

    if (!name) /* libconfig does not check its strdup() */
        return -ENOMEM;
    config_locate(r, config_setting_source_line(s), file);
    snprintf(path, sizeof(path), "%s%s", group->in_list ? group->keys : group->prefix, name);
    key = config_find_key(path, group->in_list);
    if (!key)
        return config_fail(r->error, "%s: %s" SHOWN ": unknown key", file, group->prefix,
                           SHOW(name));
    snprintf(where, sizeof(where), "%s: %s%s", file, group->prefix, name);
    return config_read_value(r, group, key, s, where);
}

static int config_read_group(struct config_reader *r, const struct config_group *group)
{
    unsigned length = (unsigned)config_setting_length(group->setting);

    for (unsigned i = 0; i < length; i++) {
        int result = config_read_setting(r, group, config_setting_get_elem(group->setting, i));

        if (result < 0)
            return result;
    }
    return 0;
}

/* --- Listeners --- */

/* Reports an error of the member NAME of GROUP, whose keys begin with PREFIX. */
PRINTF(5, 6)
static int config_fail_at(const struct config_reader *r, const config_setting_t *group,
                          const char *prefix, const char *name, const char *format, ...)
{
    char file[WHERE_MAX], message[CONFIG_ERROR_MAX];
    va_list arguments;

    config_locate(r, config_setting_source_line(config_setting_get_member(group, name)), file);
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    return config_fail(r->error, "%s: %s%s: %s", file, prefix, name, message);
}

/* Checks that no network is both allowed and denied. */
static int config_check_rules(struct config_reader *r, const config_setting_t *group,
                              const struct listener_config *l)
{
    CLEANUP(free_pointer)
    struct access_range *ranges = calloc(ACCESS_RANGES_MAX(l->n_rules), sizeof(*ranges));
    struct access access;
    char why[ACCESS_ERROR_MAX];

    if (!ranges)
        return -ENOMEM;
    if (access_build(&access, ranges, r->config.rules + l->first_rule, l->n_rules, why) < 0)
        return config_fail_at(r, group, LISTENERS_PREFIX, "deny", "%s", why);
    return 0;
}

static int config_check_tls(const struct config_reader *r, const struct listener_config *l)
{
    const struct listener_tls *tls = &l->tls;

    if (tls->certificate == 0 || tls->key == 0)
        return config_fail(r->error, "%s: needs a certificate and a key", l->origin.tls);
    if (tls->n_client_names > 0 && tls->client_ca == 0)
        return config_fail(r->error, "%s: client_names needs client_ca", l->origin.tls);
    return 0;
}

/* Checks the keys of the listener L, read from GROUP, together. */
static int config_check_listener(struct config_reader *r, const config_setting_t *group,
                                 const struct listener_config *l)
{
    static const char *const not_unix[] = {"host", "port", "allow", "deny", TLS_GROUP};
    bool has_mode = config_setting_get_member(group, "mode");

    for (const struct listener_config *other = r->config.listeners; other < l; other++)
        if (strcmp(other->settings.name, l->settings.name) == 0)
            return config_fail_at(r, group, LISTENERS_PREFIX, "name",
                                  "'%s' is the name of another listener", l->settings.name);
    for (size_t i = 0; l->address.path[0] && i < ARRAY_SIZE(not_unix); i++)
        if (config_setting_get_member(group, not_unix[i]))
            return config_fail_at(r, group, LISTENERS_PREFIX, not_unix[i],
                                  "does not apply to a unix socket (path)");
    if (has_mode && l->address.path[0] != '/')
        return config_fail_at(r, group, LISTENERS_PREFIX, "mode",
                              "applies only to the file of a unix socket (path)");
    if (l->settings.tls && l->settings.proxy)
        return config_fail_at(r, group, LISTENERS_PREFIX, "proxy",
                              "does not apply to a listener with " TLS_GROUP);
    if (l->settings.tls && config_check_tls(r, l) < 0)
        return -EINVAL;
    return config_check_rules(r, group, l);
}

/* Octet counting is the default for syslog. GROUP describes the listener; its defaults are at the
 * top level, ROOT. */
static void config_choose_framing(struct listener_settings *settings, const config_setting_t *root,
                                  const config_setting_t *group)
{
    if (settings->format == FORMAT_SYSLOG && !config_setting_get_member(root, "framing") &&
        !config_setting_get_member(group, "framing"))
        settings->framing = FRAMING_OCTET;
}

static int config_read_listener(struct config_reader *r, const config_setting_t *root,
                                const config_setting_t *s)
{
    const struct config_group group = {
        .setting = s,
        .prefix = LISTENERS_PREFIX,
        .keys = "",
        .listener = &r->config.listeners[r->config.n_listeners],
        .in_list = true,
    };
    char file[WHERE_MAX], where[KEY_WHERE_MAX];
    int result;

    config_locate(r, config_setting_source_line(s), file);
    snprintf(where, sizeof(where), "%s: " LISTENERS_LIST, file);
    if (config_setting_type(s) != CONFIG_TYPE_GROUP)
        return config_fail(r->error, "%s: expected a group, not %s", where,
                           config_type_name(config_setting_type(s)));
    if (r->config.n_listeners == CONFIG_LISTENERS_MAX)
        return config_fail(r->error, "%s: more than %d", where, CONFIG_LISTENERS_MAX);
    *group.listener = r->defaults;
    /* A default address that cannot be bound is this listener's, too. */
    config_set_origin(group.listener->origin.host, where);
    config_set_origin(group.listener->origin.port, where);
    result = config_read_group(r, &group);
    if (result == 0)
        config_choose_framing(&group.listener->settings, root, s);
    if (result == 0 && !group.listener->settings.name[0])
        result = config_fail(r->error, "%s: a listener needs a name", where);
    if (result == 0)
        result = config_check_listener(r, s, group.listener);
    if (result == 0)
        r->config.n_listeners++;
    return result;
}

static int config_read_listeners(struct config_reader *r, const config_setting_t *root,
                                 const config_setting_t *list)
{
    unsigned length = (unsigned)config_setting_length(list);
    int result = 0;

    for (unsigned i = 0; result == 0 && i < length; i++)
        result = config_read_listener(r, root, config_setting_get_elem(list, i));
    return result;
}

/* Reads the listeners of the list, or makes the one that the top level describes. */
static int config_make_listeners(struct config_reader *r, const config_setting_t *root)
{
    static const char *const not_here[] = {"host", "port"};
    const config_setting_t *list = config_setting_get_member(root, LISTENERS_LIST);

    r->defaults.settings.sessions_max = r->config.service.sessions_max;
    r->defaults.settings.sessions_max_per_address = r->config.service.sessions_max_per_address;
    if (!list) {
        r->config.listeners[0] = r->defaults;
        r->config.n_listeners = 1;
        config_choose_framing(&r->config.listeners[0].settings, root, root);
        return 0;
    }
    if (config_setting_length(list) == 0)
        return config_fail_at(r, root, "", LISTENERS_LIST, "is empty");
    for (size_t i = 0; i < ARRAY_SIZE(not_here); i++)
        if (config_setting_get_member(root, not_here[i]))
            return config_fail_at(r, root, "", not_here[i], "belongs in the list of listeners");
    return config_read_listeners(r, root, list);
}

/* What is most likely wrong with the first setting of LINE. */
static const char *config_guess(const char *line)
{
    size_t length = strcspn(line, " \t:=");
    const char *value = line + length + strspn(line + length, " \t:=");
    const struct config_key *key;
    char path[KEY_PATH_MAX];

    snprintf(path, sizeof(path), "%.*s", (int)min_size(length, sizeof(path)), line);
    key = config_find_key(path, false);
    if (!key)
        key = config_find_key(path, true);
    if (key && config_kind_type(key->kind) == CONFIG_TYPE_STRING && !strchr("\"[({", *value))
        return "; a string needs double quotes";
    if (key && key->kind == KEY_BOOLEAN)
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

/* Remembers where sessions.max was set, for a warning. */
static void config_note_sessions_max(struct config_reader *r, const config_setting_t *root)
{
    const config_setting_t *sessions = config_setting_get_member(root, SESSIONS_GROUP);
    const config_setting_t *s = sessions ? config_setting_get_member(sessions, "max") : NULL;
    char file[WHERE_MAX], where[KEY_WHERE_MAX];

    if (!s)
        return;
    config_locate(r, config_setting_source_line(s), file);
    snprintf(where, sizeof(where), "%s: ", file);
    config_set_origin(r->sessions_max, where);
}

static int config_parse(struct config_reader *r, config_t *tree)
{
    const config_setting_t *root;
    int result;

    if (config_read_string(tree, r->text.text) != CONFIG_TRUE)
        return config_fail_parse(r, tree);
    root = config_root_setting(tree);
    result = config_read_group(r, &(struct config_group){root, "", "", &r->defaults, false});
    if (result < 0)
        return result;
    config_note_sessions_max(r, root);
    return config_make_listeners(r, root);
}

static int config_load_file(struct config_reader *r, const char *file)
{
    config_t tree;
    int result;

    if (file && *file == '\0')
        return config_fail(r->error, "--config: is empty");
    result = preprocess_load(&r->text, file ? file : DEFAULT_CONF, r->error);
    if (result == -ENOENT && !file) {
        r->config.n_listeners = 1;
        return 0;
    }
    if (result < 0)
        return result == -ENOENT ? -EINVAL : result;
    config_init(&tree);
    result = config_parse(r, &tree);
    config_destroy(&tree);
    preprocess_free(&r->text);
    return result;
}

/* --- Other sources --- */

/* Makes the first listener one of TCP, for an address that overrides its own. */
static struct config_target config_override(struct config_reader *r)
{
    struct listener_address *address = &r->config.listeners[0].address;

    address->path[0] = '\0';
    address->mode = config_default_listener.address.mode;
    return (struct config_target){&r->config, &r->config.listeners[0], r->error};
}

static int config_override_address(struct config_reader *r, const char *host_source,
                                   const char *host, const char *port_source, const char *port)
{
    struct config_target target;
    int result = 0;

    if (!host && !port)
        return 0;
    target = config_override(r);
    if (host)
        result = config_set_text(&target, config_find_key("host", false), host_source, host);
    if (result == 0 && port)
        result = config_set_port(&target, port_source, port);
    return result;
}

static int config_load_environment(struct config_reader *r, const struct config_input *input)
{
    return config_override_address(r, "SERVER_HOST", input->env_host, "SERVER_PORT",
                                   input->env_port);
}

static int config_load_options(struct config_reader *r, const struct config_input *input)
{
    const struct config_target target = {&r->config, &r->config.listeners[0], r->error};
    int result =
        config_override_address(r, "--host", input->option_host, "--port", input->option_port);

    if (result == 0 && input->option_output)
        result = config_set_text(&target, config_find_key("output", false), "--output",
                                 input->option_output);
    return result < 0 ? -EBADMSG : 0;
}

/* --- Files --- */

/* Writes the absolute path of the folder of FILE. */
static void config_folder(const char *file, char ret[static PATH_MAX])
{
    const char *slash = strrchr(file, '/');
    char folder[PATH_MAX];

    snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash + 1 - file) : 1,
             slash ? file : ".");
    if (!realpath(folder, ret))
        strcpy(ret, folder);
}

/* Makes the relative path at *OFFSET one in the service's credentials, if it is there, else one
 * beside the configuration. */
static int config_find_file(struct config_reader *r, const struct config_input *input,
                            uint32_t *offset)
{
    const char *name = config_text(&r->config, *offset);
    char folder[PATH_MAX], path[2 * PATH_MAX] = "";

    if (!name || name[0] == '/')
        return 0;
    if (input->credentials)
        snprintf(path, sizeof(path), "%s/%s", input->credentials, name);
    if (!input->credentials || access(path, F_OK) < 0) {
        config_folder(input->file ? input->file : DEFAULT_CONF, folder);
        snprintf(path, sizeof(path), "%s/%s", folder, name);
    }
    *offset = strlen(path) < PATH_MAX ? config_store_text(&r->config, path) : 0;
    return *offset > 0 ? 0 : config_fail(r->error, "%s: too long", path);
}

static int config_find_files(struct config_reader *r, const struct config_input *input)
{
    int result = 0;

    for (uint32_t i = 0; result == 0 && i < r->config.n_listeners; i++) {
        struct listener_tls *tls = &r->config.listeners[i].tls;

        result = config_find_file(r, input, &tls->certificate);
        if (result == 0)
            result = config_find_file(r, input, &tls->key);
        if (result == 0)
            result = config_find_file(r, input, &tls->client_ca);
    }
    return result;
}

/* --- Checks of the whole --- */

/* Copies HOST without brackets. */
static void config_strip_brackets(const char *host, char ret[static HOST_MAX + 1])
{
    size_t length = strlen(host), brackets = host[0] == '[' && host[length - 1] == ']';

    snprintf(ret, HOST_MAX + 1, "%.*s", (int)(length - 2 * brackets), host + brackets);
}

/* True if the hosts are the same name, or the same address in any form. */
static bool config_same_host(const char *a, const char *b)
{
    char host_a[HOST_MAX + 1], host_b[HOST_MAX + 1], why[ACCESS_ERROR_MAX];
    struct access_network network_a, network_b;

    config_strip_brackets(a, host_a);
    config_strip_brackets(b, host_b);
    if (access_parse(host_a, &network_a, why) < 0 || access_parse(host_b, &network_b, why) < 0)
        return strcasecmp(host_a, host_b) == 0;
    return memcmp(network_a.ip, network_b.ip, sizeof(network_a.ip)) == 0;
}

/* True if the listeners would listen on one address. Port 0 is another port each time. */
static bool config_same_address(const struct listener_address *a, const struct listener_address *b)
{
    if (a->path[0] || b->path[0])
        return strcmp(a->path, b->path) == 0;
    return a->port == b->port && a->port != 0 && config_same_host(a->host, b->host);
}

static int config_check_addresses(const struct config_reader *r)
{
    const struct listener_config *all = r->config.listeners;

    for (uint32_t i = 1; i < r->config.n_listeners; i++)
        for (uint32_t j = 0; j < i; j++)
            if (config_same_address(&all[i].address, &all[j].address))
                return config_fail(r->error, "%s: '%s' has the same address as '%s'",
                                   all[i].origin.host, all[i].settings.name, all[j].settings.name);
    return 0;
}

/* Warns where LIMIT descriptors leave room for fewer sessions than are configured. */
static void config_check_descriptors(struct config_reader *r, uint64_t limit)
{
    uint64_t room = settings_descriptors(limit, r->config.n_listeners);

    if (r->config.service.sessions_max > room)
        snprintf(r->config.warning, sizeof(r->config.warning),
                 "%ssessions.max: %" PRIu32 " sessions, but the limit of %" PRIu64
                 " open files (LimitNOFILE=) allows %" PRIu64,
                 r->sessions_max, r->config.service.sessions_max, limit, room);
}

int config_load(struct config *ret, const struct config_input *input,
                char error[static CONFIG_ERROR_MAX])
{
    struct config_reader r = {
        .config = {.service = config_default_service, .n_listeners = 1},
        .defaults = config_default_listener,
        .error = error,
    };
    int result;

    r.config.listeners[0] = config_default_listener;
    /* Options are read first, because wrong usage is reported first, and last, because they
     * override everything. */
    result = config_load_options(&r, input);
    if (result < 0)
        return result;
    r.config.n_listeners = 0;
    result = config_load_file(&r, input->file);
    if (result == 0)
        result = config_load_environment(&r, input);
    if (result == 0)
        result = config_load_options(&r, input);
    if (result == 0)
        result = config_check_addresses(&r);
    if (result == 0)
        result = config_find_files(&r, input);
    if (result == -ENOMEM)
        snprintf(error, CONFIG_ERROR_MAX, "out of memory");
    if (result == 0 && input->descriptors > 0)
        config_check_descriptors(&r, input->descriptors);
    if (result == 0) {
        *ret = r.config;
        error[0] = '\0'; /* the default file may be missing */
    }
    return result;
}
