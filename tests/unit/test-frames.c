/* SPDX-License-Identifier: MIT */
/* The framings "nul" and "octet". */
#include "netd/protocol/framing.h"

#include "common/util.h"

#include "frames.h"
#include "random.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct frames expected, got;

static void check_got(bool flushed)
{
    assert_true(got.good);
    assert_true(frames_give_stream(&got));
    if (flushed) {
        frames_join(&got);
        frames_join(&expected);
    }
    assert_true(frames_equal(&got, &expected));
}

/* In pieces of STEP bytes, the end with the last or after it. */
static void check_steps(enum framing framing, size_t max, const uint8_t *data, size_t length,
                        size_t step, bool end_with_last)
{
    frames_expect(&expected, framing, max, data, length);
    frames_begin(&got, framing, max, data);
    while (got.end < length) {
        size_t n = min_size(step, length - got.end);

        frames_feed(&got, n, end_with_last && got.end + n == length);
    }
    frames_feed(&got, 0, true);
    check_got(false);
}

/* In two, FLUSH the first part where it is unfinished. */
static void check_split(enum framing framing, size_t max, const uint8_t *data, size_t length,
                        size_t split, bool flush)
{
    frames_expect(&expected, framing, max, data, length);
    frames_begin(&got, framing, max, data);
    frames_feed(&got, split, false);
    if (flush)
        frames_flush(&got);
    frames_feed(&got, length - split, true);
    check_got(flush);
}

static void check_cuttings(enum framing framing, size_t max, const uint8_t *data, size_t length)
{
    check_steps(framing, max, data, length, 1, false);
    check_steps(framing, max, data, length, 1, true);
    check_steps(framing, max, data, length, length > 0 ? length : 1, true);
    for (size_t i = 0; i <= length; i++) {
        check_split(framing, max, data, length, i, false);
        check_split(framing, max, data, length, i, true);
    }
}

struct row {
    const char *text;
    size_t length;
    struct {
        const char *record;
        enum terminator terminator;
        uint32_t announced;
    } records[6];
};

static void check_rows(enum framing framing, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *text = (const uint8_t *)rows[i].text;
        size_t k;

        check_steps(framing, 64, text, rows[i].length, rows[i].length + 1, true);
        for (k = 0; k < 6 && rows[i].records[k].record; k++) {
            assert_true(k < got.count);
            assert_int_equal(got.all[k].length, strlen(rows[i].records[k].record));
            assert_memory_equal(text + got.all[k].start, rows[i].records[k].record,
                                got.all[k].length);
            assert_int_equal(got.all[k].terminator, rows[i].records[k].terminator);
            assert_int_equal(got.all[k].announced, rows[i].records[k].announced);
        }
        assert_int_equal(got.count, k);
        check_cuttings(framing, 64, text, rows[i].length);
    }
}

#define ROW(text, ...)          \
    {                           \
        text, sizeof(text) - 1, \
        {                       \
            __VA_ARGS__         \
        }                       \
    }

static void nul_ends_a_record(void **state)
{
    static const struct row rows[] = {
        ROW("", {NULL, 0, 0}),
        ROW("\0", {"", TERM_NUL, 0}),
        ROW("a", {"a", TERM_NONE, 0}),
        ROW("a\0", {"a", TERM_NUL, 0}),
        ROW("\0\0b", {"", TERM_NUL, 0}, {"", TERM_NUL, 0}, {"b", TERM_NONE, 0}),
        ROW("one\ntwo\r\n\0three\r\0", {"one\ntwo\r\n", TERM_NUL, 0}, {"three\r", TERM_NUL, 0}),
        ROW("<14>hello\0<14>world\0", {"<14>hello", TERM_NUL, 0}, {"<14>world", TERM_NUL, 0}),
    };

    (void)state;
    check_rows(FRAMING_NUL, rows, ARRAY_SIZE(rows));
}

static void frames_and_lines_are_told_apart(void **state)
{
    static const struct row rows[] = {
        ROW("", {NULL, 0, 0}),
        ROW("5 hello", {"hello", TERM_OCTET, 0}),
        ROW("5 hello6 world!", {"hello", TERM_OCTET, 0}, {"world!", TERM_OCTET, 0}),
        ROW("6 hello\n6 world\n", {"hello\n", TERM_OCTET, 0}, {"world\n", TERM_OCTET, 0}),
        ROW("5 hello\n1 x", {"hello", TERM_OCTET, 0}, {"", TERM_LF, 0}, {"x", TERM_OCTET, 0}),
        ROW("10 0123456789", {"0123456789", TERM_OCTET, 0}),
        ROW("1 \n", {"\n", TERM_OCTET, 0}),
        ROW("2 \r\n3 4 5", {"\r\n", TERM_OCTET, 0}, {"4 5", TERM_OCTET, 0}),
        /* Cut short by the end of the stream. */
        ROW("5 hell", {"hell", TERM_NONE, 5}),
        ROW("5 ", {"", TERM_NONE, 5}),
        ROW("1 x5 ", {"x", TERM_OCTET, 0}, {"", TERM_NONE, 5}),
        ROW("999999999 x", {"x", TERM_NONE, 999999999}),
        /* Lines. */
        ROW("5", {"5", TERM_NONE, 0}),
        ROW("5\n", {"5", TERM_LF, 0}),
        ROW("123456789", {"123456789", TERM_NONE, 0}),
        ROW("1234567890", {"1234567890", TERM_NONE, 0}),
        ROW("1234567890 x\n", {"1234567890 x", TERM_LF, 0}),
        ROW("0 \n", {"0 ", TERM_LF, 0}),
        ROW("0 x", {"0 x", TERM_NONE, 0}),
        ROW("01 x\r\n", {"01 x", TERM_CRLF, 0}),
        ROW("5hello\n", {"5hello", TERM_LF, 0}),
        ROW(" 5 hello\n", {" 5 hello", TERM_LF, 0}),
        ROW("5\thello\n", {"5\thello", TERM_LF, 0}),
        ROW("5\r\n", {"5", TERM_CRLF, 0}),
        ROW("-5 hello\n", {"-5 hello", TERM_LF, 0}),
        /* As real senders mix them. */
        ROW("<13>one\n5 <0>x\n<13>two\n", {"<13>one", TERM_LF, 0}, {"<0>x\n", TERM_OCTET, 0},
            {"<13>two", TERM_LF, 0}),
        ROW("one\r\n3 two4 four\n5", {"one", TERM_CRLF, 0}, {"two", TERM_OCTET, 0},
            {"four", TERM_OCTET, 0}, {"", TERM_LF, 0}, {"5", TERM_NONE, 0}),
    };

    (void)state;
    check_rows(FRAMING_OCTET, rows, ARRAY_SIZE(rows));
}

/* Frames about as long as the limit or a multiple, whole and cut short, something behind them. */
static void records_about_the_limit(void **state)
{
    static uint8_t data[1024];
    enum { MAX = 64 };

    (void)state;
    for (size_t length = MAX - 2; length <= 3 * MAX + 2; length++) {
        size_t head, total;

        if (length % MAX == 3)
            length += MAX - 5;
        memset(data, 'x', sizeof(data));
        head = (size_t)sprintf((char *)data, "%zu ", length);
        data[head] = '\n';
        total = head + length;
        memcpy(data + total, "next\n", 5);
        check_cuttings(FRAMING_OCTET, MAX, data, total + 5);
        check_cuttings(FRAMING_OCTET, MAX, data, total);
        check_cuttings(FRAMING_OCTET, MAX, data, total - 1);
        check_cuttings(FRAMING_OCTET, MAX, data, head + MAX);
        check_cuttings(FRAMING_OCTET, MAX, data, head + 2 * MAX < total ? head + 2 * MAX : total);

        memset(data, 'x', sizeof(data));
        data[length] = '\0';
        data[length + 3] = '\0';
        check_cuttings(FRAMING_NUL, MAX, data, length);
        check_cuttings(FRAMING_NUL, MAX, data, length + 1);
        check_cuttings(FRAMING_NUL, MAX, data, length + 5);
    }
}

/* Where a frame's bytes are cut, the next ones are not looked at for a head or a line's end. */
static void a_frame_goes_on_behind_a_piece(void **state)
{
    static const char text[] = "20 0123456789\n5 xx\0\n5 x\r\n5 hello";

    (void)state;
    check_cuttings(FRAMING_OCTET, 64, (const uint8_t *)text, sizeof(text) - 1);
    frames_begin(&got, FRAMING_OCTET, 64, (const uint8_t *)text);
    frames_feed(&got, 13, false);
    frames_flush(&got);
    assert_int_equal(got.count, 1);
    assert_int_equal(got.all[0].length, 10);
    assert_int_equal(got.all[0].terminator, TERM_CONTINUED);
    assert_int_equal(got.all[0].announced, 20);
    assert_int_equal(got.left, 10);
    frames_feed(&got, 4, false);
    frames_flush(&got);
    assert_int_equal(got.all[1].terminator, TERM_CONTINUED);
    assert_int_equal(got.all[1].announced, 0);
    assert_int_equal(got.left, 6);
    frames_feed(&got, 6, false);
    assert_int_equal(got.count, 3);
    assert_int_equal(got.all[2].terminator, TERM_OCTET);
    assert_int_equal(got.left, 0);
}

/* A head, or what may become one, stays where it is until it is known what it begins. */
static void a_head_is_not_flushed(void **state)
{
    static const char *const heads[] = {"", "1", "123456789", "5 ", "123456789 "};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
        frames_begin(&got, FRAMING_OCTET, 64, (const uint8_t *)heads[i]);
        frames_feed(&got, strlen(heads[i]), false);
        frames_flush(&got);
        assert_true(got.good);
        assert_int_equal(got.count, 0);
    }
    frames_begin(&got, FRAMING_OCTET, 64, (const uint8_t *)"1234567890");
    frames_feed(&got, 10, false);
    frames_flush(&got);
    assert_int_equal(got.count, 1);
    assert_int_equal(got.left, 0);
}

static void any_cutting_gives_the_stream_back(void **state)
{
    static uint8_t data[4096];

    (void)state;
    for (int i = random_rounds(2000); i > 0; i--) {
        enum framing framing = random_below(3) ? FRAMING_OCTET : FRAMING_NUL;
        size_t max = MAX_RECORD_LOW + random_below(random_below(2) ? 4 : 300);
        size_t length = random_below(sizeof(data));
        bool flushes = random_below(2), flushed = false;

        random_frames(data, length, max);
        frames_expect(&expected, framing, max, data, length);
        frames_begin(&got, framing, max, data);
        while (got.end < length) {
            frames_feed(&got, min_size(random_below(max) + 1, length - got.end), false);
            if (flushes && random_below(3) == 0) {
                frames_flush(&got);
                flushed = true;
            }
        }
        frames_feed(&got, 0, true);
        check_got(flushed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nul_ends_a_record),
        cmocka_unit_test(frames_and_lines_are_told_apart),
        cmocka_unit_test(records_about_the_limit),
        cmocka_unit_test(a_frame_goes_on_behind_a_piece),
        cmocka_unit_test(a_head_is_not_flushed),
        cmocka_unit_test(any_cutting_gives_the_stream_back),
    };

    random_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
