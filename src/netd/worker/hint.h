/* SPDX-License-Identifier: MIT */
/*
 * Warns when the first bytes of a session look like a protocol that its listener is not configured
 * for (detect.h). Nothing else depends on it: the bytes are logged as they come. A worker that
 * takes over starts anew.
 */
#pragma once

#include "netd/session/table.h"

#include <stdbool.h>
#include <stdint.h>

/* A listener has at most one warning in this time. */
#define HINT_USEC (60 * USEC_PER_SEC)

struct hints {
    uint64_t next_usec[LISTENERS_MAX]; /* when each listener may warn again; 0: it has not warned */
};

/*
 * Looks at the LENGTH bytes at DATA, the first that S received, at NOW (microseconds,
 * CLOCK_MONOTONIC), and logs a warning if they suggest another configuration of L, the listener of
 * S. Returns true if it did.
 */
bool hints_check(struct hints *hints, const struct table_listener *l, const struct session *s,
                 const uint8_t *data, size_t length, uint64_t now);

/* The same for what S, at a listener with proxy, sent instead of a PROXY header; WHY is what
 * proxy_parse() says of it. */
bool hints_bad_header(struct hints *hints, const struct table_listener *l, const struct session *s,
                      const char *why, uint64_t now);
