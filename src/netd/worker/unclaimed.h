/* SPDX-License-Identifier: MIT */
/*
 * What a dead worker left in the table of descriptors that it shared with the supervisor.
 */
#pragma once

#include "netd/session/table.h"

/* No descriptor is unclaimed. */
#define NO_UNCLAIMED (-1)

/*
 * Closes the descriptors that a dead worker left open, except the connections of sessions and a
 * connection that was accepted and is not yet in a session; sets *RET to that one, or to
 * NO_UNCLAIMED. For the supervisor, between two workers: it closes every descriptor that it does
 * not know. Returns 0 or a negative errno.
 */
int unclaimed_collect(const struct table *t, int *ret);
