/* SPDX-License-Identifier: MIT */
/*
 * The entries that are on their way out, and what becomes true when the output takes each.
 *
 * A batch lies in memory that another process can map, and the kernel itself writes there, before
 * sendmmsg(2) returns, which messages were taken (msg_len of each). So whoever finds a batch of a
 * process that was killed in the middle knows exactly what the journal has and what it has not.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Entries in a batch; the journal's socket queues 512 (net.unix.max_dgram_qlen as systemd sets it).
 */
#define BATCH_MAX 256

/* msg_len of a message that was not taken yet. */
#define NOT_TAKEN UINT32_MAX

enum item_kind { ITEM_CONNECT, ITEM_DATA, ITEM_END };

/* What becomes true of a session when the output takes an entry. Values, not differences, so that
 * applying it twice does no harm. */
struct item {
    uint32_t session;
    uint8_t kind;      /* enum item_kind */
    uint8_t continued; /* ITEM_DATA: the piece is not the record's last */
    uint16_t unused;
    uint32_t end;            /* ITEM_DATA: offset in the region behind the record */
    uint64_t records, bytes; /* ITEM_DATA: the session's, with this one */
};

/* Plain data but for the pointers in MESSAGES, which only the kernel follows, in the process that
 * wrote them. Entries from FIRST up to END are not accounted for yet. */
struct batch {
    uint32_t first, end;
    uint32_t begun; /* standard output, which does not say what it took: the number behind the entry
                       that is being written, or 0 */
    struct item items[BATCH_MAX];
    struct mmsghdr messages[BATCH_MAX];
};

/* Puts ITEM in the batch, which must have room; its entry is the COUNT pieces at PIECES. */
void batch_push(struct batch *batch, const struct item *item, struct iovec *pieces, size_t count);

/* True where the output took the batch's first entry: the caller applies items[first], then
 * increments first. */
bool batch_taken(const struct batch *batch);

/* Empties the batch. */
void batch_reset(struct batch *batch);
