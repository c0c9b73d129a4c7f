/* SPDX-License-Identifier: MIT */
#include "common/ratelimit.h"

#include "common/util.h"

bool ratelimit_below(uint64_t *arrival, uint64_t interval, uint32_t burst, uint64_t now)
{
    uint64_t limit = now + interval * burst;
    uint64_t begin = *arrival > now ? *arrival : now;

    if (begin > limit - interval) {
        *arrival = min_u64(begin, limit);
        return false;
    }
    *arrival = begin + interval;
    return true;
}
