/* SPDX-License-Identifier: MIT */
/* show: a summary of a session, and its events. */
#include "common/escape.h"
#include "netd-client/output.h"
#include "netd-client/record.h"
#include "netd-client/session.h"

#include <string.h>

static void show_value(const char *label, const struct value *value)
{
    printf("%9s: ", label);
    if (value->text)
        escape_write(stdout, value->text, value->length);
    putchar('\n');
}

static void show_time(const struct output *output, const char *label, uint64_t usec)
{
    char time[TIME_TEXT_MAX];

    output_time(output, usec, false, time);
    printf("%9s: %s%s\n", label, time, output->utc ? " UTC" : "");
}

static void show_totals(const struct event *event)
{
    struct totals totals = event_totals(event);
    char duration[DURATION_TEXT_MAX], records[COUNT_TEXT_MAX], bytes[COUNT_TEXT_MAX];

    output_duration(totals.duration, duration);
    output_count(totals.records, "record", records);
    output_count(totals.bytes, "byte", bytes);
    printf("%9s: %s\n%9s: %s, %s\n", "Duration", duration, "Total", records, bytes);
}

/* EVENT is the first or last event of the session in the journal. */
static void show_head_of(const struct output *output, const struct event *event, bool first,
                         bool with_host)
{
    if (first) {
        show_value("Session", &event->fields[EVENT_SESSION]);
        if (with_host)
            show_value("Host", &event->fields[EVENT_HOST]);
        show_value("Peer", &event->fields[EVENT_PEER]);
        if (event->kind == KIND_CONNECT)
            show_value("Local", &event->fields[EVENT_LOCAL]);
        if (event->fields[EVENT_LISTENER].text)
            show_value("Listener", &event->fields[EVENT_LISTENER]);
        if (event->kind == KIND_CONNECT) {
            show_time(output, "Begin", event->time);
        } else {
            printf("%9s: %s\n", "Begin", "not in the journal");
        }
        return;
    }
    if (event->kind == KIND_DISCONNECT) {
        show_time(output, "End", event->time);
        show_value("Reason", &event->fields[EVENT_REASON]);
        show_totals(event);
    } else {
        printf("%9s: %s\n", "End", session_state_word(session_state_of(event)));
    }
    putchar('\n');
}

static int show_head(const struct output *output, struct reader *reader)
{
    struct event event;
    int r, several;

    several = r = reader_has_several_hosts(reader);
    if (r >= 0)
        r = reader_seek_head(reader);
    if (r >= 0)
        r = reader_next(reader, &event);
    if (r <= 0)
        return r;
    show_head_of(output, &event, true, several);
    r = reader_last(reader, &event);
    if (r > 0)
        show_head_of(output, &event, false, several);
    return r;
}

static int show_events(const struct output *output, struct reader *reader,
                       const struct options *options)
{
    struct event event;
    int r = reader_seek_head(reader);

    while (r >= 0 && (r = reader_next(reader, &event)) > 0) {
        if (options->selects && !record_is_selected(&event, options))
            continue;
        if (options->json)
            r = output_json(event_json(&event));
        else
            output_event(output, &event, false);
    }
    return r;
}

int show_run(const struct options *options, char **arguments, int count)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    char id[SESSION_ID_HEX + 1];
    struct output output;
    int r;

    (void)count;
    r = session_open(options, arguments[0], true, &reader, id);
    if (r >= 0)
        return r;
    r = reader_filter(reader, id, KIND_SESSION);
    if (r < 0)
        return session_fail_journal(r);
    output_open(&output, options, !options->json);
    if (!options->json)
        r = show_head(&output, reader);
    if (r >= 0)
        r = show_events(&output, reader, options);
    output_close(&output);
    return r < 0 ? session_fail_journal(r) : EXIT_SUCCESS;
}
