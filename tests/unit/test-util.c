/* SPDX-License-Identifier: MIT */
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void numbers_have_only_digits(void **state)
{
    static const char *const bad[] = {"",    " 1",  "1 ", "+1", "-1",  "0x1", "1x", "x",
                                      "1.0", "1e1", "01", "00", "\n1", "1\n", "1,", "\xd9\xa1"};
    uint64_t value = 77;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(parse_u64(bad[i], UINT64_MAX, &value), -EINVAL);
        assert_int_equal(value, 77);
    }
}

static void numbers_have_a_maximum(void **state)
{
    static const struct {
        const char *text;
        uint64_t max;
        int result;
        uint64_t value;
    } rows[] = {
        {"0", 0, 0, 0},
        {"1", 0, -ERANGE, 0},
        {"7", 7, 0, 7},
        {"8", 7, -ERANGE, 0},
        {"65535", 65535, 0, 65535},
        {"65536", 65535, -ERANGE, 0},
        {"65540", 65535, -ERANGE, 0},
        {"99999999999999999999", 65535, -ERANGE, 0},
        {"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, -ERANGE, 0},
        {"18446744073709551615", UINT64_MAX - 1, -ERANGE, 0},
        {"99999999999999999999999999999999999999999", UINT64_MAX, -ERANGE, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        uint64_t value = 0;

        assert_int_equal(parse_u64(rows[i].text, rows[i].max, &value), rows[i].result);
        assert_true(value == rows[i].value);
    }
}

static void ids_are_32_hex_digits(void **state)
{
    static const uint8_t id[16] = {0x00, 0x01, 0x0a, 0x10, 0x7f, 0x80, 0xa0, 0xff,
                                   0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0};
    char text[SESSION_ID_HEX + 1];

    (void)state;
    hex_id(id, text);
    assert_string_equal(text, "00010a107f80a0ff123456789abcdef0");
}

static void cleanup_clears(void **state)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int closed = fd;
    void *memory = malloc(1);

    (void)state;
    assert_true(fd >= 0);
    errno = ENOTTY;
    close_fd(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(fcntl(closed, F_GETFD), -1);
    errno = ENOTTY;
    close_fd(&fd);
    assert_int_equal(errno, ENOTTY);
    free_pointer(&memory);
    assert_null(memory);
    free_pointer(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_only_digits),
        cmocka_unit_test(numbers_have_a_maximum),
        cmocka_unit_test(ids_are_32_hex_digits),
        cmocka_unit_test(cleanup_clears),
    };

    return cmocka_run_group_tests_name("util", tests, NULL, NULL);
}
