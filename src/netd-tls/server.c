/* SPDX-License-Identifier: MIT */
#include "netd-tls/server.h"

#include "common/util.h"
#include "netd-tls/header.h"
#include "netd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Events taken at once, and connections accepted from one listener before others have their turn.
 */
#define EVENTS_MAX 256
#define ACCEPT_MAX 32

/* How long accepting pauses when descriptors or memory run out. */
#define PAUSE_USEC (100 * USEC_PER_MSEC)

/* How often connecting to netd is tried while the queue of its listener is full. */
#define CONNECT_USEC (5 * USEC_PER_MSEC)

/* The longest that a client can delay a stop, and how often it is looked at. */
#define STOP_LINGER_USEC (200 * USEC_PER_MSEC)
#define STOP_POLL_USEC   (10 * USEC_PER_MSEC)

/* Warnings that netd cannot be reached: at most one in this time. */
#define WARNING_USEC (10 * USEC_PER_SEC)

/* Tags in the pointers that epoll returns; a connection has CONNECTION_TAG_INTERNAL or none. */
enum { TAG_LISTENER = 2, TAG_CONTROL = 3, TAG_MASK = 3 };

_Static_assert(_Alignof(struct connection) > TAG_MASK, "no room for tags in pointers");
_Static_assert(_Alignof(struct tls_listener) > TAG_MASK, "no room for tags in pointers");

/* --- Lists --- */

static void list_append(struct connection_list *list, struct connection *c)
{
    c->previous = list->last;
    c->next = NULL;
    *(list->last ? &list->last->next : &list->first) = c;
    list->last = c;
    list->count++;
}

static void list_remove(struct connection_list *list, struct connection *c)
{
    *(c->previous ? &c->previous->next : &list->first) = c->next;
    *(c->next ? &c->next->previous : &list->last) = c->previous;
    list->count--;
}

static void server_queue(struct server *s, struct connection *c)
{
    if (c->is_ready)
        return;
    c->is_ready = true;
    c->next_ready = NULL;
    *(s->last_ready ? &s->last_ready->next_ready : &s->first_ready) = c;
    s->last_ready = c;
}

static uint32_t server_connections(const struct server *s)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < CONNECTION_ENDED; i++)
        count += s->lists[i].count;
    return count;
}

/* --- Reports --- */

static struct tls_listener_counters *server_counters(const struct server *s,
                                                     const struct tls_listener *l)
{
    return &s->counters->listeners[l->settings->counters];
}

static void count(uint64_t *counter)
{
    (void)__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* True if one more refusal may be reported in this second. */
static bool server_may_report(struct server *s, uint64_t now)
{
    if (now - s->refusals_usec >= USEC_PER_SEC) {
        s->refusals_usec = now;
        s->refusals_reported = 0;
    }
    return s->refusals_reported < s->settings->refusals_per_second;
}

/* Sends netd a header that says why. Returns 0 or a negative errno. */
static int send_refusal(const struct connection *c, const char *reason)
{
    CLEANUP(close_fd) int fd = connection_open_internal(c->listener->settings);
    uint8_t data[TLS_HEADER_MAX];
    size_t length;
    ssize_t n;

    if (fd < 0)
        return fd;
    length = header_write(
        &(struct header){
            .peer = c->peer,
            .local = c->local,
            .listener = c->listener->settings->id,
            .refused = reason,
        },
        data);
    n = send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n == (ssize_t)length ? 0 : n < 0 ? -errno : -ENOSPC;
}

static void server_report(struct server *s, const struct connection *c, uint64_t now)
{
    char text[TLS_REFUSED_MAX + 1];

    if (s->refusals_omitted > 0)
        (void)snprintf(text, sizeof(text), "%s (%u more were not reported)", c->refusal,
                       s->refusals_omitted);
    else
        (void)snprintf(text, sizeof(text), "%s", c->refusal);
    if (server_may_report(s, now) && send_refusal(c, text) == 0) {
        s->refusals_reported++;
        s->refusals_omitted = 0;
        return;
    }
    s->refusals_omitted++;
    count(&server_counters(s, c->listener)->refusals_unreported);
}

static void server_warn(struct server *s, int error, uint64_t now)
{
    if (s->warned_usec > 0 && now - s->warned_usec < WARNING_USEC)
        return;
    s->warned_usec = now;
    log_warning("TLS: cannot connect to netd: %s", strerror(error));
}

/* --- Connections --- */

/* C was in the state BEFORE, and may be in another one now. */
static void server_moved(struct server *s, struct connection *c, enum connection_state before,
                         uint64_t now)
{
    if (c->state == before)
        return;
    list_remove(&s->lists[before], c);
    list_append(&s->lists[c->state], c);
    if (before == CONNECTION_HANDSHAKE) {
        count(&server_counters(s, c->listener)->handshakes[c->result]);
        if (c->refusal)
            server_report(s, c, now);
    }
    if (c->connect_errno > 0)
        server_warn(s, c->connect_errno, now);
    if (c->state == CONNECTION_LINGER)
        c->deadline_usec = now + s->settings->linger_timeout_ms * USEC_PER_MSEC;
    if (c->state == CONNECTION_CONNECT)
        s->connect_usec = now + CONNECT_USEC;
}

static void server_drive(struct server *s, struct connection *c, uint64_t now)
{
    const enum connection_state before = c->state;
    const bool more = connection_drive(c, s->epoll);

    server_moved(s, c, before, now);
    if (more)
        server_queue(s, c);
}

static void server_abort(struct server *s, struct connection *c, enum tls_result result,
                         const char *refusal, uint64_t now)
{
    const enum connection_state before = c->state;

    connection_abort(c, result, refusal);
    server_moved(s, c, before, now);
}

static void server_abort_list(struct server *s, enum connection_state state, uint64_t now)
{
    while (s->lists[state].first)
        server_abort(s, s->lists[state].first, TLS_CLOSED, NULL, now);
}

/* Those in the queue of ready ones stay until their turn. */
static void server_free_ended(struct server *s)
{
    struct connection *next;

    for (struct connection *c = s->lists[CONNECTION_ENDED].first; c; c = next) {
        next = c->next;
        if (c->is_ready)
            continue;
        list_remove(&s->lists[CONNECTION_ENDED], c);
        connection_free(c);
    }
}

/* --- Listeners --- */

static int watch(int epoll, int fd, void *pointer, unsigned tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uintptr_t)pointer | tag};

    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Watches the listeners, or no longer. */
static int server_set_accepting(struct server *s, bool accepting)
{
    if (s->accepting == accepting)
        return 0;
    for (uint32_t i = 0; i < s->settings->n_listeners; i++) {
        struct tls_listener *l = &s->listeners[i];
        int r = 0;

        if (accepting)
            r = watch(s->epoll, l->fd, l, TAG_LISTENER);
        else
            (void)epoll_ctl(s->epoll, EPOLL_CTL_DEL, l->fd, NULL);
        if (r < 0)
            return r;
    }
    s->accepting = accepting;
    return 0;
}

static void server_pause(struct server *s, uint64_t now)
{
    s->pause_usec = now + PAUSE_USEC;
    (void)server_set_accepting(s, false);
}

static bool server_is_full(const struct server *s)
{
    return s->lists[CONNECTION_HANDSHAKE].count >= s->settings->handshakes_max ||
           server_connections(s) >= s->settings->connections_max;
}

/* Without room for another connection the oldest handshake gives way: whoever does not complete
 * one cannot keep others out. */
static void server_make_room(struct server *s, uint64_t now)
{
    if (server_is_full(s) && s->lists[CONNECTION_HANDSHAKE].first)
        server_abort(s, s->lists[CONNECTION_HANDSHAKE].first, TLS_EVICTED, "too many handshakes",
                     now);
}

/* Returns 0, or a negative errno: -EAGAIN if none is waiting. */
static int server_accept_one(struct server *s, struct tls_listener *l, uint64_t now)
{
    struct sockaddr_storage sa = {0};
    socklen_t length = sizeof(sa);
    struct endpoint peer;
    struct connection *c;
    int fd;

    if (server_is_full(s) && !s->lists[CONNECTION_HANDSHAKE].first)
        return -EUSERS;
    fd = accept4(l->fd, (struct sockaddr *)&sa, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return -errno;
    server_make_room(s, now);
    endpoint_from_sockaddr(&peer, &sa, length);
    c = connection_new(l, s->epoll, fd, &peer);
    if (!c)
        return -ENOMEM;
    c->deadline_usec = now + s->settings->handshake_timeout_ms * USEC_PER_MSEC;
    list_append(&s->lists[CONNECTION_HANDSHAKE], c);
    server_queue(s, c);
    return 0;
}

/* Errors that concern the connection, not us: accept(2). */
static bool is_of_connection(int r)
{
    return r == -ECONNABORTED || r == -EINTR || r == -EPROTO || r == -ENETDOWN ||
           r == -ENOPROTOOPT || r == -EHOSTDOWN || r == -ENONET || r == -EHOSTUNREACH ||
           r == -EOPNOTSUPP || r == -ENETUNREACH;
}

static void server_accept(struct server *s, struct tls_listener *l, uint64_t now)
{
    for (unsigned i = 0; i < ACCEPT_MAX && s->accepting; i++) {
        int r = server_accept_one(s, l, now);

        if (r == -EAGAIN)
            return;
        if (r < 0 && !is_of_connection(r))
            server_pause(s, now);
    }
}

/* --- Commands --- */

static void server_drain(struct server *s)
{
    (void)server_set_accepting(s, false);
    s->draining = true;
    for (uint32_t i = 0; i < s->settings->n_listeners; i++)
        close_fd(&s->listeners[i].fd);
}

static void server_command(struct server *s, uint64_t now)
{
    char command = TLS_END;
    ssize_t n = recv(s->control, &command, 1, MSG_DONTWAIT);

    if (n < 0)
        return; /* epoll tells again; behind ECONNRESET comes the end of file */
    if (command != TLS_END)
        server_drain(s);
    else
        s->ended = true;
    if (command == TLS_STOP && s->stop_usec == 0) {
        s->stop_usec = now;
        server_abort_list(s, CONNECTION_HANDSHAKE, now);
        server_abort_list(s, CONNECTION_CONNECT, now);
    }
}

/* --- Deadlines --- */

static void server_expire_handshakes(struct server *s, uint64_t now)
{
    struct connection *c;

    while ((c = s->lists[CONNECTION_HANDSHAKE].first) && c->deadline_usec <= now)
        server_abort(s, c, TLS_TIMEOUT, "not complete in time", now);
}

static void server_expire_lingering(struct server *s, uint64_t now)
{
    const bool is_late = s->stop_usec > 0 && now - s->stop_usec >= STOP_LINGER_USEC;
    struct connection *next;

    for (struct connection *c = s->lists[CONNECTION_LINGER].first; c; c = next) {
        next = c->next;
        if (c->deadline_usec <= now || is_late || (s->stop_usec > 0 && connection_is_quiet(c)))
            server_abort(s, c, TLS_COMPLETE, NULL, now);
        else if (s->stop_usec == 0)
            return;
    }
}

static void server_connect_again(struct server *s, uint64_t now)
{
    struct connection *c = s->lists[CONNECTION_CONNECT].first;

    if (!c || now < s->connect_usec)
        return;
    s->connect_usec = now + CONNECT_USEC;
    for (; c; c = c->next)
        server_queue(s, c);
}

static void server_expire(struct server *s, uint64_t now)
{
    server_expire_handshakes(s, now);
    server_expire_lingering(s, now);
    server_connect_again(s, now);
    if (!s->draining && now >= s->pause_usec && server_set_accepting(s, true) < 0)
        server_pause(s, now);
}

/* The next time at which server_expire() has something to do; UINT64_MAX: none. */
static uint64_t server_next_usec(const struct server *s, uint64_t now)
{
    const struct connection_list *lists = s->lists;
    uint64_t next = UINT64_MAX;

    if (s->first_ready)
        return now;
    if (lists[CONNECTION_HANDSHAKE].first)
        next = lists[CONNECTION_HANDSHAKE].first->deadline_usec;
    if (lists[CONNECTION_LINGER].first)
        next = min_u64(next, s->stop_usec > 0 ? now + STOP_POLL_USEC
                                              : lists[CONNECTION_LINGER].first->deadline_usec);
    if (lists[CONNECTION_CONNECT].first)
        next = min_u64(next, s->connect_usec);
    if (!s->accepting && !s->draining)
        next = min_u64(next, s->pause_usec);
    return next;
}

/* Rounded up, so that the loop does not spin before a deadline. */
static int timeout_until(uint64_t next, uint64_t now, int timeout_ms)
{
    uint64_t ms = next <= now ? 0 : (next - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC;

    if (next == UINT64_MAX || (timeout_ms >= 0 && ms > (uint64_t)timeout_ms))
        return timeout_ms;
    return (int)min_u64(ms, INT32_MAX);
}

/* --- The loop --- */

static void server_handle(struct server *s, const struct epoll_event *event, uint64_t now)
{
    const uintptr_t tag = event->data.u64 & TAG_MASK;
    void *pointer = (void *)(uintptr_t)(event->data.u64 - tag);
    struct connection *c = pointer;

    if (tag == TAG_CONTROL) {
        server_command(s, now);
    } else if (tag == TAG_LISTENER) {
        server_accept(s, pointer, now);
    } else {
        if (tag == CONNECTION_TAG_INTERNAL) {
            c->answers_ready = true;
            c->internal_hung_up |= (event->events & (EPOLLRDHUP | EPOLLHUP)) != 0;
        }
        server_queue(s, c);
    }
}

/* One turn for each connection that was ready when this began. */
static void server_run_ready(struct server *s, uint64_t now)
{
    struct connection *c = s->first_ready, *next;

    s->first_ready = s->last_ready = NULL;
    for (; c; c = next) {
        next = c->next_ready;
        c->is_ready = false;
        server_drive(s, c, now);
    }
}

int server_step(struct server *s, int timeout_ms)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC);
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(s->epoll, events, EVENTS_MAX,
                       timeout_until(server_next_usec(s, now), now, timeout_ms));

    if (n < 0 && errno != EINTR)
        return -errno;
    now = now_usec(CLOCK_MONOTONIC);
    for (int i = 0; i < n; i++)
        server_handle(s, &events[i], now);
    server_run_ready(s, now);
    server_expire(s, now);
    server_free_ended(s);
    return 0;
}

bool server_is_done(const struct server *s)
{
    return s->ended || (s->draining && server_connections(s) == 0);
}

/* --- Start and end --- */

int server_load(struct server *s, const struct tls_settings *settings, bool check,
                char error[static TLS_ERROR_MAX + 1], int *faulty)
{
    *s = (struct server){.settings = settings, .epoll = -1, .control = -1};
    for (uint32_t i = 0; i < settings->n_listeners; i++) {
        const struct tls_listener_settings *l = &settings->listeners[i];
        int r = context_init(&s->listeners[i].context, l, error);

        s->listeners[i].settings = l;
        s->listeners[i].fd = l->fd;
        if (r == 0 && s->listeners[i].context.expired) {
            context_explain_expired(&s->listeners[i].context, l, error);
            r = check ? -EINVAL : 0;
            if (!check)
                log_warning("%s", error);
        }
        if (r < 0) {
            *faulty = (int)l->id;
            return r;
        }
    }
    return 0;
}

/* Answers and close_notify are small: TCP_NODELAY, which accepted connections inherit, has them not
 * wait for each other. */
static int prepare_listener(const struct tls_listener *l)
{
    const int one = 1;

    if (fcntl(l->fd, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    (void)setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return 0;
}

int server_start(struct server *s, struct tls_counters *counters, int control)
{
    int r;

    s->counters = counters;
    s->control = control;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    r = s->epoll < 0 ? -errno : watch(s->epoll, control, NULL, TAG_CONTROL);
    for (uint32_t i = 0; r == 0 && i < s->settings->n_listeners; i++) {
        const struct tls_listener *l = &s->listeners[i];

        r = prepare_listener(l);
        __atomic_store_n(&server_counters(s, l)->not_after, l->context.not_after, __ATOMIC_RELAXED);
    }
    return r < 0 ? r : server_set_accepting(s, true);
}

void server_deinit(struct server *s)
{
    s->first_ready = s->last_ready = NULL;
    for (unsigned i = 0; i < CONNECTION_STATES; i++)
        while (s->lists[i].first) {
            struct connection *c = s->lists[i].first;

            list_remove(&s->lists[i], c);
            connection_free(c);
        }
    for (uint32_t i = 0; i < s->settings->n_listeners; i++) {
        context_deinit(&s->listeners[i].context);
        close_fd(&s->listeners[i].fd);
    }
    close_fd(&s->epoll);
}
