/* SPDX-License-Identifier: MIT */
/* Sessions as a whole: finding one by the beginning of its id, and what became of it. */
#pragma once

#include "netd-client/reader.h"

/* What became of a session that has no disconnect event. */
enum life {
    LIFE_OPEN,    /* the netd that wrote its events runs */
    LIFE_DIED,    /* that netd is gone, and nothing ended the session */
    LIFE_UNKNOWN, /* the events come from another machine, or do not say who wrote them */
};

/*
 * Puts the id of the one session that begins with PREFIX in RET. For a whole id that is not there,
 * or with ENDED has no end, it waits a moment: journald may not have stored all of it yet. Returns
 * -1, or the status to exit with, after one line on standard error. The reader's filter is lost.
 */
int session_find(struct reader *reader, const char *prefix, bool ended,
                 char ret[static SESSION_ID_HEX + 1]);

/* reader_open() and session_find() in one, with the results of both. */
int session_open(const struct options *options, const char *prefix, bool ended, struct reader **ret,
                 char id[static SESSION_ID_HEX + 1]);

/* Whether the netd that wrote EVENT still runs: the same boot, and the same start of its unit. */
enum life session_life(const struct event *event);

/* "open", "died", "unknown". */
const char *session_life_word(enum life life);

/* One line about a negative errno from the reader; returns EXIT_FAILED. */
int session_fail_journal(int error);
