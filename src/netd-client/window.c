/* SPDX-License-Identifier: MIT */
#include "netd-client/window.h"

#include "common/util.h"
#include "netd-client/relp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_SIZE (2 * WINDOW_BYTES)
#define ROOM_MIN    RELP_DATA_MAX /* kept at the end of the buffer, for the longest record */

int window_init(struct window *w)
{
    char *data = malloc(BUFFER_SIZE);

    if (!data)
        return -ENOMEM;
    *w = (struct window){.data = data};
    return 0;
}

void window_deinit(struct window *w)
{
    free(w->data);
    w->data = NULL;
}

static struct window_record *window_record(struct window *w, unsigned i)
{
    return &w->records[(w->first + i) % WINDOW_RECORDS];
}

/* Moves what is held to the front. At most WINDOW_BYTES are moved for each WINDOW_BYTES - ROOM_MIN
 * that were added. */
static void window_compact(struct window *w)
{
    memmove(w->data, w->data + w->begin, w->end - w->begin);
    w->end -= w->begin;
    w->split -= w->begin;
    w->scanned -= w->begin;
    w->unsent -= w->begin;
    w->begin = 0;
}

size_t window_room(struct window *w, char **ret)
{
    if (w->count == WINDOW_RECORDS || w->end - w->begin >= WINDOW_BYTES)
        return 0;
    if (BUFFER_SIZE - w->end < ROOM_MIN)
        window_compact(w);
    *ret = w->data + w->end;
    return min_size(WINDOW_BYTES - (w->end - w->begin), BUFFER_SIZE - w->end);
}

/* Makes a record of the next LENGTH bytes, STORED with what ends them. */
static void window_push(struct window *w, size_t length, size_t stored)
{
    *window_record(w, w->count) =
        (struct window_record){.length = (uint32_t)length, .stored = (uint32_t)stored};
    w->count++;
    w->split += stored;
    w->scanned = w->split;
}

/* Makes records of what is not split yet, as far as lines are complete. */
static void window_split(struct window *w)
{
    while (w->count < WINDOW_RECORDS) {
        const char *start = w->data + w->split;
        const char *lf = memchr(w->data + w->scanned, '\n', w->end - w->scanned);
        size_t length = lf ? (size_t)(lf - start) : w->end - w->split;

        if (length > RELP_DATA_MAX) {
            window_push(w, RELP_DATA_MAX, RELP_DATA_MAX);
            w->pieces++;
        } else if (lf) {
            window_push(w, length, length + 1);
        } else {
            w->scanned = w->end;
            break;
        }
    }
}

void window_add(struct window *w, size_t n)
{
    w->end += n;
    window_split(w);
}

bool window_end_line(struct window *w)
{
    window_split(w);
    if (w->split == w->end)
        return true;
    if (w->count == WINDOW_RECORDS)
        return false;
    window_push(w, w->end - w->split, w->end - w->split);
    return true;
}

bool window_put(struct window *w, const char *text, size_t length)
{
    char *room = w->data + w->end;

    if (window_room(w, &room) < length || w->count == WINDOW_RECORDS)
        return false;
    memcpy(room, text, length);
    w->end += length;
    window_push(w, length, length);
    return true;
}

bool window_is_empty(const struct window *w)
{
    return w->begin == w->end && w->count == 0;
}

/* Lets the next record to send be one that was not acknowledged, on an earlier connection. */
static void window_skip_acknowledged(struct window *w)
{
    while (w->sent < w->count && window_record(w, w->sent)->acknowledged)
        w->unsent += window_record(w, w->sent++)->stored;
}

const struct window_record *window_next(const struct window *w, const char **ret_data)
{
    if (w->sent == w->count)
        return NULL;
    *ret_data = w->data + w->unsent;
    return &w->records[(w->first + w->sent) % WINDOW_RECORDS];
}

void window_sent(struct window *w, uint32_t txnr)
{
    struct window_record *record = window_record(w, w->sent);

    record->txnr = txnr;
    w->unsent += record->stored;
    w->sent++;
    window_skip_acknowledged(w);
}

/* Forgets the oldest records, as far as they are acknowledged. */
static void window_forget(struct window *w)
{
    while (w->count > 0 && w->records[w->first].acknowledged) {
        w->begin += w->records[w->first].stored;
        w->first = (w->first + 1) % WINDOW_RECORDS;
        w->count--;
        w->sent--;
    }
}

int window_acknowledge(struct window *w, uint32_t txnr)
{
    for (unsigned i = 0; i < w->sent; i++) {
        struct window_record *record = window_record(w, i);

        if (record->txnr == txnr && !record->acknowledged) {
            record->acknowledged = true;
            window_forget(w);
            window_split(w);
            return 0;
        }
    }
    return -ENOENT;
}

unsigned window_restart(struct window *w)
{
    unsigned again = 0;

    for (unsigned i = 0; i < w->sent; i++)
        again += !window_record(w, i)->acknowledged;
    w->sent = 0;
    w->unsent = w->begin;
    return again;
}
