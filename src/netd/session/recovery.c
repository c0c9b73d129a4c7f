/* SPDX-License-Identifier: MIT */
/* clang-format off */
/*
 * Why nothing is lost, repeated or guessed when a worker dies between any two instructions.
 *
 * Three kinds of state outlive a worker: this table; the file descriptors, which it shares with the
 * supervisor; and what the kernel holds behind those. A step is safe if a single store separates
 * "not done" from "done" and the next worker can tell the two apart. A system call changes the
 * kernel's state, and no store of ours is atomic with that. So each call that cannot be repeated is
 * one whose result the kernel itself stores here before the call returns: recvmmsg(2) and
 * sendmmsg(2) fill in msg_len. A process that is being killed still completes that store, because
 * the memory is locked (table_lock()), so no page has to be waited for. If it cannot be locked and
 * the page is in swap, the store fails and the call counts as not made; netd warns about that when
 * it starts.
 *
 *   step                       the store that completes it       otherwise, the next worker
 *   -------------------------  --------------------------------  ---------------------------------
 *   accept a connection        state, once the slot is filled    finds a connection in no slot with
 *                              in (table_publish())              the listener's address and the
 *                                                                peer that the kernel stored in
 *                                                                accept (unclaimed.c); admits it
 *   receive bytes              receive.message.msg_len, by the   receives them, or applies msg_len:
 *                              kernel, while receive.session     the window ends at base + msg_len,
 *                              names the session                 rate_usec is made from receive's
 *   receive an error           pending_reason, after error       reads to the end of the stream,
 *                                                                finds no peer: a reset
 *   see the end of the stream  none                              sees it again
 *   write the greeting         greeting.message.msg_len, by the   writes it
 *                              kernel
 *   know the PROXY header      window, after addresses, TLS area parses it again: it is still at the
 *                                                                front, and a session without it
 *                                                                neither moves nor logs anything
 *   begin behind the header    state                             begins, by the limits of then
 *   move the rest to the       window; old and new place do not  finds the rest where it was
 *   front of the region        overlap
 *   put an entry in the batch  batch.end, once all of it is      frames the same bytes again: the
 *                              there                             counters have not moved
 *   send an entry to journald  messages[i].msg_len, by the       sends it
 *                              kernel
 *   account for items[i]       batch.first, after the session    does it again: an item holds
 *                                                                values, not differences
 *   empty the batch            batch.end, then batch.first       sees first beyond end: empty too
 *   end a session              reason, after error and time      goes on: the cause is still there
 *   send the receipt           answer.message.msg_len, by the    sends the rest: told is made from
 *                              kernel, while answer.session      answer's and msg_len
 *                              names the session
 *   answer RELP's open, or     the same; the text of a record   sends the rest: a record that the
 *   records that the journal   follows from its number           journal took is answered once, one
 *   took                                                         that it did not take is not
 *   find RELP's open           opened; the bytes stay until the  finds it again
 *                              first record is taken
 *   find RELP's close          reason, after closed; the bytes   finds it again
 *                              are never taken
 *   close a connection         state, after close(2)             sees by SO_COOKIE that the number
 *                                                                is another's; frees the slot
 *   free a slot                state, before anything else       clears what is left in it
   keep what a freed slot     retirement.session, the values    stores the values again, frees the
   has counted                stand behind it                   slot
 *   retire a listener          its fd is -1, before close(2)     closes what is in no table
 *
 * Standard output takes bytes, not entries, and a reader cannot make sense of what follows a torn
 * entry. So entries are copied to a buffer that outlives the worker (batch.stream), and what is in
 * the buffer is written to its last byte, by the next worker if need be (stream.c):
 *
 *   copy entries               stream.loaded, after the bytes    frames them again: no byte is out
 *   write bytes of the buffer  stream.handed: even, their count  odd, a call was being made: adds
 *                                                                what it took, see below
 *   complete the buffer        msg_len of each entry's message,  completes it before it looks at
 *                              then stream.loaded                the batch
 *
 * What an interrupted call took, by kind of standard output:
 *
 *   socket                     stream.message.msg_len, by the kernel
 *   file                       the file offset, compared with stream.offset; also with O_APPEND
 *   pipe, terminal             nothing tells. So bytes go through a pipe of our own, which is
 *                              empty before the call: they are what is in it now. splice(2) takes
 *                              them from there: what is not out yet is still in the pipe.
 *   other devices              unknown: bytes may repeat
 *
 * Other writers of the same open file move the offset, too. So when a worker has died the
 * supervisor calls stream_settle() before it logs anything. A reload that changes the output while
 * the reader of the old one is stalled abandons the buffer; its entries go to the new output.
 *
 * Where order matters the stores have release semantics, against the compiler: the kernel and the
 * next worker see what this worker's processor did. Lists, counts and what session_adopt() sets
 * belong to one worker and are made anew. tests/system/die.c kills the installed program after each
 * change of the table and before and after each system call.
 */
/* clang-format on */
#include "netd/session/recovery.h"

#include "common/util.h"
#include "netd/session/address-count.h"
#include "netd/session/answer.h"
#include "netd/session/rate.h"
#include "netd/session/rules.h"

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
    if ((s->state != SESSION_OPEN && s->state != SESSION_HEADER) || ++s->crashes < 2)
        return;
    s->poisoned = true;
    session_end(s, REASON_ERROR, EBADMSG);
}

/* --- Consistency checks: a worker that crashed may have written anywhere --- */

/* True if TEXT ends within SIZE bytes and has no control character. */
static bool recovery_text_valid(const char *text, size_t size)
{
    const char *end = memchr(text, '\0', size);

    for (const char *p = text; end && p < end; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return end;
}

static bool recovery_settings_valid(const struct listener_settings *c)
{
    uint8_t receipt, proxy, trust_severity;

    memcpy(&receipt, &c->receipt, sizeof(receipt)); /* as a bool it would have to be one */
    memcpy(&proxy, &c->proxy, sizeof(proxy));
    memcpy(&trust_severity, &c->trust_severity, sizeof(trust_severity));
    return c->max_record >= MAX_RECORD_LOW && c->max_record <= MAX_RECORD_HIGH &&
           (unsigned)c->framing < FRAMINGS && (unsigned)c->format < FORMATS &&
           c->priority >= LOG_NOTICE && c->priority <= LOG_DEBUG && receipt <= 1 && proxy <= 1 &&
           trust_severity <= 1 && recovery_text_valid(c->name, sizeof(c->name)) &&
           recovery_text_valid(c->identifier, sizeof(c->identifier));
}

static bool recovery_listener_valid(const struct table_listener *l)
{
    int listening = 0;
    socklen_t length = sizeof(listening);

    return recovery_text_valid(l->path, sizeof(l->path)) && recovery_settings_valid(&l->settings) &&
           getsockopt(l->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening;
}

/* Returns the number of an open listener, or -EUCLEAN if there is none or one is corrupt. */
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
        return s->reason >= REASON_SESSION_LIMIT && s->reason < REASONS;
    return s->reason < REASON_SESSION_LIMIT || (s->state == SESSION_HEADER && s->reason < REASONS);
}

/* What comes before the session itself. */
static bool recovery_header_valid(const struct session *s)
{
    return s->header_length <= PROXY_HEADER_MAX && s->greeting <= GREETING_SENT &&
           (s->state != SESSION_HEADER || (!s->connect_taken && !s->end_taken));
}

/* Checks what a worker relies on, and nothing else. */
static bool recovery_session_valid(const struct table *t, const struct session *s, uint64_t now)
{
    bool ended = s->reason != REASON_NONE;

    return s->state <= SESSION_HEADER && s->listener < LISTENERS_MAX && s->framing < FRAMINGS &&
           s->format < FORMATS &&
           recovery_settings_valid(&t->header->listeners[s->listener].settings) &&
           recovery_reason_valid(s) && recovery_header_valid(s) &&
           (ended || (!s->end_taken && !s->poisoned)) && answer_is_valid(s) &&
           window_start(s->window) <= window_end(s->window) &&
           window_end(s->window) <= WINDOW_SIZE && s->begin_usec <= s->active_usec &&
           s->active_usec <= now &&
           (!ended || (s->begin_usec <= s->end_usec && s->end_usec <= now));
}

/* Ends S, of which only the identity is trusted. */
static void recovery_mark_corrupt(struct table *t, struct session *s, uint32_t listener,
                                  uint64_t now)
{
    s->listener = listener;
    s->framing = FRAMING_LINE;
    s->format = FORMAT_PLAIN;
    s->window = 0;
    table_release_header(t, s);
    s->header_length = 0;
    s->greeting = GREETING_NONE;
    s->poisoned = true;
    s->told = 0;
    s->begin_usec = min_u64(s->begin_usec, now);
    s->active_usec = s->begin_usec;
    s->reason = s->pending_reason = REASON_NONE;
    session_end(s, REASON_ERROR, EUCLEAN);
    s->state = SESSION_OPEN;
}

/* Limits indices to their arrays. Returns true if the batch is corrupt. */
static bool recovery_clamp(struct table *t)
{
    struct table_header *h = t->header;
    bool corrupt = h->batch.first > BATCH_MAX || h->batch.end > BATCH_MAX;

    h->capacity = t->capacity;
    if (h->used > h->capacity)
        h->used = h->capacity; /* slots never used are free */
    if (corrupt)
        h->batch.first = h->batch.end = 0;
    return corrupt;
}

/* --- Recovery --- */

static void recovery_apply_calls(struct table *t)
{
    struct table_header *h = t->header;

    counters_resume(t);
    if (h->receive.session < h->used)
        session_apply_receive(&t->sessions[h->receive.session], &h->receive);
    __atomic_store_n(&h->receive.session, NO_SESSION, __ATOMIC_RELEASE);
    if (h->answer.session < h->used)
        answer_apply(&t->sessions[h->answer.session], &h->answer);
    __atomic_store_n(&h->answer.session, NO_SESSION, __ATOMIC_RELEASE);
    if (h->greeting.session < h->used)
        session_apply_greeting(&t->sessions[h->greeting.session], &h->greeting);
    __atomic_store_n(&h->greeting.session, NO_SESSION, __ATOMIC_RELEASE);
    table_commit(t);
    batch_reset(&h->batch);
    recovery_quarantine(t);
    h->working = NO_SESSION;
    h->crashed = false;
}

static void recovery_adopt_session(struct table *t, struct session *s)
{
    if (s->state == SESSION_FREE) {
        if (s->header_length > 0)
            table_release_header(t, s);
        *s = (struct session){.fd = -1};
        s->links[LIST_RUN].next = t->free;
        t->free = table_number(t, s);
    }
    session_adopt(s);
    s->address = NO_ADDRESS_COUNT;
    s->listed = 0;
    /* The last worker may have used any of its pages. */
    table_assume_resident(t, s);
    table_trim(t, s);
}

int recovery_run(struct table *t)
{
    bool batch_corrupt = recovery_clamp(t);
    int listener = recovery_check_listeners(t);
    int r = listener < 0 ? listener : rules_map(t);
    uint64_t now;

    if (r < 0)
        return r;
    recovery_apply_calls(t);
    now = now_usec(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < t->header->used; i++) {
        struct session *s = &t->sessions[i];

        if (s->state != SESSION_FREE && !recovery_session_valid(t, s, now))
            recovery_mark_corrupt(t, s, (uint32_t)listener, now);
        /* As far ahead as it can be; a corrupt one would stop reading for ever. */
        s->rate_usec = min_u64(s->rate_usec, now + RATE_BURST_USEC);
        if (batch_corrupt)
            s->resent_end = window_end(s->window);
        recovery_adopt_session(t, s);
    }
    counters_recover(t);
    return 0;
}
