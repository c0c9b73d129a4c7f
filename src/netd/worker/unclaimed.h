/* SPDX-License-Identifier: MIT */
/*
 * What a dead worker left in the table of descriptors that it shared with the supervisor.
 */
#pragma once

#include "netd/session/table.h"

/* No descriptor is unclaimed. */
#define NO_UNCLAIMED (-1)

/*
 * Closes the descriptors that a dead worker left behind, but for the connections of sessions and
 * the one that it may have accepted and not yet made a session of; fills in *RET with that one, or
 * with NO_UNCLAIMED. Only the supervisor may call it, and only between two workers: one process
 * must not close what it does not know while the other runs. Returns 0 or a negative errno.
 */
int unclaimed_collect(const struct table *t, int *ret);
