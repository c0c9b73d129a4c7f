/* SPDX-License-Identifier: MIT */
#include "frames.h"
#include "netd-client/assembly.h"
#include "random.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct piece {
    const char *data, *terminator, *resent; /* a frame's length stands behind the terminator */
};

/* The reassembled stream. */
struct sink {
    struct assembly assembly;
    char text[4096];
    size_t length;
};

static struct value value_of(const char *text, size_t length)
{
    return (struct value){.text = text, .length = length};
}

static void sink_take(struct sink *sink, const struct value *value)
{
    assert_true(sink->length + value->length < sizeof(sink->text));
    memcpy(sink->text + sink->length, value->text, value->length);
    sink->length += value->length;
    sink->text[sink->length] = '\0';
}

static void sink_add(struct sink *sink, struct value data, const char *terminator,
                     const char *resent, const char *frame_length)
{
    struct event event = {.kind = KIND_DATA};
    struct value parts[EVENT_PARTS];

    event.fields[EVENT_MESSAGE] = data;
    if (terminator)
        event.fields[EVENT_TERMINATOR] = value_of(terminator, strlen(terminator));
    if (resent)
        event.fields[EVENT_RESENT] = value_of(resent, strlen(resent));
    if (frame_length)
        event.fields[EVENT_FRAME_LENGTH] = value_of(frame_length, strlen(frame_length));
    assembly_add(&sink->assembly, &event, parts);
    for (size_t i = 0; i < EVENT_PARTS; i++)
        sink_take(sink, &parts[i]);
}

static void sink_add_piece(struct sink *sink, const struct piece *piece)
{
    struct value data = value_of(piece->data, strlen(piece->data));
    char terminator[32], *frame_length;

    if (!piece->terminator) {
        sink_add(sink, data, NULL, piece->resent, NULL);
        return;
    }
    snprintf(terminator, sizeof(terminator), "%s", piece->terminator);
    frame_length = strchr(terminator, ' ');
    if (frame_length)
        *frame_length++ = '\0';
    sink_add(sink, data, terminator, piece->resent, frame_length);
}

static void repeats_are_dropped(void **state)
{
    static const struct {
        struct piece pieces[8];
        const char *sent;
        uint64_t records, repeats;
    } rows[] = {
        {{{"one", NULL, NULL}, {"two", "crlf", NULL}}, "one\ntwo\r\n", 2, 0},
        {{{"one", NULL, NULL}, {"one", NULL, "0"}, {"two", NULL, "4"}}, "one\ntwo\n", 2, 1},
        /* Marked, but not a repeat, although the bytes are the same. */
        {{{"one", NULL, NULL}, {"one", NULL, "4"}}, "one\none\n", 2, 0},
        {{{"one", NULL, "0"}}, "one\n", 1, 0},
        /* Split at another place. */
        {{{"abc", "continued", NULL}, {"abcd", NULL, "0"}}, "abcd\n", 1, 1},
        {{{"abcd", NULL, NULL}, {"ab", "continued", "0"}, {"cd", NULL, "2"}, {"e", "none", "5"}},
         "abcd\ne",
         2,
         2},
        {{{"abc", "continued", NULL}, {"bcd", "crlf", "1"}}, "abcd\r\n", 1, 1},
        /* Within a terminator. */
        {{{"a\r", "continued", NULL}, {"a", "crlf", "0"}}, "a\r\n", 1, 1},
        /* The last piece of a split record is empty. */
        {{{"abc", "continued", NULL}, {"", "none", NULL}, {"", "none", "3"}}, "abc", 1, 1},
        {{{"abc", "continued", NULL}, {"abc", "continued", "0"}, {"", "none", "3"}}, "abc", 1, 1},
        {{{"abc", "continued", NULL},
          {"", "none", NULL},
          {"abc", "continued", "0"},
          {"", "none", "3"}},
         "abc",
         1,
         2},
        /* The stream ended meanwhile. */
        {{{"abc", "continued", NULL}, {"abc", "none", "0"}}, "abc", 1, 1},
        /* Empty lines. */
        {{{"", NULL, NULL}, {"", NULL, "0"}, {"", NULL, "1"}}, "\n\n", 2, 1},
        /* A second crash during the repeat. */
        {{{"a", NULL, NULL},
          {"b", NULL, NULL},
          {"a", NULL, "0"},
          {"a", NULL, "0"},
          {"b", NULL, "2"},
          {"c", NULL, "4"}},
         "a\nb\nc\n",
         3,
         3},
        /* "b" is missing; the second "c" is still a repeat. */
        {{{"a", NULL, NULL}, {"c", NULL, "4"}, {"c", NULL, "4"}, {"d", NULL, NULL}},
         "a\nc\nd\n",
         3,
         1},
        /* Counted frames, lines between them. */
        {{{"one", "octet", NULL}, {"two", NULL, NULL}, {"3 x", "octet", NULL}},
         "3 onetwo\n3 3 x",
         3,
         0},
        {{{"abc", "continued 5", NULL}, {"de", "octet", NULL}, {"f", "octet", NULL}},
         "5 abcde1 f",
         2,
         0},
        {{{"abc", "none 999999999", NULL}}, "999999999 abc", 1, 0},
        {{{"", "none 5", NULL}}, "5 ", 1, 0},
        /* Again: as a whole, its last piece, cut at another place, and a whole one in pieces. */
        {{{"one", "octet", NULL}, {"one", "octet 3", "0"}, {"x", "octet 1", "5"}},
         "3 one1 x",
         2,
         1},
        {{{"abc", "continued 5", NULL}, {"de", "octet", NULL}, {"de", "octet", "5"}},
         "5 abcde",
         1,
         1},
        {{{"abc", "continued 5", NULL}, {"abcd", "continued 5", "0"}, {"e", "octet", "6"}},
         "5 abcde",
         1,
         1},
        {{{"abcde", "octet", NULL}, {"ab", "continued 5", "0"}, {"cde", "octet", "4"}},
         "5 abcde",
         1,
         2},
        {{{"", "none 5", NULL}, {"", "none 5", "0"}}, "5 ", 1, 1},
        /* No lengths. */
        {{{"a", "octet x", NULL}, {"b", "octet 01", NULL}, {"c", "none 1000000000", NULL}},
         "abc",
         3,
         0},
        /* The largest offsets. */
        {{{"a", NULL, "18446744073709551613"}, {"bc", NULL, NULL}, {"d", NULL, "5"}},
         "a\nbc\n",
         2,
         1},
        /* Invalid offsets. */
        {{{"a", NULL, NULL},
          {"b", NULL, ""},
          {"c", NULL, "x"},
          {"d", NULL, "-1"},
          {"e", NULL, "18446744073709551615"},
          {"f", NULL, "18446744073709551616"}},
         "a\nb\nc\nd\ne\nf\n",
         6,
         0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct sink sink = {.length = 0};

        for (const struct piece *p = rows[i].pieces; p->data; p++)
            sink_add_piece(&sink, p);
        assert_string_equal(sink.text, rows[i].sent);
        assert_int_equal(sink.assembly.bytes, strlen(rows[i].sent));
        assert_int_equal(sink.assembly.records, rows[i].records);
        assert_int_equal(sink.assembly.repeats, rows[i].repeats);
    }
}

/* Adds an event of random length at OFFSET of a stream of LENGTH bytes. Returns its size. */
static size_t random_event(struct sink *sink, const char *stream, size_t length, size_t offset,
                           bool marked)
{
    const char *line = stream + offset, *end = memchr(line, '\n', length - offset);
    size_t n = end ? (size_t)(end - line) : length - offset, cut = random_below(n + 2);
    const char *terminator = end ? NULL : "none";
    char mark[32];

    if (cut > 0 && cut < n) {
        n = cut;
        terminator = "continued";
    }
    snprintf(mark, sizeof(mark), "%zu", offset);
    sink_add(sink, value_of(line, n), terminator, marked ? mark : NULL, NULL);
    return n + (terminator ? 0 : 1);
}

static void nul_ends_a_record(void **state)
{
    struct sink sink = {.length = 0};

    (void)state;
    sink_add(&sink, value_of("one", 3), "nul", NULL, NULL);
    sink_add(&sink, value_of("one", 3), "nul", "0", NULL);
    sink_add(&sink, value_of("a", 1), "continued", NULL, NULL);
    sink_add(&sink, value_of("", 0), "nul", NULL, NULL);
    assert_int_equal(sink.length, 6);
    assert_memory_equal(sink.text, "one\0a\0", 6);
    assert_int_equal(sink.assembly.bytes, 6);
    assert_int_equal(sink.assembly.records, 2);
    assert_int_equal(sink.assembly.repeats, 1);
}

/* Crashes at random events. The next worker resumes at any earlier offset, and marks events up to
 * one that may be later than the last event logged. */
static void random_crashes(void **state)
{
    (void)state;
    random_begin();
    for (int round = random_rounds(4000); round > 0; round--) {
        char stream[200];
        size_t length = 1 + random_below(sizeof(stream) - 1), offset = 0, reached = 0, records = 0;
        struct sink sink = {.length = 0};

        for (size_t i = 0; i < length; i++) {
            stream[i] = "ab\n"[random_below(3)];
            records += stream[i] == '\n';
        }
        records += stream[length - 1] != '\n';
        while (offset < length) {
            offset += random_event(&sink, stream, length, offset, offset < reached);
            if (random_below(8) == 0) {
                size_t doubt = offset + random_below(20); /* end of the marked range */

                reached = doubt > reached ? doubt : reached;
                offset -= random_below(offset + 1);
            }
        }
        assert_int_equal(sink.length, length);
        assert_memory_equal(sink.text, stream, length);
        assert_int_equal(sink.assembly.bytes, length);
        assert_int_equal(sink.assembly.records, records);
    }
}

/* A place in a stream of which a worker knows: what it needs to go on from there. */
struct place {
    size_t offset;
    bool mid_record;
    uint32_t frame_left;
};

static const char *terminator_word(enum terminator terminator)
{
    static const char *const words[] = {NULL, "crlf", "none", "continued", "nul", "octet"};

    return words[terminator];
}

/* Adds the record at *AT, cut as FLUSH has it, and goes there. Returns false at the end. */
static bool random_frame(struct sink *sink, enum framing framing, const uint8_t *stream,
                         size_t length, struct place *at, bool marked)
{
    bool flush = random_below(3) == 0;
    size_t arrived =
        at->offset + (flush ? random_below(length - at->offset + 1) : length - at->offset);
    struct framing_input in = {
        .data = stream + at->offset,
        .length = arrived - at->offset,
        .max_record = MAX_RECORD_LOW,
        .at_end = !flush,
        .mid_record = at->mid_record,
        .frame_left = at->frame_left,
    };
    struct record record;
    char mark[32], announced[32];
    int r = framing_ops(framing)->next(&in, &record);

    if (r == 0 && flush)
        r = framing_ops(framing)->flush(&in, &record);
    if (r == 0)
        return flush;
    snprintf(mark, sizeof(mark), "%zu", at->offset);
    snprintf(announced, sizeof(announced), "%u", record.frame_length);
    sink_add(sink, value_of((const char *)record.data, record.length),
             terminator_word(record.terminator), marked ? mark : NULL,
             record.frame_length > 0 && (record.terminator != TERM_OCTET || marked) ? announced
                                                                                    : NULL);
    *at = (struct place){
        .offset = at->offset + record.consumed,
        .mid_record = record.terminator == TERM_CONTINUED,
        .frame_left = record.frame_left,
    };
    return true;
}

/* The same with other framings; a worker resumes where an earlier record ended. */
static void random_crashes_among_frames(void **state)
{
    static struct frames frames;

    (void)state;
    for (int round = random_rounds(4000); round > 0; round--) {
        enum framing framing = random_below(3) ? FRAMING_OCTET : FRAMING_NUL;
        size_t length = 1 + random_below(800), reached = 0, known = 0;
        struct sink sink = {.length = 0};
        struct place at = {0}, places[16] = {{0}};
        uint8_t stream[1000];

        random_frames(stream, length, MAX_RECORD_LOW);
        frames_expect(&frames, framing, FRAMES_STREAM_MAX, stream, length);
        while (random_frame(&sink, framing, stream, length, &at, at.offset < reached)) {
            places[known++ % ARRAY_SIZE(places)] = at;
            if (random_below(8) == 0) {
                size_t doubt = at.offset + 1 + random_below(20); /* an empty end is marked, too */

                reached = doubt > reached ? doubt : reached;
                at = places[random_below(min_size(known, ARRAY_SIZE(places)))];
            }
        }
        assert_int_equal(sink.length, length);
        assert_memory_equal(sink.text, stream, length);
        assert_int_equal(sink.assembly.bytes, length);
        assert_int_equal(sink.assembly.records, frames.count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeats_are_dropped),
        cmocka_unit_test(nul_ends_a_record),
        cmocka_unit_test(random_crashes),
        cmocka_unit_test(random_crashes_among_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
