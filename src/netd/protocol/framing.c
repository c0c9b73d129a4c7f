/* SPDX-License-Identifier: MIT */
#include "netd/protocol/framing.h"

#include "common/util.h"

#include <string.h>

static int framer_emit(struct record *ret, const uint8_t *data, size_t length, size_t end_length,
                       enum terminator terminator)
{
    *ret = (struct record){
        .data = data,
        .length = length,
        .consumed = length + end_length,
        .terminator = terminator,
    };
    return 1;
}

/* A read is a record. More than max_record stands here only after a reload made max_record smaller.
 */
static int framer_next_raw(size_t max, const uint8_t *data, size_t length, struct record *ret)
{
    if (length > max)
        return framer_emit(ret, data, max, 0, TERM_CONTINUED);
    return framer_emit(ret, data, length, 0, TERM_NONE);
}

/* What to do with bytes that hold no line end, or one that is too far away. */
static int framer_next_unended(size_t max, const uint8_t *data, size_t length, bool at_end,
                               struct record *ret)
{
    /* With exactly the limit and a CR the next byte decides: LF makes it a CRLF record that fits.
     */
    bool perhaps_crlf = length == max + 1 && data[max] == '\r' && !at_end;

    if (length > max && !perhaps_crlf)
        return framer_emit(ret, data, max, 0, TERM_CONTINUED);
    if (at_end)
        return framer_emit(ret, data, length, 0, TERM_NONE);
    return 0;
}

int framer_next(const struct framer *framer, const uint8_t *data, size_t length, bool at_end,
                bool mid_record, size_t *scanned, struct record *ret)
{
    size_t max = framer->max_record, reach = min_size(length, max + 2), from = *scanned;
    const uint8_t *lf = NULL;
    size_t line;

    if (length == 0 && !(at_end && mid_record))
        return 0;
    if (length == 0)
        return framer_emit(ret, data, 0, 0, TERM_NONE);
    if (framer->framing == FRAMING_RAW)
        return framer_next_raw(max, data, length, ret);

    if (from < reach)
        lf = memchr(data + from, '\n', reach - from);
    if (!lf) {
        int r = framer_next_unended(max, data, length, at_end, ret);

        *scanned = r > 0 ? 0 : reach;
        return r;
    }
    *scanned = 0;

    line = (size_t)(lf - data);
    if (line > 0 && data[line - 1] == '\r')
        return framer_emit(ret, data, line - 1, 2, TERM_CRLF);
    if (line > max) /* the LF is one too far, and what stands before it is no CR */
        return framer_emit(ret, data, max, 0, TERM_CONTINUED);
    return framer_emit(ret, data, line, 1, TERM_LF);
}

int framer_cut(const uint8_t *data, size_t length, struct record *ret)
{
    if (length > 0 && data[length - 1] == '\r')
        length--;
    if (length == 0)
        return 0;
    return framer_emit(ret, data, length, 0, TERM_CONTINUED);
}
