/* SPDX-License-Identifier: MIT */
#include "netd/worker/worker.h"

#include "common/util.h"
#include "netd/log.h"
#include "netd/worker/scheduler.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>

/* Connections accepted in one round. */
#define ROUND_ACCEPTS 32

/* The heart beats, and what has to happen sometime happens. */
#define TICK_USEC USEC_PER_SEC

/* After accept(2) ran out of descriptors or memory. */
#define ACCEPT_PAUSE_USEC (200 * USEC_PER_MSEC)

struct server {
    struct clients clients;
    sd_event *event;
    sd_event_source *client_source;
    sd_event_source *run_source;   /* on while sessions have work left */
    sd_event_source *retry_source; /* armed while the journal has no room */
    sd_event_source *tick_source;
    sd_event_source *pause_source;
    sd_event_source *listener_sources[LISTENERS_MAX];
    bool accepting_paused;
    bool yielding;
    uint64_t stop_deadline;
};

static struct table_header *server_header(const struct server *v)
{
    return v->clients.table->header;
}

/* --- What may happen now --- */

/* None of these calls can fail for the kinds of source used here. */
static void source_set(sd_event_source *source, bool on)
{
    if (source)
        (void)sd_event_source_set_enabled(source, on ? SD_EVENT_ON : SD_EVENT_OFF);
}

/* Turned off and on again, a source leaves and joins sd-event's epoll; and for one that is an epoll
 * itself the kernel then goes through all that is in it, looking for loops. Other events are a mere
 * change. */
static void source_watch(sd_event_source *source, bool on)
{
    (void)sd_event_source_set_io_events(source, on ? EPOLLIN : 0);
}

static void source_arm(sd_event_source *source, uint64_t usec)
{
    (void)sd_event_source_set_time_relative(source, usec);
    (void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* True when a stop has nothing left to do. */
static bool server_has_stopped(const struct server *v)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (v->listener_sources[i])
            return false;
    return v->clients.stopping && v->clients.sessions == 0;
}

/* Turns the sources on or off by what is true now; every handler ends with it. */
static void server_update(struct server *v)
{
    struct clients *c = &v->clients;
    bool room = !clients_is_held(c);

    if (c->failed) {
        log_error("standard output: %s", strerror(c->failed));
        (void)sd_event_exit(v->event, WORKER_OUTPUT_GONE);
        return;
    }
    /* On standard output half an entry would stay half; the journal takes whole ones. */
    if (v->yielding && c->journal.written == 0)
        (void)sd_event_exit(v->event, WORKER_YIELDED);
    else if (server_has_stopped(v))
        (void)sd_event_exit(v->event, EXIT_SUCCESS);
    if (!room)
        source_arm(v->retry_source, journal_retry_usec(&c->journal));
    source_watch(v->client_source, room);
    source_set(v->run_source, room && clients_have_work(c));
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        source_set(v->listener_sources[i], room && !v->accepting_paused);
}

static int server_on_clients(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct server *v = userdata;

    (void)source;
    (void)fd;
    (void)revents;
    clients_find_ready(&v->clients);
    clients_run(&v->clients);
    server_update(v);
    return 0;
}

static int server_on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct server *v = userdata;

    (void)source;
    (void)usec;
    clients_retry(&v->clients);
    server_update(v);
    return 0;
}

/* --- New connections --- */

static void server_pause_accepting(struct server *v)
{
    static bool said;

    if (!said)
        log_warning("cannot accept for want of descriptors or memory; waiting");
    said = true;
    v->accepting_paused = true;
    source_arm(v->pause_source, ACCEPT_PAUSE_USEC);
}

static int server_on_pause_over(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct server *v = userdata;

    (void)source;
    (void)usec;
    v->accepting_paused = false;
    server_update(v);
    return 0;
}

/* Leaves a listener alone, once nobody waits there any more, while netd stops; closes it where a
 * reload gave it up. */
static void server_give_up(struct server *v, uint32_t number)
{
    struct table_listener *l = &server_header(v)->listeners[number];
    struct pollfd waiting = {.fd = l->fd, .events = POLLIN};

    if ((!l->closing && !v->clients.stopping) || poll(&waiting, 1, 0) != 0)
        return;
    v->listener_sources[number] = sd_event_source_disable_unref(v->listener_sources[number]);
    if (!l->closing)
        return;
    /* Before it is closed: what stands in the table as a listener is one. */
    __atomic_store_n(&l->fd, -1, __ATOMIC_RELEASE);
    close(waiting.fd);
}

static void server_accept(struct server *v, uint32_t number)
{
    if (clients_accept(&v->clients, number, ROUND_ACCEPTS) < 0)
        server_pause_accepting(v);
    server_give_up(v, number);
}

static int server_on_listener(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct server *v = userdata;
    uint32_t n = 0;

    (void)source;
    (void)revents;
    while (server_header(v)->listeners[n].fd != fd)
        n++;
    server_accept(v, n);
    clients_run(&v->clients);
    server_update(v);
    return 0;
}

/* When the journal has room again this source is ready before a descriptor is looked at. The queue
 * alone would fill the journal up again, and keep who is new or has little to say out of the queue
 * for as long as a firehose runs. */
static int server_on_run(sd_event_source *source, void *userdata)
{
    struct server *v = userdata;

    (void)source;
    for (uint32_t i = 0; i < LISTENERS_MAX; i++)
        if (v->listener_sources[i] && !v->accepting_paused)
            server_accept(v, i);
    clients_find_ready(&v->clients);
    clients_run(&v->clients);
    server_update(v);
    return 0;
}

/* --- The supervisor's word --- */

/* Ends all sessions, those included that wait to be accepted; but whoever waits at a passed socket
 * is served by whom it is passed to next. */
static void server_stop(struct server *v)
{
    if (v->clients.stopping)
        return;
    v->stop_deadline =
        now_usec(CLOCK_MONOTONIC) + server_header(v)->config.stop_timeout * USEC_PER_SEC;
    clients_stop(&v->clients);
    for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
        if (server_header(v)->listeners[i].passed)
            v->listener_sources[i] = sd_event_source_disable_unref(v->listener_sources[i]);
        else if (v->listener_sources[i])
            server_accept(v, i);
    }
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
        v->yielding = true;
        break;
    case COMMAND_STOP:
        v->yielding = false;
        server_stop(v);
        break;
    }
    server_update(v);
    return 0;
}

static void server_abandon(struct server *v)
{
    uint32_t lost = clients_abandon(&v->clients);

    if (lost > 0)
        log_error("stopped before the journal took the last of %u sessions; they were reset", lost);
    (void)sd_event_exit(v->event, lost > 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int server_on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct server *v = userdata;
    uint64_t now = now_usec(CLOCK_MONOTONIC);

    (void)usec;
    __atomic_add_fetch(&server_header(v)->heartbeat, 1, __ATOMIC_RELEASE);
    clients_tick(&v->clients, now);
    (void)server_on_command(NULL, NULL, v); /* the signal is only there to be quicker */
    if (v->clients.stopping && now >= v->stop_deadline)
        server_abandon(v);
    source_arm(source, TICK_USEC);
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
        server_give_up(v, i); /* who waits there is accepted like everybody else before */
        if (l->fd < 0)
            continue;
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
        r = sd_event_add_io(v->event, &v->client_source, v->clients.epoll, EPOLLIN,
                            server_on_clients, v);
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
    clients_deinit(&v->clients);
}

static int server_start(struct server *v, struct table *table, enum output output,
                        const char *journal_path, const struct orphans *orphans)
{
    int r;

    r = table_attach(table);
    if (r < 0)
        return r;
    r = table_recover(table, output != OUTPUT_JOURNAL);
    if (r < 0)
        return r;
    r = clients_init(&v->clients, table, output, journal_path);
    if (r >= 0)
        r = server_add_sources(v);
    if (r < 0)
        return r;
    clients_adopt(&v->clients, orphans);
    return server_add_listeners(v);
}

int server_run(struct table *table, enum output output, const char *journal_path,
               const struct orphans *orphans)
{
    struct server v = {.clients.epoll = -1, .clients.journal = {.fd = -1, .memfd = -1}};
    int r;

    r = server_start(&v, table, output, journal_path, orphans);
    if (r >= 0) {
        __atomic_store_n(&table->header->ready, true, __ATOMIC_RELEASE);
        (void)kill(getppid(), SIGNAL_COMMAND);
        /* The command may have come before anybody looked; this also turns the sources on. */
        (void)server_on_command(NULL, NULL, &v);
        r = sd_event_loop(v.event);
    }
    if (r < 0)
        log_error("worker: %s", strerror(-r));
    server_deinit(&v);
    return r < 0 ? WORKER_FAILED : r;
}
