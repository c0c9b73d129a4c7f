/* SPDX-License-Identifier: MIT */
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
    const char *data, *terminator, *resent;
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
                     const char *resent)
{
    struct event event = {.kind = KIND_DATA};
    struct value rest, ending;

    event.fields[EVENT_MESSAGE] = data;
    if (terminator)
        event.fields[EVENT_TERMINATOR] = value_of(terminator, strlen(terminator));
    if (resent)
        event.fields[EVENT_RESENT] = value_of(resent, strlen(resent));
    assembly_add(&sink->assembly, &event, &rest, &ending);
    sink_take(sink, &rest);
    sink_take(sink, &ending);
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
            sink_add(&sink, value_of(p->data, strlen(p->data)), p->terminator, p->resent);
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
    sink_add(sink, value_of(line, n), terminator, marked ? mark : NULL);
    return n + (terminator ? 0 : 1);
}

/* Crashes at random events. The next worker resumes at any earlier offset, and marks events up to
 * one that may be later than the last event logged. */
static void random_crashes(void **state)
{
    (void)state;
    random_begin();
    for (int round = random_rounds(20000); round > 0; round--) {
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeats_are_dropped),
        cmocka_unit_test(random_crashes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
