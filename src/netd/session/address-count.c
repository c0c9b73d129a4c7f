/* SPDX-License-Identifier: MIT */
#include "netd/session/address-count.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How many sessions of one address there are, in all or at one listener; chained in a bucket by the
 * address's hash. */
struct address_count {
    struct endpoint address;
    uint32_t listener; /* NO_LISTENER: all */
    uint32_t count;
    uint32_t next;
};

/* As many as a session is in. */
#define COUNTS_PER_SESSION 2

int address_count_init(struct table *t)
{
    uint32_t capacity = t->header->capacity, buckets = 64;

    while (buckets < capacity)
        buckets *= 2;
    t->addresses = calloc((size_t)capacity * COUNTS_PER_SESSION, sizeof(*t->addresses));
    t->buckets = malloc(buckets * sizeof(*t->buckets));
    if (!t->addresses || !t->buckets)
        return -ENOMEM;
    memset(t->buckets, 0xff, buckets * sizeof(*t->buckets));
    t->bucket_mask = buckets - 1;
    return 0;
}

/* FNV-1a. To choose colliding addresses a peer must own them; the table bounds the chains. */
static uint32_t address_count_hash(const struct endpoint *e)
{
    uint32_t hash = 2166136261u ^ e->family;

    for (size_t i = 0; i < sizeof(e->ip); i++)
        hash = (hash ^ e->ip[i]) * 16777619u;
    return hash ^ hash >> 15;
}

static uint32_t *address_count_bucket(const struct table *t, const struct endpoint *e)
{
    return &t->buckets[address_count_hash(e) & t->bucket_mask];
}

static uint32_t address_count_find(const struct table *t, const struct endpoint *e,
                                   uint32_t listener)
{
    uint32_t n = *address_count_bucket(t, e);

    while (n != NO_ADDRESS_COUNT && (t->addresses[n].listener != listener ||
                                     !endpoint_same_address(&t->addresses[n].address, e)))
        n = t->addresses[n].next;
    return n;
}

/* Adds to the count that is found, or to a new one, from number N on. Returns its number. */
static uint32_t address_count_increase(struct table *t, const struct endpoint *e, uint32_t listener,
                                       uint32_t n)
{
    uint32_t found = address_count_find(t, e, listener), *bucket = address_count_bucket(t, e);

    if (found == NO_ADDRESS_COUNT) {
        /* There are as many counts as sessions can be in: one of its session's, or a free one. */
        while (t->addresses[n].count > 0)
            n = n + 1 == t->header->capacity * COUNTS_PER_SESSION ? 0 : n + 1;
        t->addresses[n] =
            (struct address_count){.address = *e, .listener = listener, .next = *bucket};
        *bucket = found = n;
    }
    t->addresses[found].count++;
    return found;
}

static void address_count_decrease(struct table *t, uint32_t n)
{
    struct address_count *a = &t->addresses[n];
    uint32_t *link = address_count_bucket(t, &a->address);

    if (--a->count > 0)
        return;
    while (*link != n)
        link = &t->addresses[*link].next;
    *link = a->next;
}

/* True if LISTENER allows one address fewer sessions than all listeners together do. */
static bool address_count_is_needed(const struct table *t, uint32_t listener)
{
    uint32_t own = t->header->listeners[listener].settings.sessions_max_per_address;
    uint32_t all = t->header->settings.sessions_max_per_address;

    return own > 0 && (all == 0 || own < all);
}

uint32_t address_count_get(const struct table *t, const struct endpoint *e)
{
    uint32_t n = address_count_find(t, e, NO_LISTENER);

    return n == NO_ADDRESS_COUNT ? 0 : t->addresses[n].count;
}

bool address_count_reached(const struct table *t, const struct endpoint *e, uint32_t listener)
{
    uint32_t all = t->header->settings.sessions_max_per_address, n;

    if (all > 0 && address_count_get(t, e) >= all)
        return true;
    if (!address_count_is_needed(t, listener))
        return false;
    n = address_count_find(t, e, listener);
    return n != NO_ADDRESS_COUNT &&
           t->addresses[n].count >=
               t->header->listeners[listener].settings.sessions_max_per_address;
}

void address_count_add(struct table *t, struct session *s)
{
    uint32_t n = table_number(t, s) * COUNTS_PER_SESSION;

    s->address = address_count_increase(t, &s->peer, NO_LISTENER, n);
    if (address_count_is_needed(t, s->listener))
        (void)address_count_increase(t, &s->peer, s->listener, n + 1);
}

void address_count_remove(struct table *t, struct session *s)
{
    uint32_t n;

    if (s->address == NO_ADDRESS_COUNT)
        return;
    address_count_decrease(t, s->address);
    s->address = NO_ADDRESS_COUNT;
    n = address_count_find(t, &s->peer, s->listener);
    if (n != NO_ADDRESS_COUNT)
        address_count_decrease(t, n);
}
