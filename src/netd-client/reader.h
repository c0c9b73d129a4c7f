/* SPDX-License-Identifier: MIT */
/*
 * Reads the events of netd from the journal; the only module that uses sd-journal(3). A reader has
 * a position; the event that it returns is valid until the position changes.
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
    KIND_SESSION = KIND_CONNECT | KIND_DATA | KIND_DISCONNECT, /* a refused client has no session */
    KIND_ANY = KIND_SESSION | KIND_REFUSED,
};

enum event_field {
    EVENT_NAME,
    EVENT_SESSION,
    EVENT_PEER,
    EVENT_LOCAL,
    EVENT_LISTENER,
    EVENT_REASON,
    EVENT_RECORDS,
    EVENT_BYTES,
    EVENT_DURATION,
    EVENT_ERRNO,
    EVENT_TERMINATOR,
    EVENT_RESENT,
    EVENT_FRAME_LENGTH,
    EVENT_FRAMING,
    EVENT_MESSAGE,
    EVENT_DATA_BYTES,
    /* Fields of a syslog record. */
    EVENT_FORMAT,
    EVENT_PRIORITY,
    EVENT_SEVERITY,
    EVENT_FACILITY,
    EVENT_IDENTIFIER,
    EVENT_SYSLOG_PID,
    EVENT_TIMESTAMP,
    EVENT_HOSTNAME,
    EVENT_MSGID,
    EVENT_STRUCTURED_DATA,
    /* Trusted fields about the process that logged the event. */
    EVENT_HOST,
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
    const char *text; /* any bytes, NUL-terminated; NULL: no such field */
    size_t length;
};

struct event {
    enum event_kind kind;
    uint64_t time; /* when journald received it: microseconds since the epoch */
    struct value fields[EVENT_FIELDS];
    struct value rebuilt; /* the record, if none of the fields has all of it */
};

struct reader;

/* Numbers in a disconnect event. */
struct totals {
    uint64_t records, bytes, duration; /* microseconds */
};

/*
 * Opens the journal selected by OPTIONS. Returns -1 and *RET, to be freed by the caller; or an exit
 * status after printing one line on standard error.
 */
int reader_open(const struct options *options, struct reader **ret);

/* READER may be NULL. */
struct reader *reader_free(struct reader *reader);
void reader_freep(struct reader **reader);

/*
 * reader_filter() restricts the reader to events of the given KINDS, and unless it is NULL of
 * SESSION, a full ID; the position is undefined afterwards. The seek functions move before the
 * first and after the last event. All return 0 or a negative errno.
 */
int reader_filter(struct reader *reader, const char *session, unsigned kinds);
int reader_seek_head(struct reader *reader);
int reader_seek_tail(struct reader *reader);

/* Restricts the filter further, to events of LISTENER. Returns 0 or a negative errno. */
int reader_filter_listener(struct reader *reader, const char *listener);

/* Combines reader_filter() and reader_seek_head(). */
int reader_begin(struct reader *reader, const char *session, unsigned kinds);

/* Move by one event. Return 1 and *RET, 0 if there is none, or a negative errno. */
int reader_next(struct reader *reader, struct event *ret);
int reader_previous(struct reader *reader, struct event *ret);

/* Combines reader_seek_tail() and reader_previous(). */
int reader_last(struct reader *reader, struct event *ret);

/* Moves before the last COUNT events. Returns 0 or a negative errno. */
int reader_seek_last(struct reader *reader, uint64_t count);

/* Waits for a change of the journal. Returns 0, 1 if the reading end of OUTPUT was closed, or a
 * negative errno. */
int reader_wait(struct reader *reader, int output);

/*
 * Waits for a change of the journal, in all calls together for at most STORE_TIMEOUT_USEC. Returns
 * 1 if there may be new entries, 0 when the time is over, or a negative errno.
 */
#define STORE_TIMEOUT_USEC (2 * USEC_PER_SEC)
int reader_wait_stored(struct reader *reader);

/*
 * Calls EACH for every session ID in the journal that begins with PREFIX, including those of
 * refused clients, in no particular order and regardless of the filter. Stops at a non-zero result
 * of EACH and returns it; otherwise returns 0 or a negative errno. EACH must not move the reader.
 */
int reader_each_session(struct reader *reader, const char *prefix,
                        int (*each)(void *userdata, const char *session), void *userdata);

/* Returns 1 if the journal has entries of more than one host, regardless of the filter; 0, or a
 * negative errno. */
int reader_has_several_hosts(struct reader *reader);

/*
 * Counts the entries of UNIT that journald says it dropped at or after SINCE (microseconds since
 * the epoch), because of its rate limit; it says so some time later. Returns 0 and *RET, or a
 * negative errno. Changes the filter.
 */
int reader_count_dropped(struct reader *reader, const char *unit, uint64_t since, uint64_t *ret);

/* Copies the last error that UNIT has written to RET, of SIZE bytes. Returns 1, 0 if there is none,
 * or a negative errno. Changes the filter. */
int reader_last_error(struct reader *reader, const char *unit, char *ret, size_t size);

/* Returns 0 and the size of the journal's files in *RET, in bytes, or a negative errno. */
int reader_usage(struct reader *reader, uint64_t *ret);

/* The value as a number; 0 if there is no value or it is not a number. */
uint64_t value_number(const struct value *value);

/* True if the value exists and equals TEXT. */
bool value_is(const struct value *value, const char *text);

/* True if PEER, "192.0.2.1:4711", "[fe80::1%eth0]:4711" or "unix", has this ADDRESS. An ADDRESS
 * without a scope matches any scope. */
bool peer_has_address(const char *peer, const char *address);

/* The numbers in EVENT, a disconnect event. */
struct totals event_totals(const struct event *event);

/* The record or piece of EVENT, a data event, without its terminator. */
struct value event_payload(const struct event *event);

/* The bytes of its terminator: LF, CR LF, NUL or none. */
struct value event_ending(const struct event *event);
