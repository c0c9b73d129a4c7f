/* SPDX-License-Identifier: MIT */
/*
 * Where entries go: journald, or standard output. A batch is filled, sent, and filled again; there
 * is no queue. Entries that the output does not take stay in the batch, and the caller reads no
 * client until there is room again.
 *
 * Each kind of output is a constant table of functions, struct sink_type; no other code depends on
 * the kind.
 */
#pragma once

#include "netd/output/batch.h"
#include "netd/output/event.h"
#include "netd/output/journal.h"
#include "netd/output/stream.h"

#include <stdbool.h>
#include <stdint.h>

struct sink {
    const struct sink_type *type;
    enum output output; /* the encoding of entries */
    struct batch *batch;
    struct arena arena;
    size_t arena_most; /* bytes of it that a batch used since the last sink_trim() */
    struct entry entries[BATCH_MAX];
    int blocked_errno; /* 0, or the errno why nothing goes out */
    unsigned blocked_tries;
    uint64_t retry_usec; /* what to wait after EAGAIN, at first */
    union {
        struct journal journal;
        struct stream stream;
    };
};

/* One kind of output. */
struct sink_type {
    const char *name; /* for messages */

    /* Prepares the sink, whose other members are set. Returns 0 or a negative errno. */
    int (*open)(struct sink *s);
    void (*close)(struct sink *s);

    /* Completes entries that the last worker left half written. Returns 0 or a negative errno. NULL
     * if there cannot be any. */
    int (*resume)(struct sink *s);

    /* Sends entries of the batch from number I on, as many as one call can. Returns their number,
     * having set their msg_len, or a negative errno. */
    int (*send)(struct sink *s, uint32_t i);

    /* Releases unused memory; may be NULL. */
    void (*trim)(struct sink *s);

    /* True for an errno of resume() and send() that is permanent; NULL if none is. */
    bool (*is_fatal)(int error);
};

/*
 * Prepares *S for OUTPUT (OUTPUT_AUTO must be decided before) over BATCH, which must outlive it.
 * PATH is journald's socket, for tests another; it must outlive the sink too, and is not connected
 * to yet. Returns 0 or a negative errno.
 */
int sink_init(struct sink *s, enum output output, const char *path, struct batch *batch);

/* Also for one that is zeroed and was never prepared. */
void sink_deinit(struct sink *s);

/*
 * Completes entries that the last worker left half written, and marks them as taken in the batch,
 * where recovery_run() finds them: call it first. Returns as sink_send().
 */
int sink_resume(struct sink *s);

/* True while the batch has room for an entry. */
bool sink_has_room(const struct sink *s);

/* Puts ENTRY, whose pieces must stay until it is taken, and what becomes true with it, in the
 * batch, which must have room. */
void sink_push(struct sink *s, const struct entry *entry, const struct item *item);

/*
 * Sends what is in the batch. The caller then looks at batch->first, and applies what was taken
 * (batch_taken()). Returns 0 when all of it went out, 1 when some did not and sink_retry_usec()
 * says when to come back, or a negative errno when the output is lost for good.
 */
int sink_send(struct sink *s);

/* All is accounted for: the batch and its text may be used again. */
void sink_reset(struct sink *s);

/* Gives back the memory that no batch has needed since the last call. */
void sink_trim(struct sink *s);

/* How long to wait before sink_send() is worth another try. */
uint64_t sink_retry_usec(const struct sink *s);
