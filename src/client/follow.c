/* SPDX-License-Identifier: MIT */
/* follow: events as they come, after the last few that came. */
#include "client/output.h"
#include "client/session.h"

#include <errno.h>
#include <string.h>

#define LINES_DEFAULT 10 /* as journalctl -f */

/* Shows what there is. Returns 1 when SESSION has ended, 0 when there may be more to come. */
static int follow_rest(const struct output *output, struct reader *reader, bool json,
                       const char *session)
{
    struct event event;
    int r;

    while ((r = reader_next(reader, &event)) > 0) {
        if (json)
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

static int follow_events(const struct output *output, struct reader *reader,
                         const struct options *options, const char *session)
{
    uint64_t lines = options->lines == UINT64_MAX ? LINES_DEFAULT : options->lines;
    int r = reader_seek_last(reader, lines);

    while (r >= 0 && (r = follow_rest(output, reader, options->json, session)) == 0) {
        if (fflush(stdout) != 0)
            return 0; /* main says why */
        r = reader_wait(reader);
    }
    return r;
}

int follow_run(const struct options *options, char **arguments, int count)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    char id[SESSION_ID_HEX + 1] = "";
    struct output output;
    int r;

    r = count > 0 ? session_open(options, arguments[0], &reader, id)
                  : reader_open(options, &reader);
    if (r >= 0)
        return r;
    output_open(&output, options, false);
    r = reader_filter(reader, count > 0 ? id : NULL, KIND_ANY);
    if (r >= 0)
        r = follow_events(&output, reader, options, count > 0 ? id : NULL);
    return r < 0 ? session_fail_journal(r) : STATUS_OK;
}
