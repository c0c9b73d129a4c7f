/* SPDX-License-Identifier: MIT */
/* clang-format off */
/*
 * Why nothing is lost, repeated or guessed when a worker dies between any two instructions.
 *
 * Three kinds of things outlive it: this table; the descriptors, which the supervisor shares; and
 * what the kernel holds behind those. A death is harmless where one store separates "not done" from
 * "done", and one can be told from the other. A system call changes the kernel's side with no store
 * of ours in the same instant, so the calls that cannot be done twice are those by which the kernel
 * itself stores the result here before it returns: recvmmsg(2) and sendmmsg(2) fill in msg_len. A
 * process that is being killed still finishes that store; the memory is locked (table_lock()), so
 * that there is nothing to wait for. Where it may not be locked, and the page is in swap, the store
 * fails, and the call counts as one that was not made; netd says that once, when it starts.
 *
 *   what is done               the store that makes it true      the next worker otherwise
 *   -------------------------  --------------------------------  ---------------------------------
 *   connection accepted        state, when the slot is filled    finds the connection in no slot by
 *                              in (table_publish())              its two addresses, of which the
 *                                                                kernel wrote the peer's in accept
 *                                                                (unclaimed.c), and admits it
 *   bytes received             receive.message.msg_len, by the   receives them, or applies msg_len:
 *                              kernel, while receive.session     window's end is base + msg_len
 *                              names the session
 *   error received             pending_reason, behind error      reads up to an end, and has no
 *                                                                peer there: a reset
 *   end of the stream seen     none                              sees it again
 *   rest moved to the front    window; the bytes before it, and  finds the rest where it was
 *                              they do not overlap
 *   entry put in the batch     batch.end, when all of it stands  frames the same bytes again:
 *                                                                counters have not moved
 *   entry taken by journald    messages[i].msg_len, by the       sends it
 *                              kernel
 *   what items[i] says is so   batch.first, behind it            applies it, perhaps once more: it
 *                                                                holds values, not differences
 *   batch emptied              batch.end, then batch.first       sees first beyond end: empty too
 *   session ended              reason, behind error and time     goes on: what ended it is still so
 *   receipt sent               answer.message.msg_len, by the    sends it
 *                              kernel
 *   connection closed          state, behind it                  finds that the number is not this
 *                                                                connection (SO_COOKIE): frees it
 *   slot freed                 state, before all else            cleans what is left in it
 *   listener given up          its fd is -1, then it is closed   closes what is in no table
 *
 * Standard output does not take entries but bytes, and a torn entry would be the end of what its
 * reader understands. So entries are copied to a buffer, batch.stream, and that one goes out to the
 * last byte, whoever dies (stream.c):
 *
 *   entries copied             stream.loaded, behind the bytes   frames them again: not one byte is
 *                                                                out
 *   bytes handed over          stream.handed: even, how many     odd, a call was going on: adds what
 *                                                                the kernel says of it, below
 *   all of the buffer is out   messages[i].msg_len of each       finishes it, before anything else;
 *                              entry, then stream.loaded         only then the batch is looked at
 *
 * How much that call took, by the kind of standard output:
 *
 *   socket                     stream.message.msg_len, by the kernel
 *   file                       how far its offset has gone on from stream.offset, also with O_APPEND
 *   pipe, terminal             nobody would say. So they get the bytes through a pipe of our own,
 *                              which was empty before: what is in it now. From there splice(2) moves
 *                              them, so what is not out is there.
 *   device                     not known. A byte may repeat, where nobody reads it again.
 *
 * Whoever shares the file moves the offset, too: stream_settle() is what the supervisor does first
 * when a worker has died, before it says so on standard error. A reload that changes the output
 * while its reader stands still gives up what is in the buffer: its entries go to the new one.
 *
 * Where the order counts the stores have release semantics, against the compiler: the kernel and
 * the next worker see what this one's processor did. Lists, counts and what session_adopt() sets
 * are the worker's own, and made anew. tests/system/die.c kills the installed program behind each
 * change of the table and on both sides of each system call.
 */
/* clang-format on */
#include "netd/session/recovery.h"

#include "common/util.h"
#include "netd/session/address-count.h"

#include <errno.h>
#include <string.h>
#include <syslog.h>

/* A session that was being worked on when two workers in a row crashed is not given to a third. */
static void recovery_quarantine(struct table *t)
{
    uint32_t n = t->header->working;
    struct session *s;

    if (!t->header->crashed || n >= t->header->used)
        return;
    s = &t->sessions[n];
    if (s->state != SESSION_OPEN || ++s->crashes < 2)
        return;
    s->poisoned = true;
    session_end(s, REASON_ERROR, EBADMSG);
}

/* --- What a live worker never leaves --- */

static bool recovery_settings_valid(const struct listener_settings *c)
{
    uint8_t receipt;

    memcpy(&receipt, &c->receipt, sizeof(receipt)); /* as a bool it would have to be one */
    return c->max_record >= MAX_RECORD_LOW && c->max_record <= MAX_RECORD_HIGH &&
           (unsigned)c->framing <= FRAMING_RAW && c->priority >= LOG_NOTICE &&
           c->priority <= LOG_DEBUG && receipt <= 1;
}

static bool recovery_listener_valid(const struct table_listener *l)
{
    int listening = 0;
    socklen_t length = sizeof(listening);
    const char *end = memchr(l->path, '\0', sizeof(l->path));

    for (const char *p = l->path; end && p < end; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return end && recovery_settings_valid(&l->settings) &&
           getsockopt(l->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening;
}

/* Returns the number of a listener that is open, or -EUCLEAN where none is or one cannot be. */
static int recovery_check_listeners(const struct table *t)
{
    int r = -EUCLEAN;

    for (int i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &t->header->listeners[i];

        if (l->fd < 0)
            continue;
        if (!recovery_listener_valid(l))
            return -EUCLEAN;
        r = i;
    }
    return r;
}

static bool recovery_reason_valid(const struct session *s)
{
    if (s->pending_reason >= REASON_IDLE && s->pending_reason != REASON_ERROR)
        return false;
    if (s->state == SESSION_REFUSED)
        return s->reason == REASON_SESSION_LIMIT || s->reason == REASON_ADDRESS_LIMIT;
    return s->reason < REASON_SESSION_LIMIT;
}

/* What a live worker never leaves: looked at is only what another one would follow. */
static bool recovery_session_valid(const struct table *t, const struct session *s, uint64_t now)
{
    bool ended = s->reason != REASON_NONE;

    return s->state <= SESSION_REFUSED && s->listener < LISTENERS_MAX &&
           recovery_settings_valid(&t->header->listeners[s->listener].settings) &&
           recovery_reason_valid(s) && (ended || (!s->end_taken && !s->poisoned)) &&
           (s->end_taken || !s->answered) && window_start(s->window) <= window_end(s->window) &&
           window_end(s->window) <= REGION_SIZE && s->begin_usec <= s->active_usec &&
           s->active_usec <= now &&
           (!ended || (s->begin_usec <= s->end_usec && s->end_usec <= now));
}

/* Ends S with what little can be said of it. */
static void recovery_mark_corrupt(struct session *s, uint32_t listener, uint64_t now)
{
    s->listener = listener;
    s->window = 0;
    s->poisoned = true;
    s->answered = false;
    s->begin_usec = min_u64(s->begin_usec, now);
    s->active_usec = s->begin_usec;
    s->reason = s->pending_reason = REASON_NONE;
    session_end(s, REASON_ERROR, EUCLEAN);
    s->state = SESSION_OPEN;
}

/* Has numbers within their arrays. Returns whether the batch could not be. */
static bool recovery_clamp(struct table *t)
{
    struct table_header *h = t->header;
    bool impossible = h->batch.first > BATCH_MAX || h->batch.end > BATCH_MAX;

    h->capacity = t->capacity;
    if (h->used > h->capacity)
        h->used = h->capacity; /* what was never used is free */
    if (impossible)
        h->batch.first = h->batch.end = 0;
    return impossible;
}

/* --- Recovery --- */

static void recovery_apply_calls(struct table *t)
{
    struct table_header *h = t->header;

    if (h->receive.session < h->used)
        session_apply_receive(&t->sessions[h->receive.session], &h->receive);
    __atomic_store_n(&h->receive.session, NO_SESSION, __ATOMIC_RELEASE);
    if (h->answer.session < h->used)
        session_apply_answer(&t->sessions[h->answer.session], &h->answer);
    __atomic_store_n(&h->answer.session, NO_SESSION, __ATOMIC_RELEASE);
    table_commit(t);
    batch_reset(&h->batch);
    recovery_quarantine(t);
    h->working = NO_SESSION;
    h->crashed = false;
}

static void recovery_adopt_session(struct table *t, struct session *s)
{
    if (s->state == SESSION_FREE) {
        *s = (struct session){.fd = -1};
        s->links[LIST_RUN].next = t->free;
        t->free = table_number(t, s);
    }
    session_adopt(s);
    s->address = NO_ADDRESS_COUNT;
    s->listed = 0;
    /* The last worker may have touched any of its pages. */
    table_assume_resident(t, s);
    table_trim(t, s);
}

int recovery_run(struct table *t)
{
    bool batch_is_lost = recovery_clamp(t);
    int listener = recovery_check_listeners(t);
    uint64_t now;

    if (listener < 0)
        return listener;
    recovery_apply_calls(t);
    now = now_usec(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < t->header->used; i++) {
        struct session *s = &t->sessions[i];

        if (s->state != SESSION_FREE && !recovery_session_valid(t, s, now))
            recovery_mark_corrupt(s, (uint32_t)listener, now);
        if (batch_is_lost)
            s->resent_end = window_end(s->window);
        recovery_adopt_session(t, s);
    }
    return 0;
}
