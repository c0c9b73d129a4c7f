/* SPDX-License-Identifier: MIT */
#include "netd/worker/scheduler.h"

#include "common/util.h"
#include "netd/log.h"
#include "netd/session/address-count.h"
#include "netd/session/answer.h"
#include "netd/session/rate.h"
#include "netd/session/rules.h"
#include "netd/worker/refusals.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

/* Clients found ready, and turns, in one round. */
#define ROUND_CLIENTS 64

/* Bytes that one turn reads while buffer_memory is nearly used up: few, since records that wait for
 * their turn hold their memory until then. */
#define READ_SCARCE 4096

/* A session without a new byte for this long gives back the pages that it does not need. */
#define TRIM_USEC USEC_PER_SEC

/* How long a proxy may take to send its header. */
#define HEADER_USEC (5 * USEC_PER_SEC)

/* How long a client may take to read its answer; while netd stops, to acknowledge it. */
#define LINGER_USEC      (2 * USEC_PER_SEC)
#define LINGER_STOP_USEC (200 * USEC_PER_MSEC)

/* How many descriptors clients may take: settings_descriptors(). */
static uint32_t scheduler_descriptors_max(const struct table *t)
{
    struct rlimit limit;
    uint32_t listeners = 0;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT32_MAX;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        listeners += t->header->listeners[i].fd >= 0;
    return (uint32_t)min_u64(settings_descriptors(limit.rlim_cur, listeners), UINT32_MAX);
}

int scheduler_init(struct scheduler *sched, struct table *table, enum output output,
                   const char *journal_path)
{
    int r;

    *sched = (struct scheduler){
        .table = table,
        .epoll = -1,
        .urgent = -1,
        .descriptors_max = scheduler_descriptors_max(table),
        .refusals_due = UINT64_MAX,
    };
    r = deadlines_init(&sched->deadlines, table->capacity);
    if (r < 0)
        return r;
    r = sink_init(&sched->sink, output, journal_path, &table->header->batch);
    if (r < 0)
        return r;
    table->header->blocked_errno = 0;
    counters_set_waiting(table, false);
    sched->epoll = epoll_create1(EPOLL_CLOEXEC);
    sched->urgent = sched->epoll < 0 ? -1 : epoll_create1(EPOLL_CLOEXEC);
    return sched->urgent < 0 ? -errno : 0;
}

void scheduler_deinit(struct scheduler *sched)
{
    close_fd(&sched->epoll);
    close_fd(&sched->urgent);
    sink_deinit(&sched->sink);
    deadlines_deinit(&sched->deadlines);
}

bool scheduler_is_blocked(const struct scheduler *sched)
{
    return sched->table->header->blocked_errno != 0;
}

bool scheduler_has_work(const struct scheduler *sched)
{
    return table_list_first(sched->table, LIST_RUN) != NULL;
}

static struct session_context scheduler_context(struct scheduler *sched, const struct session *s)
{
    const struct table_listener *l = &sched->table->header->listeners[s->listener];

    return (struct session_context){
        .settings = &l->settings,
        .local_path = l->path[0] ? l->path : NULL,
        .sink = &sched->sink,
        .region = table_region(sched->table, s),
        .number = table_number(sched->table, s),
    };
}

static int scheduler_epoll(const struct scheduler *sched, enum watch watch)
{
    return watch == WATCH_URGENT ? sched->urgent : sched->epoll;
}

/* Takes S out of epoll(7), which reports a connection with unread bytes again and again, and a
 * reset whatever events are asked for. */
static void scheduler_unwatch(struct scheduler *sched, struct session *s)
{
    if (s->watched &&
        epoll_ctl(scheduler_epoll(sched, s->watched), EPOLL_CTL_DEL, s->fd, NULL) == 0)
        s->watched = WATCH_NONE;
}

static int scheduler_set_events(struct scheduler *sched, struct session *s, enum watch watch,
                                uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u32 = table_number(sched->table, s)};

    if (s->watched != watch)
        scheduler_unwatch(sched, s);
    if (epoll_ctl(scheduler_epoll(sched, watch), s->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->fd,
                  &event) < 0)
        return -errno;
    s->watched = (uint8_t)watch;
    return 0;
}

int scheduler_watch(struct scheduler *sched, struct session *s)
{
    enum watch watch = session_awaits_open(s) ? WATCH_URGENT : WATCH_READ;

    return s->watched ? 0 : scheduler_set_events(sched, s, watch, EPOLLIN | EPOLLRDHUP);
}

/* --- The end of a session --- */

void scheduler_close(struct scheduler *sched, struct session *s)
{
    close_fd(&s->fd);
    table_free(sched->table, s);
    sched->sessions--;
}

/* Reads on after the answer is out. Returns true when the connection may be closed: the client has
 * closed it; or while netd stops, its kernel has the answer, and nothing is unread that would make
 * the close a reset. */
static bool scheduler_may_close(const struct scheduler *sched, struct session *s)
{
    return session_drain(s) ||
           (sched->stopping && session_unread(s) == 0 && session_is_acknowledged(s));
}

/*
 * Watches for what scheduler_may_close() needs; if that fails S lingers until its time is over. The
 * kernel wakes waiters when the end of the stream is acknowledged. For epoll(7) that is an edge of
 * EPOLLOUT, although the socket has been writable for as long as its sending side is shut down.
 * Setting the events again makes an edge of bytes that are still unread.
 */
static void scheduler_watch_lingering(struct scheduler *sched, struct session *s)
{
    (void)scheduler_set_events(sched, s, WATCH_READ,
                               EPOLLIN | EPOLLRDHUP | (sched->stopping ? EPOLLOUT | EPOLLET : 0));
}

/* As answer_send(), and counts. */
static int scheduler_send_answers(struct scheduler *sched, struct session *s,
                                  const struct session_context *context)
{
    uint64_t before = answer_acknowledged(s), after;
    int r = answer_send(s, context, &sched->table->header->answer);

    after = answer_acknowledged(s);
    if (after > before)
        counter_add(&counters_get(sched->table, s)->relp_acknowledged, after - before);
    return r;
}

/* Sends S what is due. Without room for it, S is not read before there is some. */
static void scheduler_answer(struct scheduler *sched, struct session *s)
{
    struct session_context context = scheduler_context(sched, s);
    int r = scheduler_send_answers(sched, s, &context);

    if (r == -EAGAIN)
        r = scheduler_set_events(sched, s, WATCH_URGENT, EPOLLOUT);
    else if (s->deaf)
        scheduler_unwatch(sched, s);
    s->deaf = answer_is_due(s, &context) && r == 0;
    if (r == 0)
        return;
    session_note_error(s, -r);
    if (!s->batch_end) /* it is read to its end */
        table_list_append(sched->table, LIST_RUN, s);
}

/* Sends the last answers of S. Then it lingers if the client may still have to read them, or has no
 * room for them; otherwise it is closed. */
static void scheduler_say_last(struct scheduler *sched, struct session *s)
{
    struct session_context context = scheduler_context(sched, s);
    int r = scheduler_send_answers(sched, s, &context);

    if (r == -EAGAIN) {
        (void)scheduler_set_events(sched, s, WATCH_URGENT, EPOLLOUT);
    } else if (answer_finish(s, &context) && !scheduler_may_close(sched, s)) {
        scheduler_watch_lingering(sched, s);
    } else {
        scheduler_close(sched, s);
        return;
    }
    if (!table_list_has(s, LIST_LINGER))
        table_list_append(sched->table, LIST_LINGER, s);
}

/* Something happened to S, which lingers, or netd stops from now on. */
static void scheduler_continue_lingering(struct scheduler *sched, struct session *s)
{
    struct session_context context = scheduler_context(sched, s);

    if (answer_is_due(s, &context))
        scheduler_say_last(sched, s);
    else if (scheduler_may_close(sched, s))
        scheduler_close(sched, s);
    else if (sched->stopping && session_unread(s) > 0)
        scheduler_watch_lingering(sched, s);
}

void scheduler_limit_refusals(struct scheduler *sched, struct session *s)
{
    struct table_listener *l = &sched->table->header->listeners[s->listener];

    if (refusals_count(l, s->end_usec))
        return;
    s->end_taken = s->batch_end = true;
    sched->refusals_due = min_u64(sched->refusals_due, l->refusals.report_usec);
}

/* S no longer counts as open. */
static void scheduler_uncount(struct scheduler *sched, struct session *s)
{
    sched->table->header->open--;
    sched->table->listener_open[s->listener]--;
    counters_get(sched->table, s)->open--;
    address_count_remove(sched->table, s);
}

/* The journal has all of it: the client gets its answer. */
void scheduler_finish(struct scheduler *sched, struct session *s)
{
    if (s->state == SESSION_OPEN)
        scheduler_uncount(sched, s);
    table_list_remove(sched->table, LIST_RUN, s);
    deadlines_set(&sched->deadlines, table_number(sched->table, s), NO_DEADLINE);
    s->active_usec = now_usec(CLOCK_MONOTONIC);
    scheduler_say_last(sched, s);
}

/* True if S is told something when the batch is taken. */
static bool scheduler_will_answer(const struct session *s)
{
    return s->batch_end ||
           (framing_ops(s->framing)->acknowledges && s->batch_records != s->records);
}

/* Tells clients what the journal took since the last call. */
static void scheduler_answer_taken(struct scheduler *sched)
{
    uint32_t next = sched->table->lists[LIST_ANSWER].first;

    while (next != NO_SESSION) {
        struct session *s = &sched->table->sessions[next];

        next = s->links[LIST_ANSWER].next;
        if (s->end_taken) {
            table_list_remove(sched->table, LIST_ANSWER, s);
            scheduler_finish(sched, s);
        } else if (framing_ops(s->framing)->acknowledges) {
            if (!s->deaf)
                scheduler_answer(sched, s);
            if (!scheduler_will_answer(s))
                table_list_remove(sched->table, LIST_ANSWER, s);
        }
    }
}

/* --- Sending --- */

/* Records why the output accepts nothing, and logs that unless its queue is merely full. */
static void scheduler_set_blocked(struct scheduler *sched, int blocked_errno)
{
    const char *output = sched->sink.type->name;
    int before = sched->table->header->blocked_errno;

    if (blocked_errno == before)
        return;
    sched->table->header->blocked_errno = blocked_errno;
    counters_set_waiting(sched->table, blocked_errno != 0);
    if (sched->failed)
        return;
    if (blocked_errno != 0 && blocked_errno != EAGAIN)
        log_warning("cannot write to %s: %s; waiting", output, strerror(blocked_errno));
    else if (blocked_errno == 0 && before != EAGAIN)
        log_notice("%s accepts entries again", output);
}

/* Remembers that the output returned R. Returns true when it has taken all there was. */
static bool scheduler_set_result(struct scheduler *sched, int r)
{
    if (r < 0)
        sched->failed = -r;
    scheduler_set_blocked(sched, r < 0 ? -r : sched->sink.blocked_errno);
    return r == 0;
}

bool scheduler_resume(struct scheduler *sched)
{
    return scheduler_set_result(sched, sink_resume(&sched->sink));
}

/* Sends the batch. Returns true when all of it is out and the batch is empty. */
static bool scheduler_flush(struct scheduler *sched)
{
    int r;

    r = sink_send(&sched->sink);
    table_commit(sched->table);
    if (r == 0)
        sink_reset(&sched->sink);
    scheduler_answer_taken(sched);
    return scheduler_set_result(sched, r);
}

/* --- A session's turn --- */

/* Returns how many bytes S may receive by max_rate, and marks it as throttled if these are too few
 * for a read. A stop does not wait for the rate. */
static uint32_t scheduler_throttle(const struct scheduler *sched, struct session *s,
                                   const struct session_context *context)
{
    uint32_t rate = context->settings->max_rate;
    uint64_t now;

    s->throttled = false;
    if (rate == 0 || sched->stopping || s->reason != REASON_NONE || s->state == SESSION_HEADER)
        return UINT32_MAX;
    now = now_usec(CLOCK_MONOTONIC);
    s->throttled = rate_due(s->rate_usec, rate) > now;
    return rate_room(s->rate_usec, rate, now);
}

/* True if the last N bytes that S received are its first: whatever was logged or received before
 * counts in one of the two. */
static bool scheduler_is_beginning(const struct session *s, uint32_t n)
{
    return s->state == SESSION_OPEN && s->batch_bytes == 0 && session_pending(s) == n;
}

/* Warns if what S begins with, all that it has received, is not what its listener expects. */
static void scheduler_hint(struct scheduler *sched, const struct session *s,
                           const struct session_context *context)
{
    hints_check(&sched->hints, &sched->table->header->listeners[s->listener], s,
                context->region + window_start(s->window), session_pending(s), s->active_usec);
}

/* Returns the bytes received. */
static uint32_t scheduler_receive(struct scheduler *sched, struct session *s,
                                  const struct session_context *context)
{
    bool scarce =
        sched->table->resident_bytes + READ_MAX > sched->table->header->settings.buffer_memory;
    uint32_t most = scarce ? READ_SCARCE : UINT32_MAX, n;
    uint32_t room = scheduler_throttle(sched, s, context);

    if (s->throttled)
        return 0;
    most = (uint32_t)min_size(most, room);
    n = session_receive(s, context, &sched->table->header->receive,
                        (uint32_t)min_size(most, s->stop_bytes));
    if (n > 0) {
        s->active_usec = now_usec(CLOCK_MONOTONIC);
        table_note_resident(sched->table, s);
        table_list_append(sched->table, LIST_TRIM, s);
        if (scheduler_is_beginning(s, n))
            scheduler_hint(sched, s, context);
    }
    if (sched->stopping) {
        s->stop_bytes -= n;
        if (n == 0 || s->stop_bytes == 0)
            session_end(s, REASON_SHUTDOWN, 0);
    }
    return n;
}

/* S has nothing to do until more bytes arrive. If it received some in this turn it is read once
 * more before epoll(7) watches it, since many sessions end before that would pay. Returns true when
 * S has another turn. */
static bool scheduler_wait(struct scheduler *sched, struct session *s, uint32_t received)
{
    int r;

    if (s->throttled || (s->deaf && sched->stopping))
        scheduler_unwatch(sched, s);
    if (s->throttled || s->reason != REASON_NONE)
        return false;
    if (s->pending_reason != REASON_NONE)
        return true; /* it ends when nothing is left to be read */
    if (s->watched)
        return false;
    if (received > 0)
        return true;
    r = scheduler_watch(sched, s);
    if (r < 0)
        session_end(s, REASON_ERROR, -r);
    return r < 0;
}

/* Records which session's bytes are processed, in case they crash the worker. */
static void scheduler_work_on(struct scheduler *sched, uint32_t number)
{
    __atomic_store_n(&sched->table->header->working, number, __ATOMIC_RELEASE);
}

/* Why S, which is counted as open, is refused now that its address is known, or REASON_NONE. What
 * connected for a client with TLS was netd-tls: all that admission decides for others is decided
 * here. */
static enum session_reason scheduler_refusal(const struct table *t, const struct session *s)
{
    if (s->greeting != GREETING_NONE && !rules_allow(t, s->listener, &s->peer))
        return REASON_DENIED;
    if (s->greeting != GREETING_NONE &&
        (t->header->open > t->header->settings.sessions_max ||
         t->listener_open[s->listener] > t->header->listeners[s->listener].settings.sessions_max))
        return REASON_SESSION_LIMIT;
    return address_count_reached(t, &s->peer, s->listener) ? REASON_ADDRESS_LIMIT : REASON_NONE;
}

/* S has its PROXY header, or has ended without. Limits by address are for the header's address. */
static void scheduler_open(struct scheduler *sched, struct session *s,
                           const struct session_context *context)
{
    const struct counted before = counters_of(s);
    enum session_reason refusal = scheduler_refusal(sched->table, s);

    if (s->reason == REASON_NONE && refusal != REASON_NONE)
        session_end(s, refusal, 0);
    session_open(s);
    if (s->state == SESSION_REFUSED) {
        scheduler_uncount(sched, s);
        counters_add(sched->table, s, &before);
        scheduler_limit_refusals(sched, s);
        return;
    }
    address_count_add(sched->table, s);
    scheduler_hint(sched, s, context);
}

/* Reads the PROXY header of S. Returns the bytes received. */
static uint32_t scheduler_read_header(struct scheduler *sched, struct session *s,
                                      const struct session_context *context)
{
    const char *why = NULL;
    uint32_t received = 0;

    session_greet(s, context, &sched->table->header->greeting);
    if (!session_parse_header(s, context, &why) || session_is_health_check(s)) {
        received = scheduler_receive(sched, s, context);
        (void)session_parse_header(s, context, &why);
    }
    if (why)
        hints_bad_header(&sched->hints, &sched->table->header->listeners[s->listener], s, why,
                         s->end_usec);
    if (!session_is_health_check(s) && !session_is_discarded(s) &&
        (session_has_header(s) || s->reason != REASON_NONE))
        scheduler_open(sched, s, context);
    return received;
}

/* Closes the connection of S, of which nothing is logged. */
static void scheduler_discard(struct scheduler *sched, struct session *s)
{
    deadlines_set(&sched->deadlines, table_number(sched->table, s), NO_DEADLINE);
    scheduler_uncount(sched, s);
    scheduler_close(sched, s);
}

/* Answers the open command of S, a RELP session, which does not wait for the journal. */
static void scheduler_greet(struct scheduler *sched, struct session *s,
                            const struct session_context *context)
{
    if (s->opened)
        return;
    session_find_open(s, context);
    if (s->opened)
        scheduler_answer(sched, s);
}

/* S waits for the journal from now on. */
static void scheduler_end_urgency(struct scheduler *sched, struct session *s)
{
    if (s->watched == WATCH_URGENT && !s->deaf && !session_awaits_open(s))
        scheduler_unwatch(sched, s);
}

/* True if S may be read: a client that does not read its answers is not read either. */
static bool scheduler_may_receive(const struct scheduler *sched, const struct session *s)
{
    return s->state == SESSION_OPEN && session_is_framed(s) && (!s->deaf || sched->stopping);
}

/* Receives, logs, and decides what S waits for. */
static void scheduler_turn(struct scheduler *sched, struct session *s)
{
    struct session_context context = scheduler_context(sched, s);
    enum session_progress progress;
    uint32_t received = 0;

    scheduler_work_on(sched, context.number);
    if (scheduler_may_receive(sched, s))
        received = scheduler_receive(sched, s, &context);
    else if (s->state == SESSION_HEADER)
        received = scheduler_read_header(sched, s, &context);
    if (framing_ops(s->framing)->acknowledges)
        scheduler_greet(sched, s, &context);
    while ((progress = session_log(s, &context)) == SESSION_BLOCKED)
        if (!scheduler_flush(sched))
            break;
    scheduler_work_on(sched, NO_SESSION);
    s->crashes = 0;
    scheduler_end_urgency(sched, s);
    if (session_is_discarded(s)) {
        scheduler_discard(sched, s);
        return;
    }
    if (progress == SESSION_WAITS && scheduler_wait(sched, s, received))
        progress = SESSION_RUNS;

    /* A session whose turn was cut short keeps its place: at the end of the queue that could happen
     * to it each time. */
    if (progress == SESSION_WAITS) {
        table_list_remove(sched->table, LIST_RUN, s);
        scheduler_arm(sched, s);
        if (s->resident_bytes > 0 && !table_list_has(s, LIST_TRIM))
            table_list_append(sched->table, LIST_TRIM, s);
    } else if (progress == SESSION_RUNS || !table_list_has(s, LIST_RUN)) {
        table_list_append(sched->table, LIST_RUN, s);
    }
    if (scheduler_will_answer(s) && !table_list_has(s, LIST_ANSWER))
        table_list_append(sched->table, LIST_ANSWER, s);
}

/* --- Memory --- */

/* Puts the unfinished record of S in the batch as it is. */
static void scheduler_flush_partial(struct scheduler *sched, struct session *s)
{
    struct session_context context = scheduler_context(sched, s);

    scheduler_work_on(sched, context.number);
    while (session_flush_partial(s, &context) == SESSION_BLOCKED)
        if (!scheduler_flush(sched))
            break;
    scheduler_work_on(sched, NO_SESSION);
    table_list_append(sched->table, LIST_TRIM, s);
}

/* Gives back what S does not need: where it has the end of a read, all that was in front of it. */
static void scheduler_trim(struct scheduler *sched, struct session *s)
{
    session_compact(s, table_region(sched->table, s));
    table_trim(sched->table, s);
}

/* The first of those that received bytes since they were trimmed. When its whole records are logged
 * it needs less, without a new byte: until then it stays one of them. */
static void scheduler_trim_first(struct scheduler *sched)
{
    struct session *s = table_list_first(sched->table, LIST_TRIM);

    scheduler_trim(sched, s);
    if (s->state == SESSION_OPEN && (!session_is_framed(s) || s->framed > window_start(s->window)))
        table_list_append(sched->table, LIST_TRIM, s);
    else
        table_list_remove(sched->table, LIST_TRIM, s);
}

/* Reclaims memory above the limit: first pages that are not needed, then the longest unfinished
 * records. Whole records still wait for their turn; logging those of many busy clients out of turn
 * would delay all other sessions. */
static void scheduler_reclaim(struct scheduler *sched)
{
    const uint64_t limit = sched->table->header->settings.buffer_memory;
    struct session *s;

    for (uint32_t n = sched->table->lists[LIST_TRIM].count;
         n > 0 && sched->table->resident_bytes > limit; n--)
        scheduler_trim_first(sched);
    while (sched->table->resident_bytes > limit && scheduler_flush(sched) &&
           (s = table_largest(sched->table))) {
        uint32_t before = session_pending(s);

        scheduler_flush_partial(sched, s);
        if (!scheduler_flush(sched))
            return;
        scheduler_trim(sched, s);
        if (session_pending(s) >= before)
            return;
    }
}

/* When pages can be given back: a second after the last byte of the session that has been silent
 * for longest, and at most once a second. */
static uint64_t scheduler_trim_due(const struct scheduler *sched)
{
    const struct session *s = table_list_first(sched->table, LIST_TRIM);
    uint64_t earliest = sched->trimmed_usec + TRIM_USEC, due = s ? s->active_usec + TRIM_USEC : 0;

    if (!s && !sched->trim_again)
        return NO_DEADLINE;
    return due > earliest ? due : earliest;
}

static void scheduler_trim_idle(struct scheduler *sched, uint64_t now)
{
    if (scheduler_trim_due(sched) > now)
        return;
    sched->trimmed_usec = now;
    for (uint32_t n = sched->table->lists[LIST_TRIM].count; n > 0; n--) {
        if (table_list_first(sched->table, LIST_TRIM)->active_usec + TRIM_USEC > now)
            break;
        scheduler_trim_first(sched);
    }
    sched->trim_again = sched->sink.arena_most > 0;
    sink_trim(&sched->sink);
}

/* --- Rounds --- */

/* What every round ends with. */
void scheduler_finish_round(struct scheduler *sched)
{
    if (!scheduler_is_blocked(sched) && scheduler_flush(sched) &&
        sched->table->resident_bytes > sched->table->header->settings.buffer_memory)
        scheduler_reclaim(sched);
}

void scheduler_find_ready(struct scheduler *sched)
{
    struct epoll_event events[ROUND_CLIENTS];
    int n = epoll_wait(sched->epoll, events, ROUND_CLIENTS, 0);

    for (int i = 0; i < n; i++) {
        struct session *s = &sched->table->sessions[events[i].data.u32];

        if (table_list_has(s, LIST_LINGER)) {
            scheduler_continue_lingering(sched, s);
        } else if (s->state != SESSION_FREE && !table_list_has(s, LIST_RUN) && !s->batch_end) {
            table_list_append(sched->table, LIST_RUN, s);
        }
    }
}

void scheduler_serve_urgent(struct scheduler *sched)
{
    struct epoll_event events[ROUND_CLIENTS];
    int n = epoll_wait(sched->urgent, events, ROUND_CLIENTS, 0);

    for (int i = 0; i < n; i++) {
        struct session *s = &sched->table->sessions[events[i].data.u32];

        if (table_list_has(s, LIST_LINGER)) {
            scheduler_continue_lingering(sched, s);
        } else if (s->state != SESSION_FREE && !s->batch_end) {
            if (s->deaf)
                scheduler_answer(sched, s);
            if (!s->deaf)
                scheduler_turn(sched, s);
        }
    }
}

void scheduler_continue_answers(struct scheduler *sched, struct session *s)
{
    struct session_context context = scheduler_context(sched, s);

    session_find_open(s, &context);
    scheduler_answer(sched, s);
}

void scheduler_run(struct scheduler *sched)
{
    size_t n = min_size(sched->table->lists[LIST_RUN].count, ROUND_CLIENTS);
    struct session *s;

    for (; n > 0 && !scheduler_is_blocked(sched); n--)
        if ((s = table_list_first(sched->table, LIST_RUN)))
            scheduler_turn(sched, s);
    scheduler_finish_round(sched);
}

void scheduler_retry(struct scheduler *sched)
{
    if (scheduler_flush(sched))
        scheduler_finish_round(sched);
}

/* --- Time --- */

static const struct listener_settings *scheduler_settings(const struct scheduler *sched,
                                                          const struct session *s)
{
    return &sched->table->header->listeners[s->listener].settings;
}

/* When the PROXY header of S is overdue. */
static uint64_t scheduler_header_due(const struct session *s)
{
    return session_has_header(s) || s->reason != REASON_NONE ? NO_DEADLINE
                                                             : s->begin_usec + HEADER_USEC;
}

/* True if S may time out. A throttled session is not read, so it is not silent. */
static bool scheduler_may_be_silent(const struct session *s)
{
    return (s->state == SESSION_OPEN || session_is_health_check(s)) && s->reason == REASON_NONE &&
           !s->throttled;
}

/* When S has been silent for idle_timeout. A session whose whole records wait for their turn is not
 * read meanwhile, so it is not idle. */
static uint64_t scheduler_idle_due(const struct scheduler *sched, const struct session *s)
{
    uint32_t timeout = scheduler_settings(sched, s)->idle_timeout;

    if (timeout == 0 || !scheduler_may_be_silent(s) || !session_is_framed(s))
        return NO_DEADLINE;
    return s->active_usec + timeout * USEC_PER_SEC;
}

/* When the unfinished record of S has waited for flush_timeout. */
static uint64_t scheduler_flush_due(const struct scheduler *sched, const struct session *s)
{
    uint32_t timeout = scheduler_settings(sched, s)->flush_timeout;

    if (timeout == 0 || framing_ops(s->framing)->acknowledges || !scheduler_may_be_silent(s) ||
        !session_has_partial(s))
        return NO_DEADLINE;
    return s->active_usec + timeout * USEC_PER_SEC;
}

static uint64_t scheduler_session_due(const struct scheduler *sched, const struct session *s)
{
    if (s->throttled)
        return rate_due(s->rate_usec, scheduler_settings(sched, s)->max_rate);
    if (s->state == SESSION_HEADER && !session_has_header(s))
        return scheduler_header_due(s);
    return min_u64(scheduler_idle_due(sched, s), scheduler_flush_due(sched, s));
}

/* A new byte does not move a deadline: that is done when the deadline is reached. */
void scheduler_arm(struct scheduler *sched, const struct session *s)
{
    uint64_t due = scheduler_session_due(sched, s);

    if (due < deadlines_get(&sched->deadlines, table_number(sched->table, s)))
        deadlines_set(&sched->deadlines, table_number(sched->table, s), due);
}

/* S is no longer throttled and queues for a turn, like any other session with something to read. */
static void scheduler_unthrottle(struct scheduler *sched, struct session *s)
{
    s->throttled = false;
    table_list_append(sched->table, LIST_RUN, s);
    deadlines_set(&sched->deadlines, table_number(sched->table, s), NO_DEADLINE);
}

static void scheduler_reach_deadline(struct scheduler *sched, struct session *s, uint64_t now)
{
    if (s->throttled && scheduler_session_due(sched, s) <= now) {
        scheduler_unthrottle(sched, s);
        return;
    }
    if (scheduler_session_due(sched, s) <= now)
        scheduler_turn(sched, s); /* bytes may have arrived that were not read yet */
    if (scheduler_header_due(s) <= now) {
        session_end(s, REASON_PROTOCOL, 0);
        scheduler_turn(sched, s);
    } else if (scheduler_idle_due(sched, s) <= now) {
        session_end(s, REASON_IDLE, 0);
        scheduler_turn(sched, s);
    } else if (scheduler_flush_due(sched, s) <= now) {
        scheduler_flush_partial(sched, s);
    }
    deadlines_set(&sched->deadlines, table_number(sched->table, s),
                  scheduler_session_due(sched, s));
}

/* Not while the output is blocked: no session is read then. */
static void scheduler_reach_deadlines(struct scheduler *sched, uint64_t now)
{
    for (unsigned n = ROUND_CLIENTS;
         n > 0 && deadlines_first(&sched->deadlines) <= now && !scheduler_is_blocked(sched); n--)
        scheduler_reach_deadline(sched, &sched->table->sessions[sched->deadlines.heap[0].session],
                                 now);
}

/* When the session that has lingered longest is to be closed. */
static uint64_t scheduler_linger_due(const struct scheduler *sched)
{
    const struct session *s = table_list_first(sched->table, LIST_LINGER);

    if (!s)
        return UINT64_MAX;
    return s->active_usec + (sched->stopping ? LINGER_STOP_USEC : LINGER_USEC);
}

static void scheduler_end_lingering(struct scheduler *sched, uint64_t now)
{
    while (scheduler_linger_due(sched) <= now)
        scheduler_close(sched, table_list_first(sched->table, LIST_LINGER));
}

uint64_t scheduler_next_due(const struct scheduler *sched)
{
    uint64_t due = min_u64(scheduler_linger_due(sched), sched->refusals_due);

    if (scheduler_is_blocked(sched))
        return due;
    due = min_u64(due, scheduler_trim_due(sched));
    return sched->stopping ? due : min_u64(due, deadlines_first(&sched->deadlines));
}

void scheduler_tick(struct scheduler *sched, uint64_t now)
{
    scheduler_end_lingering(sched, now);
    if (sched->refusals_due <= now)
        sched->refusals_due = refusals_report(sched->table, now);
    if (scheduler_is_blocked(sched))
        return;
    scheduler_trim_idle(sched, now);
    if (!sched->stopping)
        scheduler_reach_deadlines(sched, now);
    scheduler_finish_round(sched);
}

/* --- Stopping --- */

/* Lets S read what its client has sent by now, and no more. */
void scheduler_begin_drain(struct session *s)
{
    s->stop_bytes = session_unread(s);
    if (s->stop_bytes == 0)
        session_end(s, REASON_SHUTDOWN, 0);
}

/* S lingers while netd begins to stop. */
static void scheduler_stop_lingering(struct scheduler *sched, struct session *s)
{
    struct session_context context = scheduler_context(sched, s);

    if (!answer_is_due(s, &context))
        scheduler_watch_lingering(sched, s); /* which makes it ready */
}

void scheduler_stop(struct scheduler *sched)
{
    sched->stopping = true;
    for (uint32_t i = 0; i < sched->table->header->used; i++) {
        struct session *s = &sched->table->sessions[i];

        if (table_list_has(s, LIST_LINGER)) {
            scheduler_stop_lingering(sched, s);
        } else if ((s->state == SESSION_OPEN || s->state == SESSION_HEADER) &&
                   s->reason == REASON_NONE) {
            scheduler_begin_drain(s);
            table_list_append(sched->table, LIST_RUN, s);
        }
    }
}

uint32_t scheduler_abandon(struct scheduler *sched)
{
    uint32_t lost = 0;

    /* The table may not have been recovered yet. */
    for (uint32_t i = 0; i < sched->table->header->used && i < sched->table->capacity; i++) {
        struct session *s = &sched->table->sessions[i];

        if (s->state == SESSION_FREE || s->end_taken)
            continue;
        lost += s->state == SESSION_OPEN;
        if (!session_has_connection(s))
            continue;
        session_reset_at_close(s);
        close_fd(&s->fd);
    }
    return lost;
}
