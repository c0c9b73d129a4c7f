/* SPDX-License-Identifier: MIT */
#include "netd/session/address-count.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How many sessions of one address there are; chained in a bucket by the address's hash. */
struct address_count {
    struct endpoint address;
    uint32_t count;
    uint32_t next;
};

int address_count_init(struct table *t)
{
    uint32_t capacity = t->header->capacity, buckets = 64;

    while (buckets < capacity)
        buckets *= 2;
    t->addresses = calloc(capacity, sizeof(*t->addresses));
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

static uint32_t address_count_find(const struct table *t, const struct endpoint *e)
{
    uint32_t n = t->buckets[address_count_hash(e) & t->bucket_mask];

    while (n != NO_ADDRESS_COUNT && !endpoint_same_address(&t->addresses[n].address, e))
        n = t->addresses[n].next;
    return n;
}

uint32_t address_count_get(const struct table *t, const struct endpoint *e)
{
    uint32_t n = address_count_find(t, e);

    return n == NO_ADDRESS_COUNT ? 0 : t->addresses[n].count;
}

void address_count_add(struct table *t, struct session *s)
{
    uint32_t n = address_count_find(t, &s->peer);
    uint32_t *bucket = &t->buckets[address_count_hash(&s->peer) & t->bucket_mask];

    if (n == NO_ADDRESS_COUNT) {
        /* There are as many counts as sessions: an address uses its first session's, or a free one.
         */
        n = table_number(t, s);
        while (t->addresses[n].count > 0)
            n = n + 1 == t->header->capacity ? 0 : n + 1;
        t->addresses[n] = (struct address_count){.address = s->peer, .next = *bucket};
        *bucket = n;
    }
    t->addresses[n].count++;
    s->address = n;
}

void address_count_remove(struct table *t, struct session *s)
{
    uint32_t *link = &t->buckets[address_count_hash(&s->peer) & t->bucket_mask];
    struct address_count *a;

    if (s->address == NO_ADDRESS_COUNT)
        return;
    a = &t->addresses[s->address];
    if (--a->count == 0) {
        while (*link != s->address)
            link = &t->addresses[*link].next;
        *link = a->next;
    }
    s->address = NO_ADDRESS_COUNT;
}
