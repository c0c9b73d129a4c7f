/* SPDX-License-Identifier: MIT */
/* Looking up sessions by ID or prefix, and their state. */
#pragma once

#include "netd-client/reader.h"

/* State of a session without a disconnect event. */
enum session_state {
    SESSION_OPEN,      /* the netd that logged it is running */
    SESSION_ABANDONED, /* that netd was killed, and will not log the end */
    SESSION_UNKNOWN,   /* the events are from another host, or lack the fields to tell */
};

/*
 * Looks up the session with the unique PREFIX, and sets RET to its ID; if it is ambiguous, lists
 * the sessions on standard error, with times as in OPTIONS. If PREFIX is a full ID,
 * waits for the session, and with ENDED for its end, see reader_wait_stored(): journald may not
 * have stored it yet. Returns -1, or an exit status after printing one line on standard error.
 * Changes the filter of the reader.
 */
int session_find(struct reader *reader, const struct options *options, const char *prefix,
                 bool ended, char ret[static SESSION_ID_HEX + 1]);

/* Combines reader_open() and session_find(). */
int session_open(const struct options *options, const char *prefix, bool ended, struct reader **ret,
                 char id[static SESSION_ID_HEX + 1]);

/* State of a session according to EVENT, its last event: whether the same invocation of the unit is
 * still running. */
enum session_state session_state_of(const struct event *event);

/* "open", "abandoned", "unknown". */
const char *session_state_word(enum session_state state);

/* Reports ERROR, a negative errno from the reader. Returns EXIT_FAILED. */
int session_fail_journal(int error);
