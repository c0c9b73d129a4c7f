/* SPDX-License-Identifier: MIT */
/*
 * Any stream through the framings "nul" and "octet", in any cutting, with any limit: the records
 * are those of the whole stream, pieces taken early change none of them, and they give the stream
 * back byte for byte.
 */
#include "../unit/frames.h"
#include "fuzz.h"

#define CUTS_MAX 32
#define CUT_HERE 0x80 /* an unfinished record is taken as a piece behind it */
#define LIMITS   64

static struct frames expected, got;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    uint32_t flags = input_number(&in, 1), cuts = input_number(&in, 1) % (CUTS_MAX + 1);
    enum framing framing = flags & 1 ? FRAMING_NUL : FRAMING_OCTET;
    size_t max = MAX_RECORD_LOW + input_number(&in, 1) % LIMITS;
    uint8_t pieces[CUTS_MAX];
    bool flushed = false;

    for (uint32_t i = 0; i < cuts; i++)
        pieces[i] = (uint8_t)input_number(&in, 1);
    if (in.size > FRAMES_STREAM_MAX / 2)
        return 0;
    frames_expect(&expected, framing, max, in.data, in.size);
    frames_begin(&got, framing, max, in.data);
    for (uint32_t i = 0; i < cuts && got.end < in.size; i++) {
        size_t n = pieces[i] & (CUT_HERE - 1);

        frames_feed(&got, n < in.size - got.end ? n : in.size - got.end, false);
        if (pieces[i] & CUT_HERE) {
            frames_flush(&got);
            flushed = true;
        }
    }
    frames_feed(&got, in.size - got.end, flags & 2);
    frames_feed(&got, 0, true);
    MUST(got.good);
    MUST(frames_give_stream(&got));
    if (flushed) {
        frames_join(&got);
        frames_join(&expected);
    }
    MUST(frames_equal(&got, &expected));
    return 0;
}
