/* SPDX-License-Identifier: MIT */
/*
 * What netd has done so far, by the name of a listener: the values of netd's metrics. They are in
 * the session table, so they outlive workers and, within a layout, programs.
 *
 * What a session adds (begun, ended, records, bytes) is in its slot, and is what the journal has.
 * When the slot is freed it moves to struct totals, in one step (struct retirement). So the next
 * worker computes the counters from the slots in use and the totals of the others: they are exact
 * whenever the last one died, and they never go down, because a worker changes the slot first. The
 * other counters (refused, resent, ...) are incremented where it happens; a death in that moment
 * may leave one of them one too high or too low.
 *
 * One process writes: the worker; or the supervisor while there is none. Readers use
 * counter_read().
 */
#pragma once

#include "netd/config/settings.h"
#include "netd/session/session.h"

#include <stdint.h>

/* Names that are counted at the same time: those of the configuration, and earlier ones that still
 * have sessions. */
#define COUNTERS_MAX 128
_Static_assert(COUNTERS_MAX >= 2 * CONFIG_LISTENERS_MAX, "names of listeners have no room");

/* Of sessions and refusals together. */
struct totals {
    uint64_t records, bytes; /* as the disconnect events have them */
    uint64_t started;
    uint64_t ended[REASONS]; /* by enum session_reason, refused connections included */
};

/* Everything about the listeners of one name. */
struct counters {
    char name[LISTENER_NAME_MAX + 1];
    uint32_t used; /* a listener has, or had, this name */
    uint32_t open; /* sessions going on, logged or not */
    uint32_t tls;  /* those that netd-tls counts are of this name, see tls_configure() */
    struct totals totals;
    uint64_t resent;            /* data events marked with NETD_RESENT */
    uint64_t unparsed;          /* records that do not have the listener's format */
    uint64_t relp_acknowledged; /* RELP records that the client was told are logged */
};

/* A slot that is being freed: what becomes true of the totals of free slots. */
struct retirement {
    uint32_t session; /* NO_SESSION: none */
    uint32_t counters;
    uint32_t reason;
    uint32_t unused;
    uint64_t records, bytes, started, ended;
};

/* What a session has added to its counters, for counters_add(). */
struct counted {
    uint64_t records, bytes;
    bool started, ended;
};

struct table;
struct table_header;

/* A counter or gauge of another process. */
static inline uint64_t counter_read(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* For the one that writes. */
static inline void counter_add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/*
 * Returns the number of the counters of listeners called NAME, new ones or those that it had
 * before. If all are in use by others it is one of these. There must be no worker.
 */
uint32_t counters_find(struct table *t, const char *name);

/* What S has added so far. */
static inline struct counted counters_of(const struct session *s)
{
    return (struct counted){
        .records = s->records,
        .bytes = s->bytes,
        .started = s->connect_taken,
        .ended = s->state == SESSION_REFUSED || s->end_taken,
    };
}

/* The counters of S. */
struct counters *counters_get(struct table *t, const struct session *s);

/* Adds what has become true of S, whose slot says so already, since it was BEFORE. */
void counters_add(struct table *t, const struct session *s, const struct counted *before);

/* Adds the marks of ITEM, which are in no slot. */
void counters_add_marks(struct table *t, const struct session *s, const struct item *item);

/* Moves what the slot of S counts to the totals of free slots. The caller frees the slot, and then
 * calls counters_retired(). */
void counters_retire(struct table *t, const struct session *s);
void counters_retired(struct table *t);

/* Repeats what a dead worker may have done half: call it first. */
void counters_resume(struct table *t);

/* Computes the counters of sessions anew from the slots, which are valid. */
void counters_recover(struct table *t);

/* The journal, or another output, takes entries from now on, or not. */
void counters_set_waiting(struct table *t, bool waiting);

/* How long it has taken none so far, in microseconds. */
uint64_t counters_waited(const struct table_header *h);

/* Records of all sessions. */
uint64_t counters_records(const struct table_header *h);
