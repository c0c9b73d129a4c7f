/* SPDX-License-Identifier: MIT */
/*
 * How connections become sessions: accepted at a listener, or taken over from a worker that died;
 * admitted, or refused over a limit. What happens to a session from then on is the scheduler's.
 */
#pragma once

#include "netd/worker/scheduler.h"
#include "netd/worker/unclaimed.h"

/* Continues the sessions in the table, and admits the connection UNCLAIMED, if it is one
 * (see unclaimed_collect()). Once, after scheduler_init(). */
void admission_adopt(struct scheduler *sched, int unclaimed);

/* True if connections of LISTENER may be accepted: unless the journal takes nothing, or where RELP
 * clients connect, as long as none of them would be refused. */
bool admission_is_open(const struct scheduler *sched, uint32_t listener);

/*
 * Accepts up to MOST connections of listener number LISTENER, which wait for a turn then. Returns
 * 0, or a negative errno when the loop should leave the listener alone for a while: -EMFILE where
 * descriptors (but for those that netd needs itself) or memory ran out.
 */
int admission_accept(struct scheduler *sched, uint32_t listener, unsigned most);
