/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/supervisor.h"

#include "common/util.h"
#include "netd/log.h"
#include "netd/supervisor/handover.h"
#include "netd/supervisor/notify.h"
#include "netd/supervisor/process.h"
#include "netd/worker/listener.h"
#include "netd/worker/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>

#define TICK_USEC USEC_PER_SEC

/* What a stop may take beyond stop_timeout, for answers to be read and processes to end. */
#define STOP_EXTRA_USEC (5 * USEC_PER_SEC)

enum reload {
    RELOAD_NONE,
    RELOAD_CHECKING, /* the program on disk looks at the configuration and itself */
    RELOAD_YIELDING, /* the worker finishes its batch; its sessions go on */
    RELOAD_ENDING, /* the worker ends its sessions: the new program does not understand the table */
};

struct supervisor {
    struct table table;
    enum output output;
    struct process worker;
    struct notify notify;
    char **argv;
    char program[PATH_MAX];
    sigset_t signals;
    enum reload reload;
    bool reload_again; /* a signal came in the middle of one */
    pid_t checker;     /* 0: none */
    bool ready_said;
    bool stopping;
    uint64_t stop_deadline;
    uint64_t last_tick;
};

/* --- What systemd is told: sd_notify(3) --- */

/* Sends what was announced, the status, and that the supervisor is alive. */
static void supervisor_notify(struct supervisor *s)
{
    const struct table_header *h = s->table.header;
    int blocked_errno = h->blocked_errno;
    const char *why = blocked_errno == 0        ? ""
                      : blocked_errno == EAGAIN ? "its queue is full"
                                                : strerror(blocked_errno);
    char text[256];

    snprintf(text, sizeof(text), "WATCHDOG=1\nSTATUS=%u sessions, %" PRIu64 " records logged%s%s%s",
             h->open, h->records_total, s->worker.pid == 0 ? "; no worker" : "",
             blocked_errno ? "; waiting for the journal: " : "", why);
    (void)notify_send(&s->notify, text); /* what did not go out does with the next tick */
}

static void supervisor_announce(struct supervisor *s, const char *state)
{
    notify_announce(&s->notify, state);
    supervisor_notify(s);
}

static void supervisor_say_ready(struct supervisor *s)
{
    char address[128];

    if (s->ready_said || !s->table.header->ready)
        return;
    s->ready_said = true;
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &s->table.header->listeners[i];

        if (l->fd < 0 || l->closing)
            continue;
        listener_format(l, address);
        log_info("listening on %s%s", address, l->passed ? " (passed by systemd)" : "");
    }
    supervisor_announce(s, "READY=1");
}

static void supervisor_tick(struct supervisor *s, uint64_t now)
{
    if (now - s->last_tick < TICK_USEC)
        return;
    s->last_tick = now;
    process_watch(&s->worker, &s->table);
    supervisor_notify(s);
}

/* --- Reload --- */

static void supervisor_reload_failed(struct supervisor *s, const char *why)
{
    log_error("reload failed, the old configuration stays: %s", why);
    s->reload = RELOAD_NONE;
    supervisor_announce(s, "READY=1");
}

static void supervisor_reload(struct supervisor *s)
{
    char state[64];
    pid_t pid;

    snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             now_usec(CLOCK_MONOTONIC));
    supervisor_announce(s, state);
    s->reload = RELOAD_CHECKING;
    pid = handover_check(s->program, s->argv);
    if (pid < 0)
        supervisor_reload_failed(s, strerror(-pid));
    else
        s->checker = pid;
}

static void supervisor_checked(struct supervisor *s, int status)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED;

    s->checker = 0;
    if (s->stopping)
        return;
    if (code == 0) {
        s->reload = RELOAD_YIELDING;
        process_command(&s->worker, &s->table, COMMAND_YIELD);
    } else if (code == EXIT_LAYOUT) {
        log_notice("the new program has another session table; ending all sessions");
        s->reload = RELOAD_ENDING;
        process_command(&s->worker, &s->table, COMMAND_STOP);
    } else {
        supervisor_reload_failed(s, "the new configuration or program is not good");
    }
}

/* The worker is gone. Whatever it left is adopted by the next one, of the new program or, where
 * that cannot be executed, of this one. */
static void supervisor_exec(struct supervisor *s)
{
    int r;

    __atomic_store_n(&s->table.header->command, COMMAND_RUN, __ATOMIC_RELEASE);
    r = handover_exec(&s->table, s->reload == RELOAD_YIELDING, s->program, s->argv);
    supervisor_reload_failed(s, strerror(-r));
    process_start(&s->worker, &s->table, s->output);
}

/* --- Signals and children --- */

static void supervisor_stop(struct supervisor *s)
{
    uint64_t timeout = s->table.header->settings.stop_timeout * USEC_PER_SEC + STOP_EXTRA_USEC;
    char state[64];

    if (s->stopping)
        return;
    s->stopping = true;
    s->stop_deadline = now_usec(CLOCK_MONOTONIC) + timeout;
    snprintf(state, sizeof(state), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64, timeout);
    supervisor_announce(s, state);
    process_command(&s->worker, &s->table, COMMAND_STOP);
}

/* Returns -1, or the exit status. */
static int supervisor_worker_ended(struct supervisor *s, int status)
{
    bool yielded = WIFEXITED(status) && WEXITSTATUS(status) == WORKER_YIELDED;
    bool stopped = WIFEXITED(status) && WEXITSTATUS(status) <= EXIT_FAILED &&
                   s->table.header->command == COMMAND_STOP;

    if (!yielded && !stopped)
        return process_ended(&s->worker, &s->table, status) < 0 ? EXIT_FAILED : -1;
    s->worker.pid = 0;
    if (!s->stopping)
        supervisor_exec(s);
    else if (yielded) /* the stop came a moment too late for this one */
        process_start(&s->worker, &s->table, s->output);
    else
        return WEXITSTATUS(status);
    return -1;
}

/* Looks at every child that ended. Returns -1, or the exit status. */
static int supervisor_reap(struct supervisor *s)
{
    int status, r = -1;
    pid_t pid;

    while (r < 0 && (pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == s->checker)
            supervisor_checked(s, status);
        else if (pid == s->worker.pid)
            r = supervisor_worker_ended(s, status);
    }
    return r;
}

/* Waits for a signal, or until something is due. */
static void supervisor_wait(struct supervisor *s)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC), usec = TICK_USEC;
    struct timespec timeout;

    if (s->worker.pid == 0 && s->worker.restart_usec < now + usec)
        usec = s->worker.restart_usec > now ? s->worker.restart_usec - now : 0;
    timeout = (struct timespec){
        .tv_sec = (time_t)(usec / USEC_PER_SEC),
        .tv_nsec = (long)(usec % USEC_PER_SEC * NSEC_PER_USEC),
    };
    switch (sigtimedwait(&s->signals, NULL, &timeout)) {
    case SIGTERM:
    case SIGINT:
        supervisor_stop(s);
        break;
    case SIGHUP:
        s->reload_again = true;
        break;
    default: /* a child ended, the worker is ready, or time is up: looked at in any case */
        break;
    }
}

/* Serves until there is an exit status. */
static int supervisor_loop(struct supervisor *s)
{
    for (;;) {
        uint64_t now;
        int r;

        supervisor_wait(s);
        r = supervisor_reap(s);
        if (r >= 0)
            return r;
        now = now_usec(CLOCK_MONOTONIC);
        process_start_if_due(&s->worker, &s->table, s->output, now);
        supervisor_say_ready(s);
        if (s->reload_again && s->reload == RELOAD_NONE && s->ready_said && !s->stopping) {
            s->reload_again = false;
            supervisor_reload(s);
        }
        if (s->stopping && now >= s->stop_deadline) {
            log_error("the worker did not stop in time");
            return EXIT_FAILED;
        }
        supervisor_tick(s, now);
    }
}

/* --- Start --- */

static enum output supervisor_decide_output(enum output configured)
{
    if (configured != OUTPUT_AUTO)
        return configured;
    return access(JOURNAL_SOCKET, F_OK) == 0 ? OUTPUT_JOURNAL : OUTPUT_TEXT;
}

static uint32_t supervisor_capacity(const struct config *config)
{
    return config->listeners[0].settings.sessions_max + TABLE_LINGERING;
}

/* Says once where netd listens instead of where the configuration has it. */
static void supervisor_compare_passed(const struct table_header *h,
                                      const struct listener_config *config)
{
    char address[128];

    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        if (h->listeners[i].fd < 0 || listener_matches(&h->listeners[i], config))
            continue;
        listener_format(&h->listeners[i], address);
        log_notice("systemd passed a socket for %s; the configured %s port %u is not used", address,
                   config->address.host, config->address.port);
        return;
    }
}

/* A first start: sockets from systemd or from the configuration, an empty table. Returns 0 or the
 * exit status. */
static int supervisor_begin(struct supervisor *s, const struct config *config)
{
    char error[LISTENER_ERROR_MAX] = "";
    int passed, r;

    passed = sd_listen_fds(1);
    if (passed < 0) {
        log_error("LISTEN_FDS: cannot take the passed sockets: %s", strerror(-passed));
        return EXIT_CONFIG;
    }
    /* What else the caller left open is not ours, and must not look like a client's connection. */
    (void)close_range((unsigned)(SD_LISTEN_FDS_START + passed), ~0U, 0);
    r = table_create(&s->table, supervisor_capacity(config));
    if (r < 0) {
        log_error("cannot make the session table: %s", strerror(-r));
        return EXIT_FAILED;
    }
    if (passed > 0)
        r = listeners_adopt(&s->table, SD_LISTEN_FDS_START, passed, &config->listeners[0], error);
    else
        r = listeners_configure(&s->table, &config->listeners[0], error);
    if (r < 0) {
        log_error("%s", error[0] ? error : strerror(-r));
        return r == -ENOMEM || r == -EMFILE || r == -ENFILE || r == -ENOBUFS ? EXIT_FAILED
                                                                             : EXIT_CONFIG;
    }
    if (passed > 0)
        supervisor_compare_passed(s->table.header, &config->listeners[0]);
    s->table.header->settings = config->service;
    s->table.header->output = supervisor_decide_output(config->service.output);
    return 0;
}

/* A reload: puts CONFIG in force over what an earlier program left; where that cannot be done, or
 * there is none, the old one stays. */
static void supervisor_resume(struct supervisor *s, const struct config *config)
{
    struct table_header *h;
    char error[LISTENER_ERROR_MAX] = "";
    int r;

    if (!config) {
        log_error("reload failed, the old configuration stays");
        return;
    }
    r = table_grow(&s->table, supervisor_capacity(config));
    if (r >= 0)
        r = listeners_configure(&s->table, &config->listeners[0], error);
    if (r < 0) {
        log_error("reload failed, the old configuration stays: %s",
                  error[0] ? error : strerror(-r));
        return;
    }
    h = s->table.header;
    /* "auto" was decided at the start: a journal that is away for a moment changes nothing. */
    if (config->service.output != OUTPUT_AUTO || h->settings.output != OUTPUT_AUTO)
        h->output = supervisor_decide_output(config->service.output);
    h->settings = config->service;
    log_info("reloaded");
}

static void supervisor_block_signals(struct supervisor *s)
{
    sigemptyset(&s->signals);
    sigaddset(&s->signals, SIGCHLD);
    sigaddset(&s->signals, SIGTERM);
    sigaddset(&s->signals, SIGINT);
    sigaddset(&s->signals, SIGHUP);
    sigaddset(&s->signals, SIGUSR1); /* SIGNAL_COMMAND */
    (void)sigprocmask(SIG_BLOCK, &s->signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* an errno says it */
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
}

int supervisor_run(const struct config *config, char **argv)
{
    struct supervisor s = {.argv = argv, .table = {.header_fd = -1, .regions_fd = -1}};
    int r;

    supervisor_block_signals(&s);
    handover_find_program(s.program);
    r = handover_receive(&s.table);
    if (r > 0)
        supervisor_resume(&s, config);
    r = r < 0 ? EXIT_FAILED : r > 0 ? 0 : supervisor_begin(&s, config);
    if (r == 0) {
        s.output = s.table.header->output;
        process_start(&s.worker, &s.table, s.output);
        r = supervisor_loop(&s);
    }
    table_deinit(&s.table);
    return r;
}
