/* SPDX-License-Identifier: MIT */
/*
 * Any stream through the framing "relp", in any cutting, with any limit, at the beginning of a
 * session or anywhere in it: the records are those of the whole stream, pieces taken early change
 * none of them, and the same byte breaks the grammar.
 */
#include "../unit/relp.h"
#include "fuzz.h"

#define CUTS_MAX 32
#define CUT_HERE 0x80 /* an unfinished record is taken as a piece behind it */
#define LIMITS   64

static struct relp_run expected, got;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t firsts[] = {0, 1, 8, 999999996};
    struct input in = {data, size};
    uint32_t flags = input_number(&in, 1), cuts = input_number(&in, 1) % (CUTS_MAX + 1);
    size_t max = MAX_RECORD_LOW + input_number(&in, 1) % LIMITS;
    uint64_t first = firsts[(flags >> 2) % 4];
    uint8_t pieces[CUTS_MAX];
    bool flushed = false;

    for (uint32_t i = 0; i < cuts; i++)
        pieces[i] = (uint8_t)input_number(&in, 1);
    if (in.size > RELP_STREAM_MAX / 2)
        return 0;
    relp_expect(&expected, max, first, in.data, in.size);
    relp_begin(&got, max, first, in.data);
    for (uint32_t i = 0; i < cuts && got.end < in.size; i++) {
        size_t n = pieces[i] & (CUT_HERE - 1);

        relp_feed(&got, n < in.size - got.end ? n : in.size - got.end, false);
        if (pieces[i] & CUT_HERE) {
            relp_flush(&got);
            flushed = true;
        }
    }
    relp_feed(&got, in.size - got.end, flags & 1);
    relp_feed(&got, 0, true);
    MUST(got.good);
    if (flushed) {
        relp_join(&got);
        relp_join(&expected);
    }
    MUST(relp_equal(&got, &expected));
    return 0;
}
