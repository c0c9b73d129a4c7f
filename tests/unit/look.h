/* SPDX-License-Identifier: MIT */
/* A framing's look at bytes that end where they may be read. Shared by tests and fuzzers. */
#pragma once

#include "netd/protocol/framing.h"

#include <stdlib.h>
#include <string.h>

/*
 * Has FRAMING look at IN, or with FLUSH take a piece of it: at a copy of the bytes, so that a
 * sanitizer notices a look behind them. Returns what the framing returns, and of a record in *RET,
 * whose bytes are gone, also where in IN they are.
 */
static inline int look_at_copy(enum framing framing, struct framing_input *in, bool flush,
                               struct record *ret, size_t *offset)
{
    const struct framing_ops *ops = framing_ops(framing);
    uint8_t *copy = malloc(in->length > 0 ? in->length : 1);
    int r;

    if (!copy)
        abort();
    memcpy(copy, in->data, in->length);
    in->data = copy;
    r = flush ? ops->flush(in, ret) : ops->next(in, ret);
    *offset = r == FRAMING_RECORD ? (size_t)(ret->data - copy) : 0;
    free(copy);
    return r;
}
