/* SPDX-License-Identifier: MIT */
#include "netd/worker/scheduler.h"

#include "common/util.h"
#include "netd/log.h"
#include "netd/worker/listener.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>

/* Clients found ready, and turns, in one round. */
#define ROUND_CLIENTS 64

/* What one turn reads while the sessions' bytes take about what they may: little, for whole records
 * may have to wait for many turns before their memory comes back. */
#define READ_SCARCE 4096

/* A session without a new byte for this long gives back the pages that it does not need. */
#define COOL_USEC USEC_PER_SEC

/* How long a client may take to read its answer. */
#define LINGER_USEC (2 * USEC_PER_SEC)

/* Descriptors that clients never get: supervisor and worker share one table, and need some for
 * sd_notify(3), to start another worker, for listeners and for the journal. */
#define DESCRIPTORS_KEPT 64

/* How many clients may take; of few descriptors, half. */
static uint32_t clients_descriptors_max(void)
{
    struct rlimit limit;
    uint64_t most;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT32_MAX;
    most = limit.rlim_cur - min_u64(limit.rlim_cur / 2, DESCRIPTORS_KEPT);
    return (uint32_t)min_u64(most, UINT32_MAX);
}

int clients_init(struct clients *c, struct table *table, enum output output,
                 const char *journal_path)
{
    int r;

    *c = (struct clients){
        .table = table,
        .epoll = -1,
        .descriptors_max = clients_descriptors_max(),
    };
    r = journal_init(&c->journal, output, journal_path, &table->header->batch);
    if (r < 0)
        return r;
    table->header->held = 0;
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    return c->epoll < 0 ? -errno : 0;
}

void clients_deinit(struct clients *c)
{
    close_fd(&c->epoll);
    journal_deinit(&c->journal);
}

bool clients_is_held(const struct clients *c)
{
    return c->table->header->held != 0;
}

bool clients_have_work(const struct clients *c)
{
    return table_list_first(c->table, LIST_RUN) != NULL;
}

static struct session_context clients_context(struct clients *c, const struct session *s)
{
    const struct table_listener *l = &c->table->header->listeners[s->listener];

    return (struct session_context){
        .settings = &l->settings,
        .local_path = l->path[0] ? l->path : NULL,
        .journal = &c->journal,
        .region = table_region(c->table, s),
        .number = table_number(c->table, s),
    };
}

static int clients_watch(struct clients *c, struct session *s)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP,
                                .data.u32 = table_number(c->table, s)};

    if (s->watched)
        return 0;
    if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, s->fd, &event) < 0)
        return -errno;
    s->watched = true;
    return 0;
}

/* --- The end of a session --- */

static void clients_close(struct clients *c, struct session *s)
{
    close_fd(&s->fd);
    table_free(c->table, s);
    c->sessions--;
}

/* The journal has all of it: the client gets its answer. */
static void clients_finish(struct clients *c, struct session *s)
{
    struct session_context context = clients_context(c, s);

    if (s->state == SESSION_OPEN) {
        c->table->header->open--;
        table_address_remove(c->table, s);
    }
    table_list_remove(c->table, LIST_RUN, s);
    s->active_usec = now_usec(CLOCK_MONOTONIC);
    if (session_answer(s, &context, &c->table->header->answer) && !session_drain(s)) {
        (void)clients_watch(c, s); /* unwatched, it lingers for the whole time */
        table_list_append(c->table, LIST_LINGER, s);
    } else {
        clients_close(c, s);
    }
}

static void clients_finish_ended(struct clients *c)
{
    struct session *s;

    while ((s = table_list_first(c->table, LIST_ENDING)) && s->end_taken) {
        table_list_remove(c->table, LIST_ENDING, s);
        clients_finish(c, s);
    }
}

/* --- Sending --- */

/* Remembers why the output takes nothing, and says so where it is more than a full queue. */
static void clients_set_held(struct clients *c, int held)
{
    const char *who = c->journal.output == OUTPUT_JOURNAL ? "the journal" : "standard output";
    int before = c->table->header->held;

    c->table->header->held = held;
    if (held == before || c->failed)
        return;
    if (held != 0 && held != EAGAIN)
        log_warning("%s takes nothing: %s; waiting", who, strerror(held));
    else if (held == 0 && before != EAGAIN)
        log_notice("%s takes entries again", who);
}

/* Sends the batch. Returns true when all of it is out and the batch is empty. */
static bool clients_flush(struct clients *c)
{
    int r;

    r = journal_send(&c->journal);
    table_commit(c->table);
    if (r == 0)
        journal_reset(&c->journal);
    clients_finish_ended(c);
    if (r < 0)
        c->failed = -r;
    clients_set_held(c, r < 0 ? -r : c->journal.held);
    return r == 0;
}

/* --- A session's turn --- */

/* Returns the bytes received. */
static uint32_t clients_receive(struct clients *c, struct session *s,
                                const struct session_context *context)
{
    bool scarce = c->table->touched + READ_MAX > c->table->header->config.buffer_memory;
    uint32_t most = scarce ? READ_SCARCE : UINT32_MAX, n;

    n = session_receive(s, context, &c->table->header->receive,
                        (uint32_t)min_size(most, s->stop_bytes));
    if (n > 0) {
        s->active_usec = now_usec(CLOCK_MONOTONIC);
        table_touch(c->table, s);
    }
    if (c->stopping) {
        s->stop_bytes -= n;
        if (n == 0 || s->stop_bytes == 0)
            session_end(s, REASON_SHUTDOWN, 0);
    }
    return n;
}

/* S has nothing to do until its client sends. One that may have sent already is read first: many a
 * session is over before watching it would pay. Returns true when S has another turn. */
static bool clients_wait(struct clients *c, struct session *s, uint32_t received)
{
    int r;

    if (s->watched || s->reason != REASON_NONE)
        return false;
    if (received > 0)
        return true;
    r = clients_watch(c, s);
    if (r < 0)
        session_end(s, REASON_ERROR, -r);
    return r < 0;
}

/* Remembers whose bytes are looked at, in case they kill the worker. */
static void clients_work_on(struct clients *c, uint32_t number)
{
    __atomic_store_n(&c->table->header->working, number, __ATOMIC_RELEASE);
}

/* Lets the session do what it can. */
static void clients_turn(struct clients *c, struct session *s)
{
    struct session_context context = clients_context(c, s);
    enum session_progress progress;
    uint32_t received = 0;

    clients_work_on(c, context.number);
    if (s->state == SESSION_OPEN && session_is_framed(s))
        received = clients_receive(c, s, &context);
    while ((progress = session_log(s, &context)) == SESSION_BLOCKED)
        if (!clients_flush(c))
            break;
    clients_work_on(c, NO_SESSION);
    s->crashes = 0;
    if (progress == SESSION_WAITS && clients_wait(c, s, received))
        progress = SESSION_RUNS;

    /* Whose turn was cut short keeps its place: at the end of the queue the same could happen to it
     * each time. */
    if (progress == SESSION_WAITS)
        table_list_remove(c->table, LIST_RUN, s);
    else if (progress == SESSION_RUNS || !table_list_has(s, LIST_RUN))
        table_list_append(c->table, LIST_RUN, s);
    if (s->batch_end && !table_list_has(s, LIST_ENDING))
        table_list_append(c->table, LIST_ENDING, s);
}

/* --- Memory --- */

/* Puts the unfinished record of S in the batch, which is empty, as it is. */
static void clients_cut(struct clients *c, struct session *s)
{
    struct session_context context = clients_context(c, s);

    clients_work_on(c, context.number);
    (void)session_cut(s, &context);
    clients_work_on(c, NO_SESSION);
}

/* Gives back what S does not need: where it has the end of a read, all that was in front of it. */
static void clients_trim(struct clients *c, struct session *s)
{
    session_compact(s, table_region(c->table, s));
    table_trim(c->table, s);
}

/* Has memory back when the sessions' bytes take more than they may: first what is not needed, then
 * the longest unfinished records. Whole records wait for their turn: out of it, those of many
 * firehoses would keep everybody else waiting until the last of them is logged. */
static void clients_reclaim(struct clients *c)
{
    const uint64_t limit = c->table->header->config.buffer_memory;
    struct session *s;

    for (uint32_t n = c->table->lists[LIST_WARM].count; n > 0 && c->table->touched > limit; n--)
        clients_trim(c, table_list_first(c->table, LIST_WARM));
    while (c->table->touched > limit && clients_flush(c) && (s = table_largest(c->table))) {
        uint32_t before = session_pending(s);

        clients_cut(c, s);
        if (!clients_flush(c))
            return;
        clients_trim(c, s);
        if (session_pending(s) >= before)
            return;
    }
}

static void clients_cool(struct clients *c, uint64_t now)
{
    for (uint32_t n = c->table->lists[LIST_WARM].count; n > 0; n--) {
        struct session *s = table_list_first(c->table, LIST_WARM);

        if (s->active_usec + COOL_USEC > now)
            return;
        clients_trim(c, s);
    }
}

/* --- Rounds --- */

/* What every round ends with. */
static void clients_finish_round(struct clients *c)
{
    if (!clients_is_held(c) && clients_flush(c) &&
        c->table->touched > c->table->header->config.buffer_memory)
        clients_reclaim(c);
}

void clients_find_ready(struct clients *c)
{
    struct epoll_event events[ROUND_CLIENTS];
    int n = epoll_wait(c->epoll, events, ROUND_CLIENTS, 0);

    for (int i = 0; i < n; i++) {
        struct session *s = &c->table->sessions[events[i].data.u32];

        if (table_list_has(s, LIST_LINGER)) {
            if (session_drain(s))
                clients_close(c, s);
        } else if (s->state != SESSION_FREE && !table_list_has(s, LIST_RUN) && !s->batch_end) {
            table_list_append(c->table, LIST_RUN, s);
        }
    }
}

void clients_run(struct clients *c)
{
    size_t n = min_size(c->table->lists[LIST_RUN].count, ROUND_CLIENTS);
    struct session *s;

    for (; n > 0 && !clients_is_held(c); n--)
        if ((s = table_list_first(c->table, LIST_RUN)))
            clients_turn(c, s);
    clients_finish_round(c);
}

void clients_retry(struct clients *c)
{
    if (clients_flush(c))
        clients_finish_round(c);
}

/* --- Admission --- */

static bool clients_have_room(const struct clients *c)
{
    return table_has_room(c->table) || table_list_first(c->table, LIST_LINGER);
}

/* Room in the table: the oldest of those that only linger goes. */
static struct session *clients_take(struct clients *c)
{
    struct session *s = table_take(c->table);

    if (!s && (s = table_list_first(c->table, LIST_LINGER))) {
        clients_close(c, s);
        s = table_take(c->table);
    }
    return s;
}

static enum session_reason clients_refusal(const struct clients *c,
                                           const struct listener_config *settings,
                                           const struct endpoint *peer)
{
    if (c->table->header->open >= settings->sessions_max)
        return REASON_SESSION_LIMIT;
    if (settings->sessions_max_per_address > 0 &&
        table_address_count(c->table, peer) >= settings->sessions_max_per_address)
        return REASON_ADDRESS_LIMIT;
    return REASON_NONE;
}

/* Counts an open session in, new or adopted. */
static void clients_count_in(struct clients *c, struct session *s)
{
    c->table->header->open++;
    table_address_add(c->table, s);
}

/* Gives S its connection FD and its id. Without both it could not be told from others: false. */
static bool clients_name(struct session *s, int fd)
{
    ssize_t n;

    /* Never blocks for so few bytes once the kernel's generator is seeded: getrandom(2). */
    do
        n = getrandom(s->id, sizeof(s->id), 0);
    while (n < 0 && errno == EINTR);
    s->fd = fd;
    s->cookie = session_cookie(fd);
    return n == (ssize_t)sizeof(s->id) && s->cookie != 0;
}

/* Lets S read what its client has sent by now, and no more. */
static void clients_end_soon(struct session *s)
{
    int unread = 0;

    s->stop_bytes = ioctl(s->fd, SIOCINQ, &unread) < 0 || unread < 0 ? 0 : (uint32_t)unread;
    if (s->stop_bytes == 0)
        session_end(s, REASON_SHUTDOWN, 0);
}

/* Makes a session, or a refusal, of the connection FD, which it owns from here on. */
static void clients_admit(struct clients *c, uint32_t listener, int fd, const struct endpoint *peer)
{
    const struct listener_config *settings = &c->table->header->listeners[listener].settings;
    enum session_reason refusal = clients_refusal(c, settings, peer);
    struct session *s = clients_take(c);
    struct sockaddr_storage sa = {0};
    socklen_t length = sizeof(sa);

    if (!s || !clients_name(s, fd)) {
        close(fd);
        if (s)
            table_free(c->table, s);
        return;
    }
    s->listener = listener;
    s->peer = *peer;
    if (getsockname(fd, (struct sockaddr *)&sa, &length) == 0)
        endpoint_from_sockaddr(&s->local, &sa, length);
    s->begin_usec = s->active_usec = now_usec(CLOCK_MONOTONIC);
    if (refusal != REASON_NONE)
        session_end(s, refusal, 0);
    table_publish(s, refusal == REASON_NONE ? SESSION_OPEN : SESSION_REFUSED);

    c->sessions++;
    if (s->state == SESSION_OPEN)
        clients_count_in(c, s);
    if (c->stopping)
        clients_end_soon(s);
    table_list_append(c->table, LIST_RUN, s);
}

int clients_accept(struct clients *c, uint32_t listener, unsigned most)
{
    struct table_listener *l = &c->table->header->listeners[listener];
    int fd = 0;

    for (unsigned i = 0; i < most && !clients_is_held(c); i++) {
        struct endpoint peer = {0};

        if (!clients_have_room(c) && clients_have_work(c))
            break; /* those who are refused make room after their turn */
        fd = c->sessions < c->descriptors_max ? listener_accept(l, &peer) : -EMFILE;
        if (fd == -ECONNABORTED)
            continue;
        if (fd < 0)
            break;
        clients_admit(c, listener, fd, &peer);
    }
    return fd < 0 && fd != -EAGAIN && fd != -ECONNABORTED ? -EMFILE : 0;
}

/* --- Time --- */

static uint64_t clients_idle_usec(const struct clients *c, const struct session *s)
{
    return c->table->header->listeners[s->listener].settings.idle_timeout * USEC_PER_SEC;
}

/* Most configurations have no timeout: then nobody needs to be looked at. */
static bool clients_have_idle_timeout(const struct clients *c)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (c->table->header->listeners[i].settings.idle_timeout > 0)
            return true;
    return false;
}

/* Who has whole records that wait for their turn is not read meanwhile, and not idle. */
static bool clients_is_idle(const struct clients *c, const struct session *s, uint64_t now)
{
    uint64_t timeout = clients_idle_usec(c, s);

    return s->state == SESSION_OPEN && s->reason == REASON_NONE && session_is_framed(s) &&
           timeout > 0 && s->active_usec + timeout <= now;
}

/* Ends sessions without a byte for too long. While nobody is read nobody is idle. All are looked
 * at: each listener has its own timeout, so that no order would tell where to stop. */
static void clients_end_idle(struct clients *c, uint64_t now)
{
    for (uint32_t i = 0; i < c->table->header->used && !clients_is_held(c); i++) {
        struct session *s = &c->table->sessions[i];

        if (!clients_is_idle(c, s, now))
            continue;
        clients_turn(c, s); /* it may have bytes that nobody came to read */
        if (!clients_is_idle(c, s, now))
            continue;
        session_end(s, REASON_IDLE, 0);
        clients_turn(c, s);
    }
}

static void clients_end_lingering(struct clients *c, uint64_t now)
{
    struct session *s;

    while ((s = table_list_first(c->table, LIST_LINGER)) && s->active_usec + LINGER_USEC <= now)
        clients_close(c, s);
}

void clients_tick(struct clients *c, uint64_t now)
{
    clients_end_lingering(c, now);
    clients_cool(c, now);
    journal_trim(&c->journal);
    if (!clients_is_held(c) && !c->stopping && clients_have_idle_timeout(c))
        clients_end_idle(c, now);
    clients_finish_round(c);
}

/* --- Stopping --- */

void clients_stop(struct clients *c)
{
    c->stopping = true;
    for (uint32_t i = 0; i < c->table->header->used; i++) {
        struct session *s = &c->table->sessions[i];

        if (s->state != SESSION_OPEN || s->reason != REASON_NONE)
            continue;
        clients_end_soon(s);
        table_list_append(c->table, LIST_RUN, s);
    }
}

uint32_t clients_abandon(struct clients *c)
{
    uint32_t lost = 0;

    for (uint32_t i = 0; i < c->table->header->used; i++) {
        struct session *s = &c->table->sessions[i];

        if (s->state == SESSION_FREE || s->end_taken)
            continue;
        lost += s->state == SESSION_OPEN;
        session_reset_at_close(s);
        close_fd(&s->fd);
    }
    return lost;
}

/* --- Adoption --- */

/* Goes on with a session that another worker began, from what the table says of it. */
static void clients_adopt_session(struct clients *c, struct session *s)
{
    bool alive = session_has_connection(s);
    int r;

    c->sessions++;
    if (s->state == SESSION_OPEN)
        clients_count_in(c, s);
    if (!alive) {
        s->fd = -1; /* the number may be somebody else's by now */
        session_end(s, REASON_ERROR, EBADF);
    } else if ((r = clients_watch(c, s)) < 0) {
        if (r == -EEXIST)
            s->fd = -1; /* another session has it: the table is damaged */
        session_end(s, REASON_ERROR, -r);
    }
    if (s->end_taken) {
        clients_finish(c, s);
        return;
    }
    if (session_pending(s) > 0 || !s->connect_taken || s->reason != REASON_NONE)
        table_list_append(c->table, LIST_RUN, s);
}

/* The listener that a connection came from: the one it has its local address from, or any. */
static uint32_t clients_listener_of(const struct clients *c, const struct endpoint *local)
{
    uint32_t best = 0;

    for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &c->table->header->listeners[i];

        if (l->fd < 0 || l->bound.port != local->port)
            continue;
        best = i;
        if (endpoint_same_address(&l->bound, local))
            break;
    }
    return best;
}

/* A connection that was accepted and not yet published becomes a session. */
static void clients_adopt_orphan(struct clients *c, int fd)
{
    struct sockaddr_storage peer_sa = {0}, local_sa = {0};
    socklen_t peer_length = sizeof(peer_sa), local_length = sizeof(local_sa);
    struct endpoint peer, local;

    if (getpeername(fd, (struct sockaddr *)&peer_sa, &peer_length) < 0 ||
        getsockname(fd, (struct sockaddr *)&local_sa, &local_length) < 0) {
        close(fd); /* reset already, before anything was read of it */
        return;
    }
    endpoint_from_sockaddr(&peer, &peer_sa, peer_length);
    endpoint_from_sockaddr(&local, &local_sa, local_length);
    clients_admit(c, clients_listener_of(c, &local), fd, &peer);
}

void clients_adopt(struct clients *c, const struct orphans *orphans)
{
    c->table->header->open = 0;
    for (uint32_t i = 0; i < c->table->header->used; i++)
        if (c->table->sessions[i].state != SESSION_FREE)
            clients_adopt_session(c, &c->table->sessions[i]);
    for (size_t i = 0; i < orphans->count; i++)
        clients_adopt_orphan(c, orphans->fds[i]);
    clients_finish_round(c);
}
