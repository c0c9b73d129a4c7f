/* SPDX-License-Identifier: MIT */
#include "netd-client/stream.h"

#include "netd-client/assembly.h"

typedef int (*stream_sink)(void *userdata, const char *data, size_t length);

/* --- Connect and disconnect --- */

static int stream_state(struct reader *reader, const char *id, enum session_state *ret)
{
    struct event event;
    int r;

    r = reader_filter(reader, id, KIND_SESSION);
    if (r >= 0)
        r = reader_last(reader, &event);
    *ret = r > 0 ? session_state_of(&event) : SESSION_UNKNOWN;
    return r < 0 ? r : 0;
}

static int stream_read_ends(struct reader *reader, const char *id, struct tally *tally)
{
    struct event event;
    int r;

    r = reader_begin(reader, id, KIND_CONNECT | KIND_DISCONNECT);
    if (r < 0)
        return r;
    while ((r = reader_next(reader, &event)) > 0) {
        if (event.kind == KIND_CONNECT) {
            tally->has_connect = true;
        } else {
            tally->ended = true;
            tally->expected = event_totals(&event);
        }
    }
    if (r < 0 || tally->ended)
        return r;
    return stream_state(reader, id, &tally->state);
}

/* --- Data --- */

static int stream_write(stream_sink sink, void *userdata, const struct value *bytes)
{
    return sink && bytes->length > 0 ? sink(userdata, bytes->text, bytes->length) : 0;
}

/* What stands behind the record that EVENT ends: an LF for one of a RELP session, whose bytes are
 * counted without what was around them. */
static struct value stream_separator(const struct event *event)
{
    bool relp = value_is(&event->fields[EVENT_TERMINATOR], TERMINATOR_RELP);

    return (struct value){.text = "\n", .length = relp};
}

static int stream_data(struct reader *reader, const char *id, stream_sink sink, void *userdata,
                       struct assembly *assembly)
{
    struct value parts[EVENT_PARTS];
    struct event event;
    int r;

    r = reader_begin(reader, id, KIND_DATA);
    if (r < 0)
        return r;
    while ((r = reader_next(reader, &event)) > 0) {
        uint64_t records = assembly->records;
        struct value separator = stream_separator(&event);

        assembly_add(assembly, &event, parts);
        for (size_t i = 0; r >= 0 && i < EVENT_PARTS; i++)
            r = stream_write(sink, userdata, &parts[i]);
        if (r >= 0 && assembly->records > records)
            r = stream_write(sink, userdata, &separator);
        if (r < 0)
            return r;
    }
    return r;
}

int stream_read(struct reader *reader, const char *id, stream_sink sink, void *userdata,
                struct tally *ret)
{
    struct assembly assembly = {0};
    struct tally tally = {0};
    int r;

    r = stream_read_ends(reader, id, &tally);
    if (r >= 0)
        r = stream_data(reader, id, sink, userdata, &assembly);
    if (r < 0)
        return r;
    tally.records = assembly.records;
    tally.bytes = assembly.bytes;
    tally.repeats = assembly.repeats;
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
        return tally->state == SESSION_OPEN ? VERDICT_OPEN : VERDICT_NO_END;
    if (!tally->has_connect)
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
