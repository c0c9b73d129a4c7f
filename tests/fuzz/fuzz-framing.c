/* SPDX-License-Identifier: MIT */
/*
 * Any stream, split into any pieces, with any limit: the records are those of the whole stream,
 * byte for byte, and flushing partial records changes none of them.
 */
#include "netd/protocol/framing.h"

#include "../unit/framing.h"
#include "fuzz.h"

#define CUTS_MAX 32

/* Number of limits tried, from the lowest: a piece of about that length fits below CUT_HERE. */
#define LIMITS 56

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

/* How a stream arrives: the lengths of pieces; the rest of the stream is the last piece. */
struct cutting {
    uint8_t pieces[CUTS_MAX]; /* bytes; CUT_HERE: the partial record is flushed after it */
    size_t count;
    bool end_comes_with_last;
};

#define CUT_HERE 0x80

static void check(const struct feeder *settings, struct input in, const struct cutting *c)
{
    struct feeder f = *settings;
    struct pieces expected = {0};
    bool cut = false;

    f.data = in.data;
    for (size_t i = 0; f.end < in.size; i++) {
        size_t n = i < c->count ? c->pieces[i] & (CUT_HERE - 1) : in.size - f.end;

        n = n < in.size - f.end ? n : in.size - f.end;
        MUST(feeder_feed(&f, n, c->end_comes_with_last && f.end + n == in.size));
        if (i < c->count && c->pieces[i] & CUT_HERE) {
            MUST(f.framing == FRAMING_RAW || feeder_flush(&f));
            cut = true;
        }
    }
    MUST(feeder_feed(&f, 0, true));
    if (f.framing == FRAMING_RAW) {
        check_raw(&f, in.size);
    } else {
        pieces_expect(&expected, cut ? SIZE_MAX : f.max_record, in.data, in.size);
        if (cut)
            pieces_join(&f.pieces);
        MUST(pieces_equal(&f.pieces, &expected));
    }
    free(f.pieces.all);
    free(expected.all);
}

/* For each line about as long as the limit: every way to split it in two. */
static void check_at_limit(const struct feeder *settings, struct input in)
{
    size_t start = 0;

    for (size_t i = 0; i < in.size; i++) {
        struct input line = {in.data + start, i + 1 - start};

        if (in.data[i] != '\n')
            continue;
        start = i + 1;
        if (line.size + 2 < settings->max_record || line.size > settings->max_record + 4)
            continue;
        for (size_t n = settings->max_record - 2; n <= line.size; n++)
            check(settings, line, &(struct cutting){.pieces = {(uint8_t)n, 1}, .count = 2});
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct cutting c = {.count = 0};
    uint32_t flags = input_number(&in, 1);
    struct feeder settings = {.framing = flags & 1 ? FRAMING_RAW : FRAMING_LINE};

    c.end_comes_with_last = flags & 2;
    c.count = input_number(&in, 1) % (CUTS_MAX + 1);
    settings.max_record = MAX_RECORD_LOW + input_number(&in, 1) % LIMITS;
    for (size_t i = 0; i < c.count; i++)
        c.pieces[i] = (uint8_t)input_number(&in, 1);
    check(&settings, in, &c);
    check_at_limit(&settings, in);
    return 0;
}
