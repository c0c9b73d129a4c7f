/* SPDX-License-Identifier: MIT */
/*
 * Sending over a connection: waiting with a limit on the time without progress, and the progress
 * line on a terminal.
 */
#pragma once

#include "netd-client/connection.h"

#include <poll.h>

struct transfer {
    struct connection connection;
    uint64_t timeout; /* microseconds without progress; 0: no limit */
    bool progress;    /* show the progress line */
    uint64_t sent;    /* bytes accepted by the connection */
    uint64_t started; /* CLOCK_MONOTONIC, microseconds, as all times here */
    uint64_t moved;   /* when there was progress last */
    uint64_t shown;   /* when the progress line was last drawn; 0: not drawn */
    int queued;       /* last value of SIOCOUTQ */
};

/* Starts the clocks of T, whose other members are set. */
void transfer_start(struct transfer *t);

/* Seconds since the start. */
double transfer_seconds(const struct transfer *t);

/* Notes progress that the functions below do not see. */
void transfer_note_progress(struct transfer *t);

/* True if the time without progress is over. */
bool transfer_is_stalled(struct transfer *t);

/* Waits until one of the COUNT FDS is ready. LIMITED applies the timeout. Returns 0 or a negative
 * errno, -ETIMEDOUT after the timeout. */
int transfer_wait(struct transfer *t, struct pollfd *fds, nfds_t count, bool limited);

/* connection_write(), and updates the progress. */
ssize_t transfer_write(struct transfer *t, const char *buffer, size_t size);

/* Removes the progress line. */
void transfer_hide_progress(struct transfer *t);
