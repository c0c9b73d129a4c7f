/* SPDX-License-Identifier: MIT */
/*
 * Streams through the framings "nul" and "octet", as a session has them looked at, in whatever
 * cuttings; what they have to give, said over the whole stream at once; and the stream put together
 * again from the records alone, as a reader of the journal does. Shared by tests and fuzzers.
 */
#pragma once

#include "netd/protocol/framing.h"

#include "look.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_STREAM_MAX 16384

struct frame {
    size_t start, length; /* of the record's bytes in the stream */
    enum terminator terminator;
    uint32_t announced; /* NETD_FRAME_LENGTH, or 0 */
};

struct frames {
    enum framing framing;
    size_t max;
    const uint8_t *data;
    size_t framed, end; /* taken; arrived */
    size_t scanned;
    bool mid_record;
    uint32_t left; /* frame_left of the last record */
    bool good;     /* cleared where a record is none of the stream */
    size_t count;
    struct frame all[FRAMES_STREAM_MAX + 1];
};

static inline void frames_begin(struct frames *f, enum framing framing, size_t max,
                                const uint8_t *data)
{
    f->framing = framing;
    f->max = max;
    f->data = data;
    f->framed = f->end = f->scanned = f->count = 0;
    f->mid_record = false;
    f->left = 0;
    f->good = true;
}

static inline void frames_add(struct frames *f, size_t start, size_t length, enum terminator end,
                              uint32_t announced)
{
    if (f->count > FRAMES_STREAM_MAX)
        abort();
    f->all[f->count++] = (struct frame){start, length, end, announced};
}

/* Takes RECORD, whose bytes stand OFFSET behind the last one's end. */
static inline void frames_take(struct frames *f, const struct record *record, size_t offset)
{
    f->good = f->good && offset + record->length <= record->consumed &&
              record->consumed <= f->end - f->framed && record->length <= f->max &&
              (record->frame_left == 0 || record->terminator == TERM_CONTINUED) &&
              (record->terminator != TERM_OCTET || record->frame_length == 0 ||
               record->frame_length == record->length);
    frames_add(f, f->framed + offset, record->length, record->terminator,
               record->terminator == TERM_OCTET ? 0 : record->frame_length);
    f->framed += record->consumed;
    f->mid_record = record->terminator == TERM_CONTINUED;
    f->left = record->frame_left;
}

/* One look. Returns false where no record comes of it. */
static inline bool frames_look(struct frames *f, bool at_end, bool flush)
{
    struct framing_input in = {
        .data = f->data + f->framed,
        .length = f->end - f->framed,
        .max_record = f->max,
        .scanned = f->scanned,
        .at_end = at_end,
        .mid_record = f->mid_record,
        .frame_left = f->left,
    };
    struct record record;
    size_t offset;
    int r = look_at_copy(f->framing, &in, flush, &record, &offset);

    if (r > 0)
        frames_take(f, &record, offset);
    if (!flush)
        f->scanned = in.scanned;
    /* The next look begins behind the record. */
    f->good = f->good && (r == 0 || flush || in.scanned == 0);
    /* A session that waits has looked at all of it (session_is_framed()). */
    f->good = f->good && (r > 0 || flush || f->scanned == in.length);
    return r > 0 && f->good;
}

/* N more bytes arrive, the last ones with AT_END. */
static inline void frames_feed(struct frames *f, size_t n, bool at_end)
{
    f->end += n;
    while (frames_look(f, at_end, false))
        ;
    f->good = f->good && (!at_end || f->framed == f->end);
}

/* Has the unfinished rest taken as a piece, as when memory is short or the client is silent. */
static inline void frames_flush(struct frames *f)
{
    (void)frames_look(f, false, true);
    f->scanned = f->end - f->framed; /* as a session has it */
}

/* --- What has to come --- */

/* A record of the stream, in pieces. */
static inline void frames_expect_record(struct frames *f, size_t start, size_t length,
                                        enum terminator end, uint32_t announced)
{
    uint32_t said = length > f->max || end == TERM_NONE ? announced : 0;

    /* A whole one ends with its last byte; at the stream's end only the end tells. */
    for (; length > f->max || (announced > 0 && length == f->max && end == TERM_NONE); said = 0) {
        frames_add(f, start, f->max, TERM_CONTINUED, said);
        start += f->max;
        length -= f->max;
    }
    frames_add(f, start, length, end, said);
}

/* The digits of a head at AT, or 0 where a line is. */
static inline size_t frames_head(const uint8_t *data, size_t at, size_t length, uint32_t *announced)
{
    size_t n = 0;

    *announced = 0;
    while (at + n < length && n < 10 && data[at + n] >= '0' && data[at + n] <= '9')
        n++;
    if (n == 0 || n > 9 || data[at] == '0' || at + n == length || data[at + n] != ' ')
        return 0;
    for (size_t i = 0; i < n; i++)
        *announced = *announced * 10 + (uint32_t)(data[at + i] - '0');
    return n;
}

/* The line or NUL-ended record at AT; returns the offset behind it. */
static inline size_t frames_expect_ended(struct frames *f, size_t at, size_t length, uint8_t end)
{
    size_t stop = at;
    bool crlf;

    while (stop < length && f->data[stop] != end)
        stop++;
    if (stop == length) {
        frames_expect_record(f, at, stop - at, TERM_NONE, 0);
        return length;
    }
    crlf = end == '\n' && stop > at && f->data[stop - 1] == '\r';
    frames_expect_record(f, at, stop - at - crlf,
                         end == '\0' ? TERM_NUL
                         : crlf      ? TERM_CRLF
                                     : TERM_LF,
                         0);
    return stop + 1;
}

static inline void frames_expect(struct frames *f, enum framing framing, size_t max,
                                 const uint8_t *data, size_t length)
{
    size_t at = 0;

    frames_begin(f, framing, max, data);
    while (at < length) {
        uint32_t announced = 0;
        size_t digits = framing == FRAMING_OCTET ? frames_head(data, at, length, &announced) : 0;
        size_t rest = digits > 0 ? length - at - digits - 1 : 0;

        if (digits == 0) {
            at = frames_expect_ended(f, at, length, framing == FRAMING_NUL ? '\0' : '\n');
            continue;
        }
        at += digits + 1;
        frames_expect_record(f, at, rest < announced ? rest : announced,
                             rest < announced ? TERM_NONE : TERM_OCTET, announced);
        at += rest < announced ? rest : announced;
    }
}

/* Records instead of pieces: what does not depend on when a piece was taken. What a head announced
 * is said by a record that came in one piece, too. */
static inline void frames_join(struct frames *f)
{
    size_t n = 0;

    for (size_t i = 0; i < f->count; i++) {
        if (n > 0 && f->all[n - 1].terminator == TERM_CONTINUED) {
            f->all[n - 1].length += f->all[i].length;
            f->all[n - 1].terminator = f->all[i].terminator;
        } else {
            f->all[n++] = f->all[i];
        }
        if (f->all[n - 1].terminator == TERM_OCTET)
            f->all[n - 1].announced = (uint32_t)f->all[n - 1].length;
    }
    f->count = n;
}

static inline bool frames_equal(const struct frames *a, const struct frames *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->all[i].start != b->all[i].start || a->all[i].length != b->all[i].length ||
            a->all[i].terminator != b->all[i].terminator ||
            a->all[i].announced != b->all[i].announced)
            return false;
    return true;
}

/* --- Put together again --- */

static inline bool frames_match(const struct frames *f, size_t *at, const void *bytes, size_t n)
{
    bool same = n <= f->end - *at && memcmp(f->data + *at, bytes, n) == 0;

    *at += n;
    return same;
}

/* True where the records, with what stands in the fields of each, give the stream back. */
static inline bool frames_give_stream(const struct frames *f)
{
    size_t at = 0;
    bool mid_record = false, same = true;

    for (size_t i = 0; same && i < f->count; i++) {
        const struct frame *r = &f->all[i];
        size_t announced = r->announced;
        char head[32];

        if (announced == 0 && !mid_record && r->terminator == TERM_OCTET)
            announced = r->length;
        if (announced > 0)
            same = frames_match(f, &at, head, (size_t)sprintf(head, "%zu ", announced));
        same = same && frames_match(f, &at, f->data + r->start, r->length);
        if (same && r->terminator == TERM_NUL)
            same = frames_match(f, &at, "", 1);
        if (same && r->terminator == TERM_LF)
            same = frames_match(f, &at, "\n", 1);
        if (same && r->terminator == TERM_CRLF)
            same = frames_match(f, &at, "\r\n", 2);
        mid_record = r->terminator == TERM_CONTINUED;
    }
    return same && at == f->end;
}
