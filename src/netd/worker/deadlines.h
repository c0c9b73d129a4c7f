/* SPDX-License-Identifier: MIT */
/*
 * At most one deadline for each session, in a binary heap that is allocated once. Setting and
 * removing one take logarithmic time, finding the earliest constant time.
 */
#pragma once

#include <stdint.h>

#define NO_DEADLINE UINT64_MAX

struct deadline {
    uint64_t usec; /* CLOCK_MONOTONIC */
    uint32_t session;
};

struct deadlines {
    struct deadline *heap; /* heap[0] is the first */
    uint32_t count;
    uint32_t *places; /* by session number: its index in HEAP and 1, or 0 */
};

/* Allocates *D for session numbers below CAPACITY. Returns 0 or -ENOMEM. */
int deadlines_init(struct deadlines *d, uint32_t capacity);
void deadlines_deinit(struct deadlines *d);

/* Sets the deadline of SESSION, earlier or later than it was; NO_DEADLINE removes it. */
void deadlines_set(struct deadlines *d, uint32_t session, uint64_t usec);

/* The deadline of SESSION, or NO_DEADLINE. */
static inline uint64_t deadlines_get(const struct deadlines *d, uint32_t session)
{
    uint32_t place = d->places[session];

    return place == 0 ? NO_DEADLINE : d->heap[place - 1].usec;
}

/* The first of all deadlines, or NO_DEADLINE; where there is one it is that of heap[0].session. */
static inline uint64_t deadlines_first(const struct deadlines *d)
{
    return d->count == 0 ? NO_DEADLINE : d->heap[0].usec;
}
