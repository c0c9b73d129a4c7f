/* SPDX-License-Identifier: MIT */
#include "common/util.h"
#include "netd-client/timestamp.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define S      USEC_PER_SEC
#define MINUTE (60 * S)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

/* Sunday, 2026-11-22 14:30:45.678901 UTC, 15:30 in Berlin. */
#define NOW      UINT64_C(1795357845678901)
#define MIDNIGHT UINT64_C(1795305600000000) /* start of that day, UTC */

struct row {
    const char *text;
    uint64_t expected;
};

static void use_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 77;

        if (timestamp_parse(rows[i].text, NOW, &value) != 0)
            fail_msg("'%s' is not taken", rows[i].text);
        if (value != rows[i].expected)
            fail_msg("'%s' is %ju and not %ju", rows[i].text, (uintmax_t)value,
                     (uintmax_t)rows[i].expected);
    }
}

static void relative_times(void **state)
{
    static const struct row rows[] = {
        {"now", NOW},
        {"-1h", NOW - HOUR},
        {"-1h30min", NOW - HOUR - 30 * MINUTE},
        {"-1h 30min", NOW - HOUR - 30 * MINUTE},
        {"- 1h", NOW - HOUR},
        {"+2 days", NOW + 2 * DAY},
        {"1h ago", NOW - HOUR},
        {"1h 30 min ago", NOW - HOUR - 30 * MINUTE},
        {"5min left", NOW + 5 * MINUTE},
        {"-90", NOW - 90 * S},
        {"-1.5h", NOW - HOUR - 30 * MINUTE},
        {"-.5s", NOW - S / 2},
        {"-0.000001s", NOW - 1},
        {"-1us", NOW - 1},
        {"-1ms", NOW - 1000},
        {"-1msec", NOW - 1000},
        {"-2 seconds", NOW - 2 * S},
        {"-2m", NOW - 2 * MINUTE},
        {"-2 hours", NOW - 2 * HOUR},
        {"-3d", NOW - 3 * DAY},
        {"-1w", NOW - 7 * DAY},
        {"-1M", NOW - DAY * 36525 / 1200},
        {"-1month", NOW - DAY * 36525 / 1200},
        {"-1y", NOW - DAY * 36525 / 100},
        {"-100y", 0},
        {"- 1h 2", NOW - HOUR - 2 * S},
        {"-1h2", NOW - HOUR - 2 * S},
        {"+0", NOW},
        {"@1795357845", UINT64_C(1795357845000000)},
        {"@1795357845.678901", NOW},
        {"@0", 0},
    };

    (void)state;
    use_zone("UTC0");
    check_rows(rows, ARRAY_SIZE(rows));
    use_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    check_rows(rows, ARRAY_SIZE(rows));
}

static void dates_in_local_time(void **state)
{
    static const struct row utc[] = {
        {"today", MIDNIGHT},
        {"yesterday", MIDNIGHT - DAY},
        {"tomorrow", MIDNIGHT + DAY},
        {"2026-11-22", MIDNIGHT},
        {"26-11-22", MIDNIGHT},
        {"2026-11-22 08:00", MIDNIGHT + 8 * HOUR},
        {"26-11-22 08:00", MIDNIGHT + 8 * HOUR},
        {"2026-11-22T08:00", MIDNIGHT + 8 * HOUR},
        {"2026-11-22 08:00:01", MIDNIGHT + 8 * HOUR + S},
        {"2026-11-22T08:00:01", MIDNIGHT + 8 * HOUR + S},
        {"2026-11-22 08:00:01.5", MIDNIGHT + 8 * HOUR + S + S / 2},
        {"2026-11-22 08:00:01.000001", MIDNIGHT + 8 * HOUR + S + 1},
        {"2026-11-22 08:00:01.0000014", MIDNIGHT + 8 * HOUR + S + 1},
        {"2026-11-22 08:00:01.9999999", MIDNIGHT + 8 * HOUR + 2 * S},
        {"08:00", MIDNIGHT + 8 * HOUR},
        {"08:00:01", MIDNIGHT + 8 * HOUR + S},
        {"08:00:01.25", MIDNIGHT + 8 * HOUR + S + S / 4},
        {"23:59", MIDNIGHT + DAY - MINUTE},
        {"Sun 2026-11-22 08:00", MIDNIGHT + 8 * HOUR},
        {"Sunday 2026-11-22", MIDNIGHT},
        {"2024-02-29", UINT64_C(1709164800000000)},
        {"1970-01-01", 0},
    };
    static const struct row berlin[] = {
        {"today", MIDNIGHT - HOUR},
        {"today UTC", MIDNIGHT},
        {"yesterday UTC", MIDNIGHT - DAY},
        {"tomorrow UTC", MIDNIGHT + DAY},
        {"2026-11-22 08:00", MIDNIGHT + 7 * HOUR},
        {"08:00", MIDNIGHT + 7 * HOUR},
        {"2026-07-01 08:00", UINT64_C(1782885600000000)},
        {"2026-11-22 08:00 UTC", MIDNIGHT + 8 * HOUR},
        {"2026-11-22T08:00:00.5Z", MIDNIGHT + 8 * HOUR + S / 2},
        {"08:00 UTC", MIDNIGHT + 8 * HOUR},
        {"Sun 2026-11-22 08:00:01 UTC", MIDNIGHT + 8 * HOUR + S},
    };

    (void)state;
    use_zone("UTC0");
    check_rows(utc, ARRAY_SIZE(utc));
    use_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    check_rows(berlin, ARRAY_SIZE(berlin));
}

static void dates_with_offsets(void **state)
{
    static const struct row rows[] = {
        {"2026-11-22 08:00 +01:00", MIDNIGHT + 7 * HOUR},
        {"2026-11-22 08:00 +01", MIDNIGHT + 7 * HOUR},
        {"2026-11-22 08:00 -0330", MIDNIGHT + 11 * HOUR + 30 * MINUTE},
        {"2026-11-22T08:00:00.5+01:00", MIDNIGHT + 7 * HOUR + S / 2},
        {"2026-11-22T08:00:00-03:30", MIDNIGHT + 11 * HOUR + 30 * MINUTE},
        {"08:00 +01:00", MIDNIGHT + 7 * HOUR},
        {"today +10:00", MIDNIGHT - 10 * HOUR}, /* although it is already the 23rd there */
        {"Sun 2026-11-22 08:00:01.5 -05:00", MIDNIGHT + 13 * HOUR + S + S / 2},
        {"yesterday +0530", MIDNIGHT - DAY - 5 * HOUR - 30 * MINUTE},
    };

    (void)state;
    use_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    check_rows(rows, ARRAY_SIZE(rows));
}

static void names_of_zones_are_not_supported(void **state)
{
    static const char *const named[] = {
        "2026-11-22 08:00 CET",
        "2026-11-22 08:00:01.5 Europe/Berlin",
        "Sun 2026-11-22 08:00 America/New_York",
        "today Asia/Tokyo",
        "08:00 utc",
        "08:00 GMT",
    };
    uint64_t value = 77;

    (void)state;
    use_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    for (size_t i = 0; i < ARRAY_SIZE(named); i++)
        assert_int_equal(timestamp_parse(named[i], NOW, &value), -EOPNOTSUPP);
    assert_int_equal(value, 77);
}

static void change_to_winter_time(void **state)
{
    /* 2026-10-25 has 25 hours in Berlin: at noon, the day began 13 hours ago. */
    const uint64_t noon = UINT64_C(1792926000000000);
    uint64_t value;

    (void)state;
    use_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    assert_int_equal(timestamp_parse("today", noon, &value), 0);
    assert_true(value == noon - 13 * HOUR);
    assert_int_equal(timestamp_parse("yesterday", noon, &value), 0);
    assert_true(value == noon - 37 * HOUR);
    assert_int_equal(timestamp_parse("tomorrow", noon, &value), 0);
    assert_true(value == noon + 12 * HOUR);
}

static void invalid_timestamps(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "x",
        "-",
        "+",
        "@",
        "@x",
        "@-1",
        "-x",
        "-1x",
        "--1h",
        "-1h ago",
        "-1h foo",
        "-1h-1h",
        "-1-1h",
        "-1.2.3s",
        "-.s",
        "ago",
        " ago",
        "left",
        "1h",
        "5",
        "8",
        "now now",
        "Today",
        "today 08:00",
        "2026-11-22 08",
        "2026-11-22 08:00x",
        "2026-11-22 08:00.5",
        "2026-11-22 08:00:01.",
        "2026-11-22 08:00:01.5x",
        "2026-11-22 24:00",
        "2026-11-22 08:60",
        "2026-02-30",
        "2026-02-29",
        "2026-13-01",
        "2026-11-31 08:00",
        "2026/11/22",
        "22.11.2026",
        "Mon 2026-11-22",
        "Sun",
        "Foo 2026-11-22",
        "1969-12-31 08:00",
        "@99999999999999999999",
        "+99999999999999999999999",
        "+600000y",
        "+18446744073709s", /* the sum overflows */
        "-18446744073709s 1000000s",
        "-1fortnightsandmore",
        "UTC",
        "Z",
        "08:00 /etc/localtime",
        "08:00 ../zoneinfo/UTC",
        "99:00 Asia/Tokyo",
        "now Asia/Tokyo",
        "-1h Asia/Tokyo",
        "0x1",
        "-0x1h",
        "-1e3s",
        "-infs",
        "-nans",
        "08:00 +x",
        "08:00 +25:00",
        "08:00-24:01",
        "08:00 +01:00 UTC",
        "08:00 UTC UTC",
        "+01:00",
        "Asia/Tokyo",
        "08:00 ",
        "1h ago UTC",
        ("2026-11-22 08:00:00 2026-11-22 08:00:00 2026-11-22 08:00:00 2026-11-22 08:00:00 "
         "2026-11-22 08:00:00 2026-11-22 08:00:00 2026-11-22 08:00:00"),
    };

    (void)state;
    use_zone("UTC0");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        uint64_t value = 77;

        if (timestamp_parse(bad[i], NOW, &value) != -EINVAL)
            fail_msg("'%s' is taken for %ju", bad[i], (uintmax_t)value);
        assert_int_equal(value, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relative_times),        cmocka_unit_test(dates_in_local_time),
        cmocka_unit_test(dates_with_offsets),    cmocka_unit_test(names_of_zones_are_not_supported),
        cmocka_unit_test(change_to_winter_time), cmocka_unit_test(invalid_timestamps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
