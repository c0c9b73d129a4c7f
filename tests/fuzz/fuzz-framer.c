/* SPDX-License-Identifier: MIT */
/*
 * Any stream in any cutting, with any limit: the records are those of the whole stream, byte for
 * byte, and pieces taken for want of memory change none of them.
 */
#include "daemon/framer.h"

#include "../unit/framing.h"
#include "fuzz.h"

#define CUTS_MAX 32

static void check_raw(const struct feeder *f, size_t size)
{
    size_t at = 0;

    for (size_t i = 0; i < f->pieces.count; i++) {
        MUST(f->pieces.all[i].start == at);
        MUST(f->pieces.all[i].terminator == TERM_NONE ||
             f->pieces.all[i].terminator == TERM_CONTINUED);
        at += f->pieces.all[i].length;
    }
    MUST(at == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct feeder f = {.framer = {.framing = FRAMING_LINE}};
    struct pieces expected = {0};
    uint32_t settings = input_number(&in, 1), cuts[CUTS_MAX];
    size_t n_cuts = input_number(&in, 1) % (CUTS_MAX + 1);
    bool cut = false;

    f.framer.max_record = MAX_RECORD_LOW + input_number(&in, 1) % 96;
    if (settings & 1)
        f.framer.framing = FRAMING_RAW;
    for (size_t i = 0; i < n_cuts; i++)
        cuts[i] = input_number(&in, 1);
    f.data = in.data;
    for (size_t i = 0; f.end < in.size; i++) {
        size_t n = i < n_cuts ? cuts[i] & 0x7f : in.size - f.end;

        n = n < in.size - f.end ? n : in.size - f.end;
        MUST(feeder_feed(&f, n, (settings & 2) && f.end + n == in.size));
        if (i < n_cuts && cuts[i] & 0x80) {
            MUST(feeder_cut(&f));
            cut = true;
        }
    }
    MUST(feeder_feed(&f, 0, true));
    if (f.framer.framing == FRAMING_RAW) {
        check_raw(&f, in.size);
    } else {
        pieces_expect(&expected, cut ? SIZE_MAX : f.framer.max_record, in.data, in.size);
        if (cut)
            pieces_join(&f.pieces);
        MUST(pieces_equal(&f.pieces, &expected));
    }
    free(f.pieces.all);
    free(expected.all);
    return 0;
}
