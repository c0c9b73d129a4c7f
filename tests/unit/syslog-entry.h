/* SPDX-License-Identifier: MIT */
/* What the entry of a syslog record has to say, field by field. Shared by tests and fuzzers. */
#pragma once

#include "entry.h"
#include "syslog-check.h"

static const char *const syslog_names[SYSLOG_TEXTS] = {
    "SYSLOG_TIMESTAMP", "NETD_HOSTNAME",          "SYSLOG_IDENTIFIER", "SYSLOG_PID",
    "SYSLOG_MSGID",     "SYSLOG_STRUCTURED_DATA", "MESSAGE",
};

/* True if FIELD is TEXT, escaped where necessary; *CHANGED then says so. */
static inline bool field_shows(const struct field *field, const struct syslog_text *text,
                               bool *changed)
{
    uint8_t *expected;
    bool clean, same;
    size_t length;

    if (!field || !text->data)
        return !field && !text->data;
    expected = malloc(text->length * 4 + 1);
    if (!expected)
        abort();
    length = message_of(expected, text->data, text->length, &clean);
    same = !field->binary && field->length == length && memcmp(field->value, expected, length) == 0;
    free(expected);
    *changed |= !clean;
    return same;
}

static inline bool field_is_number(const struct field *field, int number)
{
    char digits[16];

    snprintf(digits, sizeof(digits), "%d", number);
    return field_is(field, digits);
}

/* The fields that only syslog records have, in order. */
static inline void syslog_entry_names(const struct syslog *s, char ret[static 256])
{
    const struct syslog_fields *f = &s->fields;

    snprintf(ret, 256, "PRIORITY%s%s%s%s%s%s%s%s,NETD_FORMAT,MESSAGE",
             s->priority != f->severity ? ",NETD_SEVERITY" : "",
             f->facility > 0 ? ",SYSLOG_FACILITY" : "",
             f->identifier.data || f->format == SYSLOG_PLAIN ? ",SYSLOG_IDENTIFIER" : "",
             f->pid.data ? ",SYSLOG_PID" : "", f->timestamp.data ? ",SYSLOG_TIMESTAMP" : "",
             f->hostname.data ? ",NETD_HOSTNAME" : "", f->msgid.data ? ",SYSLOG_MSGID" : "",
             f->structured_data.data ? ",SYSLOG_STRUCTURED_DATA" : "");
}

/*
 * True if F, an entry, shows S, the parsed record of LENGTH bytes at DATA: each text in its field,
 * the bytes in NETD_DATA if the fields do not give them back, and IDENTIFIER if it is plain.
 */
static inline bool syslog_entry_is_sound(const struct fields *f, const struct syslog *s,
                                         const uint8_t *data, size_t length, const char *identifier)
{
    static const char *const formats[] = SYSLOG_FORMAT_NAMES;
    const struct field *bytes = fields_find(f, "NETD_DATA");
    const struct syslog_text *texts[SYSLOG_TEXTS];
    bool changed = false, plain = s->fields.format == SYSLOG_PLAIN;

    syslog_texts(&s->fields, texts);
    for (size_t i = 0; i < SYSLOG_TEXTS; i++) {
        const struct field *field = fields_find(f, syslog_names[i]);
        bool ours = plain && texts[i] == &s->fields.identifier;

        if (ours ? !field_is(field, identifier) : !field_shows(field, texts[i], &changed))
            return false;
    }
    if (s->priority != s->fields.severity &&
        !field_is_number(fields_find(f, "NETD_SEVERITY"), s->fields.severity))
        return false;
    if (s->fields.facility > 0 &&
        !field_is_number(fields_find(f, "SYSLOG_FACILITY"), s->fields.facility))
        return false;
    if ((changed || !s->exact) != !!bytes)
        return false;
    if (bytes &&
        (!bytes->binary || bytes->length != length || memcmp(bytes->value, data, length) != 0))
        return false;
    return field_is_number(fields_find(f, "PRIORITY"), s->priority) &&
           fields_are(f, "NETD_FORMAT", formats[s->fields.format]);
}
