/* SPDX-License-Identifier: MIT */
/* Properties of any parsed record. Shared by tests and fuzzers. */
#pragma once

#include "netd/protocol/syslog.h"

#include <stdlib.h>
#include <string.h>

/* The fields in the order of RFC 5424, MESSAGE last. */
#define SYSLOG_TEXTS 7
static inline void syslog_texts(const struct syslog_fields *f,
                                const struct syslog_text *ret[static SYSLOG_TEXTS])
{
    const struct syslog_text *const all[SYSLOG_TEXTS] = {
        &f->timestamp, &f->hostname,        &f->identifier, &f->pid,
        &f->msgid,     &f->structured_data, &f->message,
    };

    memcpy(ret, all, sizeof(all));
}

/* True if syslog_rebuild() returns the LENGTH bytes at DATA. Ends the test if it overflows. */
static inline bool syslog_gives_back(const struct syslog_fields *fields, const uint8_t *data,
                                     size_t length)
{
    size_t size = syslog_rebuild(NULL, 0, fields);
    uint8_t *all = malloc(size + 1), *part = malloc(size / 2 + 1);
    bool same;

    if (!all || !part)
        abort();
    all[size] = part[size / 2] = 0xa5;
    if (syslog_rebuild(all, size, fields) != size || all[size] != 0xa5)
        abort();
    if (syslog_rebuild(part, size / 2, fields) != size || part[size / 2] != 0xa5 ||
        memcmp(part, all, size / 2) != 0)
        abort();
    same = size == length && memcmp(all, data, length) == 0;
    free(all);
    free(part);
    return same;
}

/* True if no two texts overlap. */
static inline bool syslog_texts_are_apart(const struct syslog_text *texts[static SYSLOG_TEXTS])
{
    for (size_t i = 0; i < SYSLOG_TEXTS; i++)
        for (size_t k = 0; k < i; k++) {
            const struct syslog_text *a = texts[i], *b = texts[k];

            if (a->length > 0 && b->length > 0 && a->data < b->data + b->length &&
                b->data < a->data + a->length)
                return false;
        }
    return true;
}

/* True if the texts are separate parts of the record, and the flags are right. */
static inline bool syslog_is_sound(const struct syslog *s, const uint8_t *data, size_t length)
{
    const struct syslog_text *texts[SYSLOG_TEXTS];
    bool clean = true;

    syslog_texts(&s->fields, texts);
    for (size_t i = 0; i < SYSLOG_TEXTS; i++) {
        const struct syslog_text *text = texts[i];

        if (!text->data && (text->length > 0 || text == &s->fields.message))
            return false;
        if (!text->data || text == &s->fields.message)
            continue;
        if (text->data < data || text->length > (size_t)(data + length - text->data))
            return false;
        for (size_t k = 0; k < text->length; k++) {
            if (text->data[k] == '\n' && text != &s->fields.structured_data)
                return false;
            clean &= text->data[k] >= ' ' && text->data[k] < 0x7f;
        }
    }
    return syslog_texts_are_apart(texts) && s->clean == clean &&
           s->exact == syslog_gives_back(&s->fields, data, length) && s->fields.facility >= 0 &&
           s->fields.facility <= 23 && s->fields.severity >= 0 && s->fields.severity <= 7;
}
