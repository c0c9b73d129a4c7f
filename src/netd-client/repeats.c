/* SPDX-License-Identifier: MIT */
#include "netd-client/repeats.h"

#include "common/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How long a fitting sum is looked for. Real sessions find one at once. */
#define STEPS_MAX 1000000

/* A run's possible sizes of its repeat, longest first, without 0, which always is one. */
struct run {
    uint32_t *sizes;
    size_t count;
    uint64_t chosen;
    uint64_t longest_from_here; /* sum of the longest of this and all later runs */
};

struct repeats {
    uint64_t current; /* number of the run that is being taken in; 0: none */
    size_t tail_length, head_length;
    struct run *runs;
    size_t count, room;
    size_t steps;
    uint32_t border[REPEATS_WINDOW + 1];
    char tail[2 * REPEATS_WINDOW]; /* at its end: the last bytes before the run */
    char head[REPEATS_WINDOW];     /* the run's first bytes */
};

struct repeats *repeats_new(void)
{
    return calloc(1, sizeof(struct repeats));
}

struct repeats *repeats_free(struct repeats *r)
{
    if (r) {
        for (size_t i = 0; i < r->count; i++)
            free(r->runs[i].sizes);
        free(r->runs);
        free(r);
    }
    return NULL;
}

void repeats_freep(struct repeats **repeats)
{
    *repeats = repeats_free(*repeats);
}

/* Appends to the tail, of which a window's worth counts. */
static void tail_add(struct repeats *r, const char *data, size_t length)
{
    size_t keep = min_size(r->tail_length, REPEATS_WINDOW);

    if (length > REPEATS_WINDOW) {
        data += length - REPEATS_WINDOW;
        length = REPEATS_WINDOW;
    }
    if (r->tail_length + length > sizeof(r->tail)) {
        memmove(r->tail, r->tail + r->tail_length - keep, keep);
        r->tail_length = keep;
    }
    memcpy(r->tail + r->tail_length, data, length);
    r->tail_length += length;
}

/*
 * The failure function of Knuth, Morris and Pratt: border[n] is the length of the longest proper
 * prefix of the first n bytes of the head that is also their suffix.
 */
static void head_borders(struct repeats *r)
{
    size_t k = 0;

    r->border[0] = r->border[1] = 0;
    for (size_t i = 1; i < r->head_length; i++) {
        while (k > 0 && r->head[i] != r->head[k])
            k = r->border[k];
        if (r->head[i] == r->head[k])
            k++;
        r->border[i + 1] = (uint32_t)k;
    }
}

/* How much of the head the tail ends with; *WHOLE: whether the whole head stands in the tail. */
static size_t tail_match(const struct repeats *r, bool *whole)
{
    size_t length = min_size(r->tail_length, REPEATS_WINDOW), k = 0;
    const char *tail = r->tail + r->tail_length - length;

    *whole = false;
    for (size_t i = 0; i < length; i++) {
        if (k == r->head_length)
            k = r->border[k];
        while (k > 0 && tail[i] != r->head[k])
            k = r->border[k];
        if (tail[i] == r->head[k])
            k++;
        if (k == r->head_length)
            *whole = true;
    }
    return k;
}

static int run_append(struct repeats *r, struct run run)
{
    if (r->count == r->room) {
        size_t room = r->room ? r->room * 2 : 8;
        struct run *runs = reallocarray(r->runs, room, sizeof(*runs));

        if (!runs)
            return -ENOMEM;
        r->runs = runs;
        r->room = room;
    }
    r->runs[r->count++] = run;
    return 0;
}

/* Finds the sizes that the head's repeat can have. CUT_SHORT: another run follows at once, so that
 * all of this one may repeat something further back. */
static int run_sizes(struct repeats *r, bool cut_short, struct run *ret)
{
    struct run run = {0};
    bool whole;
    size_t k;

    head_borders(r);
    k = tail_match(r, &whole);
    whole = whole && cut_short && k < r->head_length;
    if (whole)
        run.count++;
    for (size_t n = k; n > 0; n = r->border[n])
        run.count++;
    run.sizes = reallocarray(NULL, run.count + 1, sizeof(*run.sizes));
    if (!run.sizes)
        return -ENOMEM;
    run.count = 0;
    if (whole)
        run.sizes[run.count++] = (uint32_t)r->head_length;
    for (size_t n = k; n > 0; n = r->border[n])
        run.sizes[run.count++] = (uint32_t)n;
    *ret = run;
    return 0;
}

static uint64_t run_longest(const struct run *run)
{
    return run->count > 0 ? run->sizes[0] : 0;
}

/* The head is complete: what of it may be a repeat? The rest joins what later runs repeat. */
static int head_close(struct repeats *r, bool cut_short)
{
    struct run run;
    size_t repeat;
    int status;

    if (r->head_length == 0)
        return run_append(r, (struct run){0});
    status = run_sizes(r, cut_short, &run);
    if (status < 0)
        return status;
    status = run_append(r, run);
    if (status < 0) {
        free(run.sizes);
        return status;
    }
    repeat = (size_t)run_longest(&run);
    tail_add(r, r->head + repeat, r->head_length - repeat);
    r->head_length = 0;
    return 0;
}

/* A run whose head was closed takes no more of it. */
#define HEAD_CLOSED SIZE_MAX

static int run_end(struct repeats *r, uint64_t next)
{
    int status = 0;

    if (r->current != 0 && r->head_length != HEAD_CLOSED)
        status = head_close(r, next != 0);
    r->head_length = 0;
    return status;
}

int repeats_add(struct repeats *r, uint64_t run, const void *data, size_t length)
{
    const char *bytes = data;
    size_t n = 0;
    int status;

    if (run != r->current) {
        status = run_end(r, run);
        if (status < 0)
            return status;
        r->current = run;
    }
    if (run != 0 && r->head_length != HEAD_CLOSED) {
        n = min_size(length, REPEATS_WINDOW - r->head_length);
        memcpy(r->head + r->head_length, bytes, n);
        r->head_length += n;
        if (r->head_length < REPEATS_WINDOW)
            return 0;
        status = head_close(r, false);
        if (status < 0)
            return status;
        r->head_length = HEAD_CLOSED;
    }
    tail_add(r, bytes + n, length - n);
    return 0;
}

/* Chooses sizes for the runs from the INDEXth on that make up SURPLUS. */
static bool runs_choose(struct repeats *r, size_t index, uint64_t surplus)
{
    struct run *run;
    uint64_t later;

    if (index == r->count)
        return surplus == 0;
    run = &r->runs[index];
    if (surplus > run->longest_from_here || ++r->steps > STEPS_MAX)
        return false;
    later = run->longest_from_here - run_longest(run);
    for (size_t i = 0; i <= run->count; i++) {
        uint64_t size = i < run->count ? run->sizes[i] : 0;

        if (size > surplus)
            continue;
        if (size + later < surplus)
            break;
        run->chosen = size;
        if (runs_choose(r, index + 1, surplus - size))
            return true;
    }
    return false;
}

int repeats_solve(struct repeats *r, uint64_t surplus)
{
    uint64_t sum = 0;
    int status = run_end(r, 0);

    if (status < 0)
        return status;
    r->current = 0;
    for (size_t i = r->count; i-- > 0;) {
        sum += run_longest(&r->runs[i]);
        r->runs[i].longest_from_here = sum;
    }
    if (surplus != UINT64_MAX && runs_choose(r, 0, surplus))
        return 0;
    for (size_t i = 0; i < r->count; i++)
        r->runs[i].chosen = run_longest(&r->runs[i]);
    return surplus == UINT64_MAX ? 0 : 1;
}

uint64_t repeats_size(const struct repeats *r, size_t index)
{
    return index < r->count ? r->runs[index].chosen : 0;
}
