/* SPDX-License-Identifier: MIT */
#include "netd-client/timeword.h"

#include "common/util.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WORD_MAX 128 /* bytes of the longest text that is looked at */
#define ZONES    "/usr/share/zoneinfo/"

#define OFFSET_MAX 86400 /* seconds, a day: further from UTC is no place */

#define MINUTE (60 * USEC_PER_SEC)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define YEAR   (DAY * 36525 / 100) /* systemd.time(7): 365.25 days, and a month is a twelfth */

/* --- Spans --- */

static const struct {
    const char *names; /* each between two blanks */
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

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

/* The unit at *P, taken off; seconds where there is none; 0: unknown. */
static uint64_t span_unit(const char **p)
{
    size_t length = strcspn(*p, " \t0123456789");
    char name[16];

    if (length == 0)
        return USEC_PER_SEC;
    if (length + 3 > sizeof(name))
        return 0;
    snprintf(name, sizeof(name), " %.*s ", (int)length, *p);
    *p += length;
    for (size_t i = 0; i < ARRAY_SIZE(units); i++)
        if (strstr(units[i].names, name))
            return units[i].usec;
    return 0;
}

/* The digits at *P, taken off, after a decimal point or before one. */
static const char *span_digits(const char **p)
{
    const char *digits = *p;

    *p += strspn(*p, "0123456789");
    return digits;
}

/* Takes "1.5h" off *P and adds it to *SUM. */
static int span_part(const char **p, uint64_t *sum)
{
    const char *whole = span_digits(p), *whole_end = *p;
    const char *fraction = *p, *fraction_end = *p;
    uint64_t unit, part = 0, value = 0;

    if (**p == '.') {
        ++*p;
        fraction = span_digits(p);
        fraction_end = *p;
    }
    if (whole == whole_end && fraction == fraction_end)
        return -EINVAL;
    *p = skip_blanks(*p);
    unit = span_unit(p);
    if (unit == 0)
        return -EINVAL;

    for (; whole < whole_end; whole++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*whole - '0'), &value))
            return -EINVAL;
    if (__builtin_mul_overflow(value, unit, &value))
        return -EINVAL;
    for (uint64_t place = unit / 10; fraction < fraction_end; fraction++, place /= 10)
        part += (uint64_t)(*fraction - '0') * place;
    if (__builtin_add_overflow(*sum, value, sum) || __builtin_add_overflow(*sum, part, sum))
        return -EINVAL;
    return 0;
}

/* Reads all of TEXT as "1h 30min". */
static int span_parse(const char *text, uint64_t *ret)
{
    const char *p = skip_blanks(text);
    uint64_t sum = 0;
    int r;

    do {
        r = span_part(&p, &sum);
        if (r < 0)
            return r;
        p = skip_blanks(p);
    } while (*p);
    *ret = sum;
    return 0;
}

static int time_before(uint64_t now, uint64_t span, uint64_t *ret)
{
    *ret = span < now ? now - span : 0;
    return 0;
}

static int time_after(uint64_t now, uint64_t span, uint64_t *ret)
{
    uint64_t sum;

    if (__builtin_add_overflow(now, span, &sum))
        return -EINVAL;
    *ret = sum;
    return 0;
}

/* Cuts SUFFIX off the end of TEXT. */
static bool cut_suffix(char *text, const char *suffix)
{
    size_t length = strlen(text), n = strlen(suffix);

    if (length <= n || strcmp(text + length - n, suffix) != 0)
        return false;
    text[length - n] = '\0';
    return true;
}

/* "+1h", "-1h", "1h ago", "1h left". */
static int relative_parse(char *text, uint64_t now, uint64_t *ret)
{
    int (*shift)(uint64_t, uint64_t, uint64_t *) = time_after;
    uint64_t span;
    int r;

    if (*text == '-' || *text == '+')
        shift = *text++ == '-' ? time_before : time_after;
    else if (cut_suffix(text, " ago"))
        shift = time_before;
    else if (!cut_suffix(text, " left"))
        return -EINVAL;
    r = span_parse(text, &span);
    return r < 0 ? r : shift(now, span, ret);
}

/* --- Dates --- */

/* What a form leaves open is the start of today. */
static const char *const forms[] = {
    "%y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%H:%M:%S",
    "%y-%m-%d %H:%M",    "%Y-%m-%d %H:%M",    "%Y-%m-%dT%H:%M",    "%H:%M",
    "%y-%m-%d",          "%Y-%m-%d",
};

static bool form_has_seconds(const char *form)
{
    return form[strlen(form) - 1] == 'S';
}

/* ".25" as microseconds; -EINVAL for anything else. */
static int parse_fraction(const char *text, uint64_t *ret)
{
    uint64_t place = USEC_PER_SEC / 10, sum = 0;

    if (*text++ != '.' || *text == '\0')
        return -EINVAL;
    for (; *text; text++, place /= 10) {
        if (!isdigit((unsigned char)*text))
            return -EINVAL;
        sum += (uint64_t)(*text - '0') * place;
    }
    *ret = sum;
    return 0;
}

/* Fills in what TEXT says of *TM in one of the forms, and the microseconds. */
static int parse_form(const char *text, struct tm *tm, uint64_t *usec)
{
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        struct tm read = *tm;
        const char *rest = strptime(text, forms[i], &read);
        uint64_t fraction = 0;

        if (!rest || (*rest && !form_has_seconds(forms[i])) ||
            (*rest && parse_fraction(rest, &fraction) < 0))
            continue;
        *tm = read;
        *usec = fraction;
        return 0;
    }
    return -EINVAL;
}

/* "Sun " or "Sunday " before a date: its number, or -1. */
static int parse_weekday(const char **text)
{
    struct tm tm = {0};
    const char *rest = isalpha((unsigned char)**text) ? strptime(*text, "%a", &tm) : NULL;

    if (!rest || *rest != ' ')
        return -1;
    *text = skip_blanks(rest + 1);
    return tm.tm_wday;
}

/* Where a word says its clock is. */
struct zone {
    bool utc;    /* or local time, as TZ has it */
    int dst;     /* tm_isdst: -1 where the date says it */
    long offset; /* seconds east of UTC */
};

/* Midnight of the day that lies DAYS from NOW's; with an offset, too, that of UTC, as for
 * journalctl. */
static void day_begin(struct tm *ret, uint64_t now, int days, const struct zone *zone)
{
    time_t seconds = (time_t)(now / USEC_PER_SEC);

    if (zone->utc)
        gmtime_r(&seconds, ret);
    else
        localtime_r(&seconds, ret);
    ret->tm_mday += days;
    ret->tm_hour = ret->tm_min = ret->tm_sec = 0;
    ret->tm_isdst = zone->dst;
}

/* *TM, which is normalized, as microseconds. */
static int tm_to_usec(struct tm *tm, const struct zone *zone, uint64_t usec, uint64_t *ret)
{
    time_t seconds = (zone->utc ? timegm(tm) : mktime(tm)) - zone->offset;

    if (seconds < 0 || (uint64_t)seconds >= UINT64_MAX / USEC_PER_SEC)
        return -EINVAL;
    *ret = (uint64_t)seconds * USEC_PER_SEC + usec;
    return 0;
}

static int absolute_parse(const char *text, uint64_t now, const struct zone *zone, uint64_t *ret)
{
    int weekday = parse_weekday(&text);
    uint64_t usec = 0, result;
    struct tm tm, given;
    int r;

    day_begin(&tm, now, 0, zone);
    r = parse_form(text, &tm, &usec);
    if (r < 0)
        return r;
    given = tm;
    r = tm_to_usec(&tm, zone, usec, &result);
    if (r < 0)
        return r;
    if (tm.tm_mday != given.tm_mday || (weekday >= 0 && weekday != tm.tm_wday))
        return -EINVAL; /* a 31st of February, or another weekday */
    *ret = result;
    return 0;
}

static int date_parse(const char *word, uint64_t now, const struct zone *zone, uint64_t *ret)
{
    static const char *const names[] = {"yesterday", "today", "tomorrow"};
    struct tm tm;

    for (int i = 0; i < (int)ARRAY_SIZE(names); i++)
        if (strcmp(word, names[i]) == 0) {
            day_begin(&tm, now, i - 1, zone);
            return tm_to_usec(&tm, zone, 0, ret);
        }
    return absolute_parse(word, now, zone, ret);
}

/* --- Zones --- */

/* All of TEXT is "+01", "+0100" or "-01:00". */
static bool parse_offset(const char *text, struct zone *ret)
{
    struct tm tm = {0};
    const char *rest = *text == '+' || *text == '-' ? strptime(text, "%z", &tm) : NULL;

    if (!rest || *rest || labs(tm.tm_gmtoff) > OFFSET_MAX)
        return false;
    *ret = (struct zone){.utc = true, .offset = tm.tm_gmtoff};
    return true;
}

/* Cuts "+01:00" off the end of a time, to which it sticks: RFC 3339. */
static bool cut_offset(char *word, struct zone *ret)
{
    static const size_t size = sizeof("+01:00") - 1;
    size_t length = strlen(word);

    if (length <= size || word[length - size - 1] == ' ' ||
        !parse_offset(word + length - size, ret))
        return false;
    word[length - size] = '\0';
    return true;
}

/* "CET" or "CEST", where that is what local time is called. */
static bool zone_is_local(const char *name, struct zone *ret)
{
    tzset();
    for (int dst = 0; dst < 2; dst++)
        if (strcmp(name, tzname[dst]) == 0) {
            ret->dst = dst;
            return true;
        }
    return false;
}

/* Whether there is a tzfile(5) of that name, which may lie in no other folder. */
static int zone_is_known(const char *name)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-_/";
    char path[sizeof(ZONES) + WORD_MAX];
    struct stat st;

    if (*name == '/' || name[strspn(name, letters)])
        return false;
    snprintf(path, sizeof(path), ZONES "%s", name);
    if (stat(path, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR ? false : -errno;
    return S_ISREG(st.st_mode);
}

/* As date_parse() with the clock of a place. */
static int date_parse_at(const char *word, uint64_t now, const char *place, uint64_t *ret)
{
    static const struct zone there = {.dst = -1};
    char tz[sizeof("TZ=") + WORD_MAX];
    char *environment[] = {tz, NULL}, **kept = environ;
    int r;

    snprintf(tz, sizeof(tz), "TZ=%s", place);
    environ = environment;
    tzset();
    r = date_parse(word, now, &there, ret);
    environ = kept;
    tzset();
    return r;
}

/* A date with or without the zone that it is in. It cuts off what it knows. */
static int zoned_parse(char *word, uint64_t now, uint64_t *ret)
{
    struct zone zone = {.dst = -1};
    char *last;
    int r;

    if (cut_suffix(word, "Z")) {
        zone.utc = true;
    } else if (!cut_offset(word, &zone) && (last = strrchr(word, ' '))) {
        char *name = last + 1;

        zone.utc = strcmp(name, "UTC") == 0;
        if (zone.utc || parse_offset(name, &zone) || zone_is_local(name, &zone)) {
            *last = '\0';
        } else if ((r = zone_is_known(name)) != 0) {
            *last = '\0';
            return r < 0 ? r : date_parse_at(word, now, name, ret);
        }
    }
    return date_parse(word, now, &zone, ret);
}

int timeword_parse(const char *text, uint64_t now, uint64_t *ret)
{
    size_t length = strlen(text);
    char word[WORD_MAX];
    int r;

    if (length >= sizeof(word))
        return -EINVAL;
    memcpy(word, text, length + 1);
    if (strcmp(word, "now") == 0) {
        *ret = now;
        return 0;
    }
    if (*word == '@')
        return isdigit((unsigned char)word[1]) ? span_parse(word + 1, ret) : -EINVAL;
    r = relative_parse(word, now, ret);
    if (r < 0) {
        memcpy(word, text, length + 1); /* an " ago" may have been cut off */
        r = zoned_parse(word, now, ret);
    }
    return r;
}
