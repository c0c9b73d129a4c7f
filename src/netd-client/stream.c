/* SPDX-License-Identifier: MIT */
#include "netd-client/stream.h"

#include "netd-client/repeats.h"

#include <errno.h>
#include <string.h>

typedef int (*stream_sink)(void *userdata, const char *data, size_t length);

/* Which run of marked events an event belongs to, see repeats.h. */
struct run_counter {
    uint64_t runs;
    uint64_t writer; /* process id of the run that goes on; 0: none does */
    bool going;
};

/* The number of EVENT's run, from 1, or 0 when it is not marked. */
static uint64_t run_number(struct run_counter *counter, const struct event *event)
{
    uint64_t writer = value_number(&event->fields[EVENT_PID]);

    if (!event->fields[EVENT_RESENT].text) {
        counter->going = false;
        return 0;
    }
    if (!counter->going || writer != counter->writer)
        counter->runs++;
    counter->going = true;
    counter->writer = writer;
    return counter->runs;
}

/* --- The frame: connect and disconnect --- */

static int stream_life(struct reader *reader, const char *id, enum life *ret)
{
    struct event event;
    int r;

    r = reader_filter(reader, id, KIND_SESSION);
    if (r >= 0)
        r = reader_last(reader, &event);
    *ret = r > 0 ? session_life(&event) : LIFE_UNKNOWN;
    return r < 0 ? r : 0;
}

static int stream_frame(struct reader *reader, const char *id, struct tally *tally)
{
    struct event event;
    int r;

    r = reader_begin(reader, id, KIND_CONNECT | KIND_DISCONNECT);
    if (r < 0)
        return r;
    while ((r = reader_next(reader, &event)) > 0) {
        if (event.kind == KIND_CONNECT) {
            tally->begun = true;
        } else {
            tally->ended = true;
            tally->expected = event_totals(&event);
        }
    }
    if (r < 0 || tally->ended)
        return r;
    return stream_life(reader, id, &tally->life);
}

/* --- Repeats --- */

/* Takes all data events in; *SUM: their bytes. */
static int stream_survey(struct reader *reader, const char *id, struct repeats *repeats,
                         uint64_t *sum)
{
    struct run_counter counter = {0};
    struct event event;
    int r;

    r = reader_begin(reader, id, KIND_DATA);
    if (r < 0)
        return r;
    while ((r = reader_next(reader, &event)) > 0) {
        struct value payload = event_payload(&event);
        const char *ending = event_ending(&event);
        uint64_t run = run_number(&counter, &event);

        r = repeats_add(repeats, run, payload.text, payload.length);
        if (r >= 0)
            r = repeats_add(repeats, run, ending, strlen(ending));
        if (r < 0)
            return r;
        *sum += payload.length + strlen(ending);
    }
    return r;
}

/* Returns 0 with *RET NULL when no event is marked; else the decided repeats, to free. */
static int stream_repeats(struct reader *reader, const char *id, const struct tally *tally,
                          struct repeats **ret)
{
    struct repeats *repeats CLEANUP(repeats_freep) = NULL;
    uint64_t sum = 0, surplus = UINT64_MAX;
    struct event event;
    int r;

    r = reader_filter_resent(reader, id);
    if (r >= 0)
        r = reader_seek_head(reader);
    if (r >= 0)
        r = reader_next(reader, &event);
    if (r <= 0)
        return r;
    repeats = repeats_new();
    if (!repeats)
        return -ENOMEM;
    r = stream_survey(reader, id, repeats, &sum);
    if (r < 0)
        return r;
    if (tally->ended && sum >= tally->expected.bytes)
        surplus = sum - tally->expected.bytes;
    r = repeats_solve(repeats, surplus);
    if (r < 0)
        return r;
    *ret = repeats;
    repeats = NULL;
    return 0;
}

/* --- Data --- */

struct assembly {
    struct tally *tally;
    stream_sink sink;
    void *userdata;
    const struct repeats *repeats; /* NULL: there are none */
    struct run_counter counter;
    uint64_t run;   /* the run at hand */
    uint64_t skip;  /* bytes still to leave out */
    bool continues; /* the last piece was no record's end */
};

static int assembly_write(const struct assembly *a, const char *data, size_t length)
{
    return a->sink && length > 0 ? a->sink(a->userdata, data, length) : 0;
}

/* Leaves out what repeats earlier bytes at the start of DATA. Returns how many. */
static size_t assembly_skip(struct assembly *a, size_t length)
{
    size_t n = (size_t)min_u64(a->skip, length);

    a->skip -= n;
    return n;
}

static int assembly_add(struct assembly *a, const struct event *event)
{
    struct value payload = event_payload(event);
    const char *ending = event_ending(event);
    size_t ending_length = strlen(ending), size = payload.length + ending_length, repeated, in_end;
    uint64_t run = run_number(&a->counter, event);
    bool whole;
    int r;

    if (run != a->run && run > 0)
        a->skip = a->repeats ? repeats_size(a->repeats, run - 1) : 0;
    a->run = run;
    repeated = run > 0 ? assembly_skip(a, size) : 0;
    /* Nothing but the end of a cut record is empty, so a second one repeats the first. */
    whole = size > 0 ? repeated == size : run > 0 && !a->continues;
    a->tally->repeats += whole || repeated > 0;
    if (whole)
        return 0;

    a->continues = value_is(&event->fields[EVENT_TERMINATOR], TERMINATOR_CONTINUED);
    a->tally->records += !a->continues;
    a->tally->bytes += size - repeated;
    in_end = repeated > payload.length ? repeated - payload.length : 0;
    repeated -= in_end;
    r = assembly_write(a, payload.text + repeated, payload.length - repeated);
    return r < 0 ? r : assembly_write(a, ending + in_end, ending_length - in_end);
}

static int stream_data(struct reader *reader, const char *id, struct assembly *assembly)
{
    struct event event;
    int r;

    r = reader_begin(reader, id, KIND_DATA);
    if (r < 0)
        return r;
    while ((r = reader_next(reader, &event)) > 0) {
        r = assembly_add(assembly, &event);
        if (r < 0)
            return r;
    }
    return r;
}

int stream_read(struct reader *reader, const char *id, stream_sink sink, void *userdata,
                struct tally *ret)
{
    struct repeats *repeats CLEANUP(repeats_freep) = NULL;
    struct tally tally = {0};
    struct assembly assembly = {.tally = &tally, .sink = sink, .userdata = userdata};
    int r;

    r = stream_frame(reader, id, &tally);
    if (r >= 0)
        r = stream_repeats(reader, id, &tally, &repeats);
    if (r < 0)
        return r;
    assembly.repeats = repeats;
    r = stream_data(reader, id, &assembly);
    if (r < 0)
        return r;
    *ret = tally;
    return 0;
}

/* --- The verdict --- */

bool tally_adds_up(const struct tally *tally)
{
    return tally->ended && tally->bytes == tally->expected.bytes &&
           tally->records == tally->expected.records;
}

enum verdict tally_verdict(const struct tally *tally)
{
    const struct totals *expected = &tally->expected;

    if (!tally->ended)
        return tally->life == LIFE_OPEN ? VERDICT_OPEN : VERDICT_NO_END;
    if (!tally->begun)
        return VERDICT_NO_BEGINNING;
    if (tally_adds_up(tally))
        return tally->repeats > 0 ? VERDICT_REPEATS : VERDICT_OK;
    if (tally->bytes != expected->bytes)
        return tally->bytes < expected->bytes ? VERDICT_GAP : VERDICT_SURPLUS;
    return tally->records < expected->records ? VERDICT_GAP : VERDICT_SURPLUS;
}

const char *verdict_word(enum verdict verdict)
{
    static const char *const words[] = {
        [VERDICT_OK] = "ok",
        [VERDICT_REPEATS] = "repeats",
        [VERDICT_GAP] = "gap",
        [VERDICT_SURPLUS] = "surplus",
        [VERDICT_NO_BEGINNING] = "no-beginning",
        [VERDICT_NO_END] = "no-end",
        [VERDICT_OPEN] = "open",
    };

    return words[verdict];
}

bool verdict_holds(enum verdict verdict)
{
    return verdict == VERDICT_OK || verdict == VERDICT_REPEATS;
}
