/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/supervisor.h"

#include "common/exit-status.h"
#include "common/names.h"
#include "common/util.h"
#include "netd/log.h"
#include "netd/supervisor/handover.h"
#include "netd/supervisor/metrics.h"
#include "netd/supervisor/notify.h"
#include "netd/supervisor/process.h"
#include "netd/supervisor/reload.h"
#include "netd/supervisor/tls.h"
#include "netd/worker/listener.h"
#include "netd/worker/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>

/* Interval at which the supervisor checks the worker and notifies systemd: while the status
 * changes, and while it does not. With WatchdogSec= at most half of that. */
#define TICK_USEC USEC_PER_SEC
#define IDLE_USEC (15 * USEC_PER_SEC)

#define STATUS_MAX 256

/* Added to stop_timeout: time for clients to read their receipts and for processes to exit. */
#define STOP_EXTRA_USEC (5 * USEC_PER_SEC)

/* How long a stop then waits for netd-tls to bring clients their last answers. */
#define TLS_STOP_USEC (500 * USEC_PER_MSEC)

enum reload {
    RELOAD_NONE,
    RELOAD_CHECKING, /* the program on disk checks the configuration */
    RELOAD_YIELDING, /* the worker finishes its batch and exits; sessions continue */
    RELOAD_ENDING,   /* the worker ends all sessions: the new program has another table layout */
};

/* What the status and the metrics are made of: they are another when this is. */
struct supervisor_seen {
    uint64_t activity, worker_starts;
    uint32_t open;
    int32_t blocked_errno;
};

struct supervisor {
    struct handover given; /* received from the previous program, passed to the next */
    enum output output;
    struct process worker;
    struct tls tls;
    struct notify notify;
    const struct config_input *input;
    char **argv;
    char program[PATH_MAX];
    enum reload reload;
    bool resumed; /* with the sessions of the previous program */
    bool ready_said;
    bool stopping;
    int exit_status; /* why it stops, if not because it is told to; or 0 */
    uint64_t stop_deadline;
    uint64_t tick_usec, idle_usec; /* TICK_USEC and IDLE_USEC, or less */
    uint64_t last_tick;
    bool idle; /* neither the status nor the metrics change */
    struct supervisor_seen seen;
    bool metrics_changed;  /* since they were written */
    uint64_t metrics_usec; /* when that was */
    int metrics_error;     /* 0, or the negative errno with which it failed */
};

/* --- Notifications: sd_notify(3) --- */

static void supervisor_format_status(const struct supervisor *s, char ret[static STATUS_MAX])
{
    const struct table_header *h = s->given.table.header;
    uint64_t records = counters_records(h);
    int blocked_errno = h->blocked_errno;
    const char *why = blocked_errno == 0        ? ""
                      : blocked_errno == EAGAIN ? "its queue is full"
                                                : strerror(blocked_errno);

    snprintf(ret, STATUS_MAX, "%u session%s, %" PRIu64 " record%s logged%s%s%s", h->open,
             h->open == 1 ? "" : "s", records, records == 1 ? "" : "s",
             s->worker.pid == 0 ? "; no worker" : "",
             blocked_errno ? "; waiting for the journal: " : "", why);
}

/* Sends the announced state, the status and the watchdog keep-alive. A message that cannot be sent
 * now is sent again at the next tick. */
static void supervisor_notify(struct supervisor *s)
{
    char text[STATUS_MAX + 32], status[STATUS_MAX];

    supervisor_format_status(s, status);
    snprintf(text, sizeof(text), "WATCHDOG=1\nSTATUS=%s", status);
    (void)notify_send(&s->notify, text);
}

static void supervisor_announce(struct supervisor *s, const char *state)
{
    notify_announce(&s->notify, state);
    supervisor_notify(s);
}

/* Reports the outcome of a reload to the process that requested it. */
static void supervisor_answer(struct supervisor *s, bool done)
{
    reload_answer(s->given.requester, done);
    s->given.requester = 0;
}

/* Writes the metrics, not while a worker adopts the sessions that they count. */
static void supervisor_write_metrics(struct supervisor *s)
{
    const char *directory = metrics_directory();
    int r;

    if (!directory || (s->worker.pid > 0 && !s->given.table.header->ready))
        return;
    r = metrics_write(directory, s->given.table.header);
    if (r < 0 && r != s->metrics_error)
        log_warning("cannot write %s/" METRICS_FILE ": %s", directory, strerror(-r));
    s->metrics_error = r;
    s->metrics_changed = false;
    s->metrics_usec = now_usec(CLOCK_MONOTONIC);
}

static const char *supervisor_output_name(enum output output)
{
    switch (output) {
    case OUTPUT_TEXT:
        return "standard output, as text";
    case OUTPUT_EXPORT:
        return "standard output, in the Journal Export Format";
    default:
        return "the journal";
    }
}

static void supervisor_say_ready(struct supervisor *s)
{
    char address[128];

    if (s->ready_said || s->stopping || !s->given.table.header->ready ||
        tls_is_starting(&s->given.table))
        return;
    s->ready_said = true;
    log_info("%s: version " NETD_VERSION ", events go to %s",
             s->given.reload ? "reloaded" : "ready", supervisor_output_name(s->output));
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &s->given.table.header->listeners[i];
        const char *name = l->settings.name;

        if (l->fd < 0 || l->closing)
            continue;
        listener_format(l, address);
        log_info("listening on %s%s%s%s%s", address, name[0] ? " as " : "", name,
                 l->tls_fd > 0 ? " with TLS" : "", l->passed ? " (passed by systemd)" : "");
    }
    supervisor_write_metrics(s);
    supervisor_announce(s, "READY=1");
    supervisor_answer(s, true);
}

/* True if there is something new to notify or to write since the last call. */
static bool supervisor_sees_change(struct supervisor *s)
{
    const struct table_header *h = s->given.table.header;
    const struct supervisor_seen now = {
        .activity = counter_read(&h->activity),
        .worker_starts = h->worker_starts,
        .open = h->open,
        .blocked_errno = h->blocked_errno,
    };
    bool changed = memcmp(&now, &s->seen, sizeof(now)) != 0;

    s->seen = now;
    return changed;
}

static bool supervisor_has_audience(void)
{
    return notify_is_wanted() || metrics_directory();
}

/* Decides whether to sleep for idle_usec; the worker then signals the first change. */
static void supervisor_set_idle(struct supervisor *s)
{
    bool wanted = supervisor_has_audience();

    s->idle = s->worker.pid > 0 && s->worker.silent_ticks == 0 && !s->notify.state[0] &&
              !s->stopping && !tls_is_starting(&s->given.table);
    __atomic_store_n(&s->given.table.header->supervisor_idle, s->idle && wanted, __ATOMIC_RELEASE);
    if (supervisor_sees_change(s)) {
        s->metrics_changed = true;
        s->idle = s->idle && !wanted;
    }
}

static void supervisor_tick(struct supervisor *s, uint64_t now)
{
    if (supervisor_has_audience() && !s->given.table.header->supervisor_idle)
        s->idle = false;
    if (now - s->last_tick < s->tick_usec)
        return;
    s->last_tick = now;
    process_watch(&s->worker, &s->given.table);
    supervisor_set_idle(s);
    supervisor_notify(s);
    if (s->metrics_changed || now - s->metrics_usec + s->tick_usec > METRICS_INTERVAL_USEC)
        supervisor_write_metrics(s);
}

/* --- Reload --- */

static void supervisor_reload_failed(struct supervisor *s, const char *why)
{
    log_error("reload failed, the old configuration stays: %s", why);
    s->reload = RELOAD_NONE;
    checker_deinit(&s->given.checker);
    supervisor_announce(s, "READY=1");
    supervisor_answer(s, false);
}

static bool supervisor_has_passed_sockets(const struct supervisor *s)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (s->given.table.header->listeners[i].passed)
            return true;
    return false;
}

static void supervisor_reload(struct supervisor *s, const siginfo_t *info)
{
    char state[64];
    int r;

    snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             now_usec(CLOCK_MONOTONIC));
    supervisor_announce(s, state);
    s->given.requester = reload_requester(info);
    s->reload = RELOAD_CHECKING;
    r = checker_execute(&s->given.checker, s->program, s->argv, supervisor_has_passed_sockets(s));
    if (r < 0)
        supervisor_reload_failed(s, strerror(-r));
}

static void supervisor_checked(struct supervisor *s, int status)
{
    const struct check *check = s->given.checker.check;

    checker_ended(&s->given.checker, status);
    if (check->status != EXIT_SUCCESS) {
        supervisor_reload_failed(s, check->error);
    } else if (check->layout == table_layout()) {
        s->reload = RELOAD_YIELDING;
        process_command(&s->worker, &s->given.table, COMMAND_YIELD);
    } else {
        log_notice("the new program has another session table; ending all sessions");
        s->reload = RELOAD_ENDING;
        process_command(&s->worker, &s->given.table, COMMAND_STOP);
        tls_stop(&s->tls, &s->given.table);
    }
}

/* The worker has ended: gives each netd-tls some time to bring clients their last answers. */
static void supervisor_finish_tls(struct supervisor *s)
{
    uint64_t deadline = now_usec(CLOCK_MONOTONIC) + TLS_STOP_USEC;
    sigset_t signals;
    int status;
    pid_t pid;

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    while (tls_is_running(&s->given.table) && now_usec(CLOCK_MONOTONIC) < deadline) {
        const struct timespec pause = {.tv_nsec = 10 * (long)(USEC_PER_MSEC * NSEC_PER_USEC)};

        (void)sigtimedwait(&signals, NULL, &pause);
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
            (void)tls_ended(&s->tls, &s->given.table, pid, status);
    }
    tls_kill(&s->given.table);
}

/* The worker has exited. The next one continues its sessions: that of the new program or, if it
 * cannot be executed, of this one. */
static void supervisor_exec(struct supervisor *s)
{
    int r;

    if (s->reload == RELOAD_ENDING)
        supervisor_finish_tls(s);
    __atomic_store_n(&s->given.table.header->command, COMMAND_RUN, __ATOMIC_RELEASE);
    r = handover_exec(&s->given, s->reload == RELOAD_YIELDING, s->program, s->argv);
    supervisor_reload_failed(s, strerror(-r));
    (void)process_start(&s->worker, &s->given.table, s->output);
}

/* --- Signals and children --- */

static void supervisor_stop(struct supervisor *s)
{
    uint64_t timeout =
        s->given.table.header->settings.stop_timeout * USEC_PER_SEC + STOP_EXTRA_USEC;
    char state[64];

    if (s->stopping)
        return;
    s->stopping = true;
    s->idle = false;
    checker_deinit(&s->given.checker);
    supervisor_answer(s, false);
    s->stop_deadline = now_usec(CLOCK_MONOTONIC) + timeout;
    snprintf(state, sizeof(state), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64, timeout);
    supervisor_announce(s, state);
    process_command(&s->worker, &s->given.table, COMMAND_STOP);
    tls_stop(&s->tls, &s->given.table);
}

/* A netd-tls that does not become ready fails the start or the reload that waits for it. Later it
 * is started again: its listeners exist, and connections wait there. */
static void supervisor_check_tls(struct supervisor *s)
{
    const int status = s->tls.failed;

    s->tls.failed = 0;
    if (status == 0 || s->stopping)
        return;
    if (s->ready_said || (s->resumed && !s->given.reload)) {
        log_error("TLS: %s", s->tls.failure);
    } else if (s->given.reload) {
        log_error("reload failed for TLS, all else has the new configuration: %s", s->tls.failure);
        s->given.reload = false;
        supervisor_answer(s, false);
    } else {
        log_error("TLS: %s", s->tls.failure);
        s->exit_status = status;
        supervisor_stop(s);
    }
}

/* Returns -1, or the exit status. */
static int supervisor_worker_ended(struct supervisor *s, int status)
{
    bool yielded = WIFEXITED(status) && WEXITSTATUS(status) == WORKER_YIELDED;
    bool stopped = WIFEXITED(status) && WEXITSTATUS(status) <= EXIT_FAILED &&
                   s->given.table.header->command == COMMAND_STOP;

    if (!yielded && !stopped)
        return process_ended(&s->worker, &s->given.table, status) < 0 ? EXIT_FAILED : -1;
    s->worker.pid = 0;
    if (!s->stopping)
        supervisor_exec(s);
    else if (yielded) /* it exited just before the stop was requested */
        (void)process_start(&s->worker, &s->given.table, s->output);
    else
        return WEXITSTATUS(status);
    return -1;
}

/* Handles every child that has exited. Returns -1, or the exit status. */
static int supervisor_reap(struct supervisor *s)
{
    int status, r = -1;
    pid_t pid;

    while (r < 0 && (pid = waitpid(-1, &status, WNOHANG)) > 0) {
        s->idle = false;
        if (pid == s->given.checker.pid)
            supervisor_checked(s, status);
        else if (pid == s->worker.pid)
            r = supervisor_worker_ended(s, status);
        else
            (void)tls_ended(&s->tls, &s->given.table, pid, status);
    }
    return r;
}

/* The signals to handle now. Requests for a reload stay pending during one, also across execve(2).
 */
static sigset_t supervisor_signals(const struct supervisor *s)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGNAL_COMMAND);
    if (s->ready_said && s->reload == RELOAD_NONE && !s->stopping) {
        sigaddset(&signals, SIGHUP);
        sigaddset(&signals, SIGNAL_RELOAD);
    }
    return signals;
}

/* Waits for a signal, or until something is due. */
static void supervisor_wait(struct supervisor *s)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC), usec = s->idle ? s->idle_usec : s->tick_usec;
    sigset_t signals = supervisor_signals(s);
    struct timespec timeout;
    siginfo_t info;
    int number;

    if (s->tls.restart_usec > 0 && s->tls.restart_usec < now + usec)
        usec = s->tls.restart_usec > now ? s->tls.restart_usec - now : 0;
    if (s->worker.pid == 0 && s->worker.restart_usec < now + usec)
        usec = s->worker.restart_usec > now ? s->worker.restart_usec - now : 0;
    timeout = (struct timespec){
        .tv_sec = (time_t)(usec / USEC_PER_SEC),
        .tv_nsec = (long)(usec % USEC_PER_SEC * NSEC_PER_USEC),
    };
    number = sigtimedwait(&signals, &info, &timeout);
    if (number == SIGTERM || number == SIGINT)
        supervisor_stop(s);
    else if (number == SIGHUP || number == SIGNAL_RELOAD)
        supervisor_reload(s, &info);
    /* SIGCHLD, SIGNAL_COMMAND and a timeout are handled by the loop. */
}

/* Runs until there is an exit status, and returns it. */
static int supervisor_loop(struct supervisor *s)
{
    for (;;) {
        uint64_t now;
        int r;

        supervisor_wait(s);
        r = supervisor_reap(s);
        if (r >= 0)
            return s->exit_status ? s->exit_status : r;
        now = now_usec(CLOCK_MONOTONIC);
        process_start_if_due(&s->worker, &s->given.table, s->output, now);
        tls_update(&s->tls, &s->given.table, now);
        supervisor_check_tls(s);
        supervisor_say_ready(s);
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
    return config->service.sessions_max + TABLE_LINGERING;
}

/* Logs that the passed socket L is used instead of the configured address. */
static void supervisor_say_passed(const struct table_listener *l, const struct listener_address *a)
{
    char address[128];

    listener_format(l, address);
    if (a->path[0])
        log_notice("systemd passed a socket for %s; the configured %s is not used", address,
                   a->path);
    else
        log_notice("systemd passed a socket for %s; the configured %s port %u is not used", address,
                   a->host, a->port);
}

/* Does so at most once for each listener of the configuration. */
static void supervisor_compare_passed(const struct table_header *h, const struct check *check)
{
    const struct config *config = &check->config;
    bool said[CONFIG_LISTENERS_MAX] = {false};

    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &h->listeners[i];
        size_t n = (size_t)(listener_config_of(l, config->listeners, config->n_listeners) -
                            config->listeners);

        if (l->fd < 0 || !l->passed || said[n] ||
            listener_matches(l, &config->listeners[n], &check->endpoints[n]))
            continue;
        supervisor_say_passed(l, &config->listeners[n].address);
        said[n] = true;
    }
}

/* Reads the configuration and, unless there are PASSED sockets, resolves its names. Returns 0, also
 * with s->stopping set, or the exit status. */
static int supervisor_check(struct supervisor *s, int passed)
{
    struct checker *c = &s->given.checker;
    int r, status = 0;

    r = checker_start(c, s->input, passed > 0);
    if (r < 0) {
        log_error("cannot start the checker: %s", strerror(-r));
        return EXIT_FAILED;
    }
    while (waitpid(c->pid, &status, WNOHANG) == 0) {
        sigset_t signals = supervisor_signals(s);
        int number = sigwaitinfo(&signals, NULL);

        if (number == SIGTERM || number == SIGINT) {
            s->stopping = true;
            return 0;
        }
    }
    checker_ended(c, status);
    if (c->check->status != EXIT_SUCCESS)
        log_error("%s", c->check->error);
    return c->check->status;
}

/* Exit status for a listener that cannot be opened. systemd restarts netd if that may help. */
static int supervisor_listener_status(int r)
{
    return r == -EINVAL || r == -EACCES || r == -EPERM || r == -EAFNOSUPPORT ? EXIT_CONFIG
                                                                             : EXIT_FAILED;
}

/* Frees what sd_listen_fds_with_names(3) allocated. */
static void free_strings(char ***strings)
{
    for (char **p = *strings; p && *p; p++)
        free(*p);
    free(*strings);
}

/* Creates an empty table with the listeners of the checked configuration. Returns 0 or the exit
 * status. */
static int supervisor_make_table(struct supervisor *s, int passed, char *const *names)
{
    const struct check *check = s->given.checker.check;
    const struct config *config = &check->config;
    struct table *t = &s->given.table;
    char error[LISTENER_ERROR_MAX] = "";
    int r;

    r = table_create(t, supervisor_capacity(config));
    if (r < 0) {
        log_error("cannot create the session table: %s", strerror(-r));
        return EXIT_FAILED;
    }
    r = table_lock(t);
    if (r < 0)
        log_warning(
            "cannot lock the session table in memory: %s; a worker that is killed while memory "
            "is swapped out may lose or repeat a record",
            strerror(-r));
    r = listeners_adopt(t, SD_LISTEN_FDS_START, passed, names, error);
    if (r == 0)
        r = listeners_configure(t, config->listeners, config->rules, check->endpoints,
                                config->n_listeners, error);
    if (r < 0) {
        log_error("%s", error[0] ? error : strerror(-r));
        return supervisor_listener_status(r);
    }
    r = tls_configure(t, config);
    if (r < 0) {
        log_error("cannot configure TLS: %s", strerror(-r));
        return EXIT_FAILED;
    }
    supervisor_compare_passed(t->header, check);
    if (config->warning[0])
        log_warning("%s", config->warning);
    t->header->settings = config->service;
    t->header->output = supervisor_decide_output(config->service.output);
    return 0;
}

/* Starts with an empty table, and sockets from systemd or from the configuration. Returns 0, also
 * with s->stopping set, or the exit status. */
static int supervisor_begin(struct supervisor *s)
{
    CLEANUP(free_strings) char **names = NULL;
    int passed = sd_listen_fds_with_names(1, &names), r = 0;

    if (passed < 0) {
        log_error("LISTEN_FDS: cannot take the passed sockets: %s", strerror(-passed));
        return EXIT_CONFIG;
    }
    /* Other descriptors that the caller left open must not be mistaken for connections. */
    (void)close_range((unsigned)(SD_LISTEN_FDS_START + passed), ~0U, 0);
    if (!s->given.checker.check)
        r = supervisor_check(s, passed);
    if (r == 0 && !s->stopping)
        r = supervisor_make_table(s, passed, names);
    return r;
}

/* Applies the checked configuration to the table of the previous program. Returns 0, or a negative
 * errno with one line in ERROR and the old configuration in force. */
static int supervisor_configure(struct supervisor *s, char error[static LISTENER_ERROR_MAX])
{
    const struct check *check = s->given.checker.check;
    struct table_header *h;
    int r;

    if (!check) {
        snprintf(error, LISTENER_ERROR_MAX, "%s: replaced during the reload", s->program);
        return -EPROTONOSUPPORT;
    }
    r = table_grow(&s->given.table, supervisor_capacity(&check->config));
    if (r < 0) {
        snprintf(error, LISTENER_ERROR_MAX, "cannot grow the session table: %s", strerror(-r));
        return r;
    }
    r = listeners_configure(&s->given.table, check->config.listeners, check->config.rules,
                            check->endpoints, check->config.n_listeners, error);
    if (r < 0)
        return r;
    r = tls_configure(&s->given.table, &check->config);
    if (r < 0)
        log_error("cannot configure TLS: %s", strerror(-r));
    if (check->config.warning[0])
        log_warning("%s", check->config.warning);
    h = s->given.table.header;
    /* "auto" was decided at the start: a journal that is temporarily absent changes nothing. */
    if (check->config.service.output != OUTPUT_AUTO || h->settings.output != OUTPUT_AUTO)
        h->output = supervisor_decide_output(check->config.service.output);
    h->settings = check->config.service;
    return 0;
}

/* Continues a reload in the new program. */
static void supervisor_resume(struct supervisor *s)
{
    char error[LISTENER_ERROR_MAX] = "";

    if (supervisor_configure(s, error) < 0) {
        log_error("reload failed, the old configuration stays: %s", error);
        s->given.reload = false;
        supervisor_answer(s, false);
    }
}

static void supervisor_block_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGNAL_COMMAND);
    sigaddset(&signals, SIGNAL_RELOAD);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* EPIPE is handled */
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
}

static void supervisor_set_intervals(struct supervisor *s)
{
    uint64_t watchdog = 0;

    s->tick_usec = TICK_USEC;
    s->idle_usec = IDLE_USEC;
    if (sd_watchdog_enabled(0, &watchdog) > 0) {
        s->tick_usec = min_u64(TICK_USEC, watchdog / 2);
        s->idle_usec = min_u64(IDLE_USEC, watchdog / 2);
    }
}

/* Starts the first worker. Returns 0, or the exit status if none can ever start. With resumed
 * sessions it is tried again in any case. */
static int supervisor_start_worker(struct supervisor *s)
{
    int r;

    s->output = s->given.table.header->output;
    r = process_start(&s->worker, &s->given.table, s->output);
    return r == 0 || s->resumed || process_error_is_transient(r) ? 0 : EXIT_FAILED;
}

int supervisor_run(const struct config_input *input, char **argv)
{
    struct supervisor s = {
        .given.table = {.header_fd = -1, .regions_fd = -1},
        .input = input,
        .argv = argv,
    };
    int r;

    supervisor_block_signals();
    handover_find_program(s.program);
    r = handover_receive(&s.given);
    s.resumed = r > 0;
    if (s.resumed)
        supervisor_resume(&s);
    r = r < 0 ? EXIT_FAILED : s.resumed ? 0 : supervisor_begin(&s);
    checker_deinit(&s.given.checker);
    if (r == 0 && !s.stopping) {
        supervisor_set_intervals(&s);
        tls_start(&s.tls, &s.given.table);
        r = supervisor_start_worker(&s);
        if (r == 0)
            r = supervisor_loop(&s);
        supervisor_finish_tls(&s);
        listeners_remove_files(&s.given.table);
    }
    checker_deinit(&s.given.checker);
    table_deinit(&s.given.table);
    return r;
}
