/* SPDX-License-Identifier: MIT */
/*
 * The journal as netd's events: the one file that includes sd-journal.h. A reader stands at one
 * event; what it hands out is valid until it moves.
 */
#pragma once

#include "common/names.h"
#include "netd-client/client.h"

#include <stddef.h>

enum event_kind {
    KIND_CONNECT = 1,
    KIND_DATA = 2,
    KIND_DISCONNECT = 4,
    KIND_REFUSED = 8,
    KIND_SESSION = KIND_CONNECT | KIND_DATA | KIND_DISCONNECT, /* refused: no session follows */
    KIND_ANY = KIND_SESSION | KIND_REFUSED,
};

enum event_field {
    EVENT_NAME,
    EVENT_SESSION,
    EVENT_PEER,
    EVENT_LOCAL,
    EVENT_REASON,
    EVENT_RECORDS,
    EVENT_BYTES,
    EVENT_DURATION,
    EVENT_ERRNO,
    EVENT_TERMINATOR,
    EVENT_RESENT,
    EVENT_MESSAGE,
    EVENT_DATA_BYTES,
    /* What journald says about the process that wrote it. */
    EVENT_MACHINE,
    EVENT_BOOT,
    EVENT_INVOCATION,
    EVENT_UNIT,
    EVENT_USER_UNIT,
    EVENT_OWNER,
    EVENT_PID,
    EVENT_COMM,
    EVENT_FIELDS,
};

struct value {
    const char *text; /* any bytes, and a NUL behind them; NULL: the field is not there */
    size_t length;
};

struct event {
    enum event_kind kind;
    uint64_t time; /* when journald got it: microseconds since the epoch */
    struct value fields[EVENT_FIELDS];
};

struct reader;

/* The numbers of a disconnect event. */
struct totals {
    uint64_t records, bytes, duration; /* microseconds */
};

/*
 * Opens the journal that OPTIONS name. Returns -1 with *RET to free, or the status to exit with,
 * after one line on standard error.
 */
int reader_open(const struct options *options, struct reader **ret);

/* Takes NULL, too. */
struct reader *reader_free(struct reader *reader);
void reader_freep(struct reader **reader);

/*
 * From now on only events of the KINDS, of SESSION (a whole id) unless it is NULL; the position is
 * lost. The seeks put it before the first and behind the last event. Return 0 or a negative errno.
 */
int reader_filter(struct reader *reader, const char *session, unsigned kinds);
int reader_seek_head(struct reader *reader);
int reader_seek_tail(struct reader *reader);

/* reader_filter() and reader_seek_head() in one. */
int reader_begin(struct reader *reader, const char *session, unsigned kinds);

/* Move by one event. Return 1 with *RET filled in, 0 when there is none, or a negative errno. */
int reader_next(struct reader *reader, struct event *ret);
int reader_previous(struct reader *reader, struct event *ret);

/* reader_seek_tail() and reader_previous() in one. */
int reader_last(struct reader *reader, struct event *ret);

/* Puts the position before the last COUNT events. Returns 0 or a negative errno. */
int reader_seek_last(struct reader *reader, uint64_t count);

/*
 * Waits until the journal has changed. Returns 0, 1 when nobody reads any more what is written to
 * OUTPUT, or a negative errno.
 */
int reader_wait(struct reader *reader, int output);

/*
 * Waits until the journal has changed, or may have; all calls together no longer than
 * PATIENCE_USEC. Returns 1, 0 when that is over, or a negative errno.
 */
#define PATIENCE_USEC (2 * USEC_PER_SEC)
int reader_wait_briefly(struct reader *reader);

/*
 * Calls EACH with every session id in the journal that begins with PREFIX, those of refused clients
 * included, in no order, whatever the filter is. A non-zero result ends it and is returned. Else 0
 * or a negative errno. EACH may not move the reader.
 */
int reader_each_session(struct reader *reader, const char *prefix,
                        int (*each)(void *userdata, const char *session), void *userdata);

/* The value as a number; 0 when it is not there or none. */
uint64_t value_number(const struct value *value);

/* True when the value is there and reads TEXT. */
bool value_is(const struct value *value, const char *text);

/* What the disconnect event EVENT says. */
struct totals event_totals(const struct event *event);

/* The bytes that EVENT, a data event, says the client sent, without their end. */
struct value event_payload(const struct event *event);

/* The bytes that ended them: "\n", "\r\n" or "". */
const char *event_ending(const struct event *event);
