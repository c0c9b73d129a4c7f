/* SPDX-License-Identifier: MIT */
#include "netd/session/rate.h"

#include "common/util.h"
#include "netd/session/session.h"

#define READS_PER_SECOND 8

/* How long BYTES take at RATE. Rounded up, so that the limit is never exceeded. */
static uint64_t rate_usec(uint32_t rate, uint32_t bytes)
{
    return (bytes * USEC_PER_SEC + rate - 1) / rate;
}

uint64_t rate_begin(uint64_t arrival, uint64_t now)
{
    return arrival > now ? arrival : now;
}

uint64_t rate_charge(uint64_t arrival, uint32_t rate, uint32_t bytes)
{
    return arrival + rate_usec(rate, bytes);
}

uint32_t rate_room(uint64_t arrival, uint32_t rate, uint64_t now)
{
    uint64_t ahead = rate_begin(arrival, now) - now;

    if (ahead >= RATE_BURST_USEC)
        return 0;
    return (uint32_t)((RATE_BURST_USEC - ahead) * rate / USEC_PER_SEC);
}

uint64_t rate_due(uint64_t arrival, uint32_t rate)
{
    uint32_t bytes = (uint32_t)min_size(rate / READS_PER_SECOND, READ_MAX);
    uint64_t due = arrival + rate_usec(rate, bytes > 0 ? bytes : 1);

    return due - min_u64(due, RATE_BURST_USEC);
}
