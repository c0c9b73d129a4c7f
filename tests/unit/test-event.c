/* SPDX-License-Identifier: MIT */
#include "netd/output/event.h"

#include "common/names.h"
#include "common/util.h"

#include "arena.h"
#include "random.h"
#include "syslog-entry.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <syslog.h>

#include <cmocka.h>

#define ID "00112233445566778899aabbccddeeff"

static const struct endpoint peer4 = {.family = AF_INET, .ip = {192, 0, 2, 1}, .port = 4711};
static const struct endpoint local4 = {.family = AF_INET, .ip = {198, 51, 100, 7}, .port = 3000};
static const struct endpoint peer6 = {
    .family = AF_INET6, .ip = {0x20, 1, 0xd, 0xb8, [15] = 1}, .port = 4711};
static const struct endpoint peer_unix = {.family = AF_UNIX};

static const struct event_source source4 = {
    .id = ID,
    .peer = &peer4,
    .local = &local4,
    .priority = LOG_INFO,
    .identifier = "netd",
    .output = OUTPUT_JOURNAL,
};

/* The bytes of an entry as they go out. */
struct bytes {
    uint8_t *data; /* for free(3) */
    size_t length;
};

static struct bytes flatten(const struct entry *entry)
{
    struct bytes b = {.data = malloc(entry->size + 1)};

    assert_non_null(b.data);
    assert_true(entry->count <= ENTRY_PIECES_MAX);
    for (size_t i = 0; i < entry->count; i++) {
        if (entry->pieces[i].iov_len > 0)
            memcpy(b.data + b.length, entry->pieces[i].iov_base, entry->pieces[i].iov_len);
        b.length += entry->pieces[i].iov_len;
    }
    assert_int_equal(b.length, entry->size);
    b.data[b.length] = '\0';
    return b;
}

/* Parses the one entry in B. */
static struct fields parse(const struct bytes *b, enum output output)
{
    struct fields f;

    assert_int_equal(entry_parse(&f, b->data, b->length, output == OUTPUT_EXPORT), b->length);
    return f;
}

/* True if the last record_event() said that the record is not of its format. */
static bool unparsed;

static struct bytes record_event(const struct event_source *source, const struct record *record,
                                 uint64_t resent)
{
    struct event_prefix prefix;
    struct entry entry;
    int r;

    arena.used = 0;
    assert_int_equal(event_data_prefix(&prefix, &arena, source), 0);
    r = event_data(&entry, &arena, &prefix, record, resent);
    assert_true(r == 0 || r == 1);
    unparsed = r;
    assert_true(arena.used <= arena.size);
    return flatten(&entry);
}

static struct bytes data_event(const struct event_source *source, const void *data, size_t length,
                               enum terminator terminator, uint64_t resent)
{
    struct record record = {.data = data, .length = length, .terminator = terminator};

    return record_event(source, &record, resent);
}

/* --- Lifecycle events --- */

static void connect_says_who(void **state)
{
    struct entry entry;
    struct fields f;
    struct bytes b;

    (void)state;
    arena.used = 0;
    assert_int_equal(event_connect(&entry, &arena, &source4), 0);
    b = flatten(&entry);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are_named(
        &f, "MESSAGE_ID,PRIORITY,SYSLOG_IDENTIFIER,NETD_EVENT,NETD_SESSION_ID,NETD_PEER,"
            "NETD_PEER_ADDRESS,NETD_PEER_PORT,NETD_LOCAL,MESSAGE"));
    assert_true(fields_are(&f, "MESSAGE_ID", "cf8a2f824a45483794fc0d893bd9b33c"));
    assert_true(fields_are(&f, "PRIORITY", "6"));
    assert_true(fields_are(&f, "SYSLOG_IDENTIFIER", "netd"));
    assert_true(fields_are(&f, "NETD_EVENT", "connect"));
    assert_true(fields_are(&f, "NETD_SESSION_ID", ID));
    assert_true(fields_are(&f, "NETD_PEER", "192.0.2.1:4711"));
    assert_true(fields_are(&f, "NETD_PEER_ADDRESS", "192.0.2.1"));
    assert_true(fields_are(&f, "NETD_PEER_PORT", "4711"));
    assert_true(fields_are(&f, "NETD_LOCAL", "198.51.100.7:3000"));
    assert_true(fields_are(&f, "MESSAGE", "192.0.2.1:4711 connected"));
    free(b.data);
}

/* Every event of a named listener, and who a unix client is. */
static void named_listeners_and_credentials(void **state)
{
    const struct ucred credentials = {.pid = 4711, .uid = 1000, .gid = 100};
    struct event_source source = source4;
    struct entry entry;
    struct fields f;
    struct bytes b;

    (void)state;
    source.peer = source.local = &peer_unix;
    source.local_path = "/run/netd/input";
    source.listener = "devices";
    source.credentials = &credentials;
    arena.used = 0;
    assert_int_equal(event_connect(&entry, &arena, &source), 0);
    b = flatten(&entry);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are_named(
        &f, "MESSAGE_ID,PRIORITY,SYSLOG_IDENTIFIER,NETD_EVENT,NETD_SESSION_ID,NETD_PEER,"
            "NETD_LISTENER,NETD_PEER_ADDRESS,NETD_LOCAL,NETD_PEER_PID,NETD_PEER_UID,NETD_PEER_GID,"
            "MESSAGE"));
    assert_true(fields_are(&f, "NETD_LISTENER", "devices"));
    assert_true(fields_are(&f, "NETD_PEER_PID", "4711"));
    assert_true(fields_are(&f, "NETD_PEER_UID", "1000"));
    assert_true(fields_are(&f, "NETD_PEER_GID", "100"));
    free(b.data);
    b = data_event(&source, "x", 1, TERM_LF, NOT_RESENT);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are(&f, "NETD_LISTENER", "devices"));
    free(b.data);
    assert_int_equal(event_refused(&entry, &arena, &source, "denied"), 0);
    b = flatten(&entry);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are(&f, "NETD_LISTENER", "devices"));
    free(b.data);
    source.listener = "";
    b = data_event(&source, "x", 1, TERM_LF, NOT_RESENT);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are_named(
        &f, "MESSAGE_ID,PRIORITY,SYSLOG_IDENTIFIER,NETD_EVENT,NETD_SESSION_ID,NETD_PEER,MESSAGE"));
    free(b.data);
}

static void ipv6_and_unix_peers(void **state)
{
    struct event_source source = source4;
    struct entry entry;
    struct fields f;
    struct bytes b;

    (void)state;
    source.peer = &peer6;
    arena.used = 0;
    assert_int_equal(event_connect(&entry, &arena, &source), 0);
    b = flatten(&entry);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are(&f, "NETD_PEER", "[2001:db8::1]:4711"));
    assert_true(fields_are(&f, "NETD_PEER_ADDRESS", "2001:db8::1"));
    free(b.data);

    source.peer = source.local = &peer_unix;
    source.local_path = "/run/netd.socket";
    arena.used = 0;
    assert_int_equal(event_connect(&entry, &arena, &source), 0);
    b = flatten(&entry);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are(&f, "NETD_PEER", "unix"));
    assert_true(fields_are(&f, "NETD_PEER_ADDRESS", "unix"));
    assert_null(fields_find(&f, "NETD_PEER_PORT"));
    assert_true(fields_are(&f, "NETD_LOCAL", "/run/netd.socket"));
    free(b.data);
}

static void disconnect_says_how_it_ended(void **state)
{
    struct event_totals totals = {
        .reason = "eof", .records = 12, .bytes = UINT64_MAX, .duration_usec = 61002345};
    struct entry entry;
    struct fields f;
    struct bytes b;

    (void)state;
    arena.used = 0;
    assert_int_equal(event_disconnect(&entry, &arena, &source4, &totals), 0);
    b = flatten(&entry);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are_named(
        &f, "MESSAGE_ID,PRIORITY,SYSLOG_IDENTIFIER,NETD_EVENT,NETD_SESSION_ID,NETD_PEER,"
            "NETD_PEER_ADDRESS,NETD_PEER_PORT,NETD_LOCAL,NETD_REASON,NETD_RECORDS,NETD_BYTES,"
            "NETD_DURATION_USEC,MESSAGE"));
    assert_true(fields_are(&f, "MESSAGE_ID", "9484e171ebb44f1daf42690b105b5810"));
    assert_true(fields_are(&f, "NETD_EVENT", "disconnect"));
    assert_true(fields_are(&f, "NETD_REASON", "eof"));
    assert_true(fields_are(&f, "NETD_RECORDS", "12"));
    assert_true(fields_are(&f, "NETD_BYTES", "18446744073709551615"));
    assert_true(fields_are(&f, "NETD_DURATION_USEC", "61002345"));
    assert_true(fields_are(&f, "MESSAGE",
                           "192.0.2.1:4711 disconnected: eof, 12 records, "
                           "18446744073709551615 bytes in 61.002 s"));
    free(b.data);

    totals.reason = "error";
    totals.error = EBADMSG;
    arena.used = 0;
    assert_int_equal(event_disconnect(&entry, &arena, &source4, &totals), 0);
    b = flatten(&entry);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are(&f, "NETD_REASON", "error"));
    assert_true(fields_are(&f, "ERRNO", "74"));
    assert_non_null(strstr((char *)b.data, "error (Bad message), 12 records"));
    free(b.data);
}

static void refused_says_why(void **state)
{
    struct entry entry;
    struct fields f;
    struct bytes b;

    (void)state;
    arena.used = 0;
    assert_int_equal(event_refused(&entry, &arena, &source4, "address-limit"), 0);
    b = flatten(&entry);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are_named(
        &f, "MESSAGE_ID,PRIORITY,SYSLOG_IDENTIFIER,NETD_EVENT,NETD_SESSION_ID,NETD_PEER,"
            "NETD_PEER_ADDRESS,NETD_PEER_PORT,NETD_LOCAL,NETD_REASON,MESSAGE"));
    assert_true(fields_are(&f, "MESSAGE_ID", "883b11a4ab9f46f6b046f5ac05c2b62e"));
    assert_true(fields_are(&f, "NETD_EVENT", "refused"));
    assert_true(fields_are(&f, "NETD_REASON", "address-limit"));
    assert_true(fields_are(&f, "MESSAGE", "192.0.2.1:4711 refused: address-limit"));
    free(b.data);
}

static void identifiers_say_who(void **state)
{
    static const struct {
        const char *template;
        const struct endpoint *peer;
        const char *identifier;
    } rows[] = {
        {"netd", &peer4, "netd"},
        {"%a", &peer4, "192.0.2.1"},
        {"%p", &peer4, "192.0.2.1:4711"},
        {"%p", &peer6, "[2001:db8::1]:4711"},
        {"%a %p", &peer_unix, "unix unix"},
        {"%s", &peer4, "00112233"},
        {"%l: %p", &peer4, "devices: 192.0.2.1:4711"},
        {"100%% of %a/%s!", &peer6, "100% of 2001:db8::1/00112233!"},
        {"%%a%%", &peer4, "%a%"},
        {"%", &peer4, ""},
        {"a%x", &peer4, "a"},
        {"", &peer4, ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct event_source source = source4;
        struct entry entry;
        struct fields f;
        struct bytes b;

        source.identifier = rows[i].template;
        source.listener = "devices";
        source.peer = rows[i].peer;
        b = data_event(&source, "hello", 5, TERM_LF, NOT_RESENT);
        f = parse(&b, OUTPUT_JOURNAL);
        assert_true(fields_are(&f, "SYSLOG_IDENTIFIER", rows[i].identifier));
        free(b.data);
        arena.used = 0;
        assert_int_equal(event_connect(&entry, &arena, &source), 0);
        b = flatten(&entry);
        f = parse(&b, OUTPUT_JOURNAL);
        assert_true(fields_are(&f, "SYSLOG_IDENTIFIER", rows[i].identifier));
        free(b.data);
    }
}

static void long_identifiers_are_cut(void **state)
{
    struct event_source source = source4;
    const struct field *value;
    struct fields f;
    struct bytes b;

    (void)state;
    source.identifier = "%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p%p";
    b = data_event(&source, "hello", 5, TERM_CRLF, NOT_RESENT);
    f = parse(&b, OUTPUT_JOURNAL);
    value = fields_find(&f, "SYSLOG_IDENTIFIER");
    assert_int_equal(value->length, EVENT_IDENTIFIER_MAX);
    assert_memory_equal(value->value, "192.0.2.1:4711192.0.2.1:4711", 28);
    assert_true(fields_are(&f, "MESSAGE", "hello"));
    free(b.data);
}

/* --- Data events --- */

#define DATA_FIELDS \
    "MESSAGE_ID,PRIORITY,SYSLOG_IDENTIFIER,NETD_EVENT,NETD_SESSION_ID,NETD_PEER,MESSAGE"

static void data_has_its_fields_and_no_more(void **state)
{
    static const struct {
        const char *text;
        enum terminator terminator;
        uint64_t resent;
        const char *names;
        const char *end;
    } rows[] = {
        {"hello", TERM_LF, NOT_RESENT, DATA_FIELDS, NULL},
        {"", TERM_LF, NOT_RESENT, DATA_FIELDS, NULL},
        {"hello", TERM_CRLF, NOT_RESENT, DATA_FIELDS ",NETD_TERMINATOR", "crlf"},
        {"hello", TERM_NONE, NOT_RESENT, DATA_FIELDS ",NETD_TERMINATOR", "none"},
        {"hello", TERM_CONTINUED, NOT_RESENT, DATA_FIELDS ",NETD_TERMINATOR", "continued"},
        {"hello", TERM_NUL, NOT_RESENT, DATA_FIELDS ",NETD_TERMINATOR", "nul"},
        {"hello", TERM_OCTET, NOT_RESENT, DATA_FIELDS ",NETD_TERMINATOR", "octet"},
        {"hello", TERM_LF, 0, DATA_FIELDS ",NETD_RESENT", NULL},
        {"hello", TERM_LF, UINT64_MAX - 1, DATA_FIELDS ",NETD_RESENT", NULL},
        {"a\033[m", TERM_LF, NOT_RESENT, DATA_FIELDS ",NETD_DATA", NULL},
        {"a\033[m", TERM_CRLF, 4711, DATA_FIELDS ",NETD_TERMINATOR,NETD_RESENT,NETD_DATA", "crlf"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct bytes b = data_event(&source4, rows[i].text, strlen(rows[i].text),
                                    rows[i].terminator, rows[i].resent);
        struct fields f = parse(&b, OUTPUT_JOURNAL);
        const struct field *value;
        char offset[NUMBER_MAX + 1];

        assert_true(fields_are_named(&f, rows[i].names));
        assert_true(fields_are(&f, "MESSAGE_ID", "780dde514a934f698d9360e2b7999b2c"));
        assert_true(fields_are(&f, "PRIORITY", "6"));
        assert_true(fields_are(&f, "NETD_EVENT", "data"));
        assert_true(fields_are(&f, "NETD_SESSION_ID", ID));
        assert_true(fields_are(&f, "NETD_PEER", "192.0.2.1:4711"));
        if (rows[i].end)
            assert_true(fields_are(&f, "NETD_TERMINATOR", rows[i].end));
        if (rows[i].resent != NOT_RESENT) {
            snprintf(offset, sizeof(offset), "%" PRIu64, rows[i].resent);
            assert_true(fields_are(&f, "NETD_RESENT", offset));
        }
        assert_true(data_event_is_sound(&f, &value));
        assert_true(field_is(value, rows[i].text));
        free(b.data);
    }
}

/* A frame's length stands in its first piece where that does not have it, and where it cannot be
 * known to be the first. */
static void frame_lengths_are_said_where_needed(void **state)
{
    static const struct {
        uint32_t frame_length;
        enum terminator terminator;
        uint64_t resent;
        const char *names, *said;
    } rows[] = {
        {5, TERM_OCTET, NOT_RESENT, DATA_FIELDS ",NETD_TERMINATOR,NETD_DATA", NULL},
        {0, TERM_OCTET, NOT_RESENT, DATA_FIELDS ",NETD_TERMINATOR,NETD_DATA", NULL},
        {5, TERM_OCTET, 3, DATA_FIELDS ",NETD_TERMINATOR,NETD_RESENT,NETD_FRAME_LENGTH,NETD_DATA",
         "5"},
        {0, TERM_OCTET, 3, DATA_FIELDS ",NETD_TERMINATOR,NETD_RESENT,NETD_DATA", NULL},
        {999999999, TERM_NONE, NOT_RESENT,
         DATA_FIELDS ",NETD_TERMINATOR,NETD_FRAME_LENGTH,NETD_DATA", "999999999"},
        {70, TERM_CONTINUED, NOT_RESENT, DATA_FIELDS ",NETD_TERMINATOR,NETD_FRAME_LENGTH,NETD_DATA",
         "70"},
        {70, TERM_CONTINUED, 3,
         DATA_FIELDS ",NETD_TERMINATOR,NETD_RESENT,NETD_FRAME_LENGTH,NETD_DATA", "70"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct record record = {.data = (const uint8_t *)"a\nb\0c",
                                .length = 5,
                                .terminator = rows[i].terminator,
                                .frame_length = rows[i].frame_length};
        struct bytes b = record_event(&source4, &record, rows[i].resent);
        struct fields f = parse(&b, OUTPUT_JOURNAL);

        assert_true(fields_are_named(&f, rows[i].names));
        if (rows[i].said)
            assert_true(fields_are(&f, "NETD_FRAME_LENGTH", rows[i].said));
        free(b.data);
    }
}

static void messages_are_escaped(void **state)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"plain", NULL},
        {"tab\there", NULL},
        {"back\\slash \\x41", NULL},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", NULL},
        {"\xc2\xa0", NULL},         /* the first one after C1 */
        {"\xed\x9f\xbf", NULL},     /* the last one before the surrogates */
        {"\xee\x80\x80", NULL},     /* the first one after them */
        {"\xf4\x8f\xbf\xbf", NULL}, /* the last of all */
        {"\xe2\x80\xa9", NULL},     /* just before the overrides */
        {"\xe2\x80\xaf", NULL},     /* just after */
        {"\xe2\x81\xa5", NULL},     /* just before the isolates */
        {"\xe2\x81\xaa", NULL},     /* just after */
        {"\xef\xbb\xbf", NULL},     /* a byte order mark */
        {"cr\rcr", "cr\\x0dcr"},
        {"\x1b[31m", "\\x1b[31m"},
        {"\x7f", "\\x7f"},
        {"\xc2\x80", "\\xc2\\x80"},
        {"\xc2\x9f", "\\xc2\\x9f"},
        {"\xe2\x80\xaa", "\\xe2\\x80\\xaa"},
        {"\xe2\x80\xae", "\\xe2\\x80\\xae"},
        {"\xe2\x81\xa6", "\\xe2\\x81\\xa6"},
        {"\xe2\x81\xa9", "\\xe2\\x81\\xa9"},
        {"\xc0\xaf", "\\xc0\\xaf"},                   /* overlong */
        {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},          /* overlong */
        {"\xf0\x80\x80\xaf", "\\xf0\\x80\\x80\\xaf"}, /* overlong */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* a surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* beyond Unicode */
        {"\xf8\x88\x80\x80\x80", "\\xf8\\x88\\x80\\x80\\x80"},
        {"\xe2\x82", "\\xe2\\x82"}, /* not finished */
        {"\xe2\x82\x41", "\\xe2\\x82\x41"},
        {"\xe2\xc3\xa9", "\\xe2\xc3\xa9"},
        {"abcdefg\xff", "abcdefg\\xff"},
        {"a\nNETD_EVENT=connect\nPRIORITY=0", "a\\x0aNETD_EVENT=connect\\x0aPRIORITY=0"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        size_t length = strlen(rows[i].text);
        struct bytes b = data_event(&source4, rows[i].text, length, TERM_LF, NOT_RESENT);
        struct fields f = parse(&b, OUTPUT_JOURNAL);

        assert_true(fields_are(&f, "MESSAGE", rows[i].message ? rows[i].message : rows[i].text));
        if (rows[i].message)
            assert_true(fields_are(&f, "NETD_DATA", rows[i].text));
        else
            assert_null(fields_find(&f, "NETD_DATA"));
        free(b.data);
    }
}

/* Compares both functions with the slow way, for LENGTH bytes that end where their memory ends. */
static void check_escape(const uint8_t *text, size_t length)
{
    uint8_t *copy = malloc(length > 0 ? length : 1), *escaped = malloc(4 * length + 1);
    uint8_t *expected = malloc(4 * length + 1);
    size_t n, m;
    bool clean;

    assert_non_null(copy);
    assert_non_null(escaped);
    assert_non_null(expected);
    memcpy(copy, text, length);
    n = message_of(expected, copy, length, &clean);
    m = event_escape(escaped, copy, length);
    assert_int_equal(m, n);
    assert_memory_equal(escaped, expected, n);
    if (clean) {
        assert_int_equal(event_clean_length(copy, length), length);
    } else {
        m = event_clean_length(copy, length);
        assert_true(m < length);
        assert_int_equal(message_of(expected, copy, m, &clean), m);
        assert_true(clean);
        assert_int_equal(message_character(copy + m, length - m), 0);
    }
    free(copy);
    free(escaped);
    free(expected);
}

static void every_byte_and_every_pair(void **state)
{
    /* At every place in the words that are looked at together. */
    uint8_t text[80];

    (void)state;
    for (unsigned pair = 0; pair <= 0xffff; pair++) {
        size_t at = pair % 67;

        memset(text, 'x', sizeof(text));
        text[at] = (uint8_t)(pair >> 8);
        text[at + 1] = (uint8_t)pair;
        check_escape(text, at + 2);
        check_escape(text + at, 2);
        check_escape(text + at, 1);
        check_escape(text, sizeof(text));
    }
}

static void every_character(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x200000; c += c < 0x11000 || c > 0x10ff00 ? 1 : 61) {
        uint8_t text[4];

        for (size_t n = 2; n <= 4; n++) {
            if (c >> (n == 2 ? 11 : n == 3 ? 16 : 21))
                continue;
            utf8_encode(text, c, n);
            if ((message_character(text, n) == n) != (event_clean_length(text, n) == n))
                fail_msg("U+%04X in %zu bytes", c, n);
        }
    }
}

static void random_records_come_back(void **state)
{
    static uint8_t data[2048];

    (void)state;
    for (int i = random_rounds(5000); i > 0; i--) {
        size_t length = random_below(random_below(2) ? 40 : sizeof(data));
        enum terminator terminator = (enum terminator)random_below(TERM_OCTET + 1);
        const struct field *value;
        struct event_source source = source4;
        struct fields f;
        struct bytes b;

        source.output = random_below(2) ? OUTPUT_JOURNAL : OUTPUT_EXPORT;
        random_stream(data, length, 100);
        check_escape(data, length);
        if (random_below(2)) /* what a line holds */
            length = (size_t)((uint8_t *)memchr(data, '\n', length)
                                  ? (uint8_t *)memchr(data, '\n', length) - data
                                  : (ptrdiff_t)length);
        b = data_event(&source, data, length, terminator, random_below(2));
        f = parse(&b, source.output);
        assert_true(data_event_is_sound(&f, &value));
        assert_int_equal(value->length, length);
        assert_memory_equal(value->value, data, length);
        free(b.data);
    }
}

static void largest_records_fit(void **state)
{
    static uint8_t data[MAX_RECORD_HIGH];
    static const uint8_t fills[] = {'x', '\n', 0xff};

    (void)state;
    for (enum output output = OUTPUT_JOURNAL; output <= OUTPUT_EXPORT; output++) {
        for (size_t i = 0; i < ARRAY_SIZE(fills); i++) {
            struct event_source source = source4;
            struct bytes b;

            memset(data, fills[i], sizeof(data));
            source.output = output;
            b = data_event(&source, data, sizeof(data), TERM_CONTINUED, 0);
            if (output != OUTPUT_TEXT) {
                struct fields f = parse(&b, output);
                const struct field *value;

                assert_true(data_event_is_sound(&f, &value));
                assert_int_equal(value->length, sizeof(data));
            }
            free(b.data);
        }
    }
}

static void clean_records_are_not_copied(void **state)
{
    static const char text[] = "a record that can stand in MESSAGE as it is";
    struct record record = {.data = (const uint8_t *)text, .length = strlen(text)};
    struct event_prefix prefix;
    struct entry entry;
    size_t used;

    (void)state;
    arena.used = 0;
    assert_int_equal(event_data_prefix(&prefix, &arena, &source4), 0);
    used = arena.used;
    assert_int_equal(event_data(&entry, &arena, &prefix, &record, NOT_RESENT), 0);
    assert_int_equal(arena.used, used);
    assert_ptr_equal(entry.pieces[1].iov_base, text);
}

/* --- Syslog records --- */

#define SYSLOG_SOURCE                                                                          \
    {                                                                                          \
        .id = ID, .peer = &peer4, .local = &local4, .priority = LOG_DEBUG, .identifier = "%a", \
        .listener = "devices", .output = OUTPUT_JOURNAL, .format = FORMAT_SYSLOG               \
    }

#define SYSLOG_FIELDS "MESSAGE_ID,NETD_EVENT,NETD_SESSION_ID,NETD_PEER,NETD_LISTENER,"

static void syslog_records_have_their_fields(void **state)
{
    static const struct {
        const char *record, *names, *priority, *severity, *facility, *identifier, *message;
        bool trust;
    } rows[] = {
        {"<35>Oct 11 22:14:15 host sshd[12]: hello",
         "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,SYSLOG_PID,SYSLOG_TIMESTAMP,NETD_HOSTNAME,"
         "NETD_FORMAT,MESSAGE",
         "3", NULL, "4", "sshd", "hello", false},
        {"<165>1 2003-10-11T22:14:15.003Z web1 app 12 ID47 [x@1 a=\"b\"] text",
         "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,SYSLOG_PID,SYSLOG_TIMESTAMP,NETD_HOSTNAME,"
         "SYSLOG_MSGID,SYSLOG_STRUCTURED_DATA,NETD_FORMAT,MESSAGE",
         "5", NULL, "20", "app", "text", false},
        /* What journald would write to disk at once. */
        {"<8>x: y", "PRIORITY,NETD_SEVERITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE",
         "3", "0", "1", "x", "y", false},
        {"<10>x: y", "PRIORITY,NETD_SEVERITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE",
         "3", "2", "1", "x", "y", false},
        {"<8>x: y", "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE", "0", NULL,
         "1", "x", "y", true},
        /* No facility, no tag. */
        {"<7>text", "PRIORITY,NETD_FORMAT,MESSAGE", "7", NULL, NULL, NULL, "text", false},
        {"<13>: x", "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE", "5", NULL,
         "1", "", "x", false},
        /* A blank at the end, no such priority, none at all, escapes. */
        {"<13>x:  y", "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE", "5", NULL,
         "1", "x", " y", false},
        {"<13>x: y ", "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE,NETD_DATA",
         "5", NULL, "1", "x", "y", false},
        {"<192>x: y", "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE,NETD_DATA",
         "6", NULL, "1", "x", "y", false},
        {"x: y", "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE,NETD_DATA", "6",
         NULL, "1", "x", "y", false},
        {"<13>x: \033[m",
         "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE,NETD_DATA", "5", NULL, "1",
         "x", "\\x1b[m", false},
        {"<13>\001: y", "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE,NETD_DATA",
         "5", NULL, "1", "\\x01", "y", false},
        {"<13>\xc3\xa9: y", "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE", "5",
         NULL, "1", "\xc3\xa9", "y", false},
        /* Plain. */
        {"plain text", "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE", "6", NULL,
         "1", "192.0.2.1", "plain text", false},
        {"", "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE", "6", NULL, "1",
         "192.0.2.1", "", false},
        {"a\nPRIORITY=0",
         "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE,NETD_DATA", "6", NULL, "1",
         "192.0.2.1", "a\\x0aPRIORITY=0", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct event_source source = SYSLOG_SOURCE;
        size_t length = strlen(rows[i].record);
        const uint8_t *record = (const uint8_t *)rows[i].record;
        char names[512];
        struct bytes b;
        struct fields f;
        struct syslog s;

        source.trust_severity = rows[i].trust;
        b = data_event(&source, record, length, TERM_LF, NOT_RESENT);
        f = parse(&b, OUTPUT_JOURNAL);
        snprintf(names, sizeof(names), SYSLOG_FIELDS "%s", rows[i].names);
        if (!fields_are_named(&f, names))
            fail_msg("%s:\n%s", rows[i].record, (char *)b.data);
        assert_true(fields_are(&f, "PRIORITY", rows[i].priority));
        assert_true(!rows[i].severity || fields_are(&f, "NETD_SEVERITY", rows[i].severity));
        assert_true(!rows[i].facility || fields_are(&f, "SYSLOG_FACILITY", rows[i].facility));
        assert_true(!rows[i].identifier || fields_are(&f, "SYSLOG_IDENTIFIER", rows[i].identifier));
        assert_true(fields_are(&f, "MESSAGE", rows[i].message));
        assert_true(fields_are(&f, "NETD_LISTENER", "devices"));
        assert_int_equal(unparsed, fields_are(&f, "NETD_FORMAT", "plain"));
        syslog_parse(&s, record, length, rows[i].trust);
        assert_true(syslog_entry_is_sound(&f, &s, record, length, "192.0.2.1"));
        free(b.data);
    }
}

/* What goes on with a record is not one of its own. */
static void later_pieces_are_plain(void **state)
{
    static const char text[] = "<35>Oct 11 22:14:15 host sshd[12]: hello";
    struct record record = {
        .data = (const uint8_t *)text, .length = strlen(text), .continues = true};
    struct event_source source = SYSLOG_SOURCE;
    struct bytes b;
    struct fields f;

    (void)state;
    b = record_event(&source, &record, NOT_RESENT);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are_named(&f, SYSLOG_FIELDS
                                 "PRIORITY,SYSLOG_FACILITY,SYSLOG_IDENTIFIER,NETD_FORMAT,MESSAGE"));
    assert_true(fields_are(&f, "NETD_FORMAT", "plain"));
    assert_true(fields_are(&f, "MESSAGE", text));
    free(b.data);
}

/* As a line for a person, a syslog record stands as it came; events that are no records have the
 * listener's priority and identifier. */
static void format_is_of_stored_records_only(void **state)
{
    struct event_source source = SYSLOG_SOURCE;
    struct entry entry;
    struct bytes b;
    struct fields f;

    (void)state;
    arena.used = 0;
    assert_int_equal(event_connect(&entry, &arena, &source), 0);
    b = flatten(&entry);
    f = parse(&b, OUTPUT_JOURNAL);
    assert_true(fields_are(&f, "PRIORITY", "7"));
    assert_true(fields_are(&f, "SYSLOG_IDENTIFIER", "192.0.2.1"));
    free(b.data);
    source.output = OUTPUT_TEXT;
    b = data_event(&source, "<13>a[1]: b\n", 12, TERM_OCTET, NOT_RESENT);
    assert_non_null(strstr((char *)b.data, ID " data <13>a[1]: b\\x0a\n"));
    free(b.data);
}

/* The most that fields and their escapes can take, among all records of the greatest length. */
static void largest_syslog_records_fit(void **state)
{
    static uint8_t data[MAX_RECORD_HIGH];
    static const uint8_t fills[] = {'x', 0x01, 0xff};
    static const char *const forms[][2] = {
        {"<8>", ": "},
        {"<8>a: ", ""},
        {"<8>a[", "]: "},
        {"<8>1 - ", " - - - - x"},
        {"<8>1 - - - - - [", "] x"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(fills) * ARRAY_SIZE(forms); i++) {
        const char *const *form = forms[i % ARRAY_SIZE(forms)];
        struct event_source source = SYSLOG_SOURCE;
        struct bytes b;
        struct fields f;
        struct syslog s;

        source.output = i % 2 ? OUTPUT_EXPORT : OUTPUT_JOURNAL;
        memset(data, fills[i / ARRAY_SIZE(forms)], sizeof(data));
        memcpy(data, form[0], strlen(form[0]));
        memcpy(data + sizeof(data) - strlen(form[1]), form[1], strlen(form[1]));
        b = data_event(&source, data, sizeof(data), TERM_CONTINUED, 0);
        f = parse(&b, source.output);
        syslog_parse(&s, data, sizeof(data), false);
        assert_true(syslog_entry_is_sound(&f, &s, data, sizeof(data), "192.0.2.1"));
        free(b.data);
    }
}

/* --- The other encodings --- */

static void exported_entries(void **state)
{
    struct event_totals totals = {.reason = "eof"};
    struct event_source source = source4;
    uint64_t before = now_usec(CLOCK_REALTIME);
    struct entry entry;
    struct fields f;
    struct bytes b;

    (void)state;
    source.output = OUTPUT_EXPORT;
    source.priority = LOG_DEBUG;
    for (int i = 0; i < 3; i++) {
        const struct field *time;

        arena.used = 0;
        if (i == 0)
            assert_int_equal(event_connect(&entry, &arena, &source), 0);
        else if (i == 1)
            assert_int_equal(event_disconnect(&entry, &arena, &source, &totals), 0);
        else
            assert_int_equal(event_refused(&entry, &arena, &source, "session-limit"), 0);
        b = flatten(&entry);
        f = parse(&b, OUTPUT_EXPORT);
        assert_string_equal(f.all[0].name, "__REALTIME_TIMESTAMP");
        assert_string_equal(f.all[1].name, "__MONOTONIC_TIMESTAMP");
        assert_string_equal(f.all[2].name, "_BOOT_ID");
        assert_int_equal(f.all[2].length, 32);
        assert_string_equal(f.all[3].name, "MESSAGE_ID");
        assert_true(fields_are(&f, "PRIORITY", "7"));
        time = fields_find(&f, "__REALTIME_TIMESTAMP");
        assert_true(strtoull((const char *)time->value, NULL, 10) >= before);
        free(b.data);
    }
    b = data_event(&source, "a\nb", 3, TERM_CRLF, 1);
    f = parse(&b, OUTPUT_EXPORT);
    assert_true(fields_are_named(&f,
                                 "__REALTIME_TIMESTAMP,__MONOTONIC_TIMESTAMP,_BOOT_ID," DATA_FIELDS
                                 ",NETD_TERMINATOR,NETD_RESENT,NETD_DATA"));
    free(b.data);
    b = data_event(&source, "ab", 2, TERM_LF, NOT_RESENT);
    f = parse(&b, OUTPUT_EXPORT);
    assert_true(
        fields_are_named(&f, "__REALTIME_TIMESTAMP,__MONOTONIC_TIMESTAMP,_BOOT_ID," DATA_FIELDS));
    free(b.data);
}

/* The line behind its time, which has the form of RFC 3339. */
static const char *after_time(const struct bytes *b)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.ddddddsdd:dd ";

    assert_true(b->length > strlen(form));
    for (size_t i = 0; form[i]; i++) {
        if (form[i] == 'd')
            assert_in_range(b->data[i], '0', '9');
        else if (form[i] == 's')
            assert_true(b->data[i] == '+' || b->data[i] == '-');
        else
            assert_int_equal(b->data[i], form[i]);
    }
    assert_null(memchr(b->data, '\n', b->length - 1));
    assert_int_equal(b->data[b->length - 1], '\n');
    return (const char *)b->data + strlen(form);
}

static void text_is_one_line_for_a_person(void **state)
{
    struct event_totals totals = {.reason = "idle", .records = 1, .bytes = 2};
    struct record piece = {.data = (const uint8_t *)"hello",
                           .length = 5,
                           .terminator = TERM_CONTINUED,
                           .frame_length = 70};
    struct event_source source = source4;
    struct entry entry;
    struct bytes b;

    (void)state;
    source.output = OUTPUT_TEXT;
    arena.used = 0;
    assert_int_equal(event_connect(&entry, &arena, &source), 0);
    b = flatten(&entry);
    assert_string_equal(after_time(&b), ID " connect 192.0.2.1:4711\n");
    free(b.data);
    arena.used = 0;
    assert_int_equal(event_disconnect(&entry, &arena, &source, &totals), 0);
    b = flatten(&entry);
    assert_string_equal(after_time(&b), ID " disconnect 192.0.2.1:4711 disconnected: idle, "
                                           "1 record, 2 bytes in 0.000 s\n");
    free(b.data);
    arena.used = 0;
    assert_int_equal(event_refused(&entry, &arena, &source, "session-limit"), 0);
    b = flatten(&entry);
    assert_string_equal(after_time(&b), ID " refused 192.0.2.1:4711 refused: session-limit\n");
    free(b.data);
    b = data_event(&source, "hello", 5, TERM_LF, NOT_RESENT);
    assert_string_equal(after_time(&b), ID " data hello\n");
    free(b.data);
    b = data_event(&source, "hello", 5, TERM_NUL, NOT_RESENT);
    assert_string_equal(after_time(&b), ID " data hello\n");
    free(b.data);
    b = record_event(&source, &piece, NOT_RESENT);
    assert_string_equal(after_time(&b), ID " data hello\n");
    free(b.data);
    b = data_event(&source, "a\nb\xff", 4, TERM_CRLF, 0);
    assert_string_equal(after_time(&b), ID " data a\\x0ab\\xff (resent)\n");
    free(b.data);
}

/* --- An arena without room --- */

static void full_arena_is_left_alone(void **state)
{
    static uint8_t text[600] = "<8>"; /* a tag that grows, where the format is syslog */
    struct event_totals totals = {.reason = "eof"};
    struct record record = {.data = text, .length = sizeof(text)};
    struct event_prefix prefix;
    struct entry entry, before;
    int done = 0;

    (void)state;
    memset(text + 3, 0xff, sizeof(text) - 5);
    memcpy(text + sizeof(text) - 2, ":\n", 2);
    for (enum output output = OUTPUT_JOURNAL; output <= OUTPUT_EXPORT; output++) {
        struct event_source source = source4;

        source.output = output;
        source.format = output == OUTPUT_EXPORT ? FORMAT_SYSLOG : FORMAT_PLAIN;
        arena.used = 0;
        assert_int_equal(event_data_prefix(&prefix, &arena, &source), 0);
        /* From no room at all up to room enough, a byte at a time. */
        for (size_t room = 0; room < 6000; room++) {
            const size_t used = arena.size - room;
            bool had = false;

            for (int i = 0; i < 5; i++) {
                struct event_prefix other = {.output = OUTPUT_AUTO};
                int r;

                memset(&entry, 0xaa, sizeof(entry));
                before = entry;
                arena.used = used;
                switch (i) {
                case 0:
                    r = event_connect(&entry, &arena, &source);
                    break;
                case 1:
                    r = event_disconnect(&entry, &arena, &source, &totals);
                    break;
                case 2:
                    r = event_refused(&entry, &arena, &source, "session-limit");
                    break;
                case 3:
                    r = event_data_prefix(&other, &arena, &source);
                    if (r < 0)
                        assert_int_equal(other.output, OUTPUT_AUTO);
                    break;
                default:
                    r = event_data(&entry, &arena, &prefix, &record, 0);
                }
                assert_true(arena.used <= arena.size);
                if (r < 0) {
                    assert_int_equal(r, -ENOBUFS);
                    assert_int_equal(arena.used, used);
                    assert_memory_equal(&entry, &before, sizeof(entry));
                } else {
                    had = true;
                    done++;
                }
            }
            if (room < 1000)
                assert_false(had);
        }
    }
    assert_true(done > 3 * 5 * 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_says_who),
        cmocka_unit_test(named_listeners_and_credentials),
        cmocka_unit_test(ipv6_and_unix_peers),
        cmocka_unit_test(disconnect_says_how_it_ended),
        cmocka_unit_test(refused_says_why),
        cmocka_unit_test(identifiers_say_who),
        cmocka_unit_test(long_identifiers_are_cut),
        cmocka_unit_test(data_has_its_fields_and_no_more),
        cmocka_unit_test(frame_lengths_are_said_where_needed),
        cmocka_unit_test(messages_are_escaped),
        cmocka_unit_test(every_byte_and_every_pair),
        cmocka_unit_test(every_character),
        cmocka_unit_test(random_records_come_back),
        cmocka_unit_test(largest_records_fit),
        cmocka_unit_test(clean_records_are_not_copied),
        cmocka_unit_test(syslog_records_have_their_fields),
        cmocka_unit_test(later_pieces_are_plain),
        cmocka_unit_test(format_is_of_stored_records_only),
        cmocka_unit_test(largest_syslog_records_fit),
        cmocka_unit_test(exported_entries),
        cmocka_unit_test(text_is_one_line_for_a_person),
        cmocka_unit_test(full_arena_is_left_alone),
    };

    random_begin();
    return cmocka_run_group_tests_name("event", tests, make_arena, free_arena);
}
