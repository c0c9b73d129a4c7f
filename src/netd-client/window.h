/* SPDX-License-Identifier: MIT */
/*
 * The records that a RELP client has read and the server has not acknowledged, oldest first, and
 * behind them input that is not split into records yet. Pure; memory is bounded by the limits
 * below.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOW_RECORDS 1024
#define WINDOW_BYTES   ((size_t)1024 * 1024)

struct window_record {
    uint32_t length; /* without LF */
    uint32_t stored; /* bytes that it takes, with LF if the input has one */
    uint32_t txnr;   /* of the transaction that it was sent in */
    bool acknowledged;
};

struct window {
    char *data;        /* twice WINDOW_BYTES, so that it is seldom moved to the front */
    size_t begin, end; /* bytes in use */
    size_t split;      /* start of the input not split yet */
    size_t scanned;    /* where to look on for LF */
    size_t unsent;     /* start of the next record to send */
    unsigned first;    /* index of the oldest record, which is not acknowledged */
    unsigned count;    /* records held */
    unsigned sent;     /* of them, those before the next record to send */
    uint64_t pieces;   /* records that are not the end of their line */
    struct window_record records[WINDOW_RECORDS];
};

/* Returns 0 or -ENOMEM. */
int window_init(struct window *w);

/* Frees the memory of W, which may be all zero. */
void window_deinit(struct window *w);

/* Where input can be read to, and how much; 0 while there is no room. */
size_t window_room(struct window *w, char **ret);

/* Takes N bytes that were read to window_room(). Lines become records; one that is longer than
 * RELP_DATA_MAX becomes several. */
void window_add(struct window *w, size_t n);

/* Makes a record of a last line without LF, if there is one. Returns false if there is no room. */
bool window_end_line(struct window *w);

/* Adds a record of LENGTH bytes, at most RELP_DATA_MAX, behind complete lines. Returns false if
 * there is no room. */
bool window_put(struct window *w, const char *text, size_t length);

/* True if nothing is held. */
bool window_is_empty(const struct window *w);

/* The next record to send, or NULL. */
const struct window_record *window_next(const struct window *w, const char **ret_data);

/* Notes that the next record was sent as transaction TXNR. */
void window_sent(struct window *w, uint32_t txnr);

/* Notes that the record sent as transaction TXNR is dealt with, and forgets it. Returns 0, or
 * -ENOENT if there is none. */
int window_acknowledge(struct window *w, uint32_t txnr);

/* Sends again, on another connection, what was not acknowledged. Returns the number of records that
 * had been sent. */
unsigned window_restart(struct window *w);
