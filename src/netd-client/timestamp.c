/* SPDX-License-Identifier: MIT */
#include "netd-client/timestamp.h"

#include "common/util.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_MAX   128   /* size of the longest timestamp, including NUL */
#define OFFSET_MAX 86400 /* seconds: a day */

#define MINUTE (60 * USEC_PER_SEC)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define YEAR   (DAY * 36525 / 100) /* systemd.time(7): 365.25 days; a month is a twelfth of it */

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

/* Removes SUFFIX from the end of TEXT. */
static bool cut_suffix(char *text, const char *suffix)
{
    size_t length = strlen(text), n = strlen(suffix);

    if (length <= n || strcmp(text + length - n, suffix) != 0)
        return false;
    text[length - n] = '\0';
    return true;
}

/* Parses a decimal number at *P and advances it. A double is exact to the microsecond for 285
 * years. */
static bool take_number(const char **p, double *ret)
{
    const char *digits = *p, *end = digits + strspn(digits, "0123456789.");
    char *rest;

    *ret = strtod(digits, &rest);
    *p = rest;
    return rest == end && end > digits; /* not "0x1", "1e9" or "inf" */
}

/* --- Spans --- */

static const struct {
    const char *names; /* separated and enclosed by spaces */
    uint64_t usec;
} units[] = {
    {" us usec \u03bcs \u00b5s ", 1},
    {" ms msec ", USEC_PER_MSEC},
    {" s sec second seconds ", USEC_PER_SEC},
    {" m min minute minutes ", MINUTE},
    {" h hr hour hours ", HOUR},
    {" d day days ", DAY},
    {" w week weeks ", 7 * DAY},
    {" M month months ", YEAR / 12},
    {" y year years ", YEAR},
};

/* Parses the unit at *P and advances it. Returns that of seconds if there is none, 0 if unknown. */
static uint64_t take_unit(const char **p)
{
    size_t length = strcspn(*p, " \t.0123456789");
    char name[sizeof(" minutes ")];

    if (length == 0)
        return USEC_PER_SEC;
    if (length + sizeof("  ") > sizeof(name))
        return 0;
    snprintf(name, sizeof(name), " %.*s ", (int)length, *p);
    *p += length;
    for (size_t i = 0; i < ARRAY_SIZE(units); i++)
        if (strstr(units[i].names, name))
            return units[i].usec;
    return 0;
}

int timespan_parse(const char *text, uint64_t *ret)
{
    const char *p = skip_blanks(text);
    double number, sum = 0;

    do {
        uint64_t unit;

        if (!take_number(&p, &number))
            return -EINVAL;
        p = skip_blanks(p);
        unit = take_unit(&p);
        if (unit == 0)
            return -EINVAL;
        sum += number * (double)unit;
        p = skip_blanks(p);
    } while (*p);
    if (sum + 0.5 >= 0x1p64)
        return -EINVAL;
    *ret = (uint64_t)(sum + 0.5);
    return 0;
}

/* Parses "+1h", "-1h", "1h ago", "1h left". Modifies TEXT. */
static int relative_parse(char *text, uint64_t now, uint64_t *ret)
{
    bool before = *text == '-';
    uint64_t span, sum;
    int r;

    if (*text == '-' || *text == '+')
        text++;
    else if (cut_suffix(text, " ago"))
        before = true;
    else if (!cut_suffix(text, " left"))
        return -EINVAL;
    r = timespan_parse(text, &span);
    if (r < 0)
        return r;
    if (before)
        *ret = now - min_u64(span, now);
    else if (__builtin_add_overflow(now, span, &sum))
        return -EINVAL;
    else
        *ret = sum;
    return 0;
}

/* --- Dates --- */

/* The time zone of a date. */
struct zone {
    bool utc;    /* otherwise local time */
    long offset; /* seconds east of UTC */
};

/* Missing parts default to the start of today. */
static const char *const forms[] = {
    "%y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%H:%M:%S",
    "%y-%m-%d %H:%M",    "%Y-%m-%d %H:%M",    "%Y-%m-%dT%H:%M",    "%H:%M",
    "%y-%m-%d",          "%Y-%m-%d",
};

/* Parses TEXT in one of the forms into *TM and *USEC. */
static int form_parse(const char *text, struct tm *tm, uint64_t *usec)
{
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        struct tm read = *tm;
        const char *rest = strptime(text, forms[i], &read);
        bool seconds = strstr(forms[i], "%S");
        double fraction = 0;

        if (!rest || (*rest && !(seconds && *rest == '.' && take_number(&rest, &fraction))) ||
            *rest)
            continue;
        *tm = read;
        *usec = (uint64_t)(fraction * (double)USEC_PER_SEC + 0.5);
        return 0;
    }
    return -EINVAL;
}

/* Midnight, DAYS days from NOW. With an offset, the day is that in UTC, as for journalctl(1). */
static void day_begin(struct tm *ret, uint64_t now, int days, const struct zone *zone)
{
    time_t seconds = (time_t)(now / USEC_PER_SEC);

    if (zone->utc)
        gmtime_r(&seconds, ret);
    else
        localtime_r(&seconds, ret);
    ret->tm_mday += days;
    ret->tm_hour = ret->tm_min = ret->tm_sec = 0;
    ret->tm_isdst = -1;
}

/* Normalizes *TM and converts it to microseconds. */
static int tm_to_usec(struct tm *tm, const struct zone *zone, uint64_t usec, uint64_t *ret)
{
    time_t seconds = (zone->utc ? timegm(tm) : mktime(tm)) - zone->offset;

    if (seconds < 0 || (uint64_t)seconds >= UINT64_MAX / USEC_PER_SEC)
        return -EINVAL;
    *ret = (uint64_t)seconds * USEC_PER_SEC + usec;
    return 0;
}

static int date_parse(const char *text, uint64_t now, const struct zone *zone, uint64_t *ret)
{
    static const char *const days[] = {"yesterday", "today", "tomorrow"};
    struct tm tm, given, weekday = {.tm_wday = -1};
    const char *date = strptime(text, "%a ", &weekday);
    uint64_t usec, result;
    int r;

    for (int i = 0; i < (int)ARRAY_SIZE(days); i++)
        if (strcmp(text, days[i]) == 0) {
            day_begin(&tm, now, i - 1, zone);
            return tm_to_usec(&tm, zone, 0, ret);
        }
    day_begin(&tm, now, 0, zone);
    r = form_parse(date ? date : text, &tm, &usec);
    if (r < 0)
        return r;
    given = tm;
    r = tm_to_usec(&tm, zone, usec, &result);
    if (r < 0)
        return r;
    if (tm.tm_mday != given.tm_mday || (date && weekday.tm_wday != tm.tm_wday))
        return -EINVAL; /* no such day, or a wrong weekday */
    *ret = result;
    return 0;
}

/* Parses "+01", "+0100" or "-01:00". */
static bool offset_parse(const char *text, struct zone *ret)
{
    struct tm tm = {0};
    const char *rest = *text == '+' || *text == '-' ? strptime(text, "%z", &tm) : NULL;

    if (!rest || *rest || labs(tm.tm_gmtoff) > OFFSET_MAX)
        return false;
    *ret = (struct zone){.utc = true, .offset = tm.tm_gmtoff};
    return true;
}

/* Parses a date with an optional time zone. Modifies TEXT. */
static int zoned_parse(char *text, uint64_t now, uint64_t *ret)
{
    const size_t size = sizeof("+01:00") - 1;
    size_t length = strlen(text);
    struct zone zone = {0};
    char *blank = strrchr(text, ' ');
    uint64_t ignored;

    if (cut_suffix(text, "Z") || cut_suffix(text, " UTC"))
        zone.utc = true;
    else if (blank && offset_parse(blank + 1, &zone))
        *blank = '\0';
    else if (length > size && offset_parse(text + length - size, &zone))
        text[length - size] = '\0';
    else if (blank && isalpha((unsigned char)blank[1])) {
        *blank = '\0';
        return date_parse(text, now, &zone, &ignored) == 0 ? -EOPNOTSUPP : -EINVAL;
    }
    return date_parse(text, now, &zone, ret);
}

int timestamp_parse(const char *text, uint64_t now, uint64_t *ret)
{
    char copy[TEXT_MAX];

    if (strlen(text) >= sizeof(copy))
        return -EINVAL;
    strcpy(copy, text);
    if (strcmp(text, "now") == 0) {
        *ret = now;
        return 0;
    }
    if (*text == '@')
        return isdigit((unsigned char)text[1]) ? timespan_parse(text + 1, ret) : -EINVAL;
    if (relative_parse(copy, now, ret) == 0)
        return 0;
    strcpy(copy, text); /* relative_parse() may have removed a suffix */
    return zoned_parse(copy, now, ret);
}
