/* SPDX-License-Identifier: MIT */
/*
 * What a client is told: the receipt, why it was refused, or RELP's responses. It follows from two
 * cursors in the session: what the journal took, and session.told, what the client was told. The
 * text between them is made anew each time, and the kernel writes into struct transfer how much of
 * it was sent. So a worker that continues for one that died says the rest, and nothing twice.
 */
#pragma once

#include "common/names.h"
#include "netd/protocol/relp.h"
#include "netd/session/session.h"

#include <stdbool.h>

/* Maximum length of a message, bytes. */
#define ANSWER_MAX RECEIPT_MAX
_Static_assert(RELP_RESPONSE_MAX <= ANSWER_MAX, "a response has no room");

/* session.told: how many messages were sent completely, and how many bytes of the next one. */
#define ANSWER_BYTES_BITS 8
_Static_assert(ANSWER_MAX < 1 << ANSWER_BYTES_BITS, "part of a message has no room");

static inline uint64_t answer_make(uint64_t messages, size_t bytes)
{
    return messages << ANSWER_BYTES_BITS | bytes;
}

static inline uint64_t answer_messages(uint64_t told)
{
    return told >> ANSWER_BYTES_BITS;
}

static inline size_t answer_bytes(uint64_t told)
{
    return told & ((1 << ANSWER_BYTES_BITS) - 1);
}

/* True when the client has not been told everything that it is to be told by now. */
bool answer_is_due(const struct session *s, const struct session_context *c);

/* How many records of a RELP session its client was told are logged. */
uint64_t answer_acknowledged(const struct session *s);

/*
 * Sends what is due. TRANSFER is where the kernel writes the result. Returns 0 when nothing is due
 * any more, -EAGAIN when the client has no room for the rest (wait for EPOLLOUT), or another
 * negative errno of sendmmsg(2).
 */
int answer_send(struct session *s, const struct session_context *c, struct transfer *transfer);

/* Records that what TRANSFER says was sent. May run any number of times over the same result. */
void answer_apply(struct session *s, const struct transfer *transfer);

/*
 * Ends the answers of S, whose last was sent, and says that nothing more comes. Returns true when
 * the connection must linger: the client may be sending, and closing now could destroy the answer.
 * Without an answer it need not.
 */
bool answer_finish(const struct session *s, const struct session_context *c);

/* False if session.told is none that a worker leaves. */
bool answer_is_valid(const struct session *s);
