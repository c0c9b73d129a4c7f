/* SPDX-License-Identifier: MIT */
#include "netd/worker/admission.h"

#include "common/util.h"
#include "netd/session/address-count.h"
#include "netd/session/rules.h"
#include "netd/worker/listener.h"
#include "netd/worker/refusals.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/random.h>

static bool admission_has_room(const struct scheduler *sched)
{
    return table_has_room(sched->table) || table_list_first(sched->table, LIST_LINGER);
}

/* Takes a slot; if none is free, that of the session that has lingered longest. */
static struct session *admission_take_slot(struct scheduler *sched)
{
    struct session *s = table_take(sched->table);

    if (!s && (s = table_list_first(sched->table, LIST_LINGER))) {
        scheduler_close(sched, s);
        s = table_take(sched->table);
    }
    return s;
}

static enum session_reason admission_refusal(const struct scheduler *sched, uint32_t listener,
                                             const struct endpoint *peer)
{
    const struct table *t = sched->table;
    const struct service_settings *all = &t->header->settings;

    if (t->header->listeners[listener].settings.tls)
        return REASON_NONE; /* its client is not known yet */
    if (!rules_allow(t, listener, peer))
        return REASON_DENIED;
    if (t->header->open >= all->sessions_max ||
        t->listener_open[listener] >= t->header->listeners[listener].settings.sessions_max)
        return REASON_SESSION_LIMIT;
    if (!t->header->listeners[listener].settings.proxy && address_count_reached(t, peer, listener))
        return REASON_ADDRESS_LIMIT;
    return REASON_NONE;
}

/* Counts a session that goes on, new or adopted. Without its PROXY header it has no address yet. */
static void admission_count(struct scheduler *sched, struct session *s)
{
    sched->table->header->open++;
    sched->table->listener_open[s->listener]++;
    counters_get(sched->table, s)->open++;
    if (s->state == SESSION_OPEN)
        address_count_add(sched->table, s);
}

/* The state that a new session begins in. */
static enum session_state admission_state(const struct scheduler *sched, const struct session *s)
{
    const struct listener_settings *settings =
        &sched->table->header->listeners[s->listener].settings;

    if (s->reason != REASON_NONE)
        return SESSION_REFUSED;
    return settings->proxy || settings->tls ? SESSION_HEADER : SESSION_OPEN;
}

/* Gives S its connection FD and a new id. Returns false where it cannot have both. */
static bool admission_assign_id(struct session *s, int fd)
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

/* S, a RELP session, may have no turn before the journal takes something. Its responses are many
 * and short: none waits for the client to acknowledge another (Nagle's algorithm). */
static void admission_expect_open(struct scheduler *sched, struct session *s)
{
    const int on = 1;

    (void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)scheduler_watch(sched, s);
}

/* True if one of our netd-tls made the connection FD: anybody may connect to an abstract socket. */
static bool admission_is_own(const struct table *t, int fd)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 || peer.pid <= 0)
        return false;
    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++)
        if (__atomic_load_n(&t->header->tls.processes[i].pid, __ATOMIC_ACQUIRE) == peer.pid)
            return true;
    return false;
}

/* Makes a session, or a refusal, of the connection FD, which it owns from here on. */
static void admission_admit(struct scheduler *sched, uint32_t listener, int fd,
                            const struct endpoint *peer)
{
    enum session_reason refusal = admission_refusal(sched, listener, peer);
    const struct listener_settings *settings = &sched->table->header->listeners[listener].settings;
    struct session *s = admission_take_slot(sched);
    struct sockaddr_storage sa = {0};
    socklen_t length = sizeof(sa);

    if (!s || (settings->tls && !admission_is_own(sched->table, fd)) ||
        !admission_assign_id(s, fd)) {
        close(fd);
        if (s)
            table_free(sched->table, s);
        return;
    }
    s->listener = listener;
    s->framing = (uint8_t)settings->framing;
    s->format = (uint8_t)settings->format;
    s->greeting = settings->tls ? GREETING_DUE : GREETING_NONE;
    s->counters = (uint8_t)sched->table->header->listeners[listener].counters;
    s->peer = *peer;
    if (getsockname(fd, (struct sockaddr *)&sa, &length) == 0)
        endpoint_from_sockaddr(&s->local, &sa, length);
    s->begin_usec = s->active_usec = now_usec(CLOCK_MONOTONIC);
    if (refusal != REASON_NONE) {
        session_end(s, refusal, 0);
        scheduler_limit_refusals(sched, s);
    }
    if (admission_state(sched, s) == SESSION_HEADER)
        s->proxy = *peer;
    table_publish(s, admission_state(sched, s));

    sched->sessions++;
    if (s->state != SESSION_REFUSED)
        admission_count(sched, s);
    else
        counters_add(sched->table, s, &(struct counted){0});
    if (s->end_taken) {
        scheduler_finish(sched, s);
        return;
    }
    if (sched->stopping)
        scheduler_begin_drain(s);
    table_list_append(sched->table, LIST_RUN, s);
    if (session_awaits_open(s))
        admission_expect_open(sched, s);
    if (table_list_has(s, LIST_TRIM))
        table_list_append(sched->table, LIST_TRIM, s); /* by its own time */
}

/* Says which listener's connection is being accepted, before the call, and that it is in a session,
 * behind that. */
static void admission_accepting(struct scheduler *sched, uint32_t listener)
{
    __atomic_store_n(&sched->table->header->accept.listener, listener, __ATOMIC_RELEASE);
}

bool admission_is_open(const struct scheduler *sched, uint32_t listener)
{
    const struct table *t = sched->table;
    const struct listener_settings *settings = &t->header->listeners[listener].settings;

    return !scheduler_is_blocked(sched) ||
           (framing_ops(settings->framing)->acknowledges && table_has_room(t) &&
            t->header->open < t->header->settings.sessions_max &&
            t->listener_open[listener] < settings->sessions_max);
}

int admission_accept(struct scheduler *sched, uint32_t listener, unsigned most)
{
    struct table_header *h = sched->table->header;
    int fd = 0;

    admission_accepting(sched, listener);
    for (unsigned i = 0; i < most && admission_is_open(sched, listener); i++) {
        struct endpoint peer = {0};

        if (!admission_has_room(sched) && scheduler_has_work(sched))
            break; /* refused connections make room after their turn */
        fd = sched->sessions < sched->descriptors_max
                 ? listener_accept(&h->listeners[listener], &h->accept, &peer)
                 : -EMFILE;
        if (fd == -ECONNABORTED)
            continue;
        if (fd < 0)
            break;
        admission_admit(sched, listener, fd, &peer);
    }
    admission_accepting(sched, NO_LISTENER);
    return fd < 0 && fd != -EAGAIN && fd != -ECONNABORTED ? fd : 0;
}

/* --- Adoption --- */

/* Continues a session of an earlier worker from its slot in the table. */
static void admission_adopt_session(struct scheduler *sched, struct session *s)
{
    bool alive = session_has_connection(s);
    int r;

    sched->sessions++;
    if (s->state != SESSION_REFUSED)
        admission_count(sched, s);
    if (!alive) {
        s->fd = -1; /* the number may have been reused */
        session_end(s, REASON_ERROR, EBADF);
    } else if ((r = scheduler_watch(sched, s)) < 0) {
        if (r == -EEXIST)
            s->fd = -1; /* another session has it: the table is damaged */
        session_end(s, REASON_ERROR, -r);
    }
    if (s->end_taken) {
        scheduler_finish(sched, s);
        return;
    }
    if (s->state == SESSION_OPEN && framing_ops(s->framing)->acknowledges)
        scheduler_continue_answers(sched, s);
    if (session_pending(s) > 0 || !s->connect_taken || s->reason != REASON_NONE ||
        s->pending_reason != REASON_NONE)
        table_list_append(sched->table, LIST_RUN, s);
    else
        scheduler_arm(sched, s);
}

void admission_adopt(struct scheduler *sched, int unclaimed)
{
    struct table_header *h = sched->table->header;
    struct endpoint peer = {0};

    sched->refusals_due = refusals_report(sched->table, 0);
    h->open = 0;
    memset(sched->table->listener_open, 0, sizeof(sched->table->listener_open));
    for (size_t i = 0; i < COUNTERS_MAX; i++)
        h->counters[i].open = 0;
    for (uint32_t i = 0; i < h->used; i++)
        if (sched->table->sessions[i].state != SESSION_FREE)
            admission_adopt_session(sched, &sched->table->sessions[i]);
    if (unclaimed >= 0) {
        endpoint_from_sockaddr(&peer, &h->accept.peer, h->accept.length);
        admission_admit(sched, h->accept.listener, unclaimed, &peer);
    }
    admission_accepting(sched, NO_LISTENER);
    scheduler_finish_round(sched);
}
