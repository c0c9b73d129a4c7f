/* SPDX-License-Identifier: MIT */
#include "netd/session/answer.h"

#include "common/names.h"
#include "common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Bytes of one call. */
#define ANSWER_TEXT_MAX 4096

/* True when the client can still read an answer. */
static bool answer_is_possible(const struct session *s)
{
    return s->reason != REASON_RESET && s->reason != REASON_TIMEOUT && s->reason != REASON_ERROR &&
           s->reason != REASON_PROTOCOL;
}

/* True when the client gets a line at the end, the receipt or the refusal. */
static bool answer_has_last(const struct session *s, const struct session_context *c)
{
    return answer_is_possible(s) && (s->state == SESSION_REFUSED || c->settings->receipt);
}

/* How many messages the client is to have been told by now, since the session began. */
static uint64_t answer_count(const struct session *s, const struct session_context *c)
{
    return s->end_taken && answer_has_last(s, c);
}

/* Writes the only message. Returns its length. */
static size_t answer_message(const struct session *s, char ret[static ANSWER_MAX])
{
    const char *reason = session_reason_name(s->reason);
    char id[SESSION_ID_HEX + 1];
    int n;

    if (s->state == SESSION_REFUSED) {
        n = snprintf(ret, ANSWER_MAX, REFUSAL_FORMAT, reason);
        return (size_t)n;
    }
    hex_id(s->id, id);
    n = snprintf(ret, ANSWER_MAX, RECEIPT_FORMAT, id, s->records, s->bytes, reason);
    return (size_t)n;
}

/* Writes what is due, as much of it as has room, and says in *T what it is. */
static void answer_text(const struct session *s, const struct session_context *c,
                        struct transfer *t, char ret[static ANSWER_TEXT_MAX])
{
    uint64_t count = answer_count(s, c), i;
    size_t length = 0, skip = answer_bytes(s->told);
    char message[ANSWER_MAX];

    for (i = answer_messages(s->told); i < count; i++) {
        size_t n = answer_message(s, message);

        if (n < skip || n - skip > ANSWER_TEXT_MAX - length)
            break;
        memcpy(ret + length, message + skip, n - skip);
        length += n - skip;
        skip = 0;
    }
    t->told = s->told;
    t->told_all = answer_make(i, 0);
    t->length = (uint32_t)length;
}

void answer_apply(struct session *s, const struct transfer *transfer)
{
    uint64_t message = answer_messages(transfer->told);
    size_t sent = transfer->message.msg_len, n;
    char text[ANSWER_MAX];

    if (sent == NOT_TAKEN)
        return;
    if (sent > ANSWER_TEXT_MAX) { /* a worker that crashed wrote here: answer_is_valid() */
        s->told = UINT64_MAX;
        return;
    }
    if (sent == transfer->length) { /* nearly always */
        __atomic_store_n(&s->told, transfer->told_all, __ATOMIC_RELEASE);
        return;
    }
    sent += answer_bytes(transfer->told);
    for (; (n = answer_message(s, text)) <= sent; sent -= n)
        message++;
    __atomic_store_n(&s->told, answer_make(message, sent), __ATOMIC_RELEASE);
}

bool answer_is_due(const struct session *s, const struct session_context *c)
{
    return answer_messages(s->told) < answer_count(s, c);
}

int answer_send(struct session *s, const struct session_context *c, struct transfer *transfer)
{
    char text[ANSWER_TEXT_MAX];
    struct iovec piece = {.iov_base = text};
    int r = 0;

    while (answer_is_due(s, c) && (r == 0 || r == -EINTR)) {
        answer_text(s, c, transfer, text);
        piece.iov_len = transfer->length;
        transfer_begin(transfer, c->number, &piece);
        /* MSG_MORE has the end of the stream, which follows at once, sent in the same segment. */
        r = sendmmsg(s->fd, &transfer->message, 1, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE) < 0
                ? -errno
                : 0;
        answer_apply(s, transfer);
        transfer_finish(transfer);
    }
    return r;
}

bool answer_finish(const struct session *s, const struct session_context *c)
{
    if (!answer_is_possible(s))
        session_reset_at_close(s);
    return answer_has_last(s, c) && s->reason != REASON_EOF && shutdown(s->fd, SHUT_WR) == 0;
}

bool answer_is_valid(const struct session *s)
{
    return s->told <= answer_make(s->end_taken, 0);
}
