/* SPDX-License-Identifier: MIT */
#include "netd/protocol/detect.h"

#include "common/util.h"

#include "random.h"

#include <limits.h>
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
        ROW("01 open 1 x\n", 0, DETECTED_NOTHING),
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

static void each_has_its_advice(void **state)
{
    static const struct {
        enum detected detected;
        const char *advice;
        unsigned framings; /* a bit for each that it is for */
    } rows[] = {
        {DETECTED_TLS, "a listener with tls", UINT_MAX},
        {DETECTED_PROXY, "a listener with proxy = true", UINT_MAX},
        {DETECTED_RELP, "set framing = \"relp\"", ~(1U << FRAMING_RELP)},
        {DETECTED_OCTET, "set format = \"syslog\" or framing = \"octet\"", 1U << FRAMING_LINE},
        {DETECTED_NUL, "set framing = \"nul\"", 1U << FRAMING_LINE | 1U << FRAMING_OCTET},
    };

    (void)state;
    for (int framing = 0; framing < FRAMINGS; framing++) {
        assert_null(detect_advice(DETECTED_NOTHING, (enum framing)framing));
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
            const char *advice = detect_advice(rows[i].detected, (enum framing)framing);

            if (rows[i].framings >> framing & 1)
                assert_non_null(strstr(advice, rows[i].advice));
            else
                assert_null(advice);
        }
    }
}

/* What is examined is bounded. */
static void only_the_beginning_is_examined(void **state)
{
    static char data[65536] = "<14>";

    (void)state;
    memset(data + 4, 'x', sizeof(data) - 4);
    data[2000] = '\0';
    assert_int_equal(detect_copy(data, sizeof(data)), DETECTED_NUL);
    data[2000] = 'x';
    data[60000] = '\0';
    assert_int_equal(detect_copy(data, sizeof(data)), DETECTED_NOTHING);
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
        cmocka_unit_test(beginnings_are_told),    cmocka_unit_test(nothing_is_told_of_others),
        cmocka_unit_test(each_has_its_advice),    cmocka_unit_test(only_the_beginning_is_examined),
        cmocka_unit_test(any_bytes_are_survived),
    };

    random_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
