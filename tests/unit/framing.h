/* SPDX-License-Identifier: MIT */
/*
 * The records that line framing has to give, defined over the whole stream: it is split at each LF,
 * a CR before the LF belongs to the end, and what is longer than the limit comes in pieces of the
 * limit. And a feeder that has a framing look at the stream as a session does, in whatever
 * cuttings. Shared by tests and fuzzers.
 */
#pragma once

#include "netd/protocol/framing.h"

#include <stdlib.h>
#include <string.h>

struct piece {
    size_t start, length; /* of the stream, without the terminator */
    enum terminator terminator;
};

struct pieces {
    struct piece *all; /* for free(3) */
    size_t count, room;
};

static inline void pieces_add(struct pieces *p, size_t start, size_t length, enum terminator end)
{
    if (p->count == p->room) {
        p->room = p->room * 2 + 64;
        p->all = realloc(p->all, p->room * sizeof(*p->all));
        if (!p->all)
            abort();
    }
    p->all[p->count++] = (struct piece){start, length, end};
}

static inline void pieces_add_line(struct pieces *p, size_t max, size_t start, size_t length,
                                   enum terminator end)
{
    for (; length > max; start += max, length -= max)
        pieces_add(p, start, max, TERM_CONTINUED);
    pieces_add(p, start, length, end);
}

static inline void pieces_expect(struct pieces *ret, size_t max, const uint8_t *data, size_t length)
{
    size_t start = 0;

    ret->count = 0;
    for (size_t i = 0; i < length; i++) {
        bool crlf = i > start && data[i - 1] == '\r';

        if (data[i] != '\n')
            continue;
        pieces_add_line(ret, max, start, i - start - crlf, crlf ? TERM_CRLF : TERM_LF);
        start = i + 1;
    }
    if (start < length)
        pieces_add_line(ret, max, start, length - start, TERM_NONE);
}

static inline bool pieces_equal(const struct pieces *a, const struct pieces *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->all[i].start != b->all[i].start || a->all[i].length != b->all[i].length ||
            a->all[i].terminator != b->all[i].terminator)
            return false;
    return true;
}

/* The terminator's bytes. */
static inline size_t terminator_length(enum terminator terminator)
{
    return terminator == TERM_LF ? 1 : terminator == TERM_CRLF ? 2 : 0;
}

/* A stream on its way through a framing. */
struct feeder {
    enum framing framing;
    size_t max_record;
    const uint8_t *data;
    size_t framed, end; /* taken; arrived */
    size_t scanned;
    bool mid_record;
    struct pieces pieces;
};

/* What the framing sees: DATA, a copy of the bytes that are in no record yet. */
static inline struct framing_input feeder_input(const struct feeder *f, const uint8_t *data,
                                                bool at_end)
{
    return (struct framing_input){
        .data = data,
        .length = f->end - f->framed,
        .max_record = f->max_record,
        .scanned = f->scanned,
        .at_end = at_end,
        .mid_record = f->mid_record,
    };
}

static inline bool feeder_take(struct feeder *f, const struct record *record)
{
    size_t terminator = terminator_length(record->terminator);

    if (record->data != f->data + f->framed || record->consumed != record->length + terminator ||
        record->consumed > f->end - f->framed || record->length > f->max_record)
        return false;
    if (record->terminator == TERM_LF && record->data[record->length] != '\n')
        return false;
    if (record->terminator == TERM_CRLF && memcmp(record->data + record->length, "\r\n", 2) != 0)
        return false;
    pieces_add(&f->pieces, f->framed, record->length, record->terminator);
    f->framed += record->consumed;
    f->scanned = 0;
    f->mid_record = record->terminator == TERM_CONTINUED;
    return true;
}

/*
 * N more bytes arrive, the last ones with AT_END; takes every record that they make. The framing
 * sees a copy that ends where the bytes end, so that a sanitizer notices a look behind them. False
 * where the result is no record of the stream, or has bytes that did not arrive yet.
 */
static inline bool feeder_feed(struct feeder *f, size_t n, bool at_end)
{
    struct record record;
    bool good = true;

    f->end += n;
    for (;;) {
        size_t length = f->end - f->framed;
        uint8_t *copy = malloc(length > 0 ? length : 1);
        struct framing_input in = feeder_input(f, copy, at_end);
        int r;

        if (!copy)
            abort();
        memcpy(copy, f->data + f->framed, length);
        r = framing_ops(f->framing)->next(&in, &record);
        f->scanned = in.scanned;
        good = r == 0 || record.data == copy;
        free(copy);
        if (r == 0 || !good)
            break;
        record.data = f->data + f->framed;
        if (!feeder_take(f, &record))
            return false;
    }
    return good && (!at_end || f->framed == f->end);
}

/* Has the unfinished rest taken as a piece, as when memory is short. */
static inline bool feeder_flush(struct feeder *f)
{
    struct framing_input in = feeder_input(f, f->data + f->framed, false);
    struct record record;

    return framing_ops(f->framing)->flush(&in, &record) == 0 || feeder_take(f, &record);
}

/* Records instead of pieces: what does not depend on the memory that there was. */
static inline void pieces_join(struct pieces *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->count; i++) {
        bool join = n > 0 && p->all[n - 1].terminator == TERM_CONTINUED;

        if (join) {
            p->all[n - 1].length += p->all[i].length;
            p->all[n - 1].terminator = p->all[i].terminator;
        } else {
            p->all[n++] = p->all[i];
        }
    }
    p->count = n;
}
