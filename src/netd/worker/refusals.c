/* SPDX-License-Identifier: MIT */
#include "netd/worker/refusals.h"

#include "common/ratelimit.h"
#include "netd/log.h"
#include "netd/worker/listener.h"

#include <inttypes.h>

bool refusals_count(struct table_listener *l, uint64_t now)
{
    struct table_refusals *r = &l->refusals;

    if (ratelimit_below(&r->arrival_usec, REFUSALS_INTERVAL, REFUSALS_BURST, now))
        return true;
    if (r->suppressed++ == 0)
        r->report_usec = now + REFUSALS_REPORT_USEC;
    return false;
}

uint64_t refusals_report(struct table *t, uint64_t now)
{
    uint64_t due = UINT64_MAX;
    char address[128];

    for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
        struct table_listener *l = &t->header->listeners[i];

        if (l->fd < 0 || l->refusals.suppressed == 0)
            continue;
        if (l->refusals.report_usec > now) {
            due = min_u64(due, l->refusals.report_usec);
            continue;
        }
        listener_format(l, address);
        log_warning("%s: suppressed %" PRIu64 " refused event%s; at most %u at once and then one a "
                    "second are logged",
                    address, l->refusals.suppressed, l->refusals.suppressed == 1 ? "" : "s",
                    REFUSALS_BURST);
        l->refusals.suppressed = 0;
    }
    return due;
}
