/* SPDX-License-Identifier: MIT */
/*
 * Which of the data events marked NETD_RESENT repeat earlier ones. Pure.
 *
 * After a crash netd sends again what it does not know to be logged. The rule, over bytes, because
 * the second time records may be cut at other places:
 *   - A run is what one process wrote of marked events in a row. It begins with a repeat of the
 *     last bytes before it (or is one altogether, when another crash cut it short); what remains of
 *     it is new.
 *   - The disconnect event's NETD_BYTES says how many bytes are repeats in all. Where more than one
 *     size of a repeat fits the bytes, that sum decides, and without it the longest does.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How far back a repeat is looked for: more than a session can have under way, see MAX_RECORD_HIGH
 * of netd.conf(5). */
#define REPEATS_WINDOW ((size_t)256 * 1024)

struct repeats;

/* Returns NULL when there is no memory. */
struct repeats *repeats_new(void);

/* Takes NULL, too. */
struct repeats *repeats_free(struct repeats *repeats);
void repeats_freep(struct repeats **repeats);

/*
 * Takes the next LENGTH bytes of the session in. RUN numbers the run they belong to, 0 when they
 * are not marked. Returns 0 or -ENOMEM.
 */
int repeats_add(struct repeats *repeats, uint64_t run, const void *data, size_t length);

/*
 * Decides, when all was taken in. SURPLUS is how many bytes of all are repeats, or UINT64_MAX when
 * that is not known. Returns 0, 1 when nothing fits SURPLUS (then the longest are taken), or
 * -ENOMEM.
 */
int repeats_solve(struct repeats *repeats, uint64_t surplus);

/* How many bytes at the start of the INDEXth run, from 0, repeat earlier ones. */
uint64_t repeats_size(const struct repeats *repeats, size_t index);
