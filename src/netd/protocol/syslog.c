/* SPDX-License-Identifier: MIT */
#include "netd/protocol/syslog.h"

#include <endian.h>
#include <string.h>
#include <syslog.h>

/* Facility and severity of a record without a PRI, as in journald; RFC 3164, 4.3.3 says <13>. */
#define DEFAULT_FACILITY (LOG_USER >> 3)
#define DEFAULT_SEVERITY LOG_INFO
#define PRI_MAX          191

#define BOM        "\xef\xbb\xbf"
#define BOM_LENGTH 3

/* The rest of the record that is not parsed yet. */
struct cursor {
    const uint8_t *at, *end;
    bool exact; /* every byte skipped so far is one that syslog_rebuild() adds */
};

/* --- Characters --- */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(uint8_t c)
{
    return (uint8_t)((c | 0x20) - 'a') < 26;
}

static bool is_upper(uint8_t c)
{
    return c >= 'A' && c <= 'Z';
}

/* Character classes. */
#define HOST     1
#define MNEMONIC 2
#define QUOTED   4 /* printable ASCII without a special meaning in an SD-PARAM's value */
#define ALL      (HOST | MNEMONIC | QUOTED)

/* clang-format off */
static const uint8_t classes[256] = {
    [' ' ... '!'] = QUOTED, ['#' ... '$'] = QUOTED, ['%'] = QUOTED | HOST, ['&' ... ','] = QUOTED,
    ['-'] = ALL, ['.' ... '/'] = QUOTED | HOST, ['0' ... '9'] = ALL, [':'] = QUOTED | HOST,
    [';' ... '?'] = QUOTED, ['@'] = QUOTED | HOST, ['A' ... 'Z'] = ALL, ['['] = QUOTED,
    ['^'] = QUOTED, ['_'] = ALL, ['`'] = QUOTED, ['a' ... 'z'] = ALL, ['{' ... '~'] = QUOTED,
};
/* clang-format on */

static bool is_printable(uint8_t c)
{
    return c > ' ' && c < 0x7f;
}

/* WHITESPACE of journald. */
static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_one_of(uint8_t c, const char *set)
{
    return c != '\0' && strchr(set, c);
}

static size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

static void cursor_skip_bom(struct cursor *c)
{
    if (cursor_left(c) < BOM_LENGTH || memcmp(c->at, BOM, BOM_LENGTH) != 0)
        return;
    c->at += BOM_LENGTH;
    c->exact = false;
}

static bool starts_with(const uint8_t *at, const uint8_t *end, char c)
{
    return at < end && *at == (uint8_t)c;
}

static struct syslog_text text_between(const uint8_t *at, const uint8_t *end)
{
    return (struct syslog_text){.data = at, .length = (size_t)(end - at)};
}

static const uint8_t *skip_blanks(const uint8_t *at, const uint8_t *end)
{
    while (at < end && is_blank(*at))
        at++;
    return at;
}

static const uint8_t *skip_class(const uint8_t *at, const uint8_t *end, uint8_t class)
{
    while (at < end && classes[*at] & class)
        at++;
    return at;
}

static const uint8_t *skip_digits(const uint8_t *at, const uint8_t *end)
{
    while (at < end && is_digit(*at))
        at++;
    return at;
}

/* Skips printable ASCII characters, eight at a time; a blank is none. */
static inline const uint8_t *skip_printable(const uint8_t *at, const uint8_t *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);

    for (; end - at >= (ptrdiff_t)sizeof(uint64_t); at += sizeof(uint64_t)) {
        uint64_t word, odd;

        /* Sets the top bit of each byte that is not printable. A borrow or a carry may set more of
         * them, but only after the first one. */
        memcpy(&word, at, sizeof(word));
        word = le64toh(word);
        odd = (word | (word - ones * 0x21) | (word + ones)) & (ones * 0x80);
        if (odd)
            return at + (__builtin_ctzll(odd) >> 3);
    }
    while (at < end && is_printable(*at))
        at++;
    return at;
}

/* Skips to the next blank. Clears *CLEAN if there is anything but printable ASCII before it. */
static const uint8_t *skip_word(const uint8_t *at, const uint8_t *end, bool *clean)
{
    for (;;) {
        at = skip_printable(at, end);
        if (at == end || is_blank(*at))
            return at;
        *clean = false;
        at++;
    }
}

/* --- Timestamps --- */

/* True for "Mmm dd hh:mm:ss " as syslog_skip_timestamp() of journald accepts it: any three letters,
 * any digits, and a blank in place of a leading digit. */
#define LOCAL_TIME_LENGTH 16
static bool is_local_time(const uint8_t *t, const uint8_t *end)
{
    if (end - t < LOCAL_TIME_LENGTH)
        return false;
    if (t[3] != ' ' || t[6] != ' ' || t[9] != ':' || t[12] != ':' || t[15] != ' ')
        return false;
    if (!is_letter(t[0]) || !is_letter(t[1]) || !is_letter(t[2]))
        return false;
    for (size_t i = 4; i <= 13; i += 3)
        if ((t[i] != ' ' && !is_digit(t[i])) || !is_digit(t[i + 1]))
            return false;
    return true;
}

/* Compares with PATTERN, where 0 stands for any digit. Returns the end of the match, or NULL. */
static const uint8_t *match(const uint8_t *at, const uint8_t *end, const char *pattern)
{
    for (; *pattern; pattern++, at++)
        if (at == end || (*pattern == '0' ? !is_digit(*at) : *at != (uint8_t)*pattern))
            return NULL;
    return at;
}

/* The same for eight bytes at once. A byte of LIMITS is 0x76 for a digit, else 0x7f: added to the
 * difference of the two bytes, it sets the top bit unless the difference is 0 to 9, or 0. */
static inline bool match_word(const uint8_t *at, const char pattern[static 8],
                              const char limits[static 8])
{
    uint64_t word, expected, limit;

    memcpy(&word, at, sizeof(word));
    memcpy(&expected, pattern, sizeof(expected));
    memcpy(&limit, limits, sizeof(limit));
    word ^= expected;
    return ((word | (word + limit)) & UINT64_C(0x8080808080808080)) == 0;
}

#define DATE_PATTERN "0000-00-"
#define DATE_LIMITS  "\x76\x76\x76\x76\x7f\x76\x76\x7f"
#define TIME_PATTERN "00:00:00"
#define TIME_LIMITS  "\x76\x76\x7f\x76\x76\x7f\x76\x76"

/* Skips ".123". */
static const uint8_t *skip_fraction(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *p;

    if (at == end || (*at != '.' && *at != ','))
        return at;
    p = skip_digits(at + 1, end);
    return p > at + 1 ? p : at;
}

/* Skips "+01:00", "+0100" or "+01". */
static const uint8_t *skip_offset(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *p;

    if (at == end || (*at != '+' && *at != '-'))
        return at;
    p = match(at + 1, end, "00:00");
    if (!p)
        p = match(at + 1, end, "0000");
    if (!p)
        p = match(at + 1, end, "00");
    return p ? p : at;
}

/* Returns the end of an RFC 3339 timestamp, with or without its zone, or NULL. */
#define ISO_TIME_LENGTH 19 /* without fraction and zone */
static const uint8_t *match_iso_time(const uint8_t *at, const uint8_t *end)
{
    if (end - at < ISO_TIME_LENGTH || !match_word(at, DATE_PATTERN, DATE_LIMITS) ||
        !is_digit(at[8]) || !is_digit(at[9]) || (at[10] != 'T' && at[10] != ' ') ||
        !match_word(at + 11, TIME_PATTERN, TIME_LIMITS))
        return NULL;
    at = skip_fraction(at + ISO_TIME_LENGTH, end);
    if (starts_with(at, end, 'Z'))
        return at + 1;
    return skip_offset(at, end);
}

static const uint8_t *match_month(const uint8_t *at, const uint8_t *end)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    if (end - at < 3)
        return NULL;
    for (const char *m = months; *m; m += 3)
        if (memcmp(at, m, 3) == 0)
            return at + 3;
    return NULL;
}

/* Skips " 2026": a blank and a year that begins with 19 or 20. */
static const uint8_t *skip_year(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *p = match(at, end, " 2000");

    if (!p)
        p = match(at, end, " 1900");
    return p ? p : at;
}

/* Skips " UTC" or " +01:00" if a year or a colon follows, and the year. Without one of them, a word
 * of capital letters may as well be a hostname. */
static const uint8_t *skip_zone(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *p = at, *year;

    if (end - at < 2 || *at != ' ' || at[1] > 'Z') /* nearly all hostnames and tags */
        return at;
    for (p = at + 1; p < end && is_upper(*p); p++)
        ;
    if (p == at + 1)
        p = skip_offset(p, end);
    if (p == at + 1 || p - at > 7)
        return skip_year(at, end);
    year = skip_year(p, end);
    return year > p || starts_with(p, end, ':') ? year : at;
}

/* Returns the end of "Mmm d hh:mm:ss" with what devices add to it: a year before it, after the day
 * or at the end, a fraction, a zone. Or NULL. */
static const uint8_t *match_bsd_time(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *p = match(at, end, "0000 "), *day;

    at = match_month(p ? p : at, end);
    if (!at || !starts_with(at, end, ' '))
        return NULL;
    at += starts_with(at + 1, end, ' ') ? 2 : 1;
    day = skip_digits(at, end);
    if (day == at || day - at > 2)
        return NULL;
    at = skip_year(day, end);
    at = match(at, end, " 00:00:00");
    if (!at)
        return NULL;
    return skip_zone(skip_fraction(at, end), end);
}

/* Consumes a timestamp that journald does not recognise, with the colon and the blank after it. */
static bool take_remote_time(struct cursor *c, struct syslog_text *ret)
{
    const uint8_t *start = skip_blanks(c->at, c->end), *at = start, *end;

    if (at < c->end && (*at == '*' || *at == '.')) /* Cisco: clock not set, or not synchronized */
        at++;
    if (at == c->end || !(is_digit(*at) || is_upper(*at)))
        return false;
    end = match_iso_time(at, c->end);
    if (!end)
        end = match_bsd_time(at, c->end);
    if (!end)
        return false;
    at = end;
    if (starts_with(at, c->end, ':'))
        at++;
    if (!starts_with(at, c->end, ' '))
        return false;
    c->exact &= start == c->at && at == end;
    c->at = at + 1;
    *ret = text_between(start, end);
    return true;
}

/* --- RFC 3164 --- */

/* A word that ends in a colon, as in syslog_parse_identifier() of journald. */
struct tag {
    const uint8_t *start, *end; /* with the colon */
    bool clean;                 /* printable ASCII only */
};

static bool find_tag(const uint8_t *at, const uint8_t *end, struct tag *ret)
{
    struct tag tag = {.start = skip_blanks(at, end), .clean = true};

    tag.end = skip_word(tag.start, end, &tag.clean);
    if (tag.end == tag.start || tag.end[-1] != ':')
        return false;
    *ret = tag;
    return true;
}

/* Consumes everything up to and including TAG, and the blank after it. */
static void take_tag(struct cursor *c, const struct tag *tag, struct syslog *ret)
{
    const uint8_t *end = tag->end - 1, *bracket = NULL;

    if (end > tag->start && end[-1] == ']')
        bracket = memrchr(tag->start, '[', (size_t)(end - tag->start));
    if (bracket) {
        ret->fields.pid = text_between(bracket + 1, end - 1);
        end = bracket;
    }
    ret->fields.identifier = text_between(tag->start, end);
    ret->clean = tag->clean;
    c->exact &= tag->start == c->at;
    c->at = tag->end;
    if (c->at < c->end)
        c->exact &= *c->at++ == ' ';
}

/* True for "%FACILITY-SEVERITY-MNEMONIC:", as Cisco devices send it. */
static bool is_mnemonic(const struct tag *tag)
{
    bool severity = false;

    if (*tag->start != '%')
        return false;
    for (const uint8_t *p = tag->start + 1; p < tag->end - 1; p++) {
        if (!(classes[*p] & MNEMONIC))
            return false;
        severity |= p[0] == '-' && p[1] >= '0' && p[1] <= '7' && p[2] == '-';
    }
    return severity;
}

static const uint8_t *skip_hostname(const uint8_t *at, const uint8_t *end)
{
    if (at == end || !(is_letter(*at) || is_digit(*at) || *at == ':'))
        return at;
    return skip_class(at, end, HOST);
}

static bool is_before_mnemonic(const uint8_t *at, const uint8_t *end)
{
    struct tag tag;

    return find_tag(at, end, &tag) && is_mnemonic(&tag);
}

/* Consumes a timestamp: the one that journald recognises, with what a device appended, a zone and a
 * year ("Aug 24 05:34:00 CST 1987", "Mar  1 18:46:11 UTC: %SYS-5-RESTART:"), or another one. */
static bool take_time(struct cursor *c, struct syslog_text *ret)
{
    const uint8_t *start = c->at, *end, *zone;

    if (!is_local_time(start, c->end))
        return take_remote_time(c, ret);
    end = start + LOCAL_TIME_LENGTH;
    zone = skip_zone(end - 1, c->end);
    c->at = end;
    if (zone >= end && starts_with(zone, c->end, ' ')) {
        end = zone;
        c->at = zone + 1;
    } else if (zone >= end && starts_with(zone, c->end, ':') &&
               is_before_mnemonic(zone + 1, c->end)) {
        end = zone;
        c->at = skip_blanks(zone + 1, c->end);
        c->exact = false; /* the colon is in no field */
    }
    *ret = text_between(start, end);
    return true;
}

/* Consumes "HOSTNAME TAG:", or nothing. */
static bool take_host_and_tag(struct cursor *c, struct syslog *ret)
{
    const uint8_t *start = skip_blanks(c->at, c->end), *end;
    struct tag tag;

    end = skip_hostname(start, c->end);
    if (end == start || !starts_with(end, c->end, ' ') || end[-1] == ':' ||
        !find_tag(end + 1, c->end, &tag))
        return false;
    if (tag.end - tag.start == 1) { /* "asa-1 : %ASA-6-302013: Built" */
        if (!find_tag(tag.end, c->end, &tag) || !is_mnemonic(&tag))
            return false;
    }
    c->exact &= start == c->at;
    c->at = end + 1;
    ret->fields.hostname = text_between(start, end);
    take_tag(c, &tag, ret);
    return true;
}

/* Takes one of the words before a Cisco mnemonic. Returns false if it is none of those expected. */
static bool take_cisco_word(const struct tag *tag, struct syslog_fields *f)
{
    const uint8_t *end = tag->end - 1, *digits = skip_digits(tag->start, end), *p = digits;

    if (digits == end) /* a sequence number, possibly empty; no field has it */
        return true;
    while (p < end && (is_digit(*p) || is_one_of(*p, "ywdhms:")))
        p++;
    if (digits > tag->start && p == end && !f->timestamp.data) {
        f->timestamp = text_between(tag->start, end); /* uptime, "1w2d" or "00:00:46" */
        return true;
    }
    if (f->hostname.data || skip_hostname(tag->start, end) != end)
        return false;
    f->hostname = text_between(tag->start, end);
    return true;
}

/*
 * Consumes "[SEQUENCE: ][HOSTNAME: ][SEQUENCE: ][TIMESTAMP: ]%FACILITY-SEVERITY-MNEMONIC: ", of
 * which FIRST is the first word, or nothing. A sequence number or a timestamp is required:
 * otherwise this is the tag and the text of an ordinary program.
 */
#define CISCO_WORDS_MAX 4
static bool take_cisco(struct cursor *c, const struct tag *first, struct syslog *ret)
{
    struct cursor ahead = {.at = c->at, .end = c->end};
    struct syslog found = *ret;
    struct tag tag = *first;
    bool cisco = false;

    for (int i = 0; i < CISCO_WORDS_MAX && !is_mnemonic(&tag); i++) {
        if (!take_cisco_word(&tag, &found.fields))
            return false;
        cisco |= is_digit(*tag.start) || *tag.start == ':';
        ahead.at = tag.end;
        if (take_remote_time(&ahead, &found.fields.timestamp))
            cisco = true;
        if (!find_tag(ahead.at, ahead.end, &tag))
            return false;
    }
    if (!cisco || !is_mnemonic(&tag))
        return false;
    *ret = found;
    c->at = ahead.at;
    c->exact = false;
    take_tag(c, &tag, ret);
    return true;
}

/* A cheap test that rules out most messages. */
static bool may_be_cisco(const struct tag *first, const uint8_t *end)
{
    const uint8_t *next = skip_blanks(first->end, end);

    return next < end && first->clean &&
           (is_digit(*next) || is_digit(*first->start) || *first->start == ':' ||
            is_one_of(*next, "*.%") || match_month(next, end));
}

/* Tells whether a record without PRI and timestamp is plain text: the first word is not a tag. It
 * is not if the record is JSON, where the first word often ends in a colon, too. */
static bool is_plain(const struct cursor *c)
{
    struct tag tag;

    return !find_tag(c->at, c->end, &tag) || is_one_of(*tag.start, "{\"");
}

/* Returns false if there is neither PRI, timestamp nor tag; *RET and *C are then unchanged. */
static bool parse_rfc3164(struct cursor *c, bool pri, struct syslog *ret)
{
    bool time = take_time(c, &ret->fields.timestamp);
    struct tag tag;

    if (!pri && !time && is_plain(c))
        return false;
    if (!(time && take_host_and_tag(c, ret)) && find_tag(c->at, c->end, &tag) &&
        (time || !may_be_cisco(&tag, c->end) || !take_cisco(c, &tag, ret)))
        take_tag(c, &tag, ret);
    ret->fields.format = SYSLOG_RFC3164;
    ret->fields.message = text_between(c->at, c->end);
    return true;
}

/* --- RFC 5424 --- */

/* Consumes a word of the header and the blank after it. *RET is untouched if the word is "-". */
static bool take_word(struct cursor *c, struct syslog_text *ret)
{
    const uint8_t *end = skip_printable(c->at, c->end);

    if (end == c->at || !starts_with(end, c->end, ' '))
        return false;
    if (end - c->at > 1 || *c->at != '-')
        *ret = text_between(c->at, end);
    c->at = end + 1;
    return true;
}

/* Returns the end of a PARAM-VALUE with its closing quote, or NULL. Clears *CLEAN as skip_word().
 */
static const uint8_t *match_value(const uint8_t *at, const uint8_t *end, bool *clean)
{
    for (; (at = skip_class(at, end, QUOTED)) < end; at++) {
        if (*at == '"')
            return at + 1;
        if (*at < ' ' || *at >= 0x7f)
            *clean = false;
        else if (*at == '\\' && at + 1 < end && (at[1] == '"' || at[1] == '\\'))
            at++;
    }
    return NULL;
}

/* Returns the end of an SD-ELEMENT, [id name="value"...], or NULL. */
static const uint8_t *match_element(const uint8_t *at, const uint8_t *end, bool *clean)
{
    for (at++; (at = skip_class(at, end, QUOTED)) < end;) {
        if (*at == ']')
            return at + 1;
        if (*at != '"')
            return NULL;
        at = match_value(at + 1, end, clean);
        if (!at)
            return NULL;
    }
    return NULL;
}

/* Consumes the structured data and the blank after it. Some senders omit it; if it is missing or
 * malformed, the message begins here. */
static void take_structured_data(struct cursor *c, struct syslog *ret)
{
    const uint8_t *at = c->at, *next = at;
    bool clean = true;

    while (next && starts_with(next, c->end, '[')) {
        next = match_element(next, c->end, &clean);
        at = next ? next : at;
    }
    if (next && at > c->at) {
        ret->fields.structured_data = text_between(c->at, at);
        ret->clean = clean;
    } else if (starts_with(c->at, c->end, '-') && (c->at + 1 == c->end || c->at[1] == ' ')) {
        at = c->at + 1;
    } else {
        c->exact = false;
        return;
    }
    c->at = at;
    if (starts_with(at, c->end, ' '))
        c->at++;
    else
        c->exact &= at == c->end;
}

/* Consumes the timestamp and the blank after it. */
static bool take_iso_time(struct cursor *c, struct syslog_text *ret)
{
    const uint8_t *end = match_iso_time(c->at, c->end);

    if (!end)
        return starts_with(c->at, c->end, '-') && take_word(c, ret) && !ret->data;
    if (!starts_with(end, c->end, ' '))
        return false;
    *ret = text_between(c->at, end);
    c->at = end + 1;
    return true;
}

/* C is after the PRI. Returns false if this is not RFC 5424; *RET and *C are then unchanged. */
static bool parse_rfc5424(struct cursor *c, struct syslog *ret)
{
    struct cursor ahead = *c;
    struct syslog_text time = {0}, hostname = {0}, identifier = {0}, pid = {0}, msgid = {0};
    struct syslog_fields *f = &ret->fields;

    if (cursor_left(c) < 2 || c->at[0] != '1' || c->at[1] != ' ')
        return false;
    ahead.at += 2;
    if (!take_iso_time(&ahead, &time) || !take_word(&ahead, &hostname) ||
        !take_word(&ahead, &identifier) || !take_word(&ahead, &pid) || !take_word(&ahead, &msgid))
        return false;
    f->format = SYSLOG_RFC5424;
    f->timestamp = time;
    f->hostname = hostname;
    f->identifier = identifier;
    f->pid = pid;
    f->msgid = msgid;
    take_structured_data(&ahead, ret);
    cursor_skip_bom(&ahead);
    f->message = text_between(ahead.at, ahead.end);
    *c = ahead;
    return true;
}

/* --- Records --- */

/* Consumes <PRI>. Above PRI_MAX it is consumed, too, but not used. */
static bool take_pri(struct cursor *c, struct syslog_fields *f)
{
    const uint8_t *digits, *at;
    int pri = 0;

    if (!starts_with(c->at, c->end, '<'))
        return false;
    digits = at = c->at + 1;
    for (; at < c->end && at < digits + 3 && is_digit(*at); at++)
        pri = pri * 10 + (*at - '0');
    if (at == digits || !starts_with(at, c->end, '>'))
        return false;
    c->exact &= pri <= PRI_MAX && (*digits != '0' || at == digits + 1);
    c->at = at + 1;
    if (pri <= PRI_MAX) {
        f->facility = pri >> 3;
        f->severity = pri & 7;
    }
    return true;
}

/* Leaves out blanks around the message, NULs at its end and a BOM at its beginning. */
static struct cursor cursor_begin(const uint8_t *data, size_t length)
{
    struct cursor c = {.at = data, .end = data + length};

    while (c.end > c.at && (is_blank(c.end[-1]) || c.end[-1] == '\0'))
        c.end--;
    c.at = skip_blanks(c.at, c.end);
    cursor_skip_bom(&c);
    c.exact = c.at == data && c.end == data + length;
    return c;
}

void syslog_plain(struct syslog *ret, const uint8_t *data, size_t length)
{
    *ret = (struct syslog){
        .fields =
            {
                .facility = DEFAULT_FACILITY,
                .severity = DEFAULT_SEVERITY,
                .message = {.data = data, .length = length},
            },
        .priority = DEFAULT_SEVERITY,
        .exact = true,
        .clean = true,
    };
}

void syslog_parse(struct syslog *ret, const uint8_t *data, size_t length, bool trust_severity)
{
    struct cursor c = cursor_begin(data, length);
    bool pri;

    syslog_plain(ret, data, length);
    pri = take_pri(&c, &ret->fields);
    c.exact &= pri;
    if ((pri && parse_rfc5424(&c, ret)) || parse_rfc3164(&c, pri, ret))
        ret->exact = c.exact;
    ret->priority = ret->fields.severity;
    if (ret->priority < LOG_ERR && !trust_severity)
        ret->priority = LOG_ERR;
}
