/* SPDX-License-Identifier: MIT */
#include "netd/protocol/framing.h"

#include "common/util.h"

#include "framing.h"
#include "random.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define STREAM_MAX 8192

static struct pieces expected;

/* Feeds the first LENGTH bytes of DATA in pieces that NEXT gives the size of; compares with what
 * the whole stream has to give. */
static void check_cutting(size_t max, const uint8_t *data, size_t length,
                          size_t (*next)(size_t left, size_t argument), size_t argument)
{
    struct feeder f = {.framing = FRAMING_LINE, .max_record = max, .data = data};

    while (f.end < length) {
        size_t n = next(length - f.end, argument);

        assert_true(feeder_feed(&f, n, false));
    }
    assert_true(feeder_feed(&f, 0, true));
    assert_true(pieces_equal(&f.pieces, &expected));
    free(f.pieces.all);
}

static size_t next_all(size_t left, size_t argument)
{
    (void)argument;
    return left;
}

static size_t next_fixed(size_t left, size_t argument)
{
    return min_size(left, argument);
}

/* Two pieces: ARGUMENT is the length of the stream less the cut. */
static size_t next_split(size_t left, size_t argument)
{
    return left > argument ? left - argument : left;
}

static size_t next_random(size_t left, size_t argument)
{
    return min_size(left, random_below(argument) + (random_below(4) > 0));
}

static void check_cuttings(size_t max, const uint8_t *data, size_t length)
{
    pieces_expect(&expected, max, data, length);
    check_cutting(max, data, length, next_all, 0);
    check_cutting(max, data, length, next_fixed, 1);
    check_cutting(max, data, length, next_random, max);
}

struct row {
    const char *text;
    size_t lengths[6];
    enum terminator terminators[6];
    size_t count;
};

static void lines_become_records(void **state)
{
    static const struct row rows[] = {
        {"", {0}, {0}, 0},
        {"\n", {0}, {TERM_LF}, 1},
        {"\r\n", {0}, {TERM_CRLF}, 1},
        {"\r", {1}, {TERM_NONE}, 1},
        {"\r\r\n", {1}, {TERM_CRLF}, 1},
        {"\n\r", {0, 1}, {TERM_LF, TERM_NONE}, 2},
        {"\n\n\n", {0, 0, 0}, {TERM_LF, TERM_LF, TERM_LF}, 3},
        {"\n\r\n", {0, 0}, {TERM_LF, TERM_CRLF}, 2},
        {"a", {1}, {TERM_NONE}, 1},
        {"a\r", {2}, {TERM_NONE}, 1},
        {"a\rb\n", {3}, {TERM_LF}, 1},
        {"one\ntwo\r\nthree", {3, 3, 5}, {TERM_LF, TERM_CRLF, TERM_NONE}, 3},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const uint8_t *text = (const uint8_t *)rows[i].text;
        struct feeder f = {.framing = FRAMING_LINE, .max_record = 64, .data = text};

        assert_true(feeder_feed(&f, strlen(rows[i].text), true));
        assert_int_equal(f.pieces.count, rows[i].count);
        for (size_t k = 0; k < rows[i].count; k++) {
            assert_int_equal(f.pieces.all[k].length, rows[i].lengths[k]);
            assert_int_equal(f.pieces.all[k].terminator, rows[i].terminators[k]);
        }
        free(f.pieces.all);
        check_cuttings(64, text, strlen(rows[i].text));
    }
}

/* Lines about as long as the limit, with every end, cut at every place near theirs. */
static void check_limit(size_t max)
{
    static const char *const ends[] = {"\n", "\r\n", "\r", "\r\r\n", "\rx\n", "\r\rx\r\n", ""};
    static const char after[] = "next\n";
    uint8_t *data = malloc(2 * max + 16);

    assert_non_null(data);
    for (size_t length = max - 2; length <= 2 * max + 1; length++) {
        if (length == max + 3)
            length = 2 * max - 1;
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
            size_t total = length;

            memset(data, 'x', length);
            memcpy(data + total, ends[i], strlen(ends[i]));
            total += strlen(ends[i]);
            if (i % 2 == 0) {
                memcpy(data + total, after, strlen(after));
                total += strlen(after);
            }
            pieces_expect(&expected, max, data, total);
            check_cutting(max, data, total, next_all, 0);
            for (size_t cut = max - 2; cut <= min_size(max + 4, total); cut++)
                check_cutting(max, data, total, next_split, total - cut);
        }
    }
    free(data);
}

static void records_about_the_limit(void **state)
{
    (void)state;
    for (size_t max = MAX_RECORD_LOW; max < 130; max++)
        check_limit(max);
    check_limit(4096);
    check_limit(65536);
    check_limit(MAX_RECORD_HIGH);
}

static void any_cutting_gives_the_same_records(void **state)
{
    static uint8_t data[STREAM_MAX];

    (void)state;
    for (int i = random_rounds(1500); i > 0; i--) {
        size_t max = MAX_RECORD_LOW + random_below(random_below(2) ? 4 : 300);
        size_t length = random_below(sizeof(data));

        random_stream(data, length, max);
        check_cuttings(max, data, length);
    }
}

/* Flushed pieces change neither the records nor a byte of them. */
static void records_survive_flushes(void **state)
{
    static uint8_t data[STREAM_MAX];

    (void)state;
    for (int i = random_rounds(1500); i > 0; i--) {
        struct feeder f = {.framing = FRAMING_LINE,
                           .max_record = MAX_RECORD_LOW + random_below(64)};
        size_t length = random_below(sizeof(data));

        random_stream(data, length, f.max_record);
        f.data = data;
        while (f.end < length) {
            size_t n = min_size(length - f.end, random_below(200));

            assert_true(feeder_feed(&f, n, false));
            if (random_below(3) == 0)
                assert_true(feeder_flush(&f));
        }
        assert_true(feeder_feed(&f, 0, true));
        pieces_expect(&expected, SIZE_MAX, data, length);
        pieces_join(&f.pieces);
        assert_true(pieces_equal(&f.pieces, &expected));
        free(f.pieces.all);
    }
}

static struct framing_input input(const char *text)
{
    return (struct framing_input){
        .data = (const uint8_t *)text,
        .length = strlen(text),
        .max_record = 64,
    };
}

static void flush_leaves_a_carriage_return(void **state)
{
    static const struct {
        const char *text;
        int records;
        size_t length;
    } rows[] = {{"", 0, 0}, {"\r", 0, 0}, {"ab\r", 1, 2}, {"ab\r\r", 1, 3}, {"ab", 1, 2}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct framing_input in = input(rows[i].text);
        struct record record;

        assert_int_equal(framing_ops(FRAMING_LINE)->flush(&in, &record), rows[i].records);
        if (rows[i].records == 0)
            continue;
        assert_int_equal(record.length, rows[i].length);
        assert_int_equal(record.consumed, rows[i].length);
        assert_int_equal(record.terminator, TERM_CONTINUED);
    }
}

/* A record that was flushed up to its end still ends: with an empty piece where nothing follows. */
static void record_flushed_at_its_end_is_ended(void **state)
{
    static const struct {
        enum framing framing;
        const char *rest;
        bool at_end, mid_record;
        int records;
        enum terminator terminator;
    } rows[] = {
        {FRAMING_LINE, "", true, true, 1, TERM_NONE},
        {FRAMING_LINE, "", true, false, 0, TERM_NONE},
        {FRAMING_LINE, "", false, true, 0, TERM_NONE},
        {FRAMING_LINE, "\n", false, true, 1, TERM_LF},
        {FRAMING_LINE, "\r\n", true, true, 1, TERM_CRLF},
        {FRAMING_LINE, "\r", false, true, 0, TERM_NONE},
        {FRAMING_RAW, "", true, true, 1, TERM_NONE},
        {FRAMING_RAW, "", true, false, 0, TERM_NONE},
        {FRAMING_RAW, "", false, true, 0, TERM_NONE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct framing_input in = input(rows[i].rest);
        struct record record = {.length = 99};

        in.at_end = rows[i].at_end;
        in.mid_record = rows[i].mid_record;
        assert_int_equal(framing_ops(rows[i].framing)->next(&in, &record), rows[i].records);
        if (rows[i].records == 0)
            continue;
        assert_int_equal(record.length, 0);
        assert_int_equal(record.consumed, strlen(rows[i].rest));
        assert_int_equal(record.terminator, rows[i].terminator);
    }
}

static void raw_reads_are_records(void **state)
{
    static uint8_t data[STREAM_MAX];

    (void)state;
    for (int i = random_rounds(500); i > 0; i--) {
        struct feeder f = {.framing = FRAMING_RAW, .max_record = MAX_RECORD_LOW + random_below(64)};
        size_t length = random_below(sizeof(data)), reads = 0;

        random_stream(data, length, f.max_record);
        f.data = data;
        while (f.end < length) {
            size_t n = min_size(length - f.end, random_below(f.max_record) + 1);

            assert_true(feeder_feed(&f, n, false));
            assert_int_equal(f.framed, f.end);
            assert_int_equal(f.pieces.count, ++reads);
            assert_int_equal(f.pieces.all[reads - 1].length, n);
            assert_int_equal(f.pieces.all[reads - 1].terminator, TERM_NONE);
        }
        assert_true(feeder_feed(&f, 0, true));
        assert_int_equal(f.pieces.count, reads);
        free(f.pieces.all);
    }
}

/* A reload may make the limit smaller than what has been read. */
static void limits_may_shrink(void **state)
{
    static uint8_t data[300];

    (void)state;
    for (int framing = FRAMING_LINE; framing <= FRAMING_RAW; framing++) {
        struct feeder f = {.framing = (enum framing)framing, .max_record = 64, .data = data};

        memset(data, 'x', sizeof(data));
        f.scanned = framing == FRAMING_LINE ? sizeof(data) : 0; /* with a larger one */
        assert_true(feeder_feed(&f, sizeof(data), false));
        assert_true(feeder_feed(&f, 0, true));
        assert_int_equal(f.pieces.count, 5);
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(f.pieces.all[i].length, 64);
            assert_int_equal(f.pieces.all[i].terminator, TERM_CONTINUED);
        }
        assert_int_equal(f.pieces.all[4].length, 300 - 4 * 64);
        assert_int_equal(f.pieces.all[4].terminator, TERM_NONE);
        free(f.pieces.all);
    }
}

/* What was searched is not searched again: a line end put there later is not found. */
static void no_byte_is_searched_twice(void **state)
{
    uint8_t data[100];
    struct framing_input in = {.data = data, .max_record = 1024};
    struct record record;

    (void)state;
    memset(data, 'x', sizeof(data));
    in.length = 50;
    assert_int_equal(framing_line_next(&in, &record), 0);
    assert_int_equal(in.scanned, 50);
    data[10] = '\n';
    in.length = 99;
    assert_int_equal(framing_line_next(&in, &record), 0);
    assert_int_equal(in.scanned, 99);
    data[99] = '\n';
    in.length = 100;
    assert_int_equal(framing_line_next(&in, &record), 1);
    assert_int_equal(in.scanned, 0);
    assert_int_equal(record.length, 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_become_records),
        cmocka_unit_test(records_about_the_limit),
        cmocka_unit_test(any_cutting_gives_the_same_records),
        cmocka_unit_test(records_survive_flushes),
        cmocka_unit_test(flush_leaves_a_carriage_return),
        cmocka_unit_test(record_flushed_at_its_end_is_ended),
        cmocka_unit_test(raw_reads_are_records),
        cmocka_unit_test(limits_may_shrink),
        cmocka_unit_test(no_byte_is_searched_twice),
    };
    int r;

    random_begin();
    r = cmocka_run_group_tests_name("framing", tests, NULL, NULL);
    free(expected.all);
    return r;
}
