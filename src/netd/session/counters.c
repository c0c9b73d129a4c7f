/* SPDX-License-Identifier: MIT */
#include "netd/session/counters.h"

#include "common/util.h"
#include "netd/session/table.h"

#include <string.h>

/* header->wait_clock, one value so that one store changes it: the time waited so far or, with this
 * bit, the time on CLOCK_MONOTONIC from which it would be counted if it were one stretch. */
#define WAITING (UINT64_C(1) << 63)

/* --- Names --- */

static bool counters_needed(const struct table *t, uint32_t number)
{
    const struct table_header *h = t->header;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (h->listeners[i].fd >= 0 && h->listeners[i].counters == number)
            return true;
    for (uint32_t i = 0; i < h->used; i++)
        if (t->sessions[i].state != SESSION_FREE && t->sessions[i].counters == number)
            return true;
    return false;
}

uint32_t counters_find(struct table *t, const char *name)
{
    struct counters *all = t->header->counters;
    uint32_t n = 0;

    for (uint32_t i = 0; i < COUNTERS_MAX; i++)
        if (all[i].used && strcmp(all[i].name, name) == 0)
            return i;
    while (n < COUNTERS_MAX && all[n].used)
        n++;
    for (uint32_t i = 0; n == COUNTERS_MAX && i < COUNTERS_MAX; i++)
        if (!counters_needed(t, i))
            n = i;
    if (n == COUNTERS_MAX)
        return COUNTERS_MAX - 1;
    all[n] = (struct counters){.used = true};
    t->header->retired[n] = (struct totals){0};
    strcpy(all[n].name, name);
    return n;
}

/* --- Sessions --- */

/* A crash may have damaged either. */
static uint32_t counters_number(const struct session *s)
{
    return s->counters % COUNTERS_MAX;
}

static uint32_t counters_reason(const struct session *s)
{
    return s->reason < REASONS ? s->reason : REASON_ERROR;
}

struct counters *counters_get(struct table *t, const struct session *s)
{
    return &t->header->counters[counters_number(s)];
}

void counters_add_marks(struct table *t, const struct session *s, const struct item *item)
{
    struct counters *c = counters_get(t, s);

    counter_add(&c->resent, item->resent);
    counter_add(&c->unparsed, item->unparsed);
}

void counters_add(struct table *t, const struct session *s, const struct counted *before)
{
    struct totals *totals = &counters_get(t, s)->totals;
    const struct counted now = counters_of(s);

    counter_add(&totals->records, now.records - before->records);
    counter_add(&totals->bytes, now.bytes - before->bytes);
    if (now.started != before->started)
        counter_add(&totals->started, 1);
    if (now.ended != before->ended)
        counter_add(&totals->ended[counters_reason(s)], 1);
    counter_add(&t->header->activity, 1);
}

static void counters_store(uint64_t *to, uint64_t value)
{
    __atomic_store_n(to, value, __ATOMIC_RELEASE);
}

/* Values, not differences: it may be done any number of times. */
static void counters_apply_retirement(struct table_header *h)
{
    const struct retirement *r = &h->retirement;
    struct totals *totals = &h->retired[r->counters];

    counters_store(&totals->records, r->records);
    counters_store(&totals->bytes, r->bytes);
    counters_store(&totals->started, r->started);
    counters_store(&totals->ended[r->reason], r->ended);
}

void counters_retire(struct table *t, const struct session *s)
{
    const struct totals *before = &t->header->retired[counters_number(s)];
    const struct counted counted = counters_of(s);
    struct retirement *r = &t->header->retirement;

    r->counters = counters_number(s);
    r->reason = counters_reason(s);
    r->records = before->records + counted.records;
    r->bytes = before->bytes + counted.bytes;
    r->started = before->started + counted.started;
    r->ended = before->ended[r->reason] + counted.ended;
    __atomic_store_n(&r->session, table_number(t, s), __ATOMIC_RELEASE);
    counters_apply_retirement(t->header);
}

void counters_retired(struct table *t)
{
    __atomic_store_n(&t->header->retirement.session, NO_SESSION, __ATOMIC_RELEASE);
}

void counters_resume(struct table *t)
{
    const struct retirement *r = &t->header->retirement;

    if (r->session < t->header->used && r->counters < COUNTERS_MAX && r->reason < REASONS) {
        counters_apply_retirement(t->header);
        __atomic_store_n(&t->sessions[r->session].state, SESSION_FREE, __ATOMIC_RELEASE);
    }
    counters_retired(t);
}

void counters_recover(struct table *t)
{
    struct totals all[COUNTERS_MAX];

    memcpy(all, t->header->retired, sizeof(all));
    for (uint32_t i = 0; i < t->header->used; i++) {
        const struct session *s = &t->sessions[i];
        struct totals *totals = &all[counters_number(s)];
        const struct counted counted = counters_of(s);

        if (s->state == SESSION_FREE)
            continue;
        totals->records += counted.records;
        totals->bytes += counted.bytes;
        totals->started += counted.started;
        totals->ended[counters_reason(s)] += counted.ended;
    }
    for (size_t i = 0; i < COUNTERS_MAX; i++)
        t->header->counters[i].totals = all[i];
}

/* --- Sums --- */

void counters_set_waiting(struct table *t, bool waiting)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC), *clock = &t->header->wait_clock;

    if (waiting != (*clock >= WAITING))
        __atomic_store_n(clock, (now - *clock) ^ WAITING, __ATOMIC_RELAXED);
}

uint64_t counters_waited(const struct table_header *h)
{
    uint64_t clock = counter_read(&h->wait_clock);

    return clock < WAITING ? clock : now_usec(CLOCK_MONOTONIC) - (clock ^ WAITING);
}

uint64_t counters_records(const struct table_header *h)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < COUNTERS_MAX; i++)
        sum += counter_read(&h->counters[i].totals.records);
    return sum;
}
