/* SPDX-License-Identifier: MIT */
/*
 * What a dead worker left in the table of descriptors that it shared with the supervisor.
 */
#pragma once

#include "netd/session/table.h"

/* Connections that are in no session: accepted by a worker that died before it could say so. */
struct unclaimed_fds {
    int *fds; /* for free(3) */
    size_t count, room;
};

/*
 * Closes the descriptors that a dead worker left behind, but for connections, and fills in *RET
 * with those that are in no session. It is the supervisor who must call it, between two workers:
 * one process must not close what it does not know while the other runs. Returns 0 or a negative
 * errno.
 */
int unclaimed_collect(const struct table *t, struct unclaimed_fds *ret);
