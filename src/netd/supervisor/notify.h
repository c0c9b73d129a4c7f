/* SPDX-License-Identifier: MIT */
/*
 * Messages to the service manager, in the protocol of sd_notify(3). sd_notify() itself blocks while
 * the receiver's queue is full; here a message that cannot be sent at once is kept and sent again
 * later.
 */
#pragma once

#include <stdbool.h>

/* Longest message, NUL included. */
#define NOTIFY_MAX 512

struct notify {
    char state[128]; /* announced but not sent yet, or empty */
};

/* True if $NOTIFY_SOCKET is set. */
bool notify_is_wanted(void);

/* Announces STATE, variables of sd_notify(3) such as "READY=1", in place of one that was not sent
 * yet. The next notify_send() sends it. */
void notify_announce(struct notify *n, const char *state);

/*
 * Sends the announced state, if any, and MORE in one message. Never blocks. Returns 0, also without
 * $NOTIFY_SOCKET, or a negative errno; the announced state is then kept.
 */
int notify_send(struct notify *n, const char *more);
