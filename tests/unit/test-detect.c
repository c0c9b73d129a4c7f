/* SPDX-License-Identifier: MIT */
#include "netd/protocol/detect.h"

#include "common/util.h"

#include "random.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A copy that ends where the bytes end, so that a sanitizer notices a look behind them. */
static enum detected detect_copy(const void *data, size_t length)
{
    uint8_t *copy = malloc(length > 0 ? length : 1);
    enum detected detected;

    assert_non_null(copy);
    memcpy(copy, data, length);
    detected = detect_beginning(copy, length);
    free(copy);
    return detected;
}

struct row {
    const char *data;
    size_t length;
    size_t told; /* with how many bytes */
    enum detected detected;
};

#define ROW(text, told, detected)              \
    {                                          \
        text, sizeof(text) - 1, told, detected \
    }

static void beginnings_are_told(void **state)
{
    static const struct row rows[] = {
        ROW("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 6, DETECTED_TLS),
        ROW("\x16\x03\x03\x00\x2f\x01", 6, DETECTED_TLS),
        ROW("\x16\x03\x00\x00\x2f\x01", 6, DETECTED_TLS),
        ROW("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 9, DETECTED_PROXY),
        ROW("PROXY TCP6 ::1 ::1 1 2\r\n", 9, DETECTED_PROXY),
        ROW("PROXY UNKNOWN\r\n", 13, DETECTED_PROXY),
        ROW("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 12, DETECTED_PROXY),
        ROW("1 open 85 relp_version=0\n", 7, DETECTED_RELP),
        ROW("999999999 open 85 relp_version=0\n", 15, DETECTED_RELP),
        ROW("45 <13>1 2024-01-01T00:00:00Z host app - - - hi", 7, DETECTED_OCTET),
        ROW("7 <0>abc", 5, DETECTED_OCTET),
        ROW("123456789 <191>", 15, DETECTED_OCTET),
        ROW("<14>hello\0<14>world\0", 10, DETECTED_NUL),
        ROW("<0>\0", 4, DETECTED_NUL),
        ROW("<191>\xef\xbb\xbfhello\0\n", 14, DETECTED_NUL),
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        for (size_t n = 0; n <= rows[i].length; n++)
            assert_int_equal(detect_copy(rows[i].data, n),
                             n < rows[i].told ? DETECTED_NOTHING : rows[i].detected);
}

static void nothing_is_told_of_others(void **state)
{
    static const struct row rows[] = {
        ROW("", 0, DETECTED_NOTHING),
        ROW("hello\n", 0, DETECTED_NOTHING),
        ROW("GET / HTTP/1.1\r\n\r\n", 0, DETECTED_NOTHING),
        ROW("<14>hello\n", 0, DETECTED_NOTHING),
        ROW("<14>one\n<14>two\0", 0, DETECTED_NOTHING),
        ROW("hello\0", 0, DETECTED_NOTHING),
        ROW("\0", 0, DETECTED_NOTHING),
        ROW("<>x\0", 0, DETECTED_NOTHING),
        ROW("<1234>x\0", 0, DETECTED_NOTHING),
        ROW("<14 x\0", 0, DETECTED_NOTHING),
        ROW("<x>\0", 0, DETECTED_NOTHING),
        ROW("5 hello", 0, DETECTED_NOTHING),
        ROW("05 <14>hello", 0, DETECTED_NOTHING),
        ROW("0 <14>hello", 0, DETECTED_NOTHING),
        ROW("1234567890 <14>hello", 0, DETECTED_NOTHING),
        ROW("5  <14>hello", 0, DETECTED_NOTHING),
        ROW(" 5 <14>hello", 0, DETECTED_NOTHING),
        ROW("5x<14>hello", 0, DETECTED_NOTHING),
        ROW("5<14>hello", 0, DETECTED_NOTHING),
        ROW("1 opened 2 files\n", 0, DETECTED_NOTHING),
        ROW("1234567890 open 1 x\n", 0, DETECTED_NOTHING),
        ROW("PROXY settings\n", 0, DETECTED_NOTHING),
        ROW("\r\n\r\n\r\n\r\nQUIT\n", 0, DETECTED_NOTHING),
        ROW("\x16\x03\x01\x02\x00\x02", 0, DETECTED_NOTHING), /* a ServerHello */
        ROW("\x17\x03\x01\x02\x00\x01", 0, DETECTED_NOTHING),
        ROW("\x16\x04\x01\x02\x00\x01", 0, DETECTED_NOTHING),
        ROW("\x16\x03\x05\x02\x00\x01", 0, DETECTED_NOTHING),
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(detect_copy(rows[i].data, rows[i].length), DETECTED_NOTHING);
}

static void each_has_its_key(void **state)
{
    static const struct {
        enum detected detected;
        const char *key;
    } rows[] = {
        {DETECTED_TLS, "set tls"},
        {DETECTED_PROXY, "set proxy = true"},
        {DETECTED_RELP, "set framing = \"relp\""},
        {DETECTED_OCTET, "set framing = \"octet\""},
        {DETECTED_NUL, "set framing = \"nul\""},
    };

    (void)state;
    assert_null(detect_advice(DETECTED_NOTHING));
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_non_null(strstr(detect_advice(rows[i].detected), rows[i].key));
}

static void any_bytes_are_survived(void **state)
{
    static const char start[] = "123 <14>\0 open \x16\x03\x01PROXY";
    uint8_t data[64];

    (void)state;
    for (int i = random_rounds(20000); i > 0; i--) {
        size_t length = random_below(sizeof(data)), at = random_below(sizeof(start));

        random_stream(data, length, 16);
        memcpy(data, start + at, min_size(length, sizeof(start) - at));
        assert_in_range(detect_copy(data, length), DETECTED_NOTHING, DETECTED_NUL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beginnings_are_told),
        cmocka_unit_test(nothing_is_told_of_others),
        cmocka_unit_test(each_has_its_key),
        cmocka_unit_test(any_bytes_are_survived),
    };

    random_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
