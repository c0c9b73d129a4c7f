/* SPDX-License-Identifier: MIT */
/* The list of listeners, and a configuration as text. */
#include "common/util.h"
#include "netd/config/preprocess.h"
#include "netd/config/print.h"

#include <sys/stat.h>
#include <syslog.h>

#include "config.h"

static struct config c, again;

#define A "{ name = \"a\"; port = 1; }"

static void one_listener_without_a_list(void **state)
{
    (void)state;
    assert_int_equal(load_text(&c, "sessions = { max = 7; max_per_address = 5; };"), 0);
    assert_int_equal(c.n_listeners, 1);
    assert_string_equal(c.listeners[0].settings.name, "");
    assert_int_equal(c.service.sessions_max, 7);
    assert_int_equal(c.service.sessions_max_per_address, 5);
    assert_int_equal(c.listeners[0].settings.sessions_max, 7);
    assert_int_equal(c.listeners[0].settings.sessions_max_per_address, 5);
}

static void every_key_of_a_listener_is_read(void **state)
{
    const struct listener_config *l = &c.listeners[0];
    char expected[128];

    (void)state;
    assert_int_equal(load_text(&c, "listeners = ( {\n"
                                   " name = \"Az.0_9-\"; host = \"[::1]\";\n port = 0xffff;\n"
                                   " framing = \"raw\"; format = \"syslog\"; max_record = 64;\n"
                                   " trust_severity = true;\n"
                                   " priority = \"debug\"; receipt = false; flush_timeout = 1;\n"
                                   " proxy = true; max_rate = 2147483647;"
                                   " identifier = \"%% %a%p%s%l\\\"\";\n"
                                   " max_sessions = 2; max_sessions_per_address = 3;\n"
                                   " idle_timeout = 4;\n"
                                   " allow = ( \"192.0.2.0/24\", \"2001:db8::/32\" );\n"
                                   " deny = [ \"192.0.2.1\" ]; } );"),
                     0);
    assert_int_equal(c.n_listeners, 1);
    assert_string_equal(l->settings.name, "Az.0_9-");
    assert_string_equal(l->address.host, "[::1]");
    assert_int_equal(l->address.port, 65535);
    assert_string_equal(l->address.path, "");
    assert_int_equal(l->settings.framing, FRAMING_RAW);
    assert_int_equal(l->settings.format, FORMAT_SYSLOG);
    assert_true(l->settings.trust_severity);
    assert_int_equal(l->settings.max_record, 64);
    assert_int_equal(l->settings.priority, LOG_DEBUG);
    assert_false(l->settings.receipt);
    assert_true(l->settings.proxy);
    assert_int_equal(l->settings.flush_timeout, 1);
    assert_int_equal(l->settings.max_rate, 2147483647);
    assert_string_equal(l->settings.identifier, "%% %a%p%s%l\"");
    assert_int_equal(l->settings.sessions_max, 2);
    assert_int_equal(l->settings.sessions_max_per_address, 3);
    assert_int_equal(l->settings.idle_timeout, 4);
    assert_int_equal(l->n_rules, 3);
    assert_int_equal(c.n_rules, 3);
    snprintf(expected, sizeof(expected), "%s:2: listeners.host", conf);
    assert_string_equal(l->origin.host, expected);
    snprintf(expected, sizeof(expected), "%s:3: listeners.port", conf);
    assert_string_equal(l->origin.port, expected);
}

static void unix_listeners(void **state)
{
    char expected[128];

    (void)state;
    assert_int_equal(
        load_text(&c, "listeners = ( { name = \"a\"; path = \"/run/netd/in put\"; mode = \"660\"; }"
                      ",\n { name = \"b\"; path = \"@netd\"; } );"),
        0);
    assert_int_equal(c.n_listeners, 2);
    assert_string_equal(c.listeners[0].address.path, "/run/netd/in put");
    assert_int_equal(c.listeners[0].address.mode, 0660);
    assert_string_equal(c.listeners[1].address.path, "@netd");
    assert_int_equal(c.listeners[1].address.mode, 0666);
    snprintf(expected, sizeof(expected), "%s:2: listeners.path", conf);
    assert_string_equal(c.listeners[1].origin.host, expected);
}

static void relative_paths_are_credentials_or_beside_the_file(void **state)
{
    struct config_input input = {.file = conf, .credentials = directory};
    char folder[66], expected[128];

    (void)state;
    snprintf(folder, sizeof(folder), "%s/b", directory);
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(conf, sizeof(conf), "%s/netd.conf", folder);
    write_text("in-both", "");
    write_text("b/in-both", "");
    write_text("b/netd.conf", "listeners = ( { name = \"a\"; tls = { certificate = \"in-both\";"
                              " key = \"beside-only\"; client_ca = \"/absolute\"; }; } );");
    for (int i = 0; i < 2; i++, input.credentials = NULL) {
        assert_int_equal(load(&c, &input), 0);
        snprintf(expected, sizeof(expected), "%s/in-both", i == 0 ? directory : folder);
        assert_string_equal(config_text(&c, c.listeners[0].tls.certificate), expected);
        snprintf(expected, sizeof(expected), "%s/beside-only", folder);
        assert_string_equal(config_text(&c, c.listeners[0].tls.key), expected);
        assert_string_equal(config_text(&c, c.listeners[0].tls.client_ca), "/absolute");
    }
}

static void paths_have_a_limit(void **state)
{
    char text[256], path[CONFIG_PATH_SIZE + 1];

    (void)state;
    for (size_t length = CONFIG_PATH_SIZE - 1; length <= CONFIG_PATH_SIZE; length++) {
        memset(path, 'x', length);
        path[0] = '/';
        path[length] = '\0';
        snprintf(text, sizeof(text), "listeners = ( { name = \"a\"; path = \"%s\"; } );", path);
        if (length < CONFIG_PATH_SIZE)
            assert_int_equal(load_text(&c, text), 0);
        else
            check_text_error(text, ":1: listeners.path: is longer than 107 bytes");
    }
}

/* Wherever they are in the file. */
static void defaults_are_of_the_top_level(void **state)
{
    (void)state;
    assert_int_equal(
        load_text(&c, "max_record = 100;\n"
                      "listeners = ( { name = \"a\"; port = 1; }, "
                      "{ name = \"b\"; port = 2; max_record = 200; max_sessions = 3; } );\n"
                      "flush_timeout = 9; identifier = \"%l\"; receipt = false;\n"
                      "priority = \"debug\"; framing = \"raw\";\n"
                      "sessions = { max = 7; max_per_address = 5; idle_timeout = 6; };"),
        0);
    assert_int_equal(c.n_listeners, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct listener_settings *s = &c.listeners[i].settings;

        assert_int_equal(s->max_record, i == 0 ? 100 : 200);
        assert_int_equal(s->flush_timeout, 9);
        assert_string_equal(s->identifier, "%l");
        assert_false(s->receipt);
        assert_int_equal(s->priority, LOG_DEBUG);
        assert_int_equal(s->framing, FRAMING_RAW);
        assert_int_equal(s->sessions_max, i == 0 ? 7 : 3);
        assert_int_equal(s->sessions_max_per_address, 5);
        assert_int_equal(s->idle_timeout, 6);
        assert_string_equal(c.listeners[i].address.host, "127.0.0.1");
    }
    assert_int_equal(c.service.sessions_max, 7);
}

static void bad_listeners(void **state)
{
    static const struct {
        const char *text, *rest;
    } rows[] = {
        {"listeners = ();", ":1: listeners: is empty"},
        {"\nlisteners = [];", ":2: listeners: expected a list, not an array"},
        {"listeners = { };", ":1: listeners: expected a list, not a group"},
        {"listeners = (\n" A ",\n);", ":3: a comma before the end of the list"},
        {"listeners = ( " A ", /* , */ # ,\n );", ":2: a comma before the end of the list"},
        {"listeners = ( 1 );", ":1: listeners: expected a group, not an integer"},
        {"listeners = ( ( ) );", ":1: listeners: expected a group, not a list"},
        {"listeners = (\n{\nport = 1; } );", ":2: listeners: a listener needs a name"},
        {"listeners = ( { name = \"\"; } );", ":1: listeners.name: is empty"},
        {"listeners = ( { name = \"a b\"; } );",
         ":1: listeners.name: 'a b' has more than letters, digits, '.', '_' and '-'"},
        {"listeners = ( { name = \"\xc3\xa4\"; } );",
         ":1: listeners.name: '\\xc3\\xa4' has more than letters, digits, '.', '_' and '-'"},
        {"listeners = ( { name = "
         "\"1234567890123456789012345678901234567890123456789012345678901234\"; } );",
         ":1: listeners.name: is longer than 63 bytes"},
        {"listeners = ( " A ",\n{ port = 2;\nname = \"a\"; } );",
         ":3: listeners.name: 'a' is the name of another listener"},
        {"listeners = ( { name = \"a\";\nprot = 1; } );", ":2: listeners.prot: unknown key"},
        {"listeners = ( { name = \"a\"; output = \"text\"; } );",
         ":1: listeners.output: unknown key"},
        {"listeners = ( { name = \"a\"; sessions = { max = 1; }; } );",
         ":1: listeners.sessions: unknown key"},
        {"listeners = ( { name = \"a\"; listeners = ( ); } );",
         ":1: listeners.listeners: unknown key"},
        {"listeners = ( { name = \"a\"; port = 65536; } );",
         ":1: listeners.port: 65536 is not between 0 and 65535"},
        {"listeners = ( { name = \"a\"; port = \"1\"; } );",
         ":1: listeners.port: expected an integer, not a string"},
        {"listeners = ( { name = \"a\"; format = \"syslogs\"; } );",
         ":1: listeners.format: invalid format 'syslogs'; expected one of plain, syslog"},
        {"listeners = ( { name = \"a\"; max_sessions = 0; } );",
         ":1: listeners.max_sessions: 0 is not between 1 and 1000000"},
        {"listeners = ( { name = \"a\"; tls = { }; } );",
         ":1: listeners.tls: needs a certificate and a key"},
        {"listeners = ( { name = \"a\"; tls = { certificate = \"a\"; }; } );",
         ":1: listeners.tls: needs a certificate and a key"},
        {"listeners = ( { name = \"a\"; tls = { keys = \"a\"; }; } );",
         ":1: listeners.tls.keys: unknown key"},
        {"listeners = ( { name = \"a\"; tls = { certificate = \"a\"; key = \"b\"; client_names = "
         "(\"x\"); }; } );",
         ":1: listeners.tls: client_names needs client_ca"},
        {"listeners = ( { name = \"a\"; tls = { min_version = \"1.1\"; }; } );",
         ":1: listeners.tls.min_version: invalid min_version '1.1'; expected one of 1.2, 1.3"},
        {"listeners = ( { name = \"a\"; tls = { client_fingerprints = (\"ab\"); }; } );",
         ":1: listeners.tls.client_fingerprints: 'ab' is not a SHA-256 fingerprint"},
        {"listeners = ( { name = \"a\"; proxy = true; tls = { certificate = \"a\"; key = \"b\"; }; "
         "} );",
         ":1: listeners.proxy: does not apply to a listener with tls"},
        {"allow = ( );", ":1: allow: unknown key"},
        {"name = \"a\";", ":1: name: unknown key"},
        {"path = \"/a\";", ":1: path: unknown key"},
        {"listeners = ( " A " );\nhost = \"::1\";", ":2: host: belongs in the list of listeners"},
        {"port = 5;\nlisteners = ( " A " );", ":1: port: belongs in the list of listeners"},
        {"listeners = ( " A " );\nlisteners = ( " A " );",
         ":2: duplicate setting name near 'listeners = ( { name = \"a\"; port = 1; } );'"},
        {"listeners = ( { name = \"a\"; port = 1; port = 2; } );",
         ":1: duplicate setting name near 'listeners = ( { name = \"a\"; port = 1; port = 2; } "
         ");'"},

        {"listeners = ( { name = \"a\"; path = \"/a\";\nhost = \"::1\"; } );",
         ":2: listeners.host: does not apply to a unix socket (path)"},
        {"listeners = ( { name = \"a\"; port = 1;\npath = \"/a\"; } );",
         ":1: listeners.port: does not apply to a unix socket (path)"},
        {"listeners = ( { name = \"a\"; path = \"/a\";\n\nallow = ( \"::1\" ); } );",
         ":3: listeners.allow: does not apply to a unix socket (path)"},
        {"listeners = ( { name = \"a\"; path = \"/a\"; deny = ( \"::1\" ); } );",
         ":1: listeners.deny: does not apply to a unix socket (path)"},
        {"listeners = ( { name = \"a\"; mode = \"0600\"; } );",
         ":1: listeners.mode: applies only to the file of a unix socket (path)"},
        {"listeners = ( { name = \"a\"; path = \"@a\"; mode = \"0600\"; } );",
         ":1: listeners.mode: applies only to the file of a unix socket (path)"},
        {"listeners = ( { name = \"a\"; path = \"\"; } );", ":1: listeners.path: is empty"},
        {"listeners = ( { name = \"a\"; path = \"a\"; } );",
         ":1: listeners.path: 'a' is neither an absolute path of a file nor '@' and a name"},
        {"listeners = ( { name = \"a\"; path = \"@\"; } );",
         ":1: listeners.path: '@' is neither an absolute path of a file nor '@' and a name"},
        {"listeners = ( { name = \"a\"; path = \"/a/\"; } );",
         ":1: listeners.path: '/a/' is neither an absolute path of a file nor '@' and a name"},
        {"listeners = ( { name = \"a\"; path = \"/\\n\"; } );",
         ":1: listeners.path: '/\\x0a' is not printable ASCII"},
        {"listeners = ( { name = \"a\"; path = \"/a\"; mode = \"\"; } );",
         ":1: listeners.mode: '' is not an octal mode such as \"0660\""},
        {"listeners = ( { name = \"a\"; path = \"/a\"; mode = \"668\"; } );",
         ":1: listeners.mode: '668' is not an octal mode such as \"0660\""},
        {"listeners = ( { name = \"a\"; path = \"/a\"; mode = \"4755\"; } );",
         ":1: listeners.mode: '4755' is not an octal mode such as \"0660\""},
        {"listeners = ( { name = \"a\"; path = \"/a\"; mode = \"00660\"; } );",
         ":1: listeners.mode: '00660' is not an octal mode such as \"0660\""},
        {"listeners = ( { name = \"a\"; path = \"/a\"; mode = 660; } );",
         ":1: listeners.mode: expected a string, not an integer"},

        {"listeners = ( " A ",\n{ name = \"b\"; port = 1; } );",
         ":2: listeners: 'b' has the same address as 'a'"},
        {"listeners = ( { name = \"a\"; host = \"::1\"; },\n{ name = \"b\";\nhost = \"[0::1]\"; } "
         ");",
         ":3: listeners.host: 'b' has the same address as 'a'"},
        {"listeners = ( { name = \"a\"; host = \"::ffff:127.0.0.1\"; }, { name = \"b\"; } );",
         ":1: listeners: 'b' has the same address as 'a'"},
        {"listeners = ( { name = \"a\"; host = \"Example.net\"; },\n"
         "{ name = \"b\"; host = \"example.net\"; } );",
         ":2: listeners.host: 'b' has the same address as 'a'"},
        {"listeners = ( { name = \"a\"; path = \"/a\"; }, { name = \"b\"; path = \"/a\"; } );",
         ":1: listeners.path: 'b' has the same address as 'a'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        check_text_error(rows[i].text, rows[i].rest);
}

static void distinct_addresses(void **state)
{
    static const char *const texts[] = {
        "listeners = ( { name = \"a\"; port = 0; }, { name = \"b\"; port = 0; } );",
        "listeners = ( " A ", { name = \"b\"; port = 2; } );",
        "listeners = ( { name = \"a\"; host = \"::1\"; }, { name = \"b\"; } );",
        "listeners = ( { name = \"a\"; host = \"*\"; }, { name = \"b\"; } );",
        "listeners = ( { name = \"a\"; path = \"/a\"; }, { name = \"b\"; path = \"@/a\"; } );",
        "listeners = ( { name = \"a\"; path = \"/a\"; }, { name = \"b\"; } );",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (load_text(&c, texts[i]) != 0)
            fail_msg("'%s': %s", texts[i], error);
}

static void listeners_have_a_limit(void **state)
{
    char text[CONFIG_LISTENERS_MAX * 80], *end = text;

    (void)state;
    end = stpcpy(end, "listeners = (\n");
    for (unsigned i = 0; i <= CONFIG_LISTENERS_MAX; i++) {
        end += sprintf(end, "%s{ name = \"%u\"; port = %u; }", i > 0 ? ",\n" : "", i, i + 1);
        if (i == CONFIG_LISTENERS_MAX - 1) {
            char *here = end;

            strcpy(end, ");");
            assert_int_equal(load_text(&c, text), 0);
            assert_int_equal(c.n_listeners, CONFIG_LISTENERS_MAX);
            assert_string_equal(c.listeners[i].settings.name, "63");
            end = here;
        }
    }
    strcpy(end, ");");
    check_text_error(text, ":66: listeners: more than 64");
}

/* The listeners that the sample file has as a comment. */
static void sample_listeners_are_good(void **state)
{
    static char text[32768];
    FILE *f = fopen("etc/netd.conf", "re");
    const char *from;
    char *to = text;

    (void)state;
    if (!f)
        skip(); /* not run from the top of the source tree */
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    from = strstr(text, "# listeners = (");
    assert_non_null(from);
    while (*from == '#') {
        from += 2;
        while ((*to++ = *from++) != '\n')
            ;
    }
    *to = '\0';
    if (load_text(&c, text) != 0)
        fail_msg("%s", error);
    assert_int_equal(c.n_listeners, 6);
    assert_int_equal(c.n_rules, 4);
}

/* --- Rules --- */

static void bad_rules(void **state)
{
#define RULES(list) "listeners = ( { name = \"a\"; " list " } );"
    static const struct {
        const char *text, *rest;
    } rows[] = {
        {RULES("allow = ( );"), ":1: listeners.allow: is empty"},
        {RULES("deny = [ ];"), ":1: listeners.deny: is empty"},
        {RULES("allow = \"::1\";"), ":1: listeners.allow: expected a list, not a string"},
        {RULES("allow = { };"), ":1: listeners.allow: expected a list, not a group"},
        {RULES("allow = ( 1 );"), ":1: listeners.allow: expected a string, not an integer"},
        {RULES("allow = ( ( \"::1\" ) );"), ":1: listeners.allow: expected a string, not a list"},
        {RULES("allow = ( \"::1\",\n\"\" );"),
         ":2: listeners.allow: '' is not an IP address or network"},
        {RULES("deny = ( \"192.0.2.0/33\" );"),
         ":1: listeners.deny: '192.0.2.0/33' has no prefix length between 0 and 32"},
        {RULES("deny = ( \"192.0.2.1/24\" );"),
         ":1: listeners.deny: '192.0.2.1/24' has host bits set; the network is 192.0.2.0/24"},
        {RULES("deny = ( \"::ffff:192.0.2.0/121\" );"), NULL},
        {RULES("deny = ( \"::ffff:192.0.2.1/120\" );"),
         ":1: listeners.deny: '::ffff:192.0.2.1/120' has host bits set; the network is "
         "192.0.2.0/24"},
        {RULES("deny = ( \"a\\n\" );"),
         ":1: listeners.deny: 'a\\x0a' is not an IP address or network"},
        {RULES("allow = ( \"192.0.2.0/24\" );\ndeny = ( \"::ffff:192.0.2.0/120\" );"),
         ":2: listeners.deny: '192.0.2.0/24' is both allowed and denied"},
        /* The line of the element, and not where its list goes on or ends. */
        {RULES("/* allow = ( */ allow = (\n\n# \"\n\"::1\", // , \"\n\"::2\",\n\"::3\" \"x\"\n\n)"),
         ":6: listeners.allow: '::3x' is not an IP address or network"},
        {RULES("deny = (\n\"::1\",\n\"x\"\n\n);"),
         ":3: listeners.deny: 'x' is not an IP address or network"},
        {RULES("deny = [\n\"::1\",/*,*/ \"::2\"\n,\n \"x\"\n];"),
         ":4: listeners.deny: 'x' is not an IP address or network"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].rest)
            check_text_error(rows[i].text, rows[i].rest);
        else if (load_text(&c, rows[i].text) != 0)
            fail_msg("'%s': %s", rows[i].text, error);
    }
}

static void each_listener_has_its_rules(void **state)
{
    struct access_range ranges[ACCESS_RANGES_MAX(2)];
    struct access access;
    char why[ACCESS_ERROR_MAX];
    struct endpoint peer = {.family = AF_INET, .ip = {192, 0, 2, 1}};

    (void)state;
    assert_int_equal(load_text(&c, "listeners = (\n"
                                   "{ name = \"a\"; port = 1; allow = ( \"192.0.2.0/24\" ); },\n"
                                   "{ name = \"b\"; port = 2; },\n"
                                   "{ name = \"c\"; port = 3; deny = ( \"192.0.2.1\" );\n"
                                   "allow = ( \"192.0.2.0/24\" ); } );"),
                     0);
    assert_int_equal(c.n_rules, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct listener_config *l = &c.listeners[i];

        assert_int_equal(l->n_rules, i == 0 ? 1 : i == 1 ? 0 : 2);
        assert_int_equal(access_build(&access, ranges, c.rules + l->first_rule, l->n_rules, why),
                         0);
        assert_int_equal(access_allows(&access, ranges, &peer), i != 2);
        peer.ip[2] = 3;
        assert_int_equal(access_allows(&access, ranges, &peer), i == 1);
        peer.ip[2] = 2;
    }
}

/* All of them together, over all listeners. */
static void rules_have_a_limit(void **state)
{
    static char text[PREPROCESS_BYTES_MAX];
    char *end = stpcpy(text, "listeners = ( { name = \"a\"; port = 1; allow = (");

    (void)state;
    for (unsigned i = 0; i < CONFIG_RULES_MAX; i++)
        end +=
            sprintf(end, "%s\n\"10.%u.%u.%u\"", i > 0 ? "," : "", i >> 16, i >> 8 & 255, i & 255);
    strcpy(end, "); } );");
    assert_int_equal(load_text(&c, text), 0);
    assert_int_equal(c.listeners[0].n_rules, CONFIG_RULES_MAX);
    strcpy(end, "); },\n { name = \"b\"; port = 2; deny = (\n\"::1\"); } );");
    check_text_error(text, ":16387: listeners.deny: more than 16384 networks in all listeners "
                           "together");
}

/* --- Other sources --- */

static void other_sources_replace_the_first_address(void **state)
{
    struct config_input input = {.file = conf, .env_port = "5"};

    (void)state;
    write_text("netd.conf", "listeners = ( { name = \"a\"; path = \"/a\"; mode = \"0600\"; },\n"
                            "{ name = \"b\"; host = \"::1\"; } );");
    assert_int_equal(load(&c, &input), 0);
    assert_string_equal(c.listeners[0].settings.name, "a");
    assert_string_equal(c.listeners[0].address.path, "");
    assert_string_equal(c.listeners[0].address.host, "127.0.0.1");
    assert_int_equal(c.listeners[0].address.port, 5);
    assert_string_equal(c.listeners[0].origin.port, "SERVER_PORT");
    assert_string_equal(c.listeners[1].address.host, "::1");
    assert_int_equal(c.listeners[1].address.port, 3000);
    input.env_port = NULL;
    input.option_host = "::1";
    check_error(&input, -EINVAL, conf, ":2: listeners.host: 'b' has the same address as 'a'");
    input.option_port = "0";
    assert_int_equal(load(&c, &input), 0);
    assert_string_equal(c.listeners[0].origin.host, "--host");
}

static void descriptors_of_listeners(void **state)
{
    struct config_input input = {.file = conf, .descriptors = 1064};

    (void)state;
    write_text("netd.conf", "sessions = { max = 1000; }; listeners = ( " A " );");
    assert_int_equal(load(&c, &input), 0);
    assert_string_equal(c.warning, "");
    write_text("netd.conf",
               "sessions = { max = 1000; }; listeners = ( " A ", { name = \"b\"; port = 2; } );");
    assert_int_equal(load(&c, &input), 0);
    assert_string_not_equal(c.warning, "");
}

/* --- Printing --- */

static char *print(const struct config *config)
{
    char *text = NULL;
    size_t length;
    FILE *f = open_memstream(&text, &length);

    assert_non_null(f);
    config_print(f, config);
    assert_int_equal(fclose(f), 0);
    return text;
}

/* Asserts that what is printed of the file that holds TEXT is a file that says the same. */
static void check_printed(const char *text)
{
    char *first, *second;

    if (load_text(&c, text) != 0)
        fail_msg("'%s': %s", text, error);
    first = print(&c);
    if (load_text(&again, first) != 0)
        fail_msg("'%s': %s", first, error);
    second = print(&again);
    assert_string_equal(first, second);
    assert_memory_equal(&c.service, &again.service, sizeof(c.service));
    assert_int_equal(c.n_listeners, again.n_listeners);
    assert_int_equal(c.n_rules, again.n_rules);
    for (uint32_t i = 0; i < c.n_listeners; i++) {
        const struct listener_config *a = &c.listeners[i], *b = &again.listeners[i];

        assert_memory_equal(&a->settings, &b->settings, sizeof(a->settings));
        assert_memory_equal(&a->address, &b->address, sizeof(a->address));
        assert_int_equal(a->n_rules, b->n_rules);
    }
    free(first);
    free(second);
}

/* Unless the configuration says otherwise, in the listener or at the top level. */
static void syslog_is_counted(void **state)
{
    static const struct {
        const char *text;
        int framings[2];
    } rows[] = {
        {"format = \"syslog\";", {FRAMING_OCTET}},
        {"format = \"plain\";", {FRAMING_LINE}},
        {"framing = \"line\"; format = \"syslog\";", {FRAMING_LINE}},
        {"format = \"syslog\"; framing = \"nul\";", {FRAMING_NUL}},
        {"listeners = ( { name = \"a\"; format = \"syslog\"; }, { name = \"b\"; port = 1; } );",
         {FRAMING_OCTET, FRAMING_LINE}},
        {"listeners = ( { name = \"a\"; format = \"plain\"; }, { name = \"b\"; port = 1; } );"
         "format = \"syslog\";",
         {FRAMING_LINE, FRAMING_OCTET}},
        {"listeners = ( { name = \"a\"; framing = \"line\"; }, { name = \"b\"; port = 1; } );"
         "format = \"syslog\";",
         {FRAMING_LINE, FRAMING_OCTET}},
        {"listeners = ( { name = \"a\"; format = \"syslog\"; }, "
         "{ name = \"b\"; port = 1; framing = \"octet\"; } ); framing = \"line\";",
         {FRAMING_LINE, FRAMING_OCTET}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(load_text(&c, rows[i].text), 0);
        for (size_t k = 0; k < c.n_listeners; k++)
            assert_int_equal(c.listeners[k].settings.framing, rows[i].framings[k]);
        check_printed(rows[i].text);
    }
}

static void printed_is_the_same_again(void **state)
{
    (void)state;
    check_printed("");
    check_printed(
        "sessions = { buffer_memory = 1099511627776L; idle_timeout = 6; }; "
        "output = \"export\"; host = \"*\"; receipt = false; identifier = \"\\\\\\\"%%\";");
    check_printed("listeners = ( " A " );");
    check_printed("sessions = { max = 8; idle_timeout = 6; }; listeners = ( " A ",\n"
                  "{ name = \"b\"; path = \"/a b\\\"\\\\\"; mode = \"07\"; },\n"
                  "{ name = \"c\"; path = \"@x\"; framing = \"raw\"; },\n"
                  "{ name = \"d\"; allow = ( \"::/0\", \"192.0.2.0/24\", \"::/0\" );"
                  " deny = ( \"192.0.2.1\" ); } );");
}

static void printed_text(void **state)
{
    char *text;

    (void)state;
    assert_int_equal(load_text(&c, "listeners = ( { name = \"a\"; path = \"/a\"; }, "
                                   "{ name = \"b\"; allow = ( \"192.0.2.0/24\", \"10.0.0.1\" ); "
                                   "deny = ( \"10.0.0.2\" ); } );"),
                     0);
    text = print(&c);
    assert_string_equal(text, "output = \"auto\";\n"
                              "sessions:\n"
                              "{\n"
                              "    max = 10000;\n"
                              "    max_per_address = 0;\n"
                              "    stop_timeout = 5;\n"
                              "    buffer_memory = 67108864;\n"
                              "};\n"
                              "listeners = (\n"
                              "    {\n"
                              "        name = \"a\";\n"
                              "        path = \"/a\";\n"
                              "        mode = \"0666\";\n"
                              "        framing = \"line\";\n"
                              "        format = \"plain\";\n"
                              "        trust_severity = false;\n"
                              "        max_record = 65536;\n"
                              "        priority = \"info\";\n"
                              "        receipt = true;\n"
                              "        proxy = false;\n"
                              "        flush_timeout = 3;\n"
                              "        max_rate = 0;\n"
                              "        identifier = \"netd\";\n"
                              "        max_sessions = 10000;\n"
                              "        max_sessions_per_address = 0;\n"
                              "        idle_timeout = 0;\n"
                              "    },\n"
                              "    {\n"
                              "        name = \"b\";\n"
                              "        host = \"127.0.0.1\";\n"
                              "        port = 3000;\n"
                              "        allow = (\"10.0.0.1\", \"192.0.2.0/24\");\n"
                              "        deny = (\"10.0.0.2\");\n"
                              "        framing = \"line\";\n"
                              "        format = \"plain\";\n"
                              "        trust_severity = false;\n"
                              "        max_record = 65536;\n"
                              "        priority = \"info\";\n"
                              "        receipt = true;\n"
                              "        proxy = false;\n"
                              "        flush_timeout = 3;\n"
                              "        max_rate = 0;\n"
                              "        identifier = \"netd\";\n"
                              "        max_sessions = 10000;\n"
                              "        max_sessions_per_address = 0;\n"
                              "        idle_timeout = 0;\n"
                              "    }\n"
                              ");\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONFIG_TEST(one_listener_without_a_list),
        CONFIG_TEST(every_key_of_a_listener_is_read),
        CONFIG_TEST(unix_listeners),
        CONFIG_TEST(relative_paths_are_credentials_or_beside_the_file),
        CONFIG_TEST(paths_have_a_limit),
        CONFIG_TEST(defaults_are_of_the_top_level),
        CONFIG_TEST(bad_listeners),
        CONFIG_TEST(distinct_addresses),
        CONFIG_TEST(listeners_have_a_limit),
        CONFIG_TEST(sample_listeners_are_good),
        CONFIG_TEST(bad_rules),
        CONFIG_TEST(each_listener_has_its_rules),
        CONFIG_TEST(rules_have_a_limit),
        CONFIG_TEST(other_sources_replace_the_first_address),
        CONFIG_TEST(descriptors_of_listeners),
        CONFIG_TEST(syslog_is_counted),
        CONFIG_TEST(printed_is_the_same_again),
        CONFIG_TEST(printed_text),
    };

    alarm(300); /* what hangs, fails */
    return cmocka_run_group_tests_name("config-listeners", tests, NULL, NULL);
}
