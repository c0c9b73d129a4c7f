/* SPDX-License-Identifier: MIT */
#include "netd/session/answer.h"

#include "common/names.h"
#include "common/util.h"
#include "netd/protocol/relp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Bytes of one call: the responses to all records of a batch. */
#define ANSWER_TEXT_MAX 8192

/* True when the client can still read an answer. */
static bool answer_is_possible(const struct session *s)
{
    return s->pending_reason == REASON_NONE && s->reason != REASON_RESET &&
           s->reason != REASON_TIMEOUT && s->reason != REASON_ERROR && s->reason != REASON_TLS &&
           (s->reason != REASON_PROTOCOL || s->opened);
}

static bool answer_is_relp(const struct session *s)
{
    return framing_ops(s->framing)->acknowledges;
}

/* Responses to the open command and to records that the journal has taken. One that the stream's
 * end cut short gets none. */
static uint64_t answer_responses(const struct session *s)
{
    bool cut_short = s->frame_left > 0 && !s->continued;

    return s->state == SESSION_OPEN && s->opened ? 1 + s->records - cut_short : 0;
}

/* True when the client gets a message at the end: the receipt, the refusal, the response to a close
 * command, or RELP's word that the server ends the session. */
static bool answer_has_last(const struct session *s, const struct session_context *c)
{
    if (!answer_is_possible(s))
        return false;
    if (answer_is_relp(s))
        return s->closed || (s->reason != REASON_EOF && s->reason != REASON_PROTOCOL);
    return s->state == SESSION_REFUSED || c->settings->receipt;
}

/* How many messages the client is to have been told by now, since the session began. */
static uint64_t answer_count(const struct session *s, const struct session_context *c)
{
    uint64_t count = 0;

    if (answer_is_relp(s) && answer_is_possible(s))
        count = answer_responses(s);
    return count + (s->end_taken && answer_has_last(s, c));
}

/* Writes message NUMBER of a RELP session. Returns its length. */
static size_t answer_relp(const struct session *s, uint64_t number, char ret[static ANSWER_MAX])
{
    char id[SESSION_ID_HEX + 1];

    if (number < answer_responses(s)) {
        if (number > 0)
            return relp_put_logged(ret, number);
        hex_id(s->id, id);
        return relp_put_opened(ret, id);
    }
    if (s->closed)
        return relp_put_closed(ret, number);
    memcpy(ret, RELP_SERVERCLOSE, sizeof(RELP_SERVERCLOSE) - 1);
    return sizeof(RELP_SERVERCLOSE) - 1;
}

/* Writes message NUMBER. Returns its length. */
static size_t answer_message(const struct session *s, uint64_t number, char ret[static ANSWER_MAX])
{
    const char *reason = session_reason_name(s->reason);
    char id[SESSION_ID_HEX + 1];
    int n;

    if (answer_is_relp(s))
        return answer_relp(s, number, ret);
    if (s->state == SESSION_REFUSED) {
        n = snprintf(ret, ANSWER_MAX, REFUSAL_FORMAT, reason);
        return (size_t)n;
    }
    hex_id(s->id, id);
    n = snprintf(ret, ANSWER_MAX, RECEIPT_FORMAT, id, s->records, s->bytes, reason);
    return (size_t)n;
}

/* Writes what the client was not told of COUNT messages, as much of it as has room, and says in *T
 * what it is. */
static void answer_text(const struct session *s, uint64_t count, struct transfer *t,
                        char ret[static ANSWER_TEXT_MAX])
{
    uint64_t i;
    size_t length = 0, skip = answer_bytes(s->told);
    char message[ANSWER_MAX];

    for (i = answer_messages(s->told); i < count; i++) {
        size_t n = answer_message(s, i, message);

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
    for (; (n = answer_message(s, message, text)) <= sent; sent -= n)
        message++;
    __atomic_store_n(&s->told, answer_make(message, sent), __ATOMIC_RELEASE);
}

bool answer_is_due(const struct session *s, const struct session_context *c)
{
    return answer_messages(s->told) < answer_count(s, c);
}

uint64_t answer_acknowledged(const struct session *s)
{
    uint64_t told = answer_messages(s->told);

    if (!answer_is_relp(s) || told == 0)
        return 0;
    return min_u64(told, answer_responses(s)) - 1;
}

int answer_send(struct session *s, const struct session_context *c, struct transfer *transfer)
{
    /* MSG_MORE has the end of the stream, which follows at once, sent in the same segment. */
    uint64_t count = answer_count(s, c);
    int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (s->end_taken ? MSG_MORE : 0);
    char text[ANSWER_TEXT_MAX];
    struct iovec piece = {.iov_base = text};
    int r = 0;

    while (answer_messages(s->told) < count && (r == 0 || r == -EINTR)) {
        answer_text(s, count, transfer, text);
        piece.iov_len = transfer->length;
        transfer_begin(transfer, c->number, &piece);
        r = sendmmsg(s->fd, &transfer->message, 1, flags) < 0 ? -errno : 0;
        answer_apply(s, transfer);
        transfer_finish(transfer);
    }
    return r;
}

bool answer_finish(const struct session *s, const struct session_context *c)
{
    if (!answer_is_possible(s))
        session_reset_at_close(s);
    /* After the end of the stream nothing comes, but something may behind a close command; before
     * it, a RELP client may still have responses to read. */
    if (s->reason == REASON_EOF && !s->closed)
        return false;
    return answer_is_possible(s) && (answer_is_relp(s) || answer_has_last(s, c)) &&
           shutdown(s->fd, SHUT_WR) == 0;
}

bool answer_is_valid(const struct session *s)
{
    uint64_t most = s->end_taken;

    if (answer_is_relp(s))
        most += answer_responses(s);
    return s->told <= answer_make(most, 0) && answer_bytes(s->told) < ANSWER_MAX;
}
