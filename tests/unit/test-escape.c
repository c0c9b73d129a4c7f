/* SPDX-License-Identifier: MIT */
#include "common/escape.h"
#include "random.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct row {
    const char *text, *expected;
};

static void check_rows(const struct row *rows, size_t count)
{
    char safe[256];

    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(rows[i].text),
               n = escape_copy(safe, sizeof(safe), rows[i].text, length);

        assert_string_equal(safe, rows[i].expected);
        assert_int_equal(n, strlen(safe));
    }
}

static void ascii(void **state)
{
    static const struct row rows[] = {
        {"", ""},
        {"plain text ~!", "plain text ~!"},
        {"a\tb", "a\\x09b"},
        {"a\nb\r", "a\\x0ab\\x0d"},
        {"\033[31m", "\\x1b[31m"},
        {"\177\001", "\\x7f\\x01"},
        {"\\x1b", "\\x1b"},
    };

    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    check_rows(rows, ARRAY_SIZE(rows));
    assert_non_null(setlocale(LC_CTYPE, "C"));
    check_rows(rows, ARRAY_SIZE(rows));
}

static void utf8(void **state)
{
    static const struct row rows[] = {
        {"gr\u00fc\u00df \u65e5\u672c \U0001f600", "gr\u00fc\u00df \u65e5\u672c \U0001f600"},
        {"\xc2\x85\xc2\x9b", "\\xc2\\x85\\xc2\\x9b"},       /* C1 */
        {"\u202e\u2066", "\\xe2\\x80\\xae\\xe2\\x81\\xa6"}, /* bidirectional overrides */
        {"\u2028", "\\xe2\\x80\\xa8"},                      /* line separator */
        {"\xff\xc3", "\\xff\\xc3"},                         /* invalid and truncated */
        {"\xc0\xaf", "\\xc0\\xaf"},                         /* overlong */
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},                /* surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},       /* beyond Unicode */
        {"a\xc3(", "a\\xc3("},
    };

    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    check_rows(rows, ARRAY_SIZE(rows));
}

static void c_locale(void **state)
{
    static const struct row rows[] = {
        {"gr\u00fc\u00df", "gr\\xc3\\xbc\\xc3\\x9f"},
        {"\x9b", "\\x9b"},
    };

    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C"));
    check_rows(rows, ARRAY_SIZE(rows));
}

static void truncation(void **state)
{
    static const struct {
        size_t size;
        const char *text, *expected;
    } rows[] = {
        {8, "12345678", "1234567"}, {8, "123\n", "123\\x0a"}, {8, "1234\n", "1234"},
        {3, "\u65e5", ""},          {4, "\u65e5", "\u65e5"},  {1, "1", ""},
    };
    char text[8];

    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        size_t n = escape_copy(text, rows[i].size, rows[i].text, strlen(rows[i].text));

        assert_string_equal(text, rows[i].expected);
        assert_int_equal(n, strlen(text));
    }
}

/* escape_write() is equivalent to escape_copy() except for TAB. */
static void streams(void **state)
{
    uint8_t bytes[4000]; /* more than the internal buffer */
    char expected[ESCAPE_LENGTH * sizeof(bytes) + 1];

    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    random_begin();
    for (int round = random_rounds(100); round > 0; round--) {
        size_t length = random_below(sizeof(bytes)), n;
        char *written = NULL;
        FILE *stream = open_memstream(&written, &n);

        assert_non_null(stream);
        for (size_t i = 0; i < length; i++) {
            do
                bytes[i] = (uint8_t)random_below(random_below(4) ? 128 : 256);
            while (bytes[i] == '\t');
        }
        escape_copy(expected, sizeof(expected), bytes, length);
        escape_write(stream, bytes, length);
        fclose(stream);
        assert_string_equal(written, expected);
        for (size_t i = 0; i < n; i++)
            assert_false((uint8_t)written[i] < 0x20);
        free(written);
    }
}

static void tabs_in_streams(void **state)
{
    char *written = NULL;
    size_t n;
    FILE *stream = open_memstream(&written, &n);

    (void)state;
    assert_non_null(stream);
    escape_write(stream, "\ta\n\t", 4);
    fclose(stream);
    assert_string_equal(written, "\ta\\x0a\t");
    free(written);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ascii),      cmocka_unit_test(utf8),    cmocka_unit_test(c_locale),
        cmocka_unit_test(truncation), cmocka_unit_test(streams), cmocka_unit_test(tabs_in_streams),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
