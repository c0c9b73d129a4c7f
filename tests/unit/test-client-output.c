/* SPDX-License-Identifier: MIT */
#include "common/util.h"
#include "netd-client/output.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void durations(void **state)
{
    static const struct {
        uint64_t usec;
        const char *text;
    } rows[] = {
        {0, "0ms"},
        {999, "0ms"},
        {12 * USEC_PER_MSEC, "12ms"},
        {USEC_PER_SEC - 1, "999ms"},
        {USEC_PER_SEC, "1.000s"},
        {1234 * USEC_PER_MSEC, "1.234s"},
        {60 * USEC_PER_SEC - 1, "59.999s"},
        {60 * USEC_PER_SEC, "1min 0s"},
        {3600 * USEC_PER_SEC - 1, "59min 59s"},
        {3600 * USEC_PER_SEC, "1h 0min"},
        {86400 * USEC_PER_SEC - 1, "23h 59min"},
        {86400 * USEC_PER_SEC, "1d 0h"},
        {UINT64_MAX, "213503982d 8h"},
    };
    char text[DURATION_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        output_duration(rows[i].usec, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void counts_and_plurals(void **state)
{
    char text[COUNT_TEXT_MAX];

    (void)state;
    output_count(0, "byte", text);
    assert_string_equal(text, "0 bytes");
    output_count(1, "byte", text);
    assert_string_equal(text, "1 byte");
    output_count(UINT64_MAX, "byte", text);
    assert_string_equal(text, "18446744073709551615 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),
        cmocka_unit_test(counts_and_plurals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
