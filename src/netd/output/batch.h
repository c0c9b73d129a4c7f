/* SPDX-License-Identifier: MIT */
/*
 * The entries that are being sent, and what becomes true when the output takes each.
 *
 * A batch lies in memory that another process can map, and the kernel itself writes there, before
 * sendmmsg(2) returns, which messages were taken (msg_len of each). So the batch of a process that
 * was killed shows exactly which entries the journal has.
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
    uint8_t kind;            /* enum item_kind */
    uint8_t continued;       /* ITEM_DATA: the piece is not the record's last */
    uint8_t resent;          /* ITEM_DATA: marked with NETD_RESENT */
    uint8_t unparsed;        /* ITEM_DATA: the record does not have the listener's format */
    uint32_t end;            /* ITEM_DATA: offset in the region behind the record */
    uint32_t frame_left;     /* ITEM_DATA: bytes of a counted frame that are still to come */
    uint64_t records, bytes; /* ITEM_DATA: the session's, with this one */
};

/* How bytes get to standard output; decides what an interrupted call is known by (recovery.c). */
enum stream_kind { STREAM_SOCKET, STREAM_FILE, STREAM_PIPE };

/*
 * Standard output: what is in its buffer, and how much of that has been written. The buffer is a
 * memfd; PIPE is our own, for STREAM_PIPE. Descriptors are 0 until they are made.
 */
struct stream_progress {
    uint32_t loaded; /* number after the last entry in the buffer; 0: it is empty */
    uint32_t length; /* bytes in the buffer */
    uint64_t handed; /* twice the bytes taken from it; odd: a call is being made */
    int64_t offset;  /* STREAM_FILE: the file offset before that call */
    uint32_t kind;   /* enum stream_kind */
    int32_t buffer, pipe[2];
    struct mmsghdr message; /* STREAM_SOCKET: that call's */
};

/* Plain data but for the pointers in MESSAGES, which only the kernel follows, in the process that
 * wrote them. Entries from FIRST up to END are not accounted for yet. */
struct batch {
    uint32_t first, end;
    struct stream_progress stream;
    struct item items[BATCH_MAX];
    struct mmsghdr messages[BATCH_MAX];
};

/* Puts ITEM in the batch, which must have room; its entry is the COUNT pieces at PIECES. */
void batch_push(struct batch *batch, const struct item *item, struct iovec *pieces, size_t count);

/* True where the output took the batch's first entry: the caller applies items[first], then
 * increments first. */
static inline bool batch_taken(const struct batch *batch)
{
    return batch->first < batch->end && batch->messages[batch->first].msg_len != NOT_TAKEN;
}

/* Empties the batch. */
void batch_reset(struct batch *batch);
