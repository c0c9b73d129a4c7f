/* SPDX-License-Identifier: MIT */
/* follow: show the last events, and new ones as they are logged. */
#include "netd-client/output.h"
#include "netd-client/record.h"
#include "netd-client/session.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LINES_DEFAULT 10 /* like journalctl -f */

static bool follow_wants(const struct event *event, const struct options *options)
{
    const char *peer = event->fields[EVENT_PEER].text;

    if (options->selects && !record_is_selected(event, options))
        return false;
    return !*options->peer || (peer && peer_has_address(peer, options->peer));
}

/* Moves before the last COUNT events. */
static int follow_seek_last(struct reader *reader, const struct options *options, uint64_t count)
{
    struct event event;
    int r;

    if ((!*options->peer && !options->selects) || count == 0)
        return reader_seek_last(reader, count);
    r = reader_seek_tail(reader);
    while (r >= 0 && (r = reader_previous(reader, &event)) > 0)
        if (follow_wants(&event, options) && count-- == 0)
            return 0;
    return r < 0 ? r : reader_seek_head(reader);
}

/* Shows all new events. Returns 1 if SESSION has ended, 0 if more may follow, or a negative errno.
 */
static int follow_rest(const struct output *output, struct reader *reader,
                       const struct options *options, const char *session)
{
    struct event event;
    int r;

    while ((r = reader_next(reader, &event)) > 0) {
        if (!follow_wants(&event, options))
            ;
        else if (options->json)
            r = output_json(event_json(&event));
        else
            output_event(output, &event, !session);
        if (r < 0)
            return r;
        if (session && event.kind == KIND_DISCONNECT)
            return 1;
    }
    return r;
}

/* Returns 1 if there will be no more events of SESSION, 0 if there may, or a negative errno. */
static int follow_is_over(struct reader *reader, const struct options *options, const char *session)
{
    struct event event;
    int r;

    r = reader_filter(reader, session, KIND_SESSION);
    if (r >= 0)
        r = reader_last(reader, &event);
    if (r <= 0 || event.kind == KIND_DISCONNECT)
        return r;
    if (session_state_of(&event) != SESSION_ABANDONED)
        return 0;
    if (!options->quiet)
        client_fail(0, "session %s was abandoned: netd is gone and will not log its end", session);
    return 1;
}

/* SESSION may be NULL, for all sessions. */
static int follow_events(const struct output *output, struct reader *reader,
                         const struct options *options, const char *session)
{
    uint64_t lines = options->lines == UINT64_MAX ? LINES_DEFAULT : options->lines;
    int over = session ? follow_is_over(reader, options, session) : 0, r = over;

    if (r >= 0)
        r = reader_filter(reader, session, KIND_ANY);
    if (r >= 0 && options->listener)
        r = reader_filter_listener(reader, options->listener);
    if (r >= 0)
        r = follow_seek_last(reader, options, lines);
    while (r == 0 && (r = follow_rest(output, reader, options, session)) == 0 && !over) {
        if (fflush(stdout) != 0)
            return 0; /* main() reports it */
        r = reader_wait(reader, STDOUT_FILENO);
    }
    return r;
}

int follow_run(const struct options *options, char **arguments, int count)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    char id[SESSION_ID_HEX + 1] = "";
    struct output output;
    int r;

    r = count > 0 ? session_open(options, arguments[0], false, &reader, id)
                  : reader_open(options, &reader);
    if (r >= 0)
        return r;
    output_open(&output, options, false);
    r = follow_events(&output, reader, options, count > 0 ? id : NULL);
    return r < 0 ? session_fail_journal(r) : EXIT_SUCCESS;
}
