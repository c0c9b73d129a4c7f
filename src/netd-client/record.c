/* SPDX-License-Identifier: MIT */
#include "netd-client/record.h"

#include "common/syslog.h"

#define FACILITY_MAX     23
#define SEVERITY_MAX     7
#define SEVERITY_DEFAULT 6

/* VALUE as a number up to MAX, or -1 if it is something else. */
static int value_small(const struct value *value, int max)
{
    uint64_t number;

    return value->text && parse_u64(value->text, (uint64_t)max, &number) == 0 ? (int)number : -1;
}

static const struct value *severity_value(const struct event *event)
{
    const struct value *sent = &event->fields[EVENT_SEVERITY];

    return sent->text ? sent : &event->fields[EVENT_PRIORITY];
}

int record_severity(const struct event *event)
{
    int severity = value_small(severity_value(event), SEVERITY_MAX);

    return severity < 0 ? SEVERITY_DEFAULT : severity;
}

/* Returns false if EVENT is not a syslog record, or not one that netd wrote. */
static bool record_read(const struct event *event, struct syslog_fields *ret)
{
    static const char *const formats[] = SYSLOG_FORMAT_NAMES;
    const struct value *facility = &event->fields[EVENT_FACILITY];

    *ret = (struct syslog_fields){
        .facility = facility->text ? value_small(facility, FACILITY_MAX) : 0,
        .severity = value_small(severity_value(event), SEVERITY_MAX),
    };
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
        if (value_is(&event->fields[EVENT_FORMAT], formats[i]))
            ret->format = (enum syslog_format)i;
    return ret->format != SYSLOG_PLAIN && ret->facility >= 0 && ret->severity >= 0;
}

bool record_is_syslog(const struct event *event)
{
    struct syslog_fields f;

    return event->kind == KIND_DATA && record_read(event, &f);
}

bool record_is_selected(const struct event *event, const struct options *options)
{
    if (options->identifier && !value_is(&event->fields[EVENT_IDENTIFIER], options->identifier))
        return false;
    if (options->hostname && !value_is(&event->fields[EVENT_HOSTNAME], options->hostname))
        return false;
    return event->kind == KIND_DATA && record_severity(event) <= options->priority;
}

bool record_needs_rebuild(const struct event *event)
{
    return !event->fields[EVENT_DATA_BYTES].text && record_is_syslog(event);
}

static struct syslog_text record_text(const struct event *event, enum event_field field)
{
    const struct value *value = &event->fields[field];

    return (struct syslog_text){.data = (const uint8_t *)value->text, .length = value->length};
}

size_t record_rebuild(const struct event *event, void *ret, size_t size)
{
    struct syslog_fields f;

    (void)record_read(event, &f);
    f.timestamp = record_text(event, EVENT_TIMESTAMP);
    f.hostname = record_text(event, EVENT_HOSTNAME);
    f.identifier = record_text(event, EVENT_IDENTIFIER);
    f.pid = record_text(event, EVENT_SYSLOG_PID);
    f.msgid = record_text(event, EVENT_MSGID);
    f.structured_data = record_text(event, EVENT_STRUCTURED_DATA);
    f.message = record_text(event, EVENT_MESSAGE);
    return syslog_rebuild(ret, size, &f);
}
