/* SPDX-License-Identifier: MIT */
#include "daemon/server.h"

#include "common/util.h"
#include "daemon/listener.h"
#include "daemon/log.h"

#include <dirent.h>
#include <errno.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <systemd/sd-event.h>

/* Ready clients looked at in one round, and connections accepted in one. */
#define ROUND_CLIENTS 64
#define ROUND_ACCEPTS 32

/* The heart beats, and what has to happen sometime happens. */
#define TICK_USEC USEC_PER_SEC

/* A session without a new byte for this long gives back the pages that it does not need. */
#define COOL_USEC USEC_PER_SEC

/* How long a client may take to read its answer. */
#define LINGER_USEC (2 * USEC_PER_SEC)

/* After accept(2) ran out of descriptors or memory. */
#define ACCEPT_PAUSE_USEC (200 * USEC_PER_MSEC)

struct server {
    struct table *table;
    struct journal journal;
    sd_event *event;
    int clients; /* epoll descriptor of all connections */
    sd_event_source *client_source;
    sd_event_source *run_source; /* on while LIST_RUN has sessions */
    sd_event_source *retry_source;
    sd_event_source *tick_source;
    sd_event_source *pause_source;
    sd_event_source *listener_sources[LISTENERS_MAX];
    bool accepting_paused;
    bool yielding;
    bool stopping;
    uint64_t stop_deadline;
    uint32_t sessions; /* of any state but free */
};

static struct table_header *server_header(const struct server *v)
{
    return v->table->header;
}

static bool server_is_held(const struct server *v)
{
    return server_header(v)->held != 0;
}

static struct session_context server_context(struct server *v, const struct session *s)
{
    const struct table_listener *l = &server_header(v)->listeners[s->listener];

    return (struct session_context){
        .settings = &l->settings,
        .local_path = l->path[0] ? l->path : NULL,
        .journal = &v->journal,
        .region = table_region(v->table, s),
        .number = table_number(v->table, s),
    };
}

/* --- Who may be read --- */

static void source_set(sd_event_source *source, bool on)
{
    /* It cannot fail for the kinds of source used here. */
    if (source)
        (void)sd_event_source_set_enabled(source, on ? SD_EVENT_ON : SD_EVENT_OFF);
}

/* Turns the sources on or off by what is true now; called after each change of that. */
static void server_update_sources(struct server *v)
{
    bool room = !server_is_held(v);
    bool accept = room && !v->accepting_paused && !v->stopping;

    source_set(v->client_source, room);
    source_set(v->run_source, room && table_list_first(v->table, LIST_RUN));
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        source_set(v->listener_sources[i], accept);
}

/* --- The end of a session --- */

static void server_close(struct server *v, struct session *s)
{
    close_fd(&s->fd);
    table_free(v->table, s);
    v->sessions--;
}

/* The journal has all of it: the client gets its answer. */
static void server_finish(struct server *v, struct session *s)
{
    struct session_context c = server_context(v, s);

    if (s->state == SESSION_OPEN) {
        server_header(v)->open--;
        table_address_remove(v->table, s);
    }
    table_list_remove(v->table, LIST_AGE, s);
    table_list_remove(v->table, LIST_RUN, s);
    if (session_answer(s, &c, &server_header(v)->answer) && !session_drain(s))
        table_list_append(v->table, LIST_LINGER, s);
    else
        server_close(v, s);
}

static void server_finish_ended(struct server *v)
{
    struct session *s;

    while ((s = table_list_first(v->table, LIST_ENDING)) && s->end_taken) {
        table_list_remove(v->table, LIST_ENDING, s);
        server_finish(v, s);
    }
}

/* --- Sending --- */

static void server_fail(struct server *v, int error)
{
    log_error("standard output: %s", strerror(error));
    (void)sd_event_exit(v->event, WORKER_OUTPUT_GONE);
}

static void server_hold(struct server *v)
{
    uint64_t wait = journal_retry_usec(&v->journal);

    if (v->journal.held != server_header(v)->held && v->journal.held != EAGAIN)
        log_warning("the journal takes nothing: %s; waiting", strerror(v->journal.held));
    server_header(v)->held = v->journal.held;
    (void)sd_event_source_set_time_relative(v->retry_source, wait);
    (void)sd_event_source_set_enabled(v->retry_source, SD_EVENT_ONESHOT);
    server_update_sources(v);
}

/* Sends the batch. Returns true when all of it is out and the batch is empty. */
static bool server_flush(struct server *v)
{
    int r;

    r = journal_send(&v->journal);
    table_commit(v->table);
    if (r == 0)
        journal_reset(&v->journal);
    server_finish_ended(v);
    if (r < 0) {
        server_fail(v, -r);
        return false;
    }
    if (v->yielding && v->journal.written == 0)
        (void)sd_event_exit(v->event, 0);
    if (r > 0) {
        server_hold(v);
        return false;
    }
    if (server_is_held(v)) {
        if (server_header(v)->held != EAGAIN)
            log_notice("the journal takes entries again");
        server_header(v)->held = 0;
        server_update_sources(v);
    }
    return true;
}

/* --- A session's turn --- */

static void server_read(struct server *v, struct session *s, const struct session_context *c)
{
    uint32_t n;

    n = session_receive(s, c, &server_header(v)->receive, s->stop_bytes);
    if (n > 0) {
        s->active_usec = now_usec(CLOCK_MONOTONIC);
        table_list_append(v->table, LIST_AGE, s);
        table_touch(v->table, s);
        table_list_append(v->table, LIST_WARM, s);
    }
    if (!v->stopping)
        return;
    s->stop_bytes -= n;
    if (n == 0 || s->stop_bytes == 0)
        session_end(s, REASON_SHUTDOWN, 0);
}

/* Lets the session do what it can. */
static void server_turn(struct server *v, struct session *s)
{
    struct session_context c = server_context(v, s);
    enum session_progress progress;

    __atomic_store_n(&server_header(v)->working, c.number, __ATOMIC_RELEASE);
    if (!table_list_has(s, LIST_RUN) && s->state == SESSION_OPEN)
        server_read(v, s, &c);
    while ((progress = session_log(s, &c)) == SESSION_BLOCKED)
        if (!server_flush(v))
            break;
    __atomic_store_n(&server_header(v)->working, NO_SESSION, __ATOMIC_RELEASE);
    s->crashes = 0;

    if (progress == SESSION_WAITS)
        table_list_remove(v->table, LIST_RUN, s);
    else
        table_list_append(v->table, LIST_RUN, s);
    if (s->batch_end && !table_list_has(s, LIST_ENDING))
        table_list_append(v->table, LIST_ENDING, s);
}

/* Has memory back when the sessions' unfinished records take more than they may. */
static void server_reclaim(struct server *v)
{
    const uint64_t limit = server_header(v)->config.buffer_memory;
    struct session *s;

    while (v->table->touched > limit && (s = table_list_first(v->table, LIST_WARM))) {
        table_trim(v->table, s);
        table_list_remove(v->table, LIST_WARM, s);
    }
    while (v->table->touched > limit && server_flush(v) && (s = table_largest(v->table))) {
        uint32_t before = session_pending(s);

        if (table_list_has(s, LIST_RUN)) {
            server_turn(v, s);
        } else {
            struct session_context c = server_context(v, s);

            while (session_cut(s, &c) == SESSION_BLOCKED)
                if (!server_flush(v))
                    return;
        }
        if (!server_flush(v))
            return;
        table_trim(v->table, s);
        if (session_pending(s) >= before)
            return;
    }
}

/* What every round ends with. */
static void server_finish_round(struct server *v)
{
    if (!server_is_held(v))
        (void)server_flush(v);
    if (!server_is_held(v) && v->table->touched > server_header(v)->config.buffer_memory)
        server_reclaim(v);
    if (v->stopping && v->sessions == 0)
        (void)sd_event_exit(v->event, 0);
    server_update_sources(v);
}

/* One turn for each session that has something left to do. */
static void server_run_list(struct server *v)
{
    struct session *s;

    for (uint32_t n = v->table->lists[LIST_RUN].count; n > 0 && !server_is_held(v); n--) {
        s = table_list_first(v->table, LIST_RUN);
        if (!s)
            break;
        server_turn(v, s);
    }
}

static int server_on_run(sd_event_source *source, void *userdata)
{
    struct server *v = userdata;

    (void)source;
    server_run_list(v);
    server_finish_round(v);
    return 0;
}

static int server_on_clients(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct server *v = userdata;
    struct epoll_event events[ROUND_CLIENTS];
    int n;

    (void)source;
    (void)revents;
    n = epoll_wait(fd, events, ROUND_CLIENTS, 0);
    for (int i = 0; i < n && !server_is_held(v); i++) {
        struct session *s = &v->table->sessions[events[i].data.u32];

        if (s->state == SESSION_FREE || table_list_has(s, LIST_RUN) || s->batch_end) {
            if (s->state != SESSION_FREE && table_list_has(s, LIST_LINGER) && session_drain(s))
                server_close(v, s);
            continue;
        }
        server_turn(v, s);
    }
    server_finish_round(v);
    return 0;
}

static int server_on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct server *v = userdata;

    (void)source;
    (void)usec;
    if (server_flush(v))
        server_finish_round(v);
    return 0;
}

/* --- New connections --- */

/* Room in the table: the oldest of those that only linger goes. */
static struct session *server_take(struct server *v)
{
    struct session *s = table_take(v->table);

    if (!s && (s = table_list_first(v->table, LIST_LINGER))) {
        server_close(v, s);
        s = table_take(v->table);
    }
    return s;
}

static enum session_reason server_refusal(const struct server *v,
                                          const struct listener_config *settings,
                                          const struct endpoint *peer)
{
    if (server_header(v)->open >= settings->sessions_max)
        return REASON_SESSION_LIMIT;
    if (settings->sessions_max_per_address > 0 &&
        table_address_count(v->table, peer) >= settings->sessions_max_per_address)
        return REASON_ADDRESS_LIMIT;
    return REASON_NONE;
}

static int server_watch(struct server *v, struct session *s)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP,
                                .data.u32 = table_number(v->table, s)};

    if (epoll_ctl(v->clients, EPOLL_CTL_ADD, s->fd, &event) < 0)
        return -errno;
    return 0;
}

static uint64_t server_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t length = sizeof(cookie);

    (void)getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length);
    return cookie;
}

/* Makes a session, or a refusal, of the connection FD, which it owns from here on. */
static void server_admit(struct server *v, uint32_t listener, int fd, const struct endpoint *peer)
{
    const struct listener_config *settings = &server_header(v)->listeners[listener].settings;
    struct sockaddr_storage sa = {0};
    socklen_t length = sizeof(sa);
    struct session *s = server_take(v);
    enum session_reason refusal = server_refusal(v, settings, peer);

    if (!s) {
        close(fd);
        return;
    }
    s->fd = fd;
    s->cookie = server_cookie(fd);
    s->listener = listener;
    s->peer = *peer;
    if (getsockname(fd, (struct sockaddr *)&sa, &length) == 0)
        endpoint_from_sockaddr(&s->local, &sa, length);
    /* Never blocks for so few bytes once the kernel's generator is seeded: getrandom(2). */
    while (getrandom(s->id, sizeof(s->id), 0) != (ssize_t)sizeof(s->id))
        ;
    s->begin_usec = s->active_usec = now_usec(CLOCK_MONOTONIC);
    if (refusal != REASON_NONE)
        session_end(s, refusal, 0);
    v->sessions++;
    table_publish(v->table, s, refusal == REASON_NONE ? SESSION_OPEN : SESSION_REFUSED);

    if (s->state == SESSION_OPEN) {
        int r = server_watch(v, s);

        server_header(v)->open++;
        table_address_add(v->table, s);
        table_list_append(v->table, LIST_AGE, s);
        if (r < 0)
            session_end(s, REASON_ERROR, -r);
    } else {
        (void)server_watch(v, s);
    }
    server_turn(v, s);
}

static void server_pause_accepting(struct server *v)
{
    static bool said;

    if (!said)
        log_warning("cannot accept for want of descriptors or memory; waiting");
    said = true;
    v->accepting_paused = true;
    (void)sd_event_source_set_time_relative(v->pause_source, ACCEPT_PAUSE_USEC);
    (void)sd_event_source_set_enabled(v->pause_source, SD_EVENT_ONESHOT);
}

static int server_on_pause_over(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct server *v = userdata;

    (void)source;
    (void)usec;
    v->accepting_paused = false;
    server_update_sources(v);
    return 0;
}

/* Accepts up to MOST connections. Returns true when none is left waiting. */
static bool server_accept(struct server *v, uint32_t listener, unsigned most)
{
    struct table_listener *l = &server_header(v)->listeners[listener];

    for (unsigned i = 0; i < most && !server_is_held(v); i++) {
        struct endpoint peer = {0};
        int fd = listener_accept(l, &peer);

        if (fd == -ECONNABORTED)
            continue;
        if (fd == -EAGAIN)
            return true;
        if (fd < 0) {
            server_pause_accepting(v);
            return true;
        }
        server_admit(v, listener, fd, &peer);
    }
    return false;
}

static void server_stop_listening(struct server *v, uint32_t listener)
{
    v->listener_sources[listener] = sd_event_source_disable_unref(v->listener_sources[listener]);
    close_fd(&server_header(v)->listeners[listener].fd);
}

static int server_on_listener(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct server *v = userdata;
    uint32_t n = 0;

    (void)source;
    (void)revents;
    while (server_header(v)->listeners[n].fd != fd)
        n++;
    server_accept(v, n, ROUND_ACCEPTS);
    server_finish_round(v);
    return 0;
}

/* --- Timers --- */

static uint64_t server_idle_usec(const struct server *v, const struct session *s)
{
    return server_header(v)->listeners[s->listener].settings.idle_timeout * USEC_PER_SEC;
}

/* Ends sessions without a byte for too long. While nobody is read nobody is idle. */
static void server_end_idle(struct server *v, uint64_t now)
{
    for (uint32_t n = v->table->lists[LIST_AGE].count; n > 0 && !server_is_held(v); n--) {
        struct session *s = table_list_first(v->table, LIST_AGE);
        uint64_t timeout = s ? server_idle_usec(v, s) : 0;

        if (timeout == 0 || s->active_usec + timeout > now)
            break;
        server_turn(v, s); /* it may have bytes that nobody came to read */
        if (s->active_usec + timeout > now)
            continue;
        session_end(s, REASON_IDLE, 0);
        table_list_remove(v->table, LIST_AGE, s);
        server_turn(v, s);
    }
}

static void server_end_lingering(struct server *v, uint64_t now)
{
    struct session *s;

    while ((s = table_list_first(v->table, LIST_LINGER)) && s->end_usec + LINGER_USEC <= now)
        server_close(v, s);
}

static void server_cool(struct server *v, uint64_t now)
{
    struct session *s;

    while ((s = table_list_first(v->table, LIST_WARM)) && s->active_usec + COOL_USEC <= now) {
        table_trim(v->table, s);
        table_list_remove(v->table, LIST_WARM, s);
    }
}

/* Resets what could not be logged in time, so that nobody takes it for logged. */
static void server_abandon(struct server *v)
{
    uint32_t lost = 0;

    for (uint32_t i = 0; i < server_header(v)->used; i++) {
        struct session *s = &v->table->sessions[i];
        struct linger now = {.l_onoff = 1, .l_linger = 0};

        if (s->state == SESSION_FREE || s->end_taken)
            continue;
        lost += s->state == SESSION_OPEN;
        (void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close_fd(&s->fd);
    }
    if (lost > 0)
        log_error("stopped before the journal took the last of %u sessions; they were reset", lost);
    (void)sd_event_exit(v->event, lost > 0);
}

static int server_on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct server *v = userdata;
    uint64_t now = now_usec(CLOCK_MONOTONIC);

    (void)usec;
    __atomic_add_fetch(&server_header(v)->heartbeat, 1, __ATOMIC_RELEASE);
    server_end_lingering(v, now);
    server_cool(v, now);
    if (!server_is_held(v) && !v->stopping)
        server_end_idle(v, now);
    server_finish_round(v);
    if (v->stopping && now >= v->stop_deadline && v->sessions > 0)
        server_abandon(v);
    (void)sd_event_source_set_time_relative(source, TICK_USEC);
    (void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
    return 0;
}

/* --- Stopping --- */

static uint32_t server_unread(int fd)
{
    int unread = 0;

    if (ioctl(fd, SIOCINQ, &unread) < 0 || unread < 0)
        return 0;
    return (uint32_t)unread;
}

/* Ends each session as soon as what its client had sent by now is read. */
static void server_stop(struct server *v)
{
    if (v->stopping)
        return;
    for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
        struct table_listener *l = &server_header(v)->listeners[i];

        if (l->fd < 0)
            continue;
        /* Whoever waits at a passed socket is served by whom it is passed to next. */
        if (!l->passed)
            server_accept(v, i, UINT32_MAX);
        v->listener_sources[i] = sd_event_source_disable_unref(v->listener_sources[i]);
    }
    v->stopping = true;
    v->stop_deadline =
        now_usec(CLOCK_MONOTONIC) + server_header(v)->config.stop_timeout * USEC_PER_SEC;
    for (uint32_t i = 0; i < server_header(v)->used; i++) {
        struct session *s = &v->table->sessions[i];

        if (s->state != SESSION_OPEN || s->reason != REASON_NONE)
            continue;
        s->stop_bytes = server_unread(s->fd);
        if (s->stop_bytes == 0)
            session_end(s, REASON_SHUTDOWN, 0);
        table_list_append(v->table, LIST_RUN, s);
    }
    server_finish_round(v);
}

static int server_on_command(sd_event_source *source, const struct signalfd_siginfo *si,
                             void *userdata)
{
    struct server *v = userdata;

    (void)source;
    (void)si;
    switch ((enum table_command)__atomic_load_n(&server_header(v)->command, __ATOMIC_ACQUIRE)) {
    case COMMAND_RUN:
        break;
    case COMMAND_YIELD:
        /* On standard output half an entry would stay half; the journal takes whole ones. */
        v->yielding = true;
        if (v->journal.written == 0)
            (void)sd_event_exit(v->event, 0);
        break;
    case COMMAND_STOP:
        server_stop(v);
        break;
    }
    return 0;
}

/* --- Adoption --- */

/* Goes on with a session that another worker began, from what the table says of it. */
static void server_adopt_session(struct server *v, struct session *s)
{
    bool alive = s->fd >= 0 && server_cookie(s->fd) == s->cookie && s->cookie != 0;

    v->sessions++;
    if (!alive)
        s->fd = -1; /* the number may be somebody else's by now */
    if (s->state == SESSION_OPEN) {
        server_header(v)->open++;
        table_address_add(v->table, s);
    }
    if (!alive && s->end_taken) {
        server_finish(v, s);
        return;
    }
    if (!alive)
        session_end(s, REASON_ERROR, EBADF);
    else if (server_watch(v, s) < 0)
        session_end(s, REASON_ERROR, errno);
    if (s->end_taken) {
        server_finish(v, s);
        return;
    }
    if (s->state == SESSION_OPEN)
        table_list_append(v->table, LIST_AGE, s);
    table_list_append(v->table, LIST_WARM, s);
    if (session_pending(s) > 0 || !s->connect_taken || s->reason != REASON_NONE)
        table_list_append(v->table, LIST_RUN, s);
}

/* The listener that a connection came from: the one it has its local address from, or any. */
static uint32_t server_listener_of(const struct server *v, const struct endpoint *local)
{
    uint32_t best = 0;

    for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &server_header(v)->listeners[i];

        if (l->fd < 0 || l->bound.port != local->port)
            continue;
        best = i;
        if (endpoint_same_address(&l->bound, local))
            break;
    }
    return best;
}

/* A connection that was accepted and not yet published becomes a session. */
static void server_adopt_orphan(struct server *v, int fd)
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
    server_admit(v, server_listener_of(v, &local), fd, &peer);
}

/* Adopts the sessions in the table, then the connections that are in no session. */
static void server_adopt(struct server *v, const struct orphans *orphans)
{
    struct table_header *h = server_header(v);

    h->open = 0;
    for (uint32_t i = 0; i < h->used; i++)
        if (v->table->sessions[i].state != SESSION_FREE)
            server_adopt_session(v, &v->table->sessions[i]);
    for (size_t i = 0; i < orphans->count; i++)
        server_adopt_orphan(v, orphans->fds[i]);
}

/* --- Before a worker starts --- */

static bool fd_is_ours(const struct table *t, int fd)
{
    if (fd <= STDERR_FILENO || fd == t->header_fd || fd == t->regions_fd)
        return true;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (t->header->listeners[i].fd == fd)
            return true;
    return false;
}

static bool fd_is_connection(int fd)
{
    int type = 0, listening = 1;
    socklen_t length = sizeof(int);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && !listening;
}

static int orphans_add(struct orphans *o, int fd)
{
    if (o->count == o->room) {
        size_t room = o->room * 2 + 64;
        int *more = reallocarray(o->fds, room, sizeof(*more));

        if (!more)
            return -ENOMEM;
        o->fds = more;
        o->room = room;
    }
    o->fds[o->count++] = fd;
    return 0;
}

static int compare_int(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

/* Drops the connections that belong to a session. */
static int orphans_forget_sessions(struct orphans *o, const struct table *t)
{
    CLEANUP(free_pointer) bool *known = calloc(o->count + 1, sizeof(*known));
    size_t kept = 0;

    if (!known)
        return -ENOMEM;
    qsort(o->fds, o->count, sizeof(*o->fds), compare_int);
    for (uint32_t i = 0; i < t->header->used; i++) {
        const struct session *s = &t->sessions[i];
        int *fd = bsearch(&s->fd, o->fds, o->count, sizeof(*o->fds), compare_int);

        if (fd && s->state != SESSION_FREE && server_cookie(s->fd) == s->cookie)
            known[fd - o->fds] = true;
    }
    for (size_t i = 0; i < o->count; i++)
        if (!known[i])
            o->fds[kept++] = o->fds[i];
    o->count = kept;
    return 0;
}

int server_sweep(const struct table *t, struct orphans *ret)
{
    DIR *dir = opendir("/proc/self/fd");
    struct orphans o = {0};
    const struct dirent *entry;
    uint64_t fd;
    int r = 0;

    if (!dir)
        return -errno;
    while (r == 0 && (entry = readdir(dir))) {
        if (parse_u64(entry->d_name, INT32_MAX, &fd) < 0 || (int)fd == dirfd(dir) ||
            fd_is_ours(t, (int)fd))
            continue;
        if (fd_is_connection((int)fd))
            r = orphans_add(&o, (int)fd);
        else
            close((int)fd);
    }
    closedir(dir);
    if (r == 0 && o.count > 0)
        r = orphans_forget_sessions(&o, t);
    if (r < 0) {
        free(o.fds);
        return r;
    }
    *ret = o;
    return 0;
}

/* --- The loop --- */

static int server_add_timer(struct server *v, sd_event_source **ret,
                            sd_event_time_handler_t handler)
{
    int r;

    /* An accuracy of 1 µs: the default of 250 ms would make the journal wait for us. */
    r = sd_event_add_time(v->event, ret, CLOCK_MONOTONIC, 0, 1, handler, v);
    if (r >= 0)
        r = sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_source_set_priority(*ret, SD_EVENT_PRIORITY_IMPORTANT);
    return r;
}

static int server_add_listeners(struct server *v)
{
    for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &server_header(v)->listeners[i];
        int r;

        if (l->fd < 0)
            continue;
        if (l->closing) {
            server_accept(v, i, UINT32_MAX);
            server_stop_listening(v, i);
            continue;
        }
        r = sd_event_add_io(v->event, &v->listener_sources[i], l->fd, EPOLLIN, server_on_listener,
                            v);
        if (r < 0)
            return r;
    }
    return 0;
}

static int server_add_sources(struct server *v)
{
    int r;

    v->clients = epoll_create1(EPOLL_CLOEXEC);
    if (v->clients < 0)
        return -errno;
    r = sd_event_new(&v->event);
    if (r >= 0)
        r = sd_event_add_signal(v->event, NULL, SIGNAL_COMMAND, server_on_command, v);
    if (r >= 0)
        r = server_add_timer(v, &v->retry_source, server_on_retry);
    if (r >= 0)
        r = server_add_timer(v, &v->tick_source, server_on_tick);
    if (r >= 0)
        r = server_add_timer(v, &v->pause_source, server_on_pause_over);
    if (r >= 0)
        r = sd_event_add_io(v->event, &v->client_source, v->clients, EPOLLIN, server_on_clients, v);
    if (r >= 0)
        r = sd_event_add_defer(v->event, &v->run_source, server_on_run, v);
    if (r >= 0)
        r = sd_event_source_set_enabled(v->tick_source, SD_EVENT_ONESHOT);
    return r;
}

static void server_deinit(struct server *v)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        sd_event_source_unref(v->listener_sources[i]);
    sd_event_source_unref(v->client_source);
    sd_event_source_unref(v->run_source);
    sd_event_source_unref(v->retry_source);
    sd_event_source_unref(v->tick_source);
    sd_event_source_unref(v->pause_source);
    sd_event_unref(v->event);
    close_fd(&v->clients);
    journal_deinit(&v->journal);
}

static int server_start(struct server *v, enum output output, const char *journal_path,
                        const struct orphans *orphans)
{
    int r;

    r = table_attach(v->table);
    if (r < 0)
        return r;
    table_recover(v->table, output != OUTPUT_JOURNAL);
    server_header(v)->held = 0;
    r = journal_init(&v->journal, output, journal_path, &server_header(v)->batch);
    if (r >= 0)
        r = server_add_sources(v);
    if (r < 0)
        return r;
    server_adopt(v, orphans);
    return server_add_listeners(v);
}

int server_run(struct table *table, enum output output, const char *journal_path,
               const struct orphans *orphans)
{
    struct server v = {.table = table, .clients = -1};
    int r;

    r = server_start(&v, output, journal_path, orphans);
    if (r >= 0) {
        server_finish_round(&v);
        __atomic_store_n(&table->header->ready, true, __ATOMIC_RELEASE);
        (void)kill(getppid(), SIGNAL_COMMAND);
        /* The command may have come before the signal was looked at. */
        (void)server_on_command(NULL, NULL, &v);
        r = sd_event_loop(v.event);
    }
    if (r < 0)
        log_error("worker: %s", strerror(-r));
    server_deinit(&v);
    return r < 0 ? 1 : r;
}
