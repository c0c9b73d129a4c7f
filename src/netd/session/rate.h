/* SPDX-License-Identifier: MIT */
/*
 * A limit of bytes a second with a burst of one second's worth. Its state is one number for each
 * session, the theoretical arrival time of the generic cell rate algorithm (ITU-T I.371): when all
 * bytes so far would have arrived at that rate. It may be up to a second in the future. So at most
 * RATE * (T + 1) bytes are received in any T seconds.
 *
 * Pure. Times are microseconds of CLOCK_MONOTONIC; RATE is in bytes a second and not 0.
 */
#pragma once

#include <stdint.h>

/* How far in the future the arrival time may be. */
#define RATE_BURST_USEC UINT64_C(1000000)

/* The most bytes that may be received NOW. */
uint32_t rate_room(uint64_t arrival, uint32_t rate, uint64_t now);

/* When there is room for a read that is worth its cost: an eighth of a second's worth, or READ_MAX
 * if that is less. */
uint64_t rate_due(uint64_t arrival, uint32_t rate);

/* Returns the arrival time to be charged for bytes received NOW. One that has passed is no credit:
 * a pause gives one burst, however long it was. */
uint64_t rate_begin(uint64_t arrival, uint64_t now);

/* Returns the arrival time after BYTES, from what rate_begin() returned. */
uint64_t rate_charge(uint64_t arrival, uint32_t rate, uint32_t bytes);
