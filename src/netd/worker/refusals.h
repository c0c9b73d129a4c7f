/* SPDX-License-Identifier: MIT */
/*
 * How many of the connections that a listener refuses are logged: anybody can cause them, as fast
 * as connections can be made. Those above the limit have no event; a warning counts them. The state
 * is in the table, so that it outlives the worker.
 */
#pragma once

#include "common/util.h"
#include "netd/session/table.h"

/* A listener's refused events: so many at once, and from then on one in each interval. */
#define REFUSALS_BURST    100
#define REFUSALS_INTERVAL USEC_PER_SEC

/* A warning counts the refusals of this long that were not logged. */
#define REFUSALS_REPORT_USEC (60 * USEC_PER_SEC)

/* Counts a connection that L refuses NOW (microseconds, CLOCK_MONOTONIC). Returns true if it is to
 * be logged. */
bool refusals_count(struct table_listener *l, uint64_t now);

/* Reports what was not logged at each open listener where that is due by NOW, UINT64_MAX for all.
 * Returns when the next report is due, or UINT64_MAX. The table is recovered. */
uint64_t refusals_report(struct table *t, uint64_t now);
