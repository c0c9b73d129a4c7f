/* SPDX-License-Identifier: MIT */
/*
 * Journal entries read back, by nothing that the daemon uses: a strict parser of the native journal
 * protocol and of the Journal Export Format, and what the contract says about the values. It is
 * slow and says no to whatever journald would have to guess about. Shared by tests and fuzzers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS_MAX 32

struct field {
    char name[65];
    const uint8_t *value; /* into what was parsed */
    size_t length;
    bool binary; /* in the length-prefixed form */
};

struct fields {
    struct field all[FIELDS_MAX];
    size_t count;
};

static inline const struct field *fields_find(const struct fields *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->all[i].name, name) == 0)
            return &f->all[i];
    return NULL;
}

static inline bool field_is(const struct field *field, const char *text)
{
    return field && field->length == strlen(text) && memcmp(field->value, text, field->length) == 0;
}

static inline bool fields_are(const struct fields *f, const char *name, const char *text)
{
    return field_is(fields_find(f, name), text);
}

/* True when the names are NAMES, a list with commas, in this order. */
static inline bool fields_are_named(const struct fields *f, const char *names)
{
    for (size_t i = 0; i < f->count; i++) {
        size_t n = strlen(f->all[i].name);

        if (strncmp(names, f->all[i].name, n) != 0 || names[n] != (i + 1 < f->count ? ',' : '\0'))
            return false;
        names += n + 1;
    }
    return f->count > 0;
}

/* A field's name as journald takes it from a client; EXPORT allows the trusted "_" in front. */
static inline bool field_name_is_good(const char *name, bool export_format)
{
    size_t n = strlen(name);

    if (n == 0 || n > 64 || (name[0] >= '0' && name[0] <= '9') ||
        (name[0] == '_' && !export_format))
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == n;
}

/* Reads one field; returns its bytes, or 0 where it is none. */
static inline size_t field_parse(struct field *ret, const uint8_t *data, size_t length,
                                 bool export_format)
{
    const uint8_t *lf = memchr(data, '\n', length), *equals = memchr(data, '=', length);
    size_t name, size = 0;

    if (!lf)
        return 0;
    ret->binary = !equals || equals > lf;
    name = (size_t)((ret->binary ? lf : equals) - data);
    if (name >= sizeof(ret->name))
        return 0;
    memcpy(ret->name, data, name);
    ret->name[name] = '\0';
    if (strlen(ret->name) != name || !field_name_is_good(ret->name, export_format))
        return 0;
    ret->value = data + name + 1;
    if (!ret->binary) {
        ret->length = (size_t)(lf - ret->value);
        return (size_t)(lf + 1 - data);
    }
    if (length - name - 1 < 8)
        return 0;
    for (size_t i = 8; i-- > 0;)
        size = size << 8 | ret->value[i];
    ret->value += 8;
    if (size >= length - name - 9 || ret->value[size] != '\n')
        return 0;
    ret->length = size;
    return name + 9 + size + 1;
}

/*
 * Reads the first entry of the LENGTH bytes at DATA. A native entry is all of them, without an
 * empty line; an exported one goes up to its empty line. Returns the bytes it takes, or 0 where
 * they are no such entry, or have a field twice.
 */
static inline size_t entry_parse(struct fields *ret, const uint8_t *data, size_t length,
                                 bool export_format)
{
    size_t at = 0;

    ret->count = 0;
    while (at < length) {
        struct field field;
        size_t n;

        if (export_format && data[at] == '\n')
            return ret->count > 0 ? at + 1 : 0;
        n = field_parse(&field, data + at, length - at, export_format);
        if (n == 0 || ret->count == FIELDS_MAX || fields_find(ret, field.name))
            return 0;
        ret->all[ret->count++] = field;
        at += n;
    }
    return export_format ? 0 : at;
}

/* --- What may stand in MESSAGE, the slow way --- */

/* Encodes C, any number below 2^21, in N bytes. */
static inline void utf8_encode(uint8_t *ret, uint32_t c, size_t n)
{
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = n; i-- > 1; c >>= 6)
        ret[i] = (uint8_t)(0x80 | (c & 0x3f));
    ret[0] = (uint8_t)(leads[n] | c);
}

/* Length of the allowed character at TEXT, or 0: the one whose only encoding stands there. */
static inline size_t message_character(const uint8_t *text, size_t length)
{
    static const uint32_t firsts[] = {0, 0, 0x80, 0x800, 0x10000, 0x110000};

    if (text[0] < 0x80)
        return text[0] == '\t' || (text[0] >= ' ' && text[0] != 0x7f);
    for (size_t n = 2; n <= 4 && n <= length; n++) {
        static const uint8_t lead_bits[] = {0, 0, 0x1f, 0x0f, 0x07};
        uint32_t c = text[0] & lead_bits[n];
        uint8_t encoded[4];

        for (size_t i = 1; i < n; i++)
            c = c << 6 | (text[i] & 0x3f);
        utf8_encode(encoded, c, n);
        if (memcmp(encoded, text, n) != 0)
            continue;
        if (c < firsts[n] || c >= firsts[n + 1])
            return 0;
        if ((c >= 0xd800 && c <= 0xdfff) || c <= 0x9f)
            return 0;
        if ((c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069))
            return 0;
        return n;
    }
    return 0;
}

/* Writes what MESSAGE should be for the record TEXT to RET, which holds 4 * LENGTH. Returns its
 * length; *CLEAN says whether it is the record itself. */
static inline size_t message_of(uint8_t *ret, const uint8_t *text, size_t length, bool *clean)
{
    size_t out = 0;

    *clean = true;
    for (size_t i = 0; i < length;) {
        size_t n = message_character(text + i, length - i);

        if (n > 0) {
            memcpy(ret + out, text + i, n);
            out += n;
            i += n;
            continue;
        }
        *clean = false;
        for (const char *p = "\\x"; *p; p++)
            ret[out++] = (uint8_t)*p;
        ret[out++] = (uint8_t) "0123456789abcdef"[text[i] / 16];
        ret[out++] = (uint8_t) "0123456789abcdef"[text[i] % 16];
        i++;
    }
    return out;
}

/* --- What the client sent, from its data events --- */

struct joined {
    uint8_t *bytes; /* for free(3) */
    size_t length;
    size_t records;
    bool continued;     /* the last piece does not end its record */
    bool ended;         /* the last record has no line end */
    bool went_on;       /* and yet there was another one: right only for raw framing */
    size_t resent;      /* events that may repeat an earlier one */
    uint64_t resent_at; /* what the last of them says */
};

/* Takes back whether MESSAGE and NETD_DATA of one data event are what they should be. */
static inline bool data_event_is_sound(const struct fields *f, const struct field **value)
{
    const struct field *message = fields_find(f, "MESSAGE"), *data = fields_find(f, "NETD_DATA");
    uint8_t *expected;
    size_t length;
    bool clean, sound;

    *value = data ? data : message;
    if (!message || message->binary || (data && !data->binary))
        return false;
    expected = malloc((*value)->length * 4 + 1);
    if (!expected)
        abort();
    length = message_of(expected, (*value)->value, (*value)->length, &clean);
    sound = clean == !data && message->length == length &&
            memcmp(message->value, expected, length) == 0;
    free(expected);
    return sound;
}

/* Adds what a data event stands for. Returns false where the contract does not allow the event. */
static inline bool joined_add(struct joined *s, const struct fields *f)
{
    const struct field *terminator = fields_find(f, "NETD_TERMINATOR"), *value;
    const struct field *resent = fields_find(f, "NETD_RESENT");
    const struct field *announced = fields_find(f, "NETD_FRAME_LENGTH");
    bool first = !s->continued, octet = field_is(terminator, "octet");
    bool relp = fields_are(f, "NETD_FRAMING", "relp"); /* each record then ends with LF */
    size_t end_length = 1;
    const char *end = "\n";

    if (!fields_are(f, "NETD_EVENT", "data") || !data_event_is_sound(f, &value))
        return false;
    s->went_on = s->went_on || s->ended;
    s->continued = field_is(terminator, "continued");
    s->ended = field_is(terminator, "none");
    if (resent) {
        s->resent++;
        s->resent_at = strtoull((const char *)resent->value, NULL, 10);
    }
    if (s->continued || s->ended || octet)
        end_length = 0;
    else if (field_is(terminator, "nul"))
        end = "";
    else if (field_is(terminator, "crlf"))
        end = "\r\n", end_length = 2;
    else if (terminator && !field_is(terminator, "relp"))
        return false;
    if (announced && (!first || (octet && !resent)))
        return false;
    s->bytes = realloc(s->bytes, s->length + value->length + 32);
    if (!s->bytes)
        abort();
    if (announced && !relp)
        s->length += (size_t)sprintf((char *)s->bytes + s->length, "%.*s ", (int)announced->length,
                                     (const char *)announced->value);
    else if (first && octet)
        s->length += (size_t)sprintf((char *)s->bytes + s->length, "%zu ", value->length);
    memcpy(s->bytes + s->length, value->value, value->length);
    s->length += value->length;
    memcpy(s->bytes + s->length, end, end_length);
    s->length += end_length;
    s->records += !s->continued;
    return true;
}
