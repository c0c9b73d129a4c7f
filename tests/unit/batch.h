/* SPDX-License-Identifier: MIT */
/* Numbered entries of any size, for the tests of sinks. Needs cmocka.h before. */
#pragma once

#include "netd/output/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct batch *batch;
static struct sink *sink;

/* The text of entry number N: its number, in a place that stays, and as many bytes as wanted. */
static char entry_text[256 * 1024];

static int batch_setup(void **state)
{
    (void)state;
    batch = calloc(1, sizeof(*batch));
    sink = calloc(1, sizeof(*sink));
    memset(entry_text, '.', sizeof(entry_text));
    return batch && sink ? 0 : -1;
}

static void batch_teardown(void)
{
    sink_deinit(sink);
    free(batch);
    free(sink);
}

/* Puts entry NUMBER in the batch: eight digits and SIZE bytes, in two pieces and an empty one. */
static void push(uint64_t number, size_t size)
{
    struct item item = {.session = (uint32_t)number, .kind = ITEM_DATA, .records = number};
    char *digits = (char *)sink->arena.base + sink->arena.used;
    struct entry entry = {
        .pieces = {{.iov_base = digits, .iov_len = 8},
                   {.iov_base = entry_text, .iov_len = 0},
                   {.iov_base = entry_text, .iov_len = size}},
        .count = 3,
        .size = 8 + size,
    };

    snprintf(digits, 9, "%08u", (unsigned)number);
    sink->arena.used += 9;
    sink_push(sink, &entry, &item);
}

/* Applies what was taken; returns how many entries that were. */
static uint32_t commit(uint64_t *next)
{
    uint32_t n = 0;

    for (; batch_taken(batch); n++) {
        assert_int_equal(batch->items[batch->first].records, (*next)++);
        batch->first++;
    }
    return n;
}
