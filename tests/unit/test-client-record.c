/* SPDX-License-Identifier: MIT */
/* From a client's bytes to entries, and from their fields to the same bytes. */
#include "netd-client/record.h"

#include "netd-client/assembly.h"
#include "netd/output/event.h"

#include "arena.h"
#include "entry.h"
#include "random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <syslog.h>

#include <cmocka.h>

#define STREAM_MAX 4096

/* --- An entry as the reader finds it --- */

/* What the client knows of an event, and the memory of it. */
struct found {
    struct event event;
    uint8_t *entry, *rebuilt; /* for free(3) */
};

static void found_free(struct found *found)
{
    free(found->entry);
    free(found->rebuilt);
}

static struct value value_of(const struct fields *f, const char *name)
{
    const struct field *field = fields_find(f, name);

    if (!field)
        return (struct value){0};
    return (struct value){.text = (const char *)field->value, .length = field->length};
}

/* A copy with a NUL behind it, as the reader makes it. */
static uint8_t *flatten(const struct entry *entry)
{
    uint8_t *bytes = malloc(entry->size + 1), *at = bytes;

    assert_non_null(bytes);
    for (size_t i = 0; i < entry->count; i++) {
        if (entry->pieces[i].iov_len > 0)
            memcpy(at, entry->pieces[i].iov_base, entry->pieces[i].iov_len);
        at += entry->pieces[i].iov_len;
    }
    *at = '\0';
    return bytes;
}

static void found_read(struct found *ret, const struct entry *entry, enum output output)
{
    static const struct {
        enum event_field field;
        const char *name;
    } names[] = {
        {EVENT_TERMINATOR, "NETD_TERMINATOR"},
        {EVENT_RESENT, "NETD_RESENT"},
        {EVENT_FRAME_LENGTH, "NETD_FRAME_LENGTH"},
        {EVENT_MESSAGE, "MESSAGE"},
        {EVENT_DATA_BYTES, "NETD_DATA"},
        {EVENT_FORMAT, "NETD_FORMAT"},
        {EVENT_PRIORITY, "PRIORITY"},
        {EVENT_SEVERITY, "NETD_SEVERITY"},
        {EVENT_FACILITY, "SYSLOG_FACILITY"},
        {EVENT_IDENTIFIER, "SYSLOG_IDENTIFIER"},
        {EVENT_SYSLOG_PID, "SYSLOG_PID"},
        {EVENT_TIMESTAMP, "SYSLOG_TIMESTAMP"},
        {EVENT_HOSTNAME, "NETD_HOSTNAME"},
        {EVENT_MSGID, "SYSLOG_MSGID"},
        {EVENT_STRUCTURED_DATA, "SYSLOG_STRUCTURED_DATA"},
    };
    struct found found = {.event.kind = KIND_DATA, .entry = flatten(entry)};
    struct fields f;
    size_t length;

    assert_int_equal(entry_parse(&f, found.entry, entry->size, output == OUTPUT_EXPORT),
                     entry->size);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct value value = value_of(&f, names[i].name);

        /* The byte behind a value is the LF of its line, or of a value in the length-prefixed form:
         * the reader has a NUL there. */
        if (value.text)
            found.entry[(const uint8_t *)value.text + value.length - found.entry] = '\0';
        found.event.fields[names[i].field] = value;
    }
    if (record_needs_rebuild(&found.event)) {
        length = record_rebuild(&found.event, NULL, 0);
        found.rebuilt = malloc(length + 1);
        assert_non_null(found.rebuilt);
        assert_int_equal(record_rebuild(&found.event, found.rebuilt, length), length);
        found.event.rebuilt = (struct value){.text = (char *)found.rebuilt, .length = length};
    }
    *ret = found;
}

/* --- Streams --- */

/* What a sender of syslog sends, and what no sender does. */
static size_t random_message(char *ret, size_t size)
{
    static const char *const parts[] = {
        "<13>",
        "<0>",
        "<34>1 ",
        "<165>1 2003-10-11T22:14:15.003Z web1 su 12 ID47 [x@1 a=\"b\"] text",
        "<165>1 2003-10-11T22:14:15.003Z - - - - - ",
        "<38>Nov 25 09:20:10 sshd[4711]: Accepted",
        "<38>Nov 25 09:20:10 web1 sshd[4711]: Accepted",
        "Nov 25 09:20:10 ",
        "2026-11-25T09:20:10+01:00 ",
        "web1 ",
        "cron: ",
        "cron[12]:",
        "a\xc3\xa9[\x01]: ",
        "\xef\xbb\xbf",
        "- ",
        " ",
        ":",
        "\t\xff",
        "\n",
        "%SYS-5-CONFIG_I: Configured",
        "000012: ",
        "text",
        "more text and more text and more text",
    };
    size_t length = 0;

    for (size_t i = random_below(6); i > 0; i--) {
        const char *part = parts[random_below(ARRAY_SIZE(parts))];
        size_t n = min_size(strlen(part), size - length);

        memcpy(ret + length, part, n);
        length += n;
    }
    return length;
}

/* Counted messages, and messages that LF, CR LF or nothing follows. */
static size_t random_syslog(uint8_t *ret, size_t size)
{
    static const char *const ends[] = {"", "\n", "\n", "\r\n"};
    char *at = (char *)ret, message[512];
    size_t used = 0;

    for (;;) {
        size_t n = random_message(message, sizeof(message));
        int length;

        if (random_below(3))
            length = snprintf(at + used, size - used, "%zu %.*s", n, (int)n, message);
        else
            length =
                snprintf(at + used, size - used, "%.*s%s", (int)n, message, ends[random_below(4)]);
        if ((size_t)length >= size - used)
            return used;
        used += (size_t)length;
    }
}

/* A place in a stream of which a worker knows. */
struct place {
    size_t offset;
    bool mid_record;
    uint32_t frame_left;
};

struct client {
    enum framing framing;
    struct event_source source;
    const uint8_t *stream;
    size_t length;
    struct assembly assembly;
    uint8_t back[STREAM_MAX];
    size_t back_length;
};

/* The bytes of EVENT in what the client sent. */
static void client_add(struct client *c, const struct event *event)
{
    struct value parts[EVENT_PARTS];

    assembly_add(&c->assembly, event, parts);
    for (size_t i = 0; i < EVENT_PARTS; i++) {
        assert_true(c->back_length + parts[i].length <= sizeof(c->back));
        if (parts[i].length > 0)
            memcpy(c->back + c->back_length, parts[i].text, parts[i].length);
        c->back_length += parts[i].length;
    }
}

static void client_log(struct client *c, const struct record *record, uint64_t resent)
{
    struct event_prefix prefix;
    struct entry entry;
    struct found found;

    arena.used = 0;
    assert_int_equal(event_data_prefix(&prefix, &arena, &c->source), 0);
    assert_true(event_data(&entry, &arena, &prefix, record, resent) >= 0);
    found_read(&found, &entry, c->source.output);
    client_add(c, &found.event);
    found_free(&found);
}

/* Logs the record at *AT, cut anywhere, and goes there. Returns false at the end. */
static bool client_step(struct client *c, struct place *at, bool marked)
{
    bool flush = random_below(4) == 0;
    size_t rest = c->length - at->offset;
    struct framing_input in = {
        .data = c->stream + at->offset,
        .length = flush ? random_below(rest + 1) : rest,
        .max_record = random_below(4) ? MAX_RECORD_HIGH : MAX_RECORD_LOW,
        .at_end = !flush,
        .mid_record = at->mid_record,
        .frame_left = at->frame_left,
    };
    const struct framing_ops *framing = framing_ops(c->framing);
    struct record record;
    int r = framing->next(&in, &record);

    if (r == 0 && flush)
        r = framing->flush(&in, &record);
    if (r == 0)
        return flush;
    record.continues = at->mid_record;
    client_log(c, &record, marked ? at->offset : NOT_RESENT);
    *at = (struct place){
        .offset = at->offset + record.consumed,
        .mid_record = record.terminator == TERM_CONTINUED,
        .frame_left = record.frame_left,
    };
    return true;
}

/* Workers that die anywhere, and resume where an earlier record ended. */
static void client_run(struct client *c)
{
    struct place at = {0}, places[16] = {{0}};
    size_t reached = 0, known = 0;

    while (client_step(c, &at, at.offset < reached)) {
        places[known++ % ARRAY_SIZE(places)] = at;
        if (random_below(10) == 0) {
            size_t doubt = at.offset + 1 + random_below(20);

            reached = doubt > reached ? doubt : reached;
            at = places[random_below(min_size(known, ARRAY_SIZE(places)))];
        }
    }
}

static void any_stream_comes_back(void **state)
{
    static const struct endpoint peer = {.family = AF_INET, .ip = {192, 0, 2, 1}, .port = 4711};
    static const enum framing framings[] = {FRAMING_OCTET, FRAMING_LINE, FRAMING_NUL};
    static uint8_t stream[STREAM_MAX];
    static struct client c;

    (void)state;
    for (int round = random_rounds(5000); round > 0; round--) {
        c = (struct client){
            .framing = framings[random_below(ARRAY_SIZE(framings))],
            .source = {.id = "00112233445566778899aabbccddeeff",
                       .peer = &peer,
                       .local = &peer,
                       .priority = LOG_INFO,
                       .identifier = "netd",
                       .output = random_below(2) ? OUTPUT_JOURNAL : OUTPUT_EXPORT,
                       .format = FORMAT_SYSLOG,
                       .trust_severity = random_below(2)},
            .stream = stream,
        };
        c.length = random_below(4) ? random_syslog(stream, 1 + random_below(sizeof(stream) / 2))
                                   : 1 + random_below(500);
        if (c.length == 0 || random_below(4) == 0)
            random_stream(stream, c.length = 200, 40);
        client_run(&c);
        assert_int_equal(c.back_length, c.length);
        assert_memory_equal(c.back, stream, c.length);
    }
}

/* --- Single events --- */

static struct value text(const char *string)
{
    return (struct value){.text = string, .length = string ? strlen(string) : 0};
}

/* Entries of other programs may have anything. */
static void forged_fields_are_not_used(void **state)
{
    static const struct {
        const char *format, *priority, *severity, *facility, *data;
        bool rebuilt;
        int number;
    } rows[] = {
        {"rfc3164", "3", NULL, "4", NULL, true, 3},   {"rfc3164", "3", "0", NULL, NULL, true, 0},
        {"rfc5424", "7", NULL, "23", NULL, true, 7},  {"rfc3164", "3", NULL, "4", "x", false, 3},
        {"plain", "6", NULL, "1", NULL, false, 6},    {NULL, "5", NULL, NULL, NULL, false, 5},
        {"rfc3164", NULL, NULL, "4", NULL, false, 6}, {"rfc3164", "8", NULL, "4", NULL, false, 6},
        {"rfc3164", "3", "x", "4", NULL, false, 6},   {"rfc3164", "3", NULL, "24", NULL, false, 3},
        {"rfc3164", "3", NULL, "", NULL, false, 3},   {"rfc9999", "3", NULL, "4", NULL, false, 3},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct event event = {.kind = KIND_DATA};

        event.fields[EVENT_FORMAT] = text(rows[i].format);
        event.fields[EVENT_PRIORITY] = text(rows[i].priority);
        event.fields[EVENT_SEVERITY] = text(rows[i].severity);
        event.fields[EVENT_FACILITY] = text(rows[i].facility);
        event.fields[EVENT_DATA_BYTES] = text(rows[i].data);
        assert_int_equal(record_needs_rebuild(&event), rows[i].rebuilt);
        assert_int_equal(record_severity(&event), rows[i].number);
        event.kind = KIND_CONNECT;
        assert_false(record_needs_rebuild(&event));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_stream_comes_back),
        cmocka_unit_test(forged_fields_are_not_used),
    };

    random_begin();
    return cmocka_run_group_tests_name("client-record", tests, make_arena, free_arena);
}
