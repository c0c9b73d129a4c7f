/* SPDX-License-Identifier: MIT */
/*
 * RELP streams through framing = "relp", as a session has them looked at, in whatever cuttings; and
 * what they have to give, said over the whole stream at once. Shared by tests and fuzzers.
 */
#pragma once

#include "netd/protocol/framing.h"
#include "netd/protocol/relp.h"

#include "look.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RELP_STREAM_MAX 16384

struct relp_record {
    size_t start, length; /* of the record's bytes in the stream */
    uint32_t announced;   /* NETD_FRAME_LENGTH, or 0 */
    enum terminator terminator;
};

struct relp_run {
    size_t max;
    const uint8_t *data;
    size_t framed, end; /* taken; arrived */
    size_t scanned;
    bool mid_record, good;
    uint32_t left;
    uint64_t first, records; /* before the stream; whole records so far */
    int result;              /* of the last look */
    size_t count;
    struct relp_record all[RELP_STREAM_MAX + 1];
};

/* FIRST: records that were whole before the stream, which without any begins with an open command.
 */
static inline void relp_begin(struct relp_run *r, size_t max, uint64_t first, const uint8_t *data)
{
    r->max = max;
    r->data = data;
    r->framed = r->end = r->scanned = r->count = 0;
    r->mid_record = false;
    r->good = true;
    r->left = 0;
    r->first = r->records = first;
    r->result = FRAMING_MORE;
}

static inline void relp_add(struct relp_run *r, size_t start, size_t length, uint32_t announced,
                            enum terminator terminator)
{
    if (r->count > RELP_STREAM_MAX)
        abort();
    r->all[r->count++] = (struct relp_record){start, length, announced, terminator};
}

static inline void relp_take(struct relp_run *r, const struct record *record, size_t offset)
{
    r->good = r->good && record->relp && offset + record->length <= record->consumed &&
              record->consumed <= r->end - r->framed && record->length <= r->max &&
              (record->terminator != TERM_RELP ||
               (record->frame_length == 0 && record->frame_left == 0)) &&
              (record->terminator != TERM_NONE || record->frame_left > 0);
    relp_add(r, r->framed + offset, record->length, record->frame_length, record->terminator);
    r->framed += record->consumed;
    r->mid_record = record->terminator == TERM_CONTINUED;
    r->left = record->frame_left;
    r->records += !r->mid_record;
}

/* One look. Returns true if a record came of it. */
static inline bool relp_look(struct relp_run *r, bool at_end, bool flush)
{
    struct framing_input in = {
        .data = r->data + r->framed,
        .length = r->end - r->framed,
        .max_record = r->max,
        .scanned = r->scanned,
        .at_end = at_end,
        .mid_record = r->mid_record,
        .frame_left = r->left,
        .records = r->records,
    };
    struct record record;
    size_t offset;

    r->result = look_at_copy(FRAMING_RELP, &in, flush, &record, &offset);
    if (r->result == FRAMING_RECORD)
        relp_take(r, &record, offset);
    if (r->result == FRAMING_RECORD && record.terminator == TERM_RELP)
        r->good = r->good && in.records == r->records;
    if (!flush)
        r->scanned = in.scanned;
    /* A session that waits has looked at all of it (session_is_framed()). */
    r->good = r->good && (flush || r->result != FRAMING_MORE || r->scanned == in.length);
    return r->result == FRAMING_RECORD && r->good;
}

/* N more bytes arrive, the last ones with AT_END. */
static inline void relp_feed(struct relp_run *r, size_t n, bool at_end)
{
    if (r->result < 0 || r->result == FRAMING_CLOSED)
        return; /* the session has ended */
    r->end += n;
    while (relp_look(r, at_end, false))
        ;
}

/* Has the unfinished rest taken as a piece, as when memory is short. */
static inline void relp_flush(struct relp_run *r)
{
    if (r->result != FRAMING_MORE)
        return;
    (void)relp_look(r, false, true);
    r->result = FRAMING_MORE;
    r->scanned = r->end - r->framed; /* as a session has it */
}

/* --- What has to come --- */

/* The number at *AT, and behind it. Returns 1, 0 at the end of the stream, or -1. */
static inline int relp_expect_number(const uint8_t *data, size_t length, size_t *at, uint32_t *ret)
{
    size_t begin = *at;

    *ret = 0;
    while (*at < length && data[*at] >= '0' && data[*at] <= '9') {
        if (*at - begin == 9)
            return -1;
        *ret = *ret * 10 + (uint32_t)(data[(*at)++] - '0');
    }
    if (*at == length)
        return 0;
    return *at > begin ? 1 : -1;
}

/* The same for a word. */
static inline int relp_expect_word(const uint8_t *data, size_t length, size_t *at, const char *word)
{
    for (; *word; word++, (*at)++) {
        if (*at == length)
            return 0;
        if (data[*at] != (uint8_t)*word)
            return -1;
    }
    return 1;
}

/* The head at *AT, of the frame that has to be number TXNR. *COMMAND is 'o', 's' or 'c'. */
static inline int relp_expect_head(const uint8_t *data, size_t length, size_t *at, uint32_t *txnr,
                                   char *command, uint32_t *datalen)
{
    static const char *const words[] = {" open ", " syslog ", " close "};
    size_t from;
    int r;

    r = relp_expect_number(data, length, at, txnr);
    if (r <= 0)
        return r;
    from = *at;
    for (size_t i = 0; i < 3; i++) {
        *at = from;
        *command = words[i][1];
        r = relp_expect_word(data, length, at, words[i]);
        if (r >= 0)
            break;
    }
    if (r > 0)
        r = relp_expect_number(data, length, at, datalen);
    return r > 0 && *datalen > 0 ? relp_expect_word(data, length, at, " ") : r;
}

/* Pieces of a record, of which LEFT bytes are announced and LENGTH there. Returns the bytes in
 * them. */
static inline size_t relp_expect_pieces(struct relp_run *r, size_t start, size_t length,
                                        uint32_t left)
{
    uint32_t said = left;
    size_t taken = 0;

    for (; left > r->max && length - taken >= r->max; said = 0) {
        relp_add(r, start + taken, r->max, said, TERM_CONTINUED);
        taken += r->max;
        left -= (uint32_t)r->max;
    }
    return taken;
}

static inline void relp_expect_record(struct relp_run *r, size_t start, size_t length,
                                      uint32_t announced, enum terminator end)
{
    size_t taken = relp_expect_pieces(r, start, length, announced);

    relp_add(r, start + taken, length - taken, end == TERM_NONE && taken == 0 ? announced : 0, end);
}

/* What the whole stream gives. */
static inline void relp_expect(struct relp_run *r, size_t max, uint64_t first, const uint8_t *data,
                               size_t length)
{
    size_t at = 0;
    bool opened = first > 0;

    relp_begin(r, max, first, data);
    for (;;) {
        uint32_t txnr, datalen;
        uint64_t number = r->records + opened;
        char command;
        int found = relp_expect_head(data, length, &at, &txnr, &command, &datalen);

        r->result = found < 0 ? -EPROTO : FRAMING_MORE;
        if (found <= 0)
            return;
        r->result = -EPROTO;
        if (txnr != number % 999999999 + 1 || (command == 'o') == opened ||
            (command != 's' && datalen > RELP_OFFERS_MAX))
            return;
        if (length - at > datalen && data[at + datalen] != '\n') {
            if (command == 's')
                (void)relp_expect_pieces(r, at, datalen, datalen);
            return;
        }
        r->result = FRAMING_MORE;
        if (length - at <= datalen) {
            if (command == 's' && length > at)
                relp_expect_record(r, at, length - at, datalen, TERM_NONE);
            return;
        }
        if (command == 'c') {
            r->result = FRAMING_CLOSED;
            return;
        }
        if (command == 's') {
            relp_expect_record(r, at, datalen, datalen, TERM_RELP);
            r->records++;
        }
        opened = true;
        at += datalen + 1;
    }
}

/* Records instead of pieces: what does not depend on when a piece was taken. How much of one that
 * breaks the grammar at its end was taken does. */
static inline void relp_join(struct relp_run *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->count; i++) {
        if (n > 0 && r->all[n - 1].terminator == TERM_CONTINUED) {
            r->all[n - 1].length += r->all[i].length;
            r->all[n - 1].terminator = r->all[i].terminator;
        } else {
            r->all[n++] = r->all[i];
        }
        if (r->all[n - 1].terminator == TERM_RELP)
            r->all[n - 1].announced = 0;
    }
    r->count = n - (n > 0 && r->all[n - 1].terminator == TERM_CONTINUED);
}

static inline bool relp_equal(const struct relp_run *a, const struct relp_run *b)
{
    if (a->count != b->count || a->result != b->result)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->all[i].start != b->all[i].start || a->all[i].length != b->all[i].length ||
            a->all[i].terminator != b->all[i].terminator ||
            a->all[i].announced != b->all[i].announced)
            return false;
    return true;
}
