/* SPDX-License-Identifier: MIT */
#include "netd-client/doctor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"

static void ports_are_found_in_errors(void **state)
{
    static const struct {
        const char *error;
        uint16_t port;
    } rows[] = {
        {"cannot listen on 127.0.0.1:3000: Address already in use", 3000},
        {"/etc/netd/netd.conf:7: port: cannot listen on [::1]:65535: Address already in use",
         65535},
        {"cannot listen on host:80: Address already in use (2 lines lost before)", 80},
        {"cannot listen on /run/x: Address already in use", 0},
        {"cannot listen on 127.0.0.1:65536: Address already in use", 0},
        {"cannot listen on 127.0.0.1:123456789: Address already in use", 0},
        {"cannot listen on 127.0.0.1:3000: Permission denied", 0},
        {": Address already in use", 0},
        {"3000: Address already in use", 3000},
        {"", 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(doctor_error_port(rows[i].error), rows[i].port);
}

static void limits_are_enough_or_not(void **state)
{
    static const struct {
        uint64_t interval, burst;
        bool enough;
    } rows[] = {
        {1000, 1000000, true},
        {30 * USEC_PER_SEC, 10000, false},
        {0, 10000, true},
        {30 * USEC_PER_SEC, 0, true},
        {USEC_PER_SEC, RATE_NEEDED, true},
        {USEC_PER_SEC, RATE_NEEDED - 1, false},
        {1000, BURST_HIGH, true},
        {1000, BURST_HIGH + 1, false},
        {UINT64_MAX, 1, false},
        {1, UINT64_MAX, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(doctor_rate_is_enough(rows[i].interval, rows[i].burst), rows[i].enough);
}

static void certificates_end(void **state)
{
    const uint64_t now = 1795334400;

    (void)state;
    assert_int_equal(doctor_certificate_status(now + CERTIFICATE_WARNING, now), DOCTOR_OK);
    assert_int_equal(doctor_certificate_status(now + CERTIFICATE_WARNING - 1, now), DOCTOR_WARNING);
    assert_int_equal(doctor_certificate_status(now + CERTIFICATE_PROBLEM, now), DOCTOR_WARNING);
    assert_int_equal(doctor_certificate_status(now + CERTIFICATE_PROBLEM - 1, now), DOCTOR_PROBLEM);
    assert_int_equal(doctor_certificate_status(now, now), DOCTOR_PROBLEM);
    assert_int_equal(doctor_certificate_status(1, now), DOCTOR_PROBLEM);
}

static void findings_are_lines(void **state)
{
    static struct finding f;
    char line[512] = {0};

    (void)state;
    memset(line, 'x', sizeof(line) - 1);
    finding_set(&f, DOCTOR_WARNING, "%d", 17);
    assert_int_equal(f.status, DOCTOR_WARNING);
    assert_string_equal(f.text, "17");
    finding_explain(&f, "%s", "one");
    finding_explain(&f, "%s", "two");
    assert_string_equal(f.meaning, "one\ntwo\n");
    finding_drop_in(&f, "/dir", "name", "Section", "A=1\\nB=2\\n");
    assert_string_equal(f.commands,
                        "mkdir -p /dir\nprintf '[Section]\\nA=1\\nB=2\\n' >/dir/name\n");
    /* What does not fit is cut off. */
    for (int i = 0; i < 8; i++)
        finding_explain(&f, "%s", line);
    assert_int_equal(strlen(f.meaning), sizeof(f.meaning) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports_are_found_in_errors),
        cmocka_unit_test(limits_are_enough_or_not),
        cmocka_unit_test(certificates_end),
        cmocka_unit_test(findings_are_lines),
    };

    return cmocka_run_group_tests_name("client-doctor", tests, NULL, NULL);
}
