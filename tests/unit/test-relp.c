/* SPDX-License-Identifier: MIT */
/* The framing "relp", and the text of responses. */
#include "netd/protocol/relp.h"

#include "common/util.h"

#include "random.h"
#include "relp.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define OPEN "1 open 14 relp_version=0\n"

static struct relp_run expected, got;

/* In pieces of STEP bytes, with a flush behind each where FLUSH says so, the end with the last. */
static void check(size_t max, uint64_t first, const void *data, size_t length, size_t step,
                  bool flush)
{
    relp_expect(&expected, max, first, data, length);
    relp_begin(&got, max, first, data);
    while (got.end < length && got.result == FRAMING_MORE) {
        relp_feed(&got, min_size(step, length - got.end), false);
        if (flush)
            relp_flush(&got);
    }
    relp_feed(&got, 0, true);
    assert_true(got.good);
    if (flush) {
        relp_join(&got);
        relp_join(&expected);
    }
    assert_true(relp_equal(&got, &expected));
}

static void check_cuttings(size_t max, uint64_t first, const char *data, size_t length)
{
    for (size_t step = 1; step <= length && step < 8; step++)
        check(max, first, data, length, step, false);
    check(max, first, data, length, 1, true);
    check(max, first, data, length, 5, true);
    check(max, first, data, length, length + 1, false);
}

static void sessions_have_records(void **state)
{
    static const char text[] = OPEN "2 syslog 5 hello\n3 syslog 0\n4 syslog 3 a\nb\n5 close 0\n";

    (void)state;
    check_cuttings(64, 0, text, sizeof(text) - 1);
    assert_int_equal(got.result, FRAMING_CLOSED);
    assert_int_equal(got.count, 3);
    assert_memory_equal(text + got.all[0].start, "hello", 5);
    assert_int_equal(got.all[1].length, 0);
    assert_memory_equal(text + got.all[2].start, "a\nb", 3);
    assert_int_equal(got.all[2].terminator, TERM_RELP);
    assert_int_equal(got.all[2].announced, 0);
}

static void long_records_come_in_pieces(void **state)
{
    char text[1024], *end = text + sprintf(text, OPEN "2 syslog 200 ");

    (void)state;
    memset(end, 'x', 200);
    strcpy(end + 200, "\n3 syslog 64 ");
    memset(end + 213, 'y', 64);
    strcpy(end + 277, "\n");
    check_cuttings(64, 0, text, strlen(text));
    check(64, 0, text, strlen(text), 1000, false);
    assert_int_equal(got.count, 5);
    assert_int_equal(got.all[0].announced, 200);
    assert_int_equal(got.all[0].terminator, TERM_CONTINUED);
    assert_int_equal(got.all[3].length, 8);
    assert_int_equal(got.all[3].terminator, TERM_RELP);
    assert_int_equal(got.all[4].length, 64);
    /* Cut short anywhere. */
    for (size_t n = 0; n < strlen(text); n++)
        check(64, 0, text, n, 7, n % 2);
}

static void what_was_cut_short_is_marked(void **state)
{
    static const char text[] = OPEN "2 syslog 5 hel";

    (void)state;
    check_cuttings(64, 0, text, sizeof(text) - 1);
    check(64, 0, text, sizeof(text) - 1, 1000, false);
    assert_int_equal(got.count, 1);
    assert_int_equal(got.all[0].terminator, TERM_NONE);
    assert_int_equal(got.all[0].announced, 5);
    assert_int_equal(got.left, 3); /* 2 bytes and the LF */
}

static void numbers_wrap(void **state)
{
    static const char text[] = "999999999 syslog 1 a\n1 syslog 1 b\n2 syslog 1 c\n3 close 0\n";
    static const char wrong[] = "999999999 syslog 1 a\n0 syslog 1 b\n";
    static const struct {
        uint64_t number;
        uint32_t txnr;
    } rows[] = {
        {0, 1},          {1, 2}, {999999998, 999999999}, {999999999, 1}, {1999999997, 999999999},
        {1999999998, 1},
    };

    (void)state;
    check_cuttings(64, 999999997, text, sizeof(text) - 1);
    assert_int_equal(got.count, 3);
    assert_int_equal(got.result, FRAMING_CLOSED);
    check_cuttings(64, 999999997, wrong, sizeof(wrong) - 1);
    assert_int_equal(got.result, -EPROTO);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(relp_txnr(rows[i].number), rows[i].txnr);
}

static void other_bytes_are_errors(void **state)
{
    static const struct {
        uint64_t first;
        const char *text;
        int result;
    } rows[] = {
        {0, "GET / HTTP/1.0\r\n", -EPROTO},
        {0, "\n", -EPROTO},
        {0, " 1 open 0\n", -EPROTO},
        {0, "2 open 0\n", -EPROTO},
        {0, "0 open 0\n", -EPROTO},
        {0, "1 syslog 1 a\n", -EPROTO}, /* not opened */
        {0, "1 close 0\n", -EPROTO},
        {0, "1 open 3000 ", -EPROTO},
        {0, "1 open 0 \n", -EPROTO},
        {0, "1 open\n", -EPROTO},
        {0, "1 open x\n", -EPROTO},
        {0, "1 open 1\n", -EPROTO},
        {0, "1 open 1 ab", -EPROTO},
        {0, "1  open 0\n", -EPROTO},
        {0, "1 opem", -EPROTO},
        {0, "0000000001 open 0\n", -EPROTO},
        {0, "1 open 0000000000\n", -EPROTO},
        {0, "000000001 open 000000000\n", FRAMING_MORE},
        {0, "1 ope", FRAMING_MORE},
        {0, "1 open 0\n1 open 0\n", -EPROTO},
        {0, "1 open 0\n2 open 0\n", -EPROTO},
        {0, "1 open 0\n3 syslog 1 a\n", -EPROTO}, /* a gap */
        {0, "1 open 0\n2 rsp 6 200 OK\n", -EPROTO},
        {0, "1 open 0\n2 serverclose 0\n", -EPROTO},
        {1, "3 syslog 1 a\n3 syslog 1 b\n", -EPROTO},
        {1, "3 syslog 1 ab\n", -EPROTO},
        {1, "3 syslog -1 a\n", -EPROTO},
        {1, "3 syslogx 1 a\n", -EPROTO},
        {1, "3 close 5 abcdeX", -EPROTO},
        {1, "3 close 5 abcde\nmore", FRAMING_CLOSED},
        {1, "3 close 2049 ", -EPROTO},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        check_cuttings(64, rows[i].first, rows[i].text, strlen(rows[i].text));
        assert_int_equal(got.result, rows[i].result);
    }
}

/* Streams out of pieces that matter, one of them wrong now and then. */
static void any_stream(void **state)
{
    static const char *const parts[] = {" syslog ", "1 open 0\n", OPEN,    " close 0\n", "\n", " ",
                                        "5 ",       "x",          "12345", "99999999",   "0"};
    char text[2048];

    (void)state;
    for (int i = 0, n = random_rounds(20000); i < n; i++) {
        size_t length = 0, frames = random_below(6);
        uint64_t first = random_below(3) == 0 ? 999999990 + random_below(10) : random_below(2);
        uint64_t number = first + 1;

        if (first == 0)
            length = (size_t)sprintf(text, OPEN);
        for (size_t k = 0; k < frames; k++, number++) {
            size_t data = random_below(k == 1 ? 200 : 6);

            length += (size_t)sprintf(text + length, "%u syslog %zu%s", relp_txnr(number), data,
                                      data > 0 ? " " : "");
            for (size_t b = 0; b < data; b++)
                text[length++] = "a\n1 x"[random_below(5)];
            text[length++] = '\n';
        }
        if (random_below(2) == 0)
            length += (size_t)sprintf(text + length, "%u close 0\n", relp_txnr(number));
        if (random_below(4) == 0 && length > 0) {
            const char *part = parts[random_below(ARRAY_SIZE(parts))];
            size_t at = random_below(length);

            memcpy(text + at, part, min_size(strlen(part), length - at));
        }
        check(64 + random_below(8), first, text, length, 1 + random_below(length + 1),
              random_below(2));
    }
}

static void responses_are_text(void **state)
{
    char text[RELP_RESPONSE_MAX + 1];

    (void)state;
    text[relp_put_opened(text, "0123456789abcdef0123456789abcdef")] = '\0';
    assert_string_equal(text, "1 rsp 102 200 OK\nrelp_version=0\nrelp_software=netd\n"
                              "commands=syslog\nnetd_session=0123456789abcdef0123456789abcdef\n");
    assert_int_equal(strlen(strstr(text, "200")), 102 + 1);
    text[relp_put_logged(text, 1)] = '\0';
    assert_string_equal(text, "2 rsp 6 200 OK\n");
    text[relp_put_logged(text, 999999999)] = '\0';
    assert_string_equal(text, "1 rsp 6 200 OK\n");
    text[relp_put_closed(text, 999999998)] = '\0';
    assert_string_equal(text, "999999999 rsp 0\n");
    assert_true(relp_put_logged(text, UINT64_MAX) <= RELP_RESPONSE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_have_records),
        cmocka_unit_test(long_records_come_in_pieces),
        cmocka_unit_test(what_was_cut_short_is_marked),
        cmocka_unit_test(numbers_wrap),
        cmocka_unit_test(other_bytes_are_errors),
        cmocka_unit_test(any_stream),
        cmocka_unit_test(responses_are_text),
    };

    random_begin();
    return cmocka_run_group_tests_name("relp", tests, NULL, NULL);
}
