/* SPDX-License-Identifier: MIT */
#include "common/syslog.h"

#include "common/util.h"

#include <stdbool.h>
#include <string.h>

/* Text under construction. Bytes that do not fit are counted, not written. */
struct output {
    uint8_t *at;
    size_t room, length; /* bytes */
};

static void output_put(struct output *out, const void *data, size_t length)
{
    size_t n = min_size(length, out->room);

    if (n > 0) {
        memcpy(out->at, data, n);
        out->at += n;
        out->room -= n;
    }
    out->length += length;
}

static void output_string(struct output *out, const char *string)
{
    output_put(out, string, strlen(string));
}

static void output_text(struct output *out, const struct syslog_text *text)
{
    output_put(out, text->data, text->length);
}

static void output_priority(struct output *out, const struct syslog_fields *f)
{
    char digits[NUMBER_MAX];
    char *end = put_number(digits, (uint64_t)f->facility * 8 + (uint64_t)f->severity);

    output_string(out, "<");
    output_put(out, digits, (size_t)(end - digits));
    output_string(out, ">");
}

static void rebuild_rfc5424(struct output *out, const struct syslog_fields *f)
{
    const struct syslog_text *const header[] = {
        &f->timestamp, &f->hostname, &f->identifier, &f->pid, &f->msgid, &f->structured_data,
    };

    output_priority(out, f);
    output_string(out, "1");
    for (size_t i = 0; i < ARRAY_SIZE(header); i++) {
        output_string(out, " ");
        if (header[i]->data)
            output_text(out, header[i]);
        else
            output_string(out, "-");
    }
    if (f->message.length > 0)
        output_string(out, " ");
    output_text(out, &f->message);
}

static void rebuild_rfc3164(struct output *out, const struct syslog_fields *f)
{
    const struct syslog_text *time = &f->timestamp;

    output_priority(out, f);
    output_text(out, time);
    if (time->length > 0 && time->data[time->length - 1] != ' ')
        output_string(out, " ");
    if (f->hostname.data) {
        output_text(out, &f->hostname);
        output_string(out, " ");
    }
    if (f->identifier.data) {
        output_text(out, &f->identifier);
        if (f->pid.data) {
            output_string(out, "[");
            output_text(out, &f->pid);
            output_string(out, "]");
        }
        output_string(out, f->message.length > 0 ? ": " : ":");
    }
    output_text(out, &f->message);
}

size_t syslog_rebuild(uint8_t *ret, size_t size, const struct syslog_fields *fields)
{
    struct output out = {.at = ret, .room = size};

    switch (fields->format) {
    case SYSLOG_RFC5424:
        rebuild_rfc5424(&out, fields);
        break;
    case SYSLOG_RFC3164:
        rebuild_rfc3164(&out, fields);
        break;
    case SYSLOG_PLAIN:
        output_text(&out, &fields->message);
        break;
    }
    return out.length;
}
