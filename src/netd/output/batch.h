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

/* How the kernel's part in a step towards standard output is found out, see stream.c. */
enum stream_kind { STREAM_SOCKET, STREAM_FILE, STREAM_PIPE };

/*
 * Standard output: what is in its buffer, and how far it is out. The buffer is a memfd; PIPE is one
 * of our own, through which pipes and terminals get it. 0 is none of them.
 */
struct stream_progress {
    uint32_t loaded; /* the entries in the buffer are those up to this number; 0: it is empty */
    uint32_t length; /* bytes in the buffer */
    uint64_t handed; /* bytes of it that a system call took, times two; odd: one is being made */
    int64_t offset;  /* STREAM_FILE: of the file before that call */
    uint32_t kind;   /* enum stream_kind */
    int32_t buffer, pipe[2];
    struct mmsghdr message; /* STREAM_SOCKET: of that call */
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
bool batch_taken(const struct batch *batch);

/* Empties the batch. */
void batch_reset(struct batch *batch);
