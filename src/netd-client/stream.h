/* SPDX-License-Identifier: MIT */
/* The byte stream of one session, read from the journal, and whether it is complete. */
#pragma once

#include "netd-client/session.h"

struct tally {
    bool has_connect;         /* there is a connect event */
    bool ended;               /* there is a disconnect event */
    enum session_state state; /* if not ended */
    struct totals expected;   /* if ended */
    uint64_t records, bytes;  /* of the data events, without repeats */
    uint64_t repeats;         /* data events that were repeats, entirely or in part */
};

enum verdict {
    VERDICT_OK,
    VERDICT_REPEATS,      /* complete, after dropping repeats */
    VERDICT_GAP,          /* less than in the disconnect event */
    VERDICT_SURPLUS,      /* more than in the disconnect event */
    VERDICT_NO_BEGINNING, /* no connect event: rotated away, perhaps with data events */
    VERDICT_NO_END,       /* no disconnect event, and netd will not log one */
    VERDICT_OPEN,         /* no disconnect event yet */
    VERDICTS,
};

/*
 * Reassembles what the client of session ID sent, and passes it to SINK in pieces, unless it is
 * NULL; a negative result of SINK is returned. Memory use does not depend on the size of the
 * session. Returns 0 and *RET, or a negative errno.
 */
int stream_read(struct reader *reader, const char *id,
                int (*sink)(void *userdata, const char *data, size_t length), void *userdata,
                struct tally *ret);

/* True if the data events add up to the numbers in the disconnect event. */
bool tally_adds_up(const struct tally *tally);

enum verdict tally_verdict(const struct tally *tally);

/* The word that verify prints, see netd-client(1). */
const char *verdict_word(enum verdict verdict);

/* True if the verdict means that nothing is missing. */
bool verdict_holds(enum verdict verdict);
