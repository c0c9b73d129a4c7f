/* SPDX-License-Identifier: MIT */
/*
 * framing = "line": LF ends a record, and a CR before it belongs to the end. No byte is searched
 * twice for an LF, but for two behind a cut.
 */
#include "netd/protocol/framing.h"

#include "common/util.h"

#include <string.h>

/* What to do with bytes that hold no LF, or one that is too far away. */
static int line_unended(const struct framing_input *in, struct record *ret)
{
    size_t max = in->max_record;
    /* With exactly the limit and a CR the next byte decides: LF makes it a CRLF record that fits.
     */
    bool perhaps_crlf = in->length == max + 1 && in->data[max] == '\r' && !in->at_end;

    if (in->length > max && !perhaps_crlf)
        return framing_emit(ret, in, max, 0, TERM_CONTINUED);
    if (in->at_end)
        return framing_emit(ret, in, in->length, 0, TERM_NONE);
    return 0;
}

int framing_line_next(struct framing_input *in, struct record *ret)
{
    size_t reach = min_size(in->length, in->max_record + 2), from = in->scanned, line;
    const uint8_t *lf = NULL;

    if (in->length == 0 && !(in->at_end && in->mid_record))
        return 0;
    if (from < reach)
        lf = memchr(in->data + from, '\n', reach - from);
    if (!lf) {
        int r = line_unended(in, ret);

        in->scanned = r > 0 ? 0 : reach;
        return r;
    }
    in->scanned = 0;
    line = (size_t)(lf - in->data);
    if (line > 0 && in->data[line - 1] == '\r')
        return framing_emit(ret, in, line - 1, 2, TERM_CRLF);
    if (line > in->max_record) /* the LF is one too far, and what stands before it is no CR */
        return framing_emit(ret, in, in->max_record, 0, TERM_CONTINUED);
    return framing_emit(ret, in, line, 1, TERM_LF);
}

int framing_line_flush(const struct framing_input *in, struct record *ret)
{
    size_t length = in->length;

    /* A last CR may belong to the record's end. */
    if (length > 0 && in->data[length - 1] == '\r')
        length--;
    return length > 0 && framing_emit(ret, in, length, 0, TERM_CONTINUED);
}
