/* SPDX-License-Identifier: MIT */
/* framing = "raw": each read is a record. */
#include "netd/protocol/framing.h"

int framing_raw_next(struct framing_input *in, struct record *ret)
{
    if (in->length == 0 && !(in->at_end && in->mid_record))
        return 0;
    /* More than max_record stands here only after a reload made it smaller. */
    if (in->length > in->max_record)
        return framing_emit(ret, in, in->max_record, 0, TERM_CONTINUED);
    return framing_emit(ret, in, in->length, 0, TERM_NONE);
}
