/* SPDX-License-Identifier: MIT */
#include "netd/config/config.h"

#include "common/names.h"
#include "common/util.h"
#include "netd/config/preprocess.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

#include <cmocka.h>

#include "config.h"

/* Asserts that C has the built-in defaults, whatever its origins are. */
static void check_defaults(const struct config *c)
{
    assert_int_equal(c->n_listeners, 1);
    assert_string_equal(c->listeners[0].address.host, "127.0.0.1");
    assert_int_equal(c->listeners[0].address.port, 3000);
    assert_int_equal(c->listeners[0].settings.framing, FRAMING_LINE);
    assert_int_equal(c->listeners[0].settings.format, FORMAT_PLAIN);
    assert_false(c->listeners[0].settings.trust_severity);
    assert_int_equal(c->listeners[0].settings.max_record, 65536);
    assert_int_equal(c->listeners[0].settings.priority, LOG_INFO);
    assert_true(c->listeners[0].settings.receipt);
    assert_int_equal(c->listeners[0].settings.flush_timeout, 3);
    assert_string_equal(c->listeners[0].settings.identifier, "netd");
    assert_int_equal(c->listeners[0].settings.max_rate, 0);
    assert_int_equal(c->listeners[0].settings.sessions_max, 10000);
    assert_int_equal(c->listeners[0].settings.sessions_max_per_address, 0);
    assert_int_equal(c->listeners[0].settings.idle_timeout, 0);
    assert_int_equal(c->service.output, OUTPUT_AUTO);
    assert_int_equal(c->service.stop_timeout, 5);
    assert_int_equal(c->service.buffer_memory, 67108864);
}

static void missing_default_file_is_the_defaults(void **state)
{
    struct config c;

    (void)state;
    if (access(DEFAULT_CONF, F_OK) == 0)
        skip();
    assert_int_equal(load(&c, &(struct config_input){0}), 0);
    check_defaults(&c);
    assert_string_equal(c.listeners[0].origin.host, "");
    assert_string_equal(c.listeners[0].origin.port, "");
}

static void files_without_settings_are_the_defaults(void **state)
{
    static const char *const texts[] = {
        "",
        "\n",
        " \t\r\n\f\n",
        "# nothing",
        "// nothing",
        "/* nothing\n */",
        "#\n//\n/**/\n",
        "/* \" { ( [ @include */ # \" /*\n // */ \"\n",
        "sessions = {}",
        "sessions : { };\n",
    };
    struct config c;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        if (load_text(&c, texts[i]) != 0)
            fail_msg("'%s': %s", texts[i], error);
        check_defaults(&c);
    }
}

static void sample_file_holds_the_defaults(void **state)
{
    static char text[32768], every_key[32768];
    FILE *f = fopen("etc/netd.conf", "re");
    struct config c;
    size_t keys = 0;
    char *out = every_key;

    (void)state;
    if (!f)
        skip(); /* not run from the top of the source tree */
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    if (load_text(&c, text) != 0)
        fail_msg("%s", error);
    check_defaults(&c);

    /* "# Text" explains, "#key" is a key. */
    for (const char *p = text; *p; p++) {
        bool begins = p == text || p[-1] == '\n' || p[-1] == ' ';

        if (begins && *p == '#' && islower((unsigned char)p[1]))
            keys++;
        else
            *out++ = *p;
    }
    assert_int_equal(keys, 17);
    if (load_text(&c, every_key) != 0)
        fail_msg("%s", error);
    check_defaults(&c);
    assert_string_not_equal(c.listeners[0].origin.host, "");
}

static void every_key_is_read(void **state)
{
    struct config c;
    char origin[128];

    (void)state;
    assert_int_equal(load_text(&c, "host = \"2001:db8::1\";\n"
                                   "port : 0x1F90\n"
                                   "framing = \"ra\" \"w\";\n"
                                   "max_record = 64; priority = \"debug\"\n"
                                   "receipt = False; flush_timeout = 31536000;\n"
                                   "identifier = \"%% %a%p%s%l\"; max_rate = 2147483647;\n"
                                   "output = \"export\";\n"
                                   "sessions :\n"
                                   "{\n"
                                   "    max = 1;\n"
                                   "    max_per_address = 1000000,\n"
                                   "    idle_timeout = 31536000\n"
                                   "    stop_timeout = +0;\n"
                                   "    buffer_memory = 1099511627776L;\n"
                                   "};\n"),
                     0);
    assert_string_equal(c.listeners[0].address.host, "2001:db8::1");
    assert_int_equal(c.listeners[0].address.port, 8080);
    assert_int_equal(c.listeners[0].settings.framing, FRAMING_RAW);
    assert_int_equal(c.listeners[0].settings.max_record, 64);
    assert_int_equal(c.listeners[0].settings.priority, LOG_DEBUG);
    assert_false(c.listeners[0].settings.receipt);
    assert_int_equal(c.listeners[0].settings.flush_timeout, 31536000);
    assert_string_equal(c.listeners[0].settings.identifier, "%% %a%p%s%l");
    assert_int_equal(c.listeners[0].settings.max_rate, 2147483647);
    assert_int_equal(c.service.output, OUTPUT_EXPORT);
    assert_int_equal(c.listeners[0].settings.sessions_max, 1);
    assert_int_equal(c.listeners[0].settings.sessions_max_per_address, 1000000);
    assert_int_equal(c.listeners[0].settings.idle_timeout, 31536000);
    assert_int_equal(c.service.stop_timeout, 0);
    assert_true(c.service.buffer_memory == UINT64_C(1) << 40);
    snprintf(origin, sizeof(origin), "%s:1: host", conf);
    assert_string_equal(c.listeners[0].origin.host, origin);
    snprintf(origin, sizeof(origin), "%s:2: port", conf);
    assert_string_equal(c.listeners[0].origin.port, origin);
}

static void long_origins_keep_their_end(void **state)
{
    char name[200], path[CONFIG_ORIGIN_MAX + sizeof(name)];
    struct config c;
    size_t length;

    (void)state;
    memset(name, 'd', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    snprintf(path, sizeof(path), "%s", directory);
    for (int i = 0; i < 2; i++) {
        length = strlen(path);
        snprintf(path + length, sizeof(path) - length, "/%s", name);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    length = strlen(path);
    snprintf(path + length, sizeof(path) - length, "/%s", name);
    write_text("netd.conf", "port = 7;");
    assert_int_equal(link(conf, path), 0);
    assert_int_equal(load(&c, &(struct config_input){.file = path}), 0);
    assert_int_equal(strlen(c.listeners[0].origin.port), CONFIG_ORIGIN_MAX - 1);
    assert_int_equal(strncmp(c.listeners[0].origin.port, "...ddd", 6), 0);
    assert_non_null(strstr(c.listeners[0].origin.port, "ddd:1: port"));
}

static void every_choice_is_known(void **state)
{
    static const struct {
        const char *text;
        int framing, priority, output;
    } rows[] = {
        {"framing = \"line\"; priority = \"notice\"; output = \"auto\";", FRAMING_LINE, LOG_NOTICE,
         OUTPUT_AUTO},
        {"framing = \"raw\"; priority = \"info\"; output = \"journal\";", FRAMING_RAW, LOG_INFO,
         OUTPUT_JOURNAL},
        {"framing = \"raw\"; priority = \"debug\"; output = \"text\";", FRAMING_RAW, LOG_DEBUG,
         OUTPUT_TEXT},
        {"framing = \"raw\"; priority = \"debug\"; output = \"export\";", FRAMING_RAW, LOG_DEBUG,
         OUTPUT_EXPORT},
    };
    struct config c;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(load_text(&c, rows[i].text), 0);
        assert_int_equal(c.listeners[0].settings.framing, rows[i].framing);
        assert_int_equal(c.listeners[0].settings.priority, rows[i].priority);
        assert_int_equal(c.service.output, rows[i].output);
    }
}

static void limits_of_numbers(void **state)
{
    static const struct {
        const char *format; /* of the file, for one %s; the key stands in line 1 */
        const char *key;
        long long low, high;
    } rows[] = {
        {"port = %s;", "port", 0, 65535},
        {"max_record = %s;", "max_record", 64, 131072},
        {"flush_timeout = %s;", "flush_timeout", 0, 31536000},
        {"max_rate = %s;", "max_rate", 0, 2147483647},
        {"sessions : { max = %s; };", "sessions.max", 1, 1000000},
        {"sessions = { max_per_address = %s; }", "sessions.max_per_address", 0, 1000000},
        {"sessions = { idle_timeout = %s; }", "sessions.idle_timeout", 0, 31536000},
        {"sessions = { stop_timeout = %s; }", "sessions.stop_timeout", 0, 31536000},
        {"sessions = { buffer_memory = %s; }", "sessions.buffer_memory", 65536, 1099511627776},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const long long good[] = {rows[i].low, rows[i].high};
        /* The last three are what 32 bits wrap to something in range. */
        const long long bad[] = {rows[i].low - 1,
                                 rows[i].high + 1,
                                 -2147483648,
                                 -rows[i].high - 4294967296,
                                 INT64_MAX,
                                 -INT64_MAX,
                                 -8589934592 + 100,
                                 rows[i].high + 4294967296,
                                 rows[i].high - (4294967296LL << 20)};
        struct config c;
        char text[160], number[64], rest[160];

        for (size_t j = 0; j < ARRAY_SIZE(good); j++) {
            snprintf(number, sizeof(number), "%lldL", good[j]);
            snprintf(text, sizeof(text), rows[i].format, number);
            if (load_text(&c, text) != 0)
                fail_msg("%s: %s", text, error);
        }
        for (size_t j = 0; j < ARRAY_SIZE(bad); j++) {
            snprintf(number, sizeof(number), "%lldL", bad[j]);
            snprintf(text, sizeof(text), rows[i].format, number);
            snprintf(rest, sizeof(rest), ":1: %s: %lld is not between %lld and %lld", rows[i].key,
                     bad[j], rows[i].low, rows[i].high);
            check_text_error(text, rest);
        }
    }
}

/* libconfig 1.5 reads 8080, -1294967296, 0 and 3000 from the first four. */
static void integers_do_not_wrap(void **state)
{
    static const struct {
        const char *text, *rest;
    } rows[] = {
        {"\nport = 4294975376;", ":2: 4294975376 is out of range without the suffix L"},
        {"port = 3000000000;", ":1: 3000000000 is out of range without the suffix L"},
        {"port = 4294967296;", ":1: 4294967296 is out of range without the suffix L"},
        {"port = 0x100000BB8;", ":1: 0x100000BB8 is out of range without the suffix L"},
        {"port = 0xffffffff;", ":1: 0xffffffff is out of range without the suffix L"},
        {"port = -4294964296;", ":1: -4294964296 is out of range without the suffix L"},
        {"port = 4294975376LL;", ":1: port: 4294975376 is not between 0 and 65535"},
        {"port = 9223372036854775807L;",
         ":1: port: 9223372036854775807 is not between 0 and 65535"},
        {"port = 9223372036854775808;", ":1: 9223372036854775808 is out of range"},
        {"port = 18446744073709554616L;", ":1: 18446744073709554616 is out of range"},
        {"port = 0x10000000000000BB8L;", ":1: 0x10000000000000BB8 is out of range"},
        {"port = 0xFFFFFFFFFFFFFFFF;", ":1: 0xFFFFFFFFFFFFFFFF is out of range"},
        {"port =\n111111111111111111111111111111111111111111111111111111111;",
         ":2: 1111111111111111111111111111111111111111 is out of range"},
        {"port = [ 99999999999999999999 ];", ":1: 99999999999999999999 is out of range"},
        {"99999999999999999999 = 1", ":1: 99999999999999999999 is out of range"},
        {"port = 1;\nsessions = {\n\n buffer_memory = 4294967296; }",
         ":4: 4294967296 is out of range without the suffix L"},
        {"sessions = { buffer_memory = 2147483648; }",
         ":1: 2147483648 is out of range without the suffix L"},
        {"sessions = { buffer_memory = 0x80000000; }",
         ":1: 0x80000000 is out of range without the suffix L"},
        /* 1.5 reads 10, 1.7 reads 8; then 8 and a syntax error. */
        {"port = 010;", ":1: 010 has a leading zero"},
        {"port = 08;", ":1: 08 has a leading zero"},
        {"port = -00L;", ":1: -00 has a leading zero"},
    };
    struct config c;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        check_text_error(rows[i].text, rows[i].rest);

    assert_int_equal(load_text(&c, "sessions = { buffer_memory = 2147483647; }"), 0);
    assert_true(c.service.buffer_memory == 2147483647);
    assert_int_equal(load_text(&c, "sessions = { buffer_memory = 4294967296L; }"), 0);
    assert_true(c.service.buffer_memory == 4294967296);
    assert_int_equal(load_text(&c, "sessions = { buffer_memory = 0x100000000LL; }"), 0);
    assert_true(c.service.buffer_memory == 4294967296);
    /* No number here. */
    assert_int_equal(load_text(&c, "# 4294967296 010\n/* 99999999999999999999 */ host = \"010\" "
                                   "/* 4294967296 */\n// 4294967296"),
                     0);
    assert_string_equal(c.listeners[0].address.host, "010");
}

static void wrong_types(void **state)
{
    static const struct {
        const char *key, *expected;
    } keys[] = {
        {"host", "a string"},     {"port", "an integer"},       {"framing", "a string"},
        {"priority", "a string"}, {"max_record", "an integer"}, {"receipt", "a boolean"},
        {"output", "a string"},   {"sessions", "a group"},
    };
    static const char *const numbers[] = {"max", "max_per_address", "idle_timeout", "stop_timeout",
                                          "buffer_memory"};
    static const struct {
        const char *value, *type;
    } values[] = {
        {"\"3000\"", "a string"},
        {"3000", "an integer"},
        {"3000L", "an integer"},
        {"0xbb8", "an integer"},
        {"3000.0", "a floating-point number"},
        {"3e3", "a floating-point number"},
        {"3e+03", "a floating-point number"},
        {"3E-3", "a floating-point number"},
        {"1.05", "a floating-point number"},
        {"true", "a boolean"},
        {"[ 3000 ]", "an array"},
        {"[ ]", "an array"},
        {"( 3000, \"3000\" )", "a list"},
        {"{ port = 3000; }", "a group"},
    };
    char text[128], rest[128];

    (void)state;
    for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
        for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
            if (strcmp(keys[k].expected, values[v].type) == 0)
                continue;
            snprintf(text, sizeof(text), "\n\n%s = %s;", keys[k].key, values[v].value);
            snprintf(rest, sizeof(rest), ":3: %s: expected %s, not %s", keys[k].key,
                     keys[k].expected, values[v].type);
            check_text_error(text, rest);
        }
        for (size_t k = 0; k < ARRAY_SIZE(numbers); k++) {
            if (strcmp("an integer", values[v].type) == 0)
                continue;
            snprintf(text, sizeof(text), "sessions : {\n%s = %s; };", numbers[k], values[v].value);
            snprintf(rest, sizeof(rest), ":2: sessions.%s: expected an integer, not %s", numbers[k],
                     values[v].type);
            check_text_error(text, rest);
        }
    }
}

static void bad_settings(void **state)
{
    static const struct {
        const char *text, *rest;
    } rows[] = {
        {"port = 70000;", ":1: port: 70000 is not between 0 and 65535"},
        {"\n\n\n\n\n\nport = 70000;", ":7: port: 70000 is not between 0 and 65535"},
        {"port = 1; max_record = 63;", ":1: max_record: 63 is not between 64 and 131072"},
        {"framing = \"lines\";",
         ":1: framing: invalid framing 'lines'; expected one of line, raw, nul, octet, relp"},
        {"framing = \"\";",
         ":1: framing: invalid framing ''; expected one of line, raw, nul, octet, relp"},
        {"framing = \"Line\";",
         ":1: framing: invalid framing 'Line'; expected one of line, raw, nul, octet, relp"},
        {"priority = \"emerg\";",
         ":1: priority: invalid priority 'emerg'; expected one of notice, info, debug"},
        {"output = \"xml\";",
         ":1: output: invalid output 'xml'; expected one of auto, journal, text, export"},
        {"output = \"\\x1b[2J\n\\\"x\";", ":1: output: invalid output '\\x1b[2J\\x0a\"x'; expected "
                                          "one of auto, journal, text, export"},
        {"output = \"1234567890123456789012345678901234567890\";",
         ":1: output: invalid output '1234567890123456789012345678901234567890'; expected one of "
         "auto, journal, text, "
         "export"},
        {"output = \"12345678901234567890123456789012345678901\";",
         ":1: output: invalid output '1234567890123456789012345678901234567890...'; expected one "
         "of auto, journal, "
         "text, export"},
        {"\nPort = 1;", ":2: Port: unknown key"},
        {"prot = 1;", ":1: prot: unknown key"},
        {"max = 1;", ":1: max: unknown key"},
        {"* = 1;", ":1: *: unknown key"},
        {"session = { max = 1; };", ":1: session: unknown key"},
        {"sessions = {\n\n maximum = 1; };", ":3: sessions.maximum: unknown key"},
        {"sessions = { port = 1; };", ":1: sessions.port: unknown key"},
        {"sessions = { sessions = { max = 1; }; };", ":1: sessions.sessions: unknown key"},
        {"sessions = { max = { max = 1; }; };",
         ":1: sessions.max: expected an integer, not a group"},
        {"abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij = 1;",
         ":1: abcdefghijabcdefghijabcdefghijabcdefghij...: unknown key"},
        {"identifier = \"\";", ":1: identifier: is empty"},
        {"identifier = \"a\\nb\";", ":1: identifier: 'a\\x0ab' is not printable ASCII"},
        {"identifier = \"%%%x\";",
         ":1: identifier: '%x' is not known; expected one of %a, %p, %s, %l, %%"},
        {"identifier = \"100%\";",
         ":1: identifier: '%' is not known; expected one of %a, %p, %s, %l, %%"},
        {"identifier = \"1234567890123456789012345678901234567890123456789012345678901234\";",
         ":1: identifier: is longer than 63 bytes"},
        {"host = \"\";", ":1: host: is empty"},
        {"host = \"a b\";", ":1: host: 'a b' is not an address or a host name"},
        {"host = \" a\";", ":1: host: ' a' is not an address or a host name"},
        {"host = \"a\\n\";", ":1: host: 'a\\x0a' is not an address or a host name"},
        {"host = \"a\\t\";", ":1: host: 'a\\x09' is not an address or a host name"},
        {"host = \"a\\x7f\";", ":1: host: 'a\\x7f' is not an address or a host name"},
        {"host = \"\xc2\x85\";", ":1: host: '\\xc2\\x85' is not an address or a host name"},
        {"host = \"127.0.0.1:3000\";",
         ":1: host: '127.0.0.1:3000': the port is a setting of its own"},
        {"host = \"[::1]:80\";", ":1: host: '[::1]:80': the port is a setting of its own"},
        {"host = \"/run/netd\";", ":1: host: '/run/netd' is not an address or a host name"},
        {"host = \"\\xff\";", ":1: host: '\\xff' is not an address or a host name"},
        {"receipt = yes;", ":1: syntax error near 'receipt = yes;'; a boolean is true or false"},
        {"host = localhost\nport = 1;",
         ":1: syntax error near 'host = localhost'; a string needs double quotes"},
        {"\n\toutput:text", ":2: syntax error near 'output:text'; a string needs double quotes"},
        {"host = 127.0.0.1;",
         ":1: syntax error near 'host = 127.0.0.1;'; a string needs double quotes"},
        {"host = 'a';", ":1: syntax error near 'host = 'a';'; a string needs double quotes"},
        {"host = \"a\" b", ":1: syntax error near 'host = \"a\" b'"},
        {"port = a;", ":1: syntax error near 'port = a;'"},
        {"port 3000;\r\n", ":1: syntax error near 'port 3000;'"},
        {"port = 3000;;", ":1: syntax error near 'port = 3000;;'"},
        {"port = ;", ":1: syntax error near 'port = ;'"},
        {"= 1;", ":1: syntax error near '= 1;'"},
        {"port = 3000; }", ":1: syntax error near 'port = 3000; }'"},
        {"sessions.max = 3;", ":1: syntax error near 'sessions.max = 3;'"},
        {"\nsessions = ( };", ":2: syntax error near 'sessions = ( };'"},
        {"sessions = {\n\n", ":3: syntax error"},
        {"port = +;", ":1: syntax error near 'port = +;'"},
        {"port = 0x;", ":1: syntax error near 'port = 0x;'"},
        {"port = 1 2;", ":1: syntax error near 'port = 1 2;'"},
        {"po/**/rt = 1;", ":1: syntax error near 'po/**/rt = 1;'"},
        {"\xef\xbb\xbfport = 1;", ":1: syntax error near '\\xef\\xbb\\xbfport = 1;'"},
        {"port = 1;\n\xef\xbb\xbf", ":2: syntax error near '\\xef\\xbb\\xbf'"},
        {"\xff\xfe", ":1: syntax error near '\\xff\\xfe'"},
        {"port = 123456789 123456789 123456789 123456789 123456789 123456789 123456789",
         ":1: syntax error near 'port = 123456789 123456789 123456789 123456789 123456789 123'"},
        {"\n\nhost = \"a\n\n", ":3: the string has no end"},
        {"host = \"a\\", ":1: the string has no end"},
        {"host = \"a\\\"", ":1: the string has no end"},
        {"port = 1;\n/* \n\n", ":2: the comment has no end"},
        {"/*/", ":1: the comment has no end"},
        {"\"host\" = 1;", ":1: syntax error near '\"host\" = 1;'"},
        {"host = [ \"a\", \"b\" \"c\" ]", ":1: host: expected a string, not an array"},
        {"host = ( \"a\", [ 1 ], \"b\" )", ":1: host: expected a string, not a list"},
        {"host = [ \"a\", 1 ]", ":1: mismatched element type in array near 'host = [ \"a\", 1 ]'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        check_text_error(rows[i].text, rows[i].rest);
}

/* After a syntax error, libconfig has kept what stood before it. */
static void bad_file_changes_nothing(void **state)
{
    struct config c;

    (void)state;
    assert_int_equal(load_text(&c, "port = 4000;\nhost = \"::1\";\n}"), -EINVAL);
    assert_int_equal(load_text(&c, "port = 4000;\nprot = 1;"), -EINVAL);
}

static void duplicates(void **state)
{
    (void)state;
    check_text_error("port = 1;\n\nport = 2;", ":3: duplicate setting name near 'port = 2;'");
    check_text_error("sessions = {\n max = 1;\n max = 2; };",
                     ":3: duplicate setting name near 'max = 2; };'");
    check_text_error("sessions = { max = 1; };\nsessions = { max_per_address = 2; };",
                     ":2: duplicate setting name near 'sessions = { max_per_address = 2; };'");
    /* Not the same setting. */
    check_text_error("a = { b = 1; c = { b = 1; } };", ":1: a: unknown key");
    check_text_error("por = 1; port = 1; p = 1;", ":1: por: unknown key");
}

static void includes_are_expanded(void **state)
{
    struct config c;
    char text[512], origin[512];

    (void)state;
    assert_int_equal(mkdir(in_directory("conf.d"), 0755), 0);
    write_text("conf.d/port", "# no newline at the end\nport = 4000");
    write_text("conf.d/limits", "sessions : {\n@include \"conf.d/max\"\n};");
    write_text("conf.d/max", "max = 7;");
    /* Relative to the directory of the configuration file, wherever the process and the
     * including file are; absolute ones as they stand. */
    snprintf(text, sizeof(text),
             "@include \"conf.d/port\" host = \"::1\";\n \t@include\t\"%s/conf.d/limits\"\n"
             "framing = \"raw\";",
             directory);
    if (load_text(&c, text) != 0)
        fail_msg("%s", error);
    assert_int_equal(c.listeners[0].address.port, 4000);
    assert_int_equal(c.listeners[0].settings.sessions_max, 7);
    assert_int_equal(c.listeners[0].settings.framing, FRAMING_RAW);
    snprintf(origin, sizeof(origin), "%s/conf.d/port:2: port", directory);
    assert_string_equal(c.listeners[0].origin.port, origin);
    snprintf(origin, sizeof(origin), "%s:1: host", conf);
    assert_string_equal(c.listeners[0].origin.host, origin);

    /* More than libconfig itself takes. */
    write_text("a", "port = 5;");
    assert_int_equal(load_text(&c, "host = \"::1\"; @include\"a\" @include \"/dev/null\""), 0);
    assert_int_equal(c.listeners[0].address.port, 5);
}

static void configuration_in_the_working_directory(void **state)
{
    struct config c;
    char before[PATH_MAX];

    (void)state;
    write_text("netd.conf", "\n@include \"other\"");
    write_text("other", "port = 6;");
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(directory), 0);
    assert_int_equal(load(&c, &(struct config_input){.file = "netd.conf"}), 0);
    assert_int_equal(c.listeners[0].address.port, 6);
    assert_string_equal(c.listeners[0].origin.port, "other:1: port");
    write_text("other", "\n\nport = 70000;");
    check_error(&(struct config_input){.file = "netd.conf"}, -EINVAL, "",
                "other:3: port: 70000 is not between 0 and 65535");
    assert_int_equal(chdir(before), 0);
}

static void errors_in_included_files_have_their_lines(void **state)
{
    char prefix[128];

    (void)state;
    write_text("good", "host = \"::1\"\n\n");
    write_text("open", "sessions = {");
    snprintf(prefix, sizeof(prefix), "%s/", directory);

    write_text("bad", "\n# comment\n/* a\n b */ port = 70000;\n");
    write_text("netd.conf", "\n@include \"good\"\n@include \"bad\"\n");
    check_error(&(struct config_input){.file = conf}, -EINVAL, prefix,
                "bad:4: port: 70000 is not between 0 and 65535");
    write_text("bad", "\nport 70000;\n");
    check_error(&(struct config_input){.file = conf}, -EINVAL, prefix,
                "bad:2: syntax error near 'port 70000;'");
    write_text("bad", "\n\n\n\"");
    check_error(&(struct config_input){.file = conf}, -EINVAL, prefix,
                "bad:4: the string has no end");
    write_text("bad", "\n\nhost = \"::1\"");
    check_error(&(struct config_input){.file = conf}, -EINVAL, prefix,
                "bad:3: duplicate setting name near 'host = \"::1\"'");

    check_text_error("\n@include \"good\"\n\nport = 70000;",
                     ":4: port: 70000 is not between 0 and 65535");
    check_text_error("\n@include \"good\" port = 70000;",
                     ":2: port: 70000 is not between 0 and 65535");
    check_text_error("@include \"good\"\n@include \"open\"\n\nprot = 1; }",
                     ":4: sessions.prot: unknown key");
    check_text_error("@include \"good\"\n@include \"open\"", ":2: syntax error");
}

static void bad_includes(void **state)
{
    static const struct {
        const char *include, *reason;
    } rows[] = {
        {"missing", "No such file or directory"},
        {"subdirectory", "Is a directory"},
        {"", "Is a directory"},
        {"fifo", "not a regular file"},
        {"link", "Too many levels of symbolic links"},
        {"netd.conf/x", "Not a directory"},
    };
    static const char *const malformed[] = {
        "@", "@@", "@include", "@include\n\"x\"", "@include x", "@includes \"x\""};
    char text[128], rest[256], prefix[128];

    (void)state;
    assert_int_equal(mkdir(in_directory("subdirectory"), 0755), 0);
    assert_int_equal(mkfifo(in_directory("fifo"), 0644), 0);
    assert_int_equal(symlink("link", in_directory("link")), 0);
    write_text("empty", "");
    write_text("self", "\n@include \"self\"");
    write_text("ping", "@include \"pong\"");
    write_text("pong", "@include \"ping\"");

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        snprintf(text, sizeof(text), "\n@include \"%s\"", rows[i].include);
        snprintf(rest, sizeof(rest), ":2: @include: %s/%s: %s", directory, rows[i].include,
                 rows[i].reason);
        check_text_error(text, rest);
    }
    check_text_error("@include \"/dev/zero\"",
                     ":1: @include: /dev/zero: larger than 1 MiB, with its includes");
    check_text_error("@include \"/proc/self/mem\"",
                     ":1: @include: /proc/self/mem: Input/output error");
    for (size_t i = 0; i < ARRAY_SIZE(malformed); i++)
        check_text_error(malformed[i], ":1: syntax error, expected @include \"FILE\"");
    check_text_error("@include \"x", ":1: @include: the name has no end, or is too long");
    check_text_error("@include \"x\n\"", ":1: @include: the name has no end, or is too long");

    check_text_error("\n\n@include \"netd.conf\"",
                     ":3: @include: too many files; do they include each other?");
    snprintf(prefix, sizeof(prefix), "%s/", directory);
    write_text("netd.conf", "@include \"self\"");
    check_error(&(struct config_input){.file = conf}, -EINVAL, prefix,
                "self:2: @include: too many files; do they include each other?");
    write_text("netd.conf", "@include \"ping\"");
    check_error(&(struct config_input){.file = conf}, -EINVAL, prefix,
                "ping:1: @include: too many files; do they include each other?");
}

static void include_names_have_a_limit(void **state)
{
    static char text[2 * PATH_MAX];
    struct config c;

    (void)state;
    for (size_t length = PATH_MAX - 64; length < PATH_MAX + 64; length++) {
        size_t n = (size_t)snprintf(text, sizeof(text), "@include \"/");

        memset(text + n, 'a', length);
        snprintf(text + n + length, sizeof(text) - n - length, "\"");
        assert_int_equal(load_text(&c, text), -EINVAL);
        text[n - 1] = 'a'; /* relative */
        assert_int_equal(load_text(&c, text), -EINVAL);
    }
}

/* As for sshd(8). */
static void null_device_is_an_empty_file(void **state)
{
    struct config c;

    (void)state;
    assert_int_equal(load(&c, &(struct config_input){.file = "/dev/null"}), 0);
    check_defaults(&c);
}

static void bad_files(void **state)
{
    struct config c;
    char long_name[PATH_MAX + 100];

    (void)state;
    check_error(&(struct config_input){.file = conf}, -EINVAL, conf, ": No such file or directory");
    check_error(&(struct config_input){.file = directory}, -EINVAL, directory, ": Is a directory");
    check_error(&(struct config_input){.file = ""}, -EINVAL, "--config: is empty", "");
    check_error(&(struct config_input){.file = "/dev/zero"}, -EINVAL,
                "/dev/zero: larger than 1 MiB, with its includes", "");
    check_error(&(struct config_input){.file = "/proc/self/mem"}, -EINVAL,
                "/proc/self/mem: Input/output error", "");
    check_error(&(struct config_input){.file = "/\n\x1b[1m\xc3\xa4"}, -EINVAL,
                "/\\x0a\\x1b[1m\\xc3\\xa4: No such file or directory", "");
    assert_int_equal(mkfifo(in_directory("fifo"), 0644), 0);
    check_error(&(struct config_input){.file = in_directory("fifo")}, -EINVAL, in_directory("fifo"),
                ": not a regular file");
    memset(long_name, '\n', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(load(&c, &(struct config_input){.file = long_name}), -EINVAL);

    write_bytes("netd.conf", "port = 1;\n\0", 11);
    check_error(&(struct config_input){.file = conf}, -EINVAL, conf, ":2: NUL byte");
    write_bytes("netd.conf", "# \0\nport = 70000;\n", 18);
    check_error(&(struct config_input){.file = conf}, -EINVAL, conf, ":1: NUL byte");
    write_bytes("netd.conf", "\n\nhost = \"a\0b\"", 14);
    check_error(&(struct config_input){.file = conf}, -EINVAL, conf, ":3: NUL byte");
    write_bytes("netd.conf", "\0", 1);
    check_error(&(struct config_input){.file = conf}, -EINVAL, conf, ":1: NUL byte");
}

static void unreadable_files(void **state)
{
    (void)state;
    write_text("netd.conf", "port = 1;");
    assert_int_equal(chmod(conf, 0), 0);
    if (geteuid() == 0)
        assert_int_equal(seteuid(65534), 0);
    check_error(&(struct config_input){.file = conf}, -EINVAL, conf, ": Permission denied");
    assert_int_equal(seteuid(getuid()), 0);
}

static void size_of_a_file_in_proc_is_not_trusted(void **state)
{
    struct config c;

    (void)state;
    assert_int_equal(load(&c, &(struct config_input){.file = "/proc/sys/kernel/ostype"}), -EINVAL);
}

/* Asserts that COUNT times UNIT, then TAIL, gives an error of REST, or none when it is NULL. */
static void check_repeated(const char *unit, size_t count, const char *tail, const char *rest)
{
    size_t length = strlen(unit);
    char *text = malloc(length * count + strlen(tail) + 1);
    struct config c;

    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * length, unit, length);
    memcpy(text + length * count, tail, strlen(tail) + 1);
    if (rest)
        check_text_error(text, rest);
    else if (load_text(&c, text) != 0)
        fail_msg("%zu times '%s': %s", count, unit, error);
    free(text);
}

static void huge_files(void **state)
{
    (void)state;
    check_repeated("\n", PREPROCESS_BYTES_MAX, "", NULL);
    check_repeated("#", PREPROCESS_BYTES_MAX, "", NULL);
    check_repeated("\n", PREPROCESS_BYTES_MAX, "\n", ": larger than 1 MiB, with its includes");
    check_repeated("# comment\n", 60000, "port = 70000;",
                   ":60001: port: 70000 is not between 0 and 65535");
}

static void includes_count_against_the_size(void **state)
{
    char rest[256];

    (void)state;
    write_text("some", "####");
    check_repeated("#", PREPROCESS_BYTES_MAX - 20, "\n@include \"some\"", NULL);
    snprintf(rest, sizeof(rest), ":2: @include: %s/some: larger than 1 MiB, with its includes",
             directory);
    check_repeated("#", PREPROCESS_BYTES_MAX - 19, "\n@include \"some\"", rest);
}

static void deep_and_wide_files(void **state)
{
    struct config c;

    (void)state;
    check_repeated(
        "}", 1000000, "",
        ":1: syntax error near '}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}'");
    check_repeated("a={", 300000, "", ":1: too many settings");
    check_repeated(
        "a={", 4500, "",
        ":1: memory exhausted near 'a={a={a={a={a={a={a={a={a={a={a={a={a={a={a={a={a={a={a={a={'");
    check_repeated("@include \"/dev/null\"\n", 40000, "",
                   ":64: @include: too many files; do they include each other?");
    write_text("empty", "");
    check_repeated("@include \"empty\"\n", PREPROCESS_FILES_MAX - 1, "port = 1;", NULL);
    check_repeated("@include \"empty\"\n", PREPROCESS_FILES_MAX, "port = 1;",
                   ":64: @include: too many files; do they include each other?");
    assert_int_equal(load_text(&c, "@include \"empty\" @include \"empty\"\n"), 0);
}

static void many_settings(void **state)
{
    static char text[PREPROCESS_BYTES_MAX];
    size_t length = 0;

    (void)state;
    for (unsigned i = 0; i < PREPROCESS_SETTINGS_MAX; i++)
        length += (size_t)snprintf(text + length, sizeof(text) - length, "a%u=1;\n", i);
    check_text_error(text, ":1: a0: unknown key");
    for (unsigned i = 0; i < 70000; i++)
        length += (size_t)snprintf(text + length, sizeof(text) - length, "b%u=1;\n", i);
    check_text_error(text, ":5001: too many settings");
}

static void environment_and_options(void **state)
{
    static const struct {
        const char *port, *rest;
    } rows[] = {
        {"", "is empty"},
        {"80x", "'80x' is not a number"},
        {" 80", "' 80' is not a number"},
        {"80 ", "'80 ' is not a number"},
        {"80\n", "'80\\x0a' is not a number"},
        {"+80", "'+80' is not a number"},
        {"-1", "'-1' is not a number"},
        {"0x50", "'0x50' is not a number"},
        {"080", "'080' is not a number"},
        {"8e1", "'8e1' is not a number"},
        {"80.0", "'80.0' is not a number"},
        {"http", "'http' is not a number"},
        {"65536", "65536 is not between 0 and 65535"},
        {"4294967376", "4294967376 is not between 0 and 65535"},
        {"18446744073709551696", "18446744073709551696 is not between 0 and 65535"},
        {"99999999999999999999", "99999999999999999999 is not between 0 and 65535"},
        {"00000000000000000080", "'00000000000000000080' is not a number"},
        {"99999999999999999999999999999999999999999999",
         "9999999999999999999999999999999999999999... is not between 0 and 65535"},
    };

    (void)state;
    write_text("netd.conf", "");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        check_error(&(struct config_input){.file = conf, .env_port = rows[i].port}, -EINVAL,
                    "SERVER_PORT: ", rows[i].rest);
        check_error(&(struct config_input){.file = conf, .option_port = rows[i].port}, -EBADMSG,
                    "--port: ", rows[i].rest);
    }
}

static void hosts_from_environment_and_options(void **state)
{
    static const char *const good[] = {"::1",     "[::1]", "*", "fe80::1%eth0", "netd.example.org",
                                       "server_1"};
    static const struct {
        const char *host, *rest;
    } rows[] = {
        {"", "is empty"},
        {" ", "' ' is not an address or a host name"},
        {"a b", "'a b' is not an address or a host name"},
        {"\x1b[2J", "'\\x1b[2J' is not an address or a host name"},
        {"b\xc3\xbc", "'b\\xc3\\xbc' is not an address or a host name"},
    };
    static char long_host[10001];
    struct config_input input = {.file = conf};
    struct config c;

    (void)state;
    write_text("netd.conf", "");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        check_error(&(struct config_input){.file = conf, .env_host = rows[i].host}, -EINVAL,
                    "SERVER_HOST: ", rows[i].rest);
        check_error(&(struct config_input){.file = conf, .option_host = rows[i].host}, -EBADMSG,
                    "--host: ", rows[i].rest);
    }
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        input.env_host = good[i];
        assert_int_equal(load(&c, &input), 0);
        assert_string_equal(c.listeners[0].address.host, good[i]);
    }
    memset(long_host, 'a', sizeof(long_host) - 1);
    input.env_host = long_host;
    check_error(&input, -EINVAL, "SERVER_HOST: ", "is longer than 255 bytes");
    long_host[HOST_MAX + 1] = '\0';
    check_error(&input, -EINVAL, "SERVER_HOST: ", "is longer than 255 bytes");
    long_host[HOST_MAX] = '\0';
    assert_int_equal(load(&c, &input), 0);
    assert_string_equal(c.listeners[0].address.host, long_host);
}

static void bad_output_option(void **state)
{
    (void)state;
    write_text("netd.conf", "");
    check_error(&(struct config_input){.file = conf, .option_output = "xml"}, -EBADMSG,
                "--output: ", "invalid output 'xml'; expected one of auto, journal, text, export");
    check_error(&(struct config_input){.file = conf, .option_output = ""}, -EBADMSG,
                "--output: ", "invalid output ''; expected one of auto, journal, text, export");
}

static void later_sources_override(void **state)
{
    struct config_input input = {.file = conf};
    struct config c;
    char origin[128];

    (void)state;
    write_text("netd.conf", "host = \"192.0.2.1\"; port = 1; output = \"text\";");
    assert_int_equal(load(&c, &input), 0);
    assert_string_equal(c.listeners[0].address.host, "192.0.2.1");
    assert_int_equal(c.listeners[0].address.port, 1);
    assert_int_equal(c.service.output, OUTPUT_TEXT);
    snprintf(origin, sizeof(origin), "%s:1: port", conf);
    assert_string_equal(c.listeners[0].origin.port, origin);

    input.env_host = "192.0.2.2";
    input.env_port = "2";
    assert_int_equal(load(&c, &input), 0);
    assert_string_equal(c.listeners[0].address.host, "192.0.2.2");
    assert_int_equal(c.listeners[0].address.port, 2);
    assert_string_equal(c.listeners[0].origin.host, "SERVER_HOST");
    assert_string_equal(c.listeners[0].origin.port, "SERVER_PORT");

    input.option_port = "3";
    assert_int_equal(load(&c, &input), 0);
    assert_string_equal(c.listeners[0].address.host, "192.0.2.2");
    assert_int_equal(c.listeners[0].address.port, 3);
    assert_string_equal(c.listeners[0].origin.host, "SERVER_HOST");
    assert_string_equal(c.listeners[0].origin.port, "--port");

    input.option_host = "*";
    input.option_port = "0";
    input.option_output = "export";
    assert_int_equal(load(&c, &input), 0);
    assert_string_equal(c.listeners[0].address.host, "*");
    assert_int_equal(c.listeners[0].address.port, 0);
    assert_int_equal(c.service.output, OUTPUT_EXPORT);
    assert_string_equal(c.listeners[0].origin.host, "--host");
    assert_string_equal(c.listeners[0].origin.port, "--port");
}

static void more_sessions_than_descriptors(void **state)
{
    struct config_input input = {.file = conf};
    char expected[256];
    struct config c;

    (void)state;
    write_text("netd.conf", "\nsessions = { max = 1000; };");
    for (input.descriptors = 0; input.descriptors <= 2000; input.descriptors += 532) {
        assert_int_equal(load(&c, &input), 0);
        assert_int_equal(c.warning[0] != '\0', input.descriptors == 532);
    }
    input.descriptors = 1063;
    assert_int_equal(load(&c, &input), 0);
    snprintf(expected, sizeof(expected),
             "%s:2: sessions.max: 1000 sessions, but the limit of 1063 open files (LimitNOFILE=) "
             "allows 999",
             conf);
    assert_string_equal(c.warning, expected);
    write_text("netd.conf", "");
    input.descriptors = 100; /* of which netd keeps half */
    assert_int_equal(load(&c, &input), 0);
    assert_string_equal(c.warning, "sessions.max: 10000 sessions, but the limit of 100 open files "
                                   "(LimitNOFILE=) allows 50");
}

static void overridden_values_must_be_valid(void **state)
{
    struct config_input input = {
        .file = conf, .env_port = "2", .option_port = "3", .option_output = "text"};

    (void)state;
    write_text("netd.conf", "port = 70000;");
    check_error(&input, -EINVAL, conf, ":1: port: 70000 is not between 0 and 65535");
    write_text("netd.conf", "output = \"xml\";");
    check_error(&input, -EINVAL, conf,
                ":1: output: invalid output 'xml'; expected one of auto, journal, text, export");
    write_text("netd.conf", "port = 1;");
    input.env_port = "80x";
    check_error(&input, -EINVAL, "SERVER_PORT: ", "'80x' is not a number");
    /* Wrong usage comes first: it is the one thing that the caller has just typed. */
    input.option_port = "80y";
    check_error(&input, -EBADMSG, "--port: ", "'80y' is not a number");
    input.file = in_directory("missing");
    check_error(&input, -EBADMSG, "--port: ", "'80y' is not a number");
}

/* xorshift64: the same on every machine, so that a failure comes again. */
static uint64_t seed;

static size_t below(size_t limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)(seed % limit);
}

static const char valid[] =
    "# netd\nhost = \"127.0.0.1\"; /* c */ port = 3000;\nframing = \"line\"\n"
    "max_record : 65536; receipt = true, output = \"auto\";\n"
    "@include \"more\"\n"
    "sessions : { max = 0x10L; // n\n buffer_memory = 4294967296L; };\n";

/* clang-format off */
static const char *const pieces[] = {
    "\"", "{", "}", "(", ")", "[", "]", "=", ":", ";", ",", "/*", "*/", "//", "#", "\n", "\\", "@",
    "@include \"more\"\n", "\n@include \"netd.conf\"\n", "@include \".\"", "port", "sessions",
    "99999999999", "99999999999999999999999", "0x", "0xffffffffff", "-", "1.5e9", "L", "010",
    "true", "\\x00", "\"a\" \"b\"", "a = 1;", "\xef\xbb\xbf", "\xff", "\r", "\v",
    "port = ( { a = \"b\"; } )",
};
/* clang-format on */

/* Changes the LENGTH bytes of TEXT, which has room for SIZE, in one place. Returns the length. */
static size_t mutate(char *text, size_t length, size_t size)
{
    const char *piece = pieces[below(ARRAY_SIZE(pieces))];
    size_t n = strlen(piece);
    size_t at = below(length + 1);

    switch (below(4)) {
    case 0: /* another byte */
        if (at < length)
            text[at] = (char)below(256);
        return length;
    case 1: /* the end is gone */
        return below(8) == 0 ? at : length;
    case 2: /* some bytes are gone */
        n = min_size(below(8), length - at);
        memmove(text + at, text + at + n, length - at - n);
        return length - n;
    default: /* something in between */
        if (length + n > size)
            return length;
        memmove(text + at + n, text + at, length - at);
        memcpy(text + at, piece, n);
        return length + n;
    }
}

/* Asserts that the LENGTH bytes of TEXT give a configuration or an error. */
static bool check_any(const char *text, size_t length)
{
    struct config c;

    write_bytes("netd.conf", text, length);
    if (load(&c, &(struct config_input){.file = conf}) == 0)
        return true;
    assert_memory_equal(error, directory, strlen(directory));
    return false;
}

static void any_input_gives_a_result_or_an_error(void **state)
{
    char text[1024];
    const int rounds = random_rounds(2000);
    int good = 0;

    (void)state;
    seed = 0x6e657464;
    write_text("more", "priority = \"info\";");
    assert_true(check_any(valid, sizeof(valid) - 1));
    for (int i = 0; i < rounds; i++) {
        size_t length = sizeof(valid) - 1;

        memcpy(text, valid, length);
        for (size_t n = below(4); n < 4; n++)
            length = mutate(text, length, sizeof(text));
        good += check_any(text, length);
    }
    /* Neither too tame nor too wild. */
    assert_true(good > rounds / 40 && good < rounds * 3 / 4);
    for (int i = 0; i < rounds / 6; i++) {
        size_t length = below(64);

        for (size_t n = 0; n < length; n++)
            text[n] = (char)below(256);
        check_any(text, length);
    }
    for (int i = 0; i < rounds / 2; i++) {
        size_t length = 0;

        for (size_t n = below(12); n < 12; n++) {
            const char *piece = pieces[below(ARRAY_SIZE(pieces))];

            memcpy(text + length, piece, strlen(piece));
            length += strlen(piece);
        }
        check_any(text, length);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONFIG_TEST(missing_default_file_is_the_defaults),
        CONFIG_TEST(files_without_settings_are_the_defaults),
        CONFIG_TEST(sample_file_holds_the_defaults),
        CONFIG_TEST(every_key_is_read),
        CONFIG_TEST(every_choice_is_known),
        CONFIG_TEST(long_origins_keep_their_end),
        CONFIG_TEST(limits_of_numbers),
        CONFIG_TEST(integers_do_not_wrap),
        CONFIG_TEST(wrong_types),
        CONFIG_TEST(bad_settings),
        CONFIG_TEST(bad_file_changes_nothing),
        CONFIG_TEST(duplicates),
        CONFIG_TEST(includes_are_expanded),
        CONFIG_TEST(configuration_in_the_working_directory),
        CONFIG_TEST(errors_in_included_files_have_their_lines),
        CONFIG_TEST(bad_includes),
        CONFIG_TEST(include_names_have_a_limit),
        CONFIG_TEST(null_device_is_an_empty_file),
        CONFIG_TEST(bad_files),
        CONFIG_TEST(unreadable_files),
        CONFIG_TEST(size_of_a_file_in_proc_is_not_trusted),
        CONFIG_TEST(huge_files),
        CONFIG_TEST(includes_count_against_the_size),
        CONFIG_TEST(deep_and_wide_files),
        CONFIG_TEST(many_settings),
        CONFIG_TEST(environment_and_options),
        CONFIG_TEST(hosts_from_environment_and_options),
        CONFIG_TEST(bad_output_option),
        CONFIG_TEST(later_sources_override),
        CONFIG_TEST(more_sessions_than_descriptors),
        CONFIG_TEST(overridden_values_must_be_valid),
        CONFIG_TEST(any_input_gives_a_result_or_an_error),
    };

    alarm(300); /* what hangs, fails */
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
