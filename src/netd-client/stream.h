/* SPDX-License-Identifier: MIT */
/* What one client sent, put together from its session's data events, and whether it is all. */
#pragma once

#include "netd-client/session.h"

struct tally {
    bool begun;              /* there is a connect event */
    bool ended;              /* there is a disconnect event */
    enum life life;          /* when not ended */
    struct totals expected;  /* when ended */
    uint64_t records, bytes; /* of the data events, repeats left out */
    uint64_t repeats;        /* data events that were repeats, or began with one */
};

enum verdict {
    VERDICT_OK,
    VERDICT_REPEATS,      /* all there, and repeats left out */
    VERDICT_GAP,          /* less than the disconnect event says */
    VERDICT_SURPLUS,      /* more than it says */
    VERDICT_NO_BEGINNING, /* the connect event is missing, and what else was rotated away */
    VERDICT_NO_END,       /* no disconnect event, and netd will not write it any more */
    VERDICT_OPEN,         /* no disconnect event yet */
    VERDICTS,
};

/*
 * Hands what the client of the session ID sent to SINK, in pieces and in order, unless it is NULL;
 * a negative result ends it and is returned. Memory does not grow with the session. Returns 0 with
 * *RET filled in, or a negative errno.
 */
int stream_read(struct reader *reader, const char *id,
                int (*sink)(void *userdata, const char *data, size_t length), void *userdata,
                struct tally *ret);

/* True when the data events add up to what the disconnect event says. */
bool tally_adds_up(const struct tally *tally);

enum verdict tally_verdict(const struct tally *tally);

/* The word of verify's output, see netd-client(1). */
const char *verdict_word(enum verdict verdict);

/* True for those that mean that nothing is missing. */
bool verdict_holds(enum verdict verdict);
