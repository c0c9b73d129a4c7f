/* SPDX-License-Identifier: MIT */
/* framing = "nul": NUL ends a record. No byte is searched twice for it. */
#include "netd/protocol/framing.h"

#include "common/util.h"

#include <string.h>

int framing_nul_next(struct framing_input *in, struct record *ret)
{
    size_t reach = min_size(in->length, in->max_record + 1), from = in->scanned;
    const uint8_t *nul = from < reach ? memchr(in->data + from, '\0', reach - from) : NULL;

    in->scanned = 0;
    if (nul)
        return framing_emit(ret, in, (size_t)(nul - in->data), 1, TERM_NUL);
    if (in->length > in->max_record)
        return framing_emit(ret, in, in->max_record, 0, TERM_CONTINUED);
    if (in->at_end && (in->length > 0 || in->mid_record))
        return framing_emit(ret, in, in->length, 0, TERM_NONE);
    in->scanned = reach;
    return 0;
}

int framing_nul_flush(const struct framing_input *in, struct record *ret)
{
    return in->length > 0 && framing_emit(ret, in, in->length, 0, TERM_CONTINUED);
}
