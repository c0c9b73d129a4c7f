/* SPDX-License-Identifier: MIT */
/*
 * A limit of events that a stranger can cause. Its state is one number, the theoretical arrival
 * time of the generic cell rate algorithm (ITU-T I.371): when all events so far would have come at
 * one INTERVAL. It may be BURST intervals in the future, so that many come at once. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Times are microseconds of one clock. Returns true, and charges *ARRIVAL for an event, if there is
 * room for it NOW. A value of *ARRIVAL that no earlier call can have left counts as the limit. */
bool ratelimit_below(uint64_t *arrival, uint64_t interval, uint32_t burst, uint64_t now);
