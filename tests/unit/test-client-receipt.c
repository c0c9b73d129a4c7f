/* SPDX-License-Identifier: MIT */
#include "common/util.h"
#include "netd-client/receipt.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ID   "0123456789abcdef0123456789abcdef"
#define GOOD "netd session=" ID " records=12 bytes=345 end=eof\n"

/* Parses a copy without a NUL, so that the sanitizer detects reads beyond the end. */
static int parse(struct receipt *ret, const char *text, size_t length)
{
    char *copy = malloc(length ? length : 1);
    int r;

    assert_non_null(copy);
    memcpy(copy, text, length);
    r = receipt_parse(ret, copy, length);
    free(copy);
    return r;
}

static void receipts_of_netd(void **state)
{
    static const uint64_t numbers[] = {0, 1, 9, 10, 100000, UINT64_MAX};
    char line[RECEIPT_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        uint64_t records = numbers[i], bytes = numbers[ARRAY_SIZE(numbers) - 1 - i];
        int n = snprintf(line, sizeof(line), RECEIPT_FORMAT, ID, records, bytes, "shutdown");
        struct receipt receipt;

        assert_int_equal(parse(&receipt, line, (size_t)n), 0);
        assert_int_equal(receipt.kind, RECEIPT_LOGGED);
        assert_string_equal(receipt.session, ID);
        assert_true(receipt.records == records && receipt.bytes == bytes);
        assert_string_equal(receipt.reason, "shutdown");
    }
}

static void refusals_of_netd(void **state)
{
    char line[RECEIPT_MAX];
    int n = snprintf(line, sizeof(line), REFUSAL_FORMAT, "address-limit");
    struct receipt receipt;

    (void)state;
    assert_int_equal(parse(&receipt, line, (size_t)n), 0);
    assert_int_equal(receipt.kind, RECEIPT_REFUSED);
    assert_string_equal(receipt.reason, "address-limit");
}

static void invalid_lines(void **state)
{
    static const char *const bad[] = {
        "",
        "\n",
        "netd ",
        "netd error=\n",
        "netd error=x",
        "netd error=x\n\n",
        "netd error=x y\n",
        "netd error=X\n",
        "netd error=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
        "netd session=" ID "\n",
        "netd session=" ID "0 records=1 bytes=2 end=eof\n",
        "netd session=0123 records=1 bytes=2 end=eof\n",
        "netd session=0123456789ABCDEF0123456789ABCDEF records=1 bytes=2 end=eof\n",
        "netd session=" ID " records= bytes=2 end=eof\n",
        "netd session=" ID " records=-1 bytes=2 end=eof\n",
        "netd session=" ID " records=1 bytes=+2 end=eof\n",
        "netd session=" ID " records=01 bytes=2 end=eof\n",
        "netd session=" ID " records=1 bytes=18446744073709551616 end=eof\n",
        "netd session=" ID " records=1 bytes=2 end=\n",
        "netd session=" ID " records=1 bytes=2\n",
        "netd session=" ID "  records=1 bytes=2 end=eof\n",
        "netd session=" ID " bytes=2 records=1 end=eof\n",
        " " GOOD,
        GOOD "\n",
        GOOD GOOD,
    };
    struct receipt receipt = {.records = 77};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse(&receipt, bad[i], strlen(bad[i])), -EBADMSG);
    assert_int_equal(receipt.records, 77);
}

static void truncated_receipts(void **state)
{
    struct receipt receipt;

    (void)state;
    for (size_t n = 0; n < strlen(GOOD); n++)
        assert_int_equal(parse(&receipt, GOOD, n), -EBADMSG);
    assert_int_equal(parse(&receipt, GOOD, strlen(GOOD)), 0);
}

static void receipts_with_a_wrong_byte(void **state)
{
    static const char foreign[] = {'\0', '\n', 'X', '\x7f', '\xff'};
    char line[] = GOOD;
    size_t length = strlen(line);
    struct receipt receipt;

    (void)state;
    for (size_t i = 0; i < length - 1; i++)
        for (size_t j = 0; j < sizeof(foreign); j++) {
            line[i] = foreign[j];
            assert_int_equal(parse(&receipt, line, length), -EBADMSG);
            line[i] = GOOD[i];
        }
}

static void long_answers(void **state)
{
    char line[RECEIPT_MAX + 1];
    struct receipt receipt;

    (void)state;
    memset(line, 'a', sizeof(line));
    for (size_t n = 0; n <= sizeof(line); n++)
        assert_int_equal(parse(&receipt, line, n), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(receipts_of_netd),
        cmocka_unit_test(refusals_of_netd),
        cmocka_unit_test(invalid_lines),
        cmocka_unit_test(truncated_receipts),
        cmocka_unit_test(receipts_with_a_wrong_byte),
        cmocka_unit_test(long_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
