/* SPDX-License-Identifier: MIT */
/*
 * Entries on their way out: to journald by its native protocol, or to standard output. No queue: a
 * batch is filled, sent, and filled again. What does not go out stays in the batch, and the caller
 * reads no client until there is room again.
 *
 * The batch lies in memory that another process can map, and the kernel itself writes there, before
 * sendmmsg(2) returns, which messages were taken (msg_len of each). So whoever finds a batch of a
 * process that was killed in the middle knows exactly what the journal has and what it has not.
 */
#pragma once

#include "netd/output/event.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

/* Entries in a batch; the journal's socket queues 512 (net.unix.max_dgram_qlen as systemd sets it).
 */
#define BATCH_MAX 256

/* Larger entries go as a sealed memfd, as sd_journal_sendv(3) does: the kernel would want one run
 * of pages for a large datagram, and cannot always have it. */
#define DATAGRAM_MAX ((size_t)96 * 1024)

/* Bytes of memfds that may wait in journald's queue: they are not charged to the socket's buffer.
 */
#define MEMFD_WAITING_MAX ((size_t)2 * 1024 * 1024)

/* msg_len of a message that was not taken yet. */
#define NOT_TAKEN UINT32_MAX

enum item_kind { ITEM_CONNECT, ITEM_DATA, ITEM_END };

/* What becomes true of a session when the journal takes an entry. Values, not differences, so that
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

struct journal {
    enum output output;
    const char *path; /* of journald's socket */
    int fd;           /* -1: not connected */
    bool blocks;      /* standard output: a write may wait */
    struct batch *batch;
    struct arena arena;
    size_t arena_most; /* bytes of it that a batch used since the last journal_trim() */
    struct entry entries[BATCH_MAX];
    size_t datagram_max;   /* bytes that the socket takes in one datagram, at most DATAGRAM_MAX */
    size_t written;        /* standard output: bytes of the first entry that are out */
    int memfd;             /* the first entry, where it is a large one */
    size_t memfds_waiting; /* bytes */
    int blocked_errno;     /* 0, or the errno why nothing goes out */
    unsigned blocked_tries;
    int queued;          /* bytes on the way to journald when its queue was found full */
    uint64_t retry_usec; /* what to wait then */
};

/*
 * Prepares *J for OUTPUT (OUTPUT_AUTO must be decided before) over BATCH, which it empties; nothing
 * is opened yet. PATH is journald's socket, for tests another. Returns 0 or a negative errno. BATCH
 * and PATH must outlive it.
 */
int journal_init(struct journal *j, enum output output, const char *path, struct batch *batch);
void journal_deinit(struct journal *j);

/* True while the batch has room for an entry. */
bool journal_has_room(const struct journal *j);

/* Puts ENTRY, whose pieces must stay until it is taken, and what becomes true with it, in the
 * batch, which must have room. */
void journal_push(struct journal *j, const struct entry *entry, const struct item *item);

/*
 * Sends what is in the batch. The caller then looks at batch->first, and applies what was taken
 * (batch_taken()). Returns 0 when all of it went out, 1 when some did not and journal_retry_usec()
 * says when to come back, or a negative errno when the output is gone for good (standard output
 * only).
 */
int journal_send(struct journal *j);

/* After journal_send(): the batch's first entry was taken; the caller applies items[first], then
 * increments first. */
bool batch_taken(const struct batch *batch);

/* Empties the batch. */
void batch_reset(struct batch *batch);

/* All is accounted for: the batch and its text may be used again. */
void journal_reset(struct journal *j);

/* Gives back the memory that no batch has needed since the last call. */
void journal_trim(struct journal *j);

/* How long to wait before journal_send() is worth another try. */
uint64_t journal_retry_usec(const struct journal *j);
