/* SPDX-License-Identifier: MIT */
#include "netd/worker/worker.h"

#include "common/util.h"
#include "netd-tls/interface.h"
#include "netd/log.h"
#include "netd/session/recovery.h"
#include "netd/session/rules.h"
#include "netd/worker/admission.h"
#include "netd/worker/listener.h"
#include "netd/worker/refusals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>

/* Connections accepted in one round. */
#define ROUND_ACCEPTS 32

/* How long a retired listener stays open for handshakes that have begun: those of TCP, and of TLS
 * those that a netd-tls has accepted. */
#define RETIRE_USEC     (500 * USEC_PER_MSEC)
#define RETIRE_TLS_USEC (TLS_HANDSHAKE_TIMEOUT_MS * USEC_PER_MSEC + RETIRE_USEC)

/* After a descriptor could not be watched for lack of memory. */
#define WATCH_PAUSE_USEC (200 * USEC_PER_MSEC)

/* After accept(2) failed for lack of descriptors or memory. */
#define ACCEPT_PAUSE_USEC (200 * USEC_PER_MSEC)

struct worker {
    struct scheduler scheduler;
    sd_event *event;
    sd_event_source *client_source;
    sd_event_source *run_source;   /* on while sessions have work left */
    sd_event_source *retry_source; /* armed while the journal has no room, or a source is off that
                                      should be on */
    sd_event_source *due_source;   /* armed for what is due next */
    uint64_t due;                  /* when, CLOCK_MONOTONIC; UINT64_MAX: it is off */
    sd_event_source *pause_source;
    sd_event_source *listener_sources[LISTENERS_MAX];
    uint32_t n_listeners; /* none is open from here on */
    bool accepting_paused;
    int accept_errno; /* why it was paused last, which has been said; 0: never */
    bool yielding;
    bool adopted;           /* the table is recovered, and its sessions go on */
    int unclaimed;          /* a connection to adopt, or NO_UNCLAIMED */
    uint64_t retire_usec;   /* since when listeners are retired */
    uint64_t retire_due;    /* when the next of them may be closed; UINT64_MAX: all may be */
    uint64_t stop_deadline; /* 0: no stop */

    /* What the supervisor may have been told. */
    uint32_t open;
    int32_t blocked_errno;
    uint64_t activity;
};

static struct table_header *worker_header(const struct worker *w)
{
    return w->scheduler.table->header;
}

/* --- Event sources --- */

/* Watches the descriptor of SOURCE, or not. Returns false where epoll_ctl(2) failed: then all stays
 * as it was. Disabling and enabling a source instead removes it from sd-event's epoll and adds it
 * again; for a source that is an epoll itself the kernel then walks everything in it, to detect
 * loops, and one that could not be removed can never be added again. */
static bool worker_watch_source(sd_event_source *source, bool on)
{
    return !source || sd_event_source_set_io_events(source, on ? EPOLLIN : 0) >= 0;
}

static void worker_arm_timer(sd_event_source *source, uint64_t usec)
{
    (void)sd_event_source_set_time_relative(source, usec);
    (void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* True when a stop has nothing left to do. */
static bool worker_has_stopped(const struct worker *w)
{
    for (size_t i = 0; i < w->n_listeners; i++)
        if (w->listener_sources[i])
            return false;
    return w->scheduler.stopping && w->scheduler.sessions == 0;
}

/* Arms the timer for the next thing that is due. If that has moved to a later time the timer stays:
 * setting it costs a system call, and expiring early does no harm. */
static void worker_arm_due(struct worker *w)
{
    uint64_t due = min_u64(scheduler_next_due(&w->scheduler), w->retire_due);

    if (w->stop_deadline > 0)
        due = min_u64(due, w->stop_deadline);
    if (due >= w->due)
        return;
    w->due = due;
    (void)sd_event_source_set_time(w->due_source, due);
    (void)sd_event_source_set_enabled(w->due_source, SD_EVENT_ONESHOT);
}

/* Shows the supervisor that the loop still runs. */
static void worker_answer_ping(struct worker *w)
{
    struct table_header *h = worker_header(w);

    __atomic_store_n(&h->heartbeat, __atomic_load_n(&h->ping, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}

/* Wakes a supervisor that sleeps until there is something new to say of us. One that falls asleep
 * in this very moment hears of it when it wakes by itself. */
static void worker_wake_supervisor(struct worker *w)
{
    struct table_header *h = worker_header(w);
    bool changed =
        h->open != w->open || h->blocked_errno != w->blocked_errno || h->activity != w->activity;

    w->open = h->open;
    w->blocked_errno = h->blocked_errno;
    w->activity = h->activity;
    if (!changed || !__atomic_load_n(&h->supervisor_idle, __ATOMIC_ACQUIRE))
        return;
    __atomic_store_n(&h->supervisor_idle, false, __ATOMIC_RELEASE);
    (void)kill(getppid(), SIGNAL_COMMAND);
}

/* Enables the sources that are of use now. Every handler ends with it. */
static void worker_update(struct worker *w)
{
    struct scheduler *sched = &w->scheduler;
    bool room = !scheduler_is_blocked(sched), watched;

    worker_header(w)->buffer_bytes = sched->table->resident_bytes;
    worker_answer_ping(w);
    worker_wake_supervisor(w);
    if (sched->failed) {
        log_error("standard output: %s", strerror(sched->failed));
        (void)sd_event_exit(w->event, WORKER_OUTPUT_GONE);
        return;
    }
    if (w->yielding)
        (void)sd_event_exit(w->event, WORKER_YIELDED);
    else if (worker_has_stopped(w))
        (void)sd_event_exit(w->event, EXIT_SUCCESS);
    worker_arm_due(w);
    watched = worker_watch_source(w->client_source, room);
    /* Not a descriptor: this cannot fail. */
    (void)sd_event_source_set_enabled(
        w->run_source, room && scheduler_has_work(sched) ? SD_EVENT_ON : SD_EVENT_OFF);
    for (uint32_t i = 0; i < w->n_listeners; i++)
        watched &= worker_watch_source(w->listener_sources[i],
                                       admission_is_open(sched, i) && !w->accepting_paused);
    if (!room || !watched)
        worker_arm_timer(w->retry_source, room ? WATCH_PAUSE_USEC : sink_retry_usec(&sched->sink));
}

static int worker_on_clients(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct worker *w = userdata;

    (void)source;
    (void)fd;
    (void)revents;
    scheduler_find_ready(&w->scheduler);
    scheduler_run(&w->scheduler);
    worker_update(w);
    return 0;
}

static int worker_on_urgent(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct worker *w = userdata;

    (void)source;
    (void)fd;
    (void)revents;
    scheduler_serve_urgent(&w->scheduler);
    scheduler_run(&w->scheduler);
    worker_update(w);
    return 0;
}

/* --- New connections --- */

static void worker_pause_accepting(struct worker *w, uint32_t listener, int error)
{
    char address[128];

    if (error != w->accept_errno && error == EMFILE) {
        log_warning("out of file descriptors or memory; pausing accept");
    } else if (error != w->accept_errno) {
        listener_format(&worker_header(w)->listeners[listener], address);
        log_error("cannot accept at %s: %s; pausing accept", address, strerror(error));
    }
    w->accept_errno = error;
    w->accepting_paused = true;
    worker_arm_timer(w->pause_source, ACCEPT_PAUSE_USEC);
}

static int worker_on_pause_over(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct worker *w = userdata;

    (void)source;
    (void)usec;
    w->accepting_paused = false;
    worker_update(w);
    return 0;
}

/* When L, which is retired, may be closed. */
static uint64_t worker_retire_due(const struct worker *w, const struct table_listener *l)
{
    return w->retire_usec + (l->settings.tls ? RETIRE_TLS_USEC : RETIRE_USEC);
}

/* While netd stops, stops watching a listener at which no connection waits; closes it if a reload
 * retired it. */
static void worker_retire_listener(struct worker *w, uint32_t number)
{
    struct table_listener *l = &worker_header(w)->listeners[number];
    struct pollfd waiting = {.fd = l->fd, .events = POLLIN};
    bool close_it = l->closing && now_usec(CLOCK_MONOTONIC) >= worker_retire_due(w, l);

    if ((!close_it && !w->scheduler.stopping) || poll(&waiting, 1, 0) != 0)
        return;
    w->listener_sources[number] = sd_event_source_disable_unref(w->listener_sources[number]);
    if (!close_it)
        return;
    (void)refusals_report(w->scheduler.table, UINT64_MAX);
    /* Before it is closed: what stands in the table as a listener is one. */
    __atomic_store_n(&l->fd, -1, __ATOMIC_RELEASE);
    close(waiting.fd);
    rules_close(&l->rules);
}

static void worker_accept(struct worker *w, uint32_t number)
{
    int r = admission_accept(&w->scheduler, number, ROUND_ACCEPTS);

    if (r < 0)
        worker_pause_accepting(w, number, -r);
    worker_retire_listener(w, number);
}

static void worker_accept_all(struct worker *w)
{
    for (uint32_t i = 0; i < w->n_listeners; i++)
        if (w->listener_sources[i] && !w->accepting_paused)
            worker_accept(w, i);
}

/* A retired listener that is due has no handshake left: the connections that wait there are the
 * last. */
static void worker_end_retirement(struct worker *w, uint64_t now)
{
    w->retire_due = UINT64_MAX;
    for (uint32_t i = 0; i < w->n_listeners; i++) {
        const struct table_listener *l = &worker_header(w)->listeners[i];

        if (!w->listener_sources[i] || !l->closing)
            continue;
        if (worker_retire_due(w, l) > now)
            w->retire_due = min_u64(w->retire_due, worker_retire_due(w, l));
        else
            worker_accept(w, i);
    }
}

static int worker_on_listener(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct worker *w = userdata;
    uint32_t n = 0;

    (void)source;
    (void)revents;
    while (worker_header(w)->listeners[n].fd != fd)
        n++;
    worker_accept(w, n);
    scheduler_run(&w->scheduler);
    worker_update(w);
    return 0;
}

/* When the journal has room again this source is dispatched before any descriptor. The sessions in
 * the queue alone would fill the journal again, and keep new connections and sessions with little
 * to log out of it for as long as a busy client sends. */
static int worker_on_run(sd_event_source *source, void *userdata)
{
    struct worker *w = userdata;

    (void)source;
    worker_accept_all(w);
    scheduler_find_ready(&w->scheduler);
    scheduler_run(&w->scheduler);
    worker_update(w);
    return 0;
}

/* --- The supervisor's commands --- */

/* Ends all sessions, including connections that wait to be accepted. Those that wait at a passed
 * socket are left to the process to which it is passed next. */
static void worker_stop(struct worker *w)
{
    if (w->stop_deadline == 0)
        w->stop_deadline =
            now_usec(CLOCK_MONOTONIC) + worker_header(w)->settings.stop_timeout * USEC_PER_SEC;
    if (!w->adopted || w->scheduler.stopping)
        return;
    scheduler_stop(&w->scheduler);
    for (uint32_t i = 0; i < w->n_listeners; i++) {
        if (worker_header(w)->listeners[i].passed)
            w->listener_sources[i] = sd_event_source_disable_unref(w->listener_sources[i]);
        else if (w->listener_sources[i])
            worker_accept(w, i);
    }
}

static int worker_on_command(sd_event_source *source, const struct signalfd_siginfo *si,
                             void *userdata)
{
    struct worker *w = userdata;

    (void)source;
    (void)si;
    switch ((enum table_command)__atomic_load_n(&worker_header(w)->command, __ATOMIC_ACQUIRE)) {
    case COMMAND_RUN:
        break;
    case COMMAND_YIELD:
        w->yielding = true;
        break;
    case COMMAND_STOP:
        w->yielding = false;
        worker_stop(w);
        break;
    }
    worker_update(w);
    return 0;
}

static void worker_abandon(struct worker *w)
{
    uint32_t lost = scheduler_abandon(&w->scheduler);

    if (lost > 0)
        log_error("stopped before the journal took the last of %u sessions; they were reset", lost);
    (void)sd_event_exit(w->event, lost > 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int worker_on_due(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct worker *w = userdata;
    uint64_t now = now_usec(CLOCK_MONOTONIC);

    (void)source;
    (void)usec;
    w->due = UINT64_MAX;
    if (now >= w->retire_due)
        worker_end_retirement(w, now);
    scheduler_tick(&w->scheduler, now);
    if (w->stop_deadline > 0 && now >= w->stop_deadline)
        worker_abandon(w);
    worker_update(w);
    return 0;
}

/* --- The loop --- */

static int worker_add_timer(struct worker *w, sd_event_source **ret,
                            sd_event_time_handler_t handler)
{
    int r;

    /* An accuracy of 1 µs: the default of 250 ms would make the journal wait for us. */
    r = sd_event_add_time(w->event, ret, CLOCK_MONOTONIC, 0, 1, handler, w);
    if (r >= 0)
        r = sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_source_set_priority(*ret, SD_EVENT_PRIORITY_IMPORTANT);
    return r;
}

static int worker_add_listeners(struct worker *w)
{
    w->retire_usec = now_usec(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &worker_header(w)->listeners[i];
        int r;

        if (l->fd < 0)
            continue;
        r = sd_event_add_io(w->event, &w->listener_sources[i], l->fd, EPOLLIN, worker_on_listener,
                            w);
        if (r < 0)
            return r;
        w->n_listeners = i + 1;
        if (l->closing) {
            listener_drop_new(l);
            w->retire_due = min_u64(w->retire_due, worker_retire_due(w, l));
        }
    }
    return 0;
}

/* Continues what the last worker left, once the entries that it had half written are out. Until
 * then the table stays as it was, and the timer for a blocked output comes back here. */
static int worker_adopt(struct worker *w)
{
    int r;

    if (!scheduler_resume(&w->scheduler))
        return 0;
    r = recovery_run(w->scheduler.table);
    if (r < 0)
        return r;
    admission_adopt(&w->scheduler, w->unclaimed);
    w->adopted = true;
    return worker_add_listeners(w);
}

static int worker_on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct worker *w = userdata;
    int r = 0;

    (void)source;
    (void)usec;
    if (w->adopted)
        scheduler_retry(&w->scheduler);
    else
        r = worker_adopt(w);
    if (r < 0) {
        log_error("worker failed: %s", strerror(-r));
        return sd_event_exit(w->event, WORKER_FAILED);
    }
    /* A stop may have come before there was anything to stop. */
    return worker_on_command(NULL, NULL, w);
}

static int worker_add_sources(struct worker *w)
{
    int r;

    r = sd_event_new(&w->event);
    if (r >= 0)
        r = sd_event_add_signal(w->event, NULL, SIGNAL_COMMAND, worker_on_command, w);
    if (r >= 0)
        r = worker_add_timer(w, &w->retry_source, worker_on_retry);
    if (r >= 0)
        r = worker_add_timer(w, &w->due_source, worker_on_due);
    if (r >= 0)
        r = worker_add_timer(w, &w->pause_source, worker_on_pause_over);
    if (r >= 0)
        r = sd_event_add_io(w->event, &w->client_source, w->scheduler.epoll, EPOLLIN,
                            worker_on_clients, w);
    if (r >= 0)
        r = sd_event_add_io(w->event, NULL, w->scheduler.urgent, EPOLLIN, worker_on_urgent, w);
    if (r >= 0)
        r = sd_event_add_defer(w->event, &w->run_source, worker_on_run, w);
    return r;
}

static void worker_deinit(struct worker *w)
{
    for (size_t i = 0; i < w->n_listeners; i++)
        sd_event_source_unref(w->listener_sources[i]);
    sd_event_source_unref(w->client_source);
    sd_event_source_unref(w->run_source);
    sd_event_source_unref(w->retry_source);
    sd_event_source_unref(w->due_source);
    sd_event_source_unref(w->pause_source);
    sd_event_unref(w->event);
    scheduler_deinit(&w->scheduler);
}

static int worker_start(struct worker *w, struct table *table, enum output output,
                        const char *journal_path)
{
    int r;

    r = table_attach(table);
    if (r < 0)
        return r;
    r = scheduler_init(&w->scheduler, table, output, journal_path);
    if (r >= 0)
        r = worker_add_sources(w);
    return r < 0 ? r : worker_adopt(w);
}

int worker_run(struct table *table, enum output output, const char *journal_path, int unclaimed)
{
    struct worker w = {
        .scheduler.epoll = -1,
        .scheduler.urgent = -1,
        .due = UINT64_MAX,
        .unclaimed = unclaimed,
        .retire_due = UINT64_MAX,
    };
    int r;

    r = worker_start(&w, table, output, journal_path);
    if (r >= 0) {
        __atomic_store_n(&table->header->ready, true, __ATOMIC_RELEASE);
        (void)kill(getppid(), SIGNAL_COMMAND);
        /* A command may have been sent before; this also enables the sources. */
        (void)worker_on_command(NULL, NULL, &w);
        r = sd_event_loop(w.event);
        if (w.adopted)
            (void)refusals_report(table, UINT64_MAX);
    }
    if (r < 0)
        log_error("worker failed: %s", strerror(-r));
    worker_deinit(&w);
    return r < 0 ? WORKER_FAILED : r;
}
