/* SPDX-License-Identifier: MIT */
#include "netd/worker/deadlines.h"

#include <errno.h>
#include <stdlib.h>

int deadlines_init(struct deadlines *d, uint32_t capacity)
{
    /* Pages that no deadline ever needs are never touched. */
    *d = (struct deadlines){
        .heap = calloc(capacity, sizeof(*d->heap)),
        .places = calloc(capacity, sizeof(*d->places)),
    };
    if (d->heap && d->places)
        return 0;
    deadlines_deinit(d);
    return -ENOMEM;
}

void deadlines_deinit(struct deadlines *d)
{
    free(d->heap);
    free(d->places);
    *d = (struct deadlines){0};
}

static void deadlines_put(struct deadlines *d, uint32_t i, struct deadline deadline)
{
    d->heap[i] = deadline;
    d->places[deadline.session] = i + 1;
}

/* Moves the parents that are later than USEC down, from the free place I on. Returns the place that
 * is free then. */
static uint32_t deadlines_rise(struct deadlines *d, uint32_t i, uint64_t usec)
{
    for (; i > 0 && d->heap[(i - 1) / 2].usec > usec; i = (i - 1) / 2)
        deadlines_put(d, i, d->heap[(i - 1) / 2]);
    return i;
}

/* Moves the children that are earlier up. */
static uint32_t deadlines_sink(struct deadlines *d, uint32_t i, uint64_t usec)
{
    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child + 1 < d->count && d->heap[child + 1].usec < d->heap[child].usec)
            child++;
        if (child >= d->count || d->heap[child].usec >= usec)
            return i;
        deadlines_put(d, i, d->heap[child]);
        i = child;
    }
}

/* Puts DEADLINE where it belongs, the place I being free. */
static void deadlines_insert(struct deadlines *d, uint32_t i, struct deadline deadline)
{
    i = deadlines_rise(d, i, deadline.usec);
    deadlines_put(d, deadlines_sink(d, i, deadline.usec), deadline);
}

void deadlines_set(struct deadlines *d, uint32_t session, uint64_t usec)
{
    uint32_t i = d->places[session] == 0 ? d->count : d->places[session] - 1;

    if (usec != NO_DEADLINE) {
        if (i == d->count)
            d->count++;
        deadlines_insert(d, i, (struct deadline){.usec = usec, .session = session});
    } else if (i < d->count) {
        d->places[session] = 0;
        d->count--;
        if (i < d->count)
            deadlines_insert(d, i, d->heap[d->count]);
    }
}
