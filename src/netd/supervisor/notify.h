/* SPDX-License-Identifier: MIT */
/*
 * Messages to the service manager, in the protocol of sd_notify(3). sd_notify() itself waits for as
 * long as the receiver's queue is full; here a message that cannot go out at once is kept, and goes
 * out with a later one.
 */
#pragma once

#include <stdbool.h>

/* Longest message, NUL included. */
#define NOTIFY_MAX 512

struct notify {
    char state[128]; /* the last one announced that has not gone out, or empty */
};

/* True when there is somebody to notify. */
bool notify_is_wanted(void);

/* Announces STATE, variables as sd_notify(3) has them, in place of one that has not gone out yet:
 * "READY=1". It goes out with the next notify_send(). */
void notify_announce(struct notify *n, const char *state);

/*
 * Sends the announced state, where there is one, and MORE, in one message, and never waits. Returns
 * 0, also where nobody is to be notified, or a negative errno; then the announced state is kept.
 */
int notify_send(struct notify *n, const char *more);
