/* SPDX-License-Identifier: MIT */
#include "daemon/supervisor.h"

#include "common/names.h"
#include "common/util.h"
#include "daemon/listener.h"
#include "daemon/log.h"
#include "daemon/server.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>

/* "HEADER_FD:REGIONS_FD" in the environment of the program that a reload executes. */
#define ENV_TABLE "NETD_TABLE"

#define TICK_USEC USEC_PER_SEC

/* Ticks without a heartbeat after which the worker counts as hanging, and ticks it gets to leave a
 * core. Ticks and not time: a suspended machine must not look like a hanging worker. */
#define HANG_TICKS  10
#define ABORT_TICKS 2

/* A worker that lives less than this has not got over what killed the one before it. */
#define CRASH_ROW_USEC   USEC_PER_SEC
#define CRASH_ROW_MAX    16
#define CRASH_PAUSE_USEC (10 * USEC_PER_MSEC)
#define CRASH_PAUSE_MAX  USEC_PER_SEC

/* What a stop may take beyond stop_timeout, for answers to be read and processes to end. */
#define STOP_EXTRA_USEC (5 * USEC_PER_SEC)

struct supervisor {
    struct table table;
    enum output output;
    char **argv;
    char program[PATH_MAX]; /* path of the program, which a package may replace meanwhile */
    sigset_t signals;

    pid_t worker; /* 0: none */
    uint64_t worker_since, restart_at;
    unsigned crash_row;
    uint64_t heartbeat; /* last seen */
    unsigned silent_ticks;

    pid_t checker; /* 0: none */
    bool reload_wanted, reloading, layout_changes;
    bool stopping, ready_said;
    uint64_t stop_deadline;
};

static struct table_header *supervisor_header(const struct supervisor *s)
{
    return s->table.header;
}

/* --- What systemd is told: sd_notify(3) --- */

static void supervisor_notify_status(const struct supervisor *s, const char *more)
{
    const struct table_header *h = supervisor_header(s);
    int held = h->held;
    const char *why = held == 0 ? "" : held == EAGAIN ? "its queue is full" : strerror(held);

    (void)sd_notifyf(0, "STATUS=%u sessions, %" PRIu64 " records logged%s%s%s\n%s", h->open,
                     h->records_total, held ? "; waiting for the journal: " : "", why,
                     s->worker == 0 ? "; no worker" : "", more);
}

static void supervisor_say_ready(struct supervisor *s)
{
    char address[128];

    if (s->ready_said)
        return;
    s->ready_said = true;
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &supervisor_header(s)->listeners[i];

        if (l->fd < 0 || l->closing)
            continue;
        listener_format(l, address);
        log_info("listening on %s%s", address, l->passed ? " (passed by systemd)" : "");
    }
    supervisor_notify_status(s, "READY=1");
}

/* --- The worker --- */

/* As fork(2), but both processes have one table of descriptors: what the worker accepts stays open
 * when it dies. glibc has no wrapper that goes on where it is called (see raw_clone() of systemd).
 */
static pid_t clone_with_files(void)
{
#if defined(__s390__)
    return (pid_t)syscall(SYS_clone, NULL, CLONE_FILES | SIGCHLD, NULL, NULL, NULL);
#else
    return (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
#endif
}

static void supervisor_start_worker(struct supervisor *s)
{
    struct orphans orphans = {0};
    pid_t self = getpid(), pid;
    int r;

    supervisor_header(s)->ready = false;
    r = orphans_collect(&s->table, &orphans);
    pid = r < 0 ? -1 : clone_with_files();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != self)
            _exit(EXIT_FAILED);
        exit(server_run(&s->table, s->output, JOURNAL_SOCKET, &orphans));
    }
    if (pid < 0) {
        log_error("cannot start a worker: %s; trying again", strerror(r < 0 ? -r : errno));
        free(orphans.fds);
        s->restart_at = now_usec(CLOCK_MONOTONIC) + CRASH_PAUSE_MAX;
        return;
    }
    free(orphans.fds);
    s->worker = pid;
    s->worker_since = now_usec(CLOCK_MONOTONIC);
    s->restart_at = 0;
    s->silent_ticks = 0;
}

static void supervisor_command(struct supervisor *s, enum table_command command)
{
    __atomic_store_n(&supervisor_header(s)->command, (uint32_t)command, __ATOMIC_RELEASE);
    if (s->worker > 0)
        (void)kill(s->worker, SIGNAL_COMMAND);
}

static void supervisor_watch_heart(struct supervisor *s)
{
    uint64_t heartbeat = __atomic_load_n(&supervisor_header(s)->heartbeat, __ATOMIC_ACQUIRE);

    if (s->worker == 0)
        return;
    if (heartbeat != s->heartbeat) {
        s->heartbeat = heartbeat;
        s->silent_ticks = 0;
        return;
    }
    s->silent_ticks++;
    if (s->silent_ticks == HANG_TICKS) {
        log_error("worker %d hangs; ending it", (int)s->worker);
        (void)kill(s->worker, SIGABRT); /* leaves a core */
        (void)kill(s->worker, SIGCONT); /* also where it was stopped */
    } else if (s->silent_ticks == HANG_TICKS + ABORT_TICKS) {
        (void)kill(s->worker, SIGKILL);
    }
}

/* Decides when the next worker starts after one that died with STATUS. Returns -1, or the exit
 * status where there is none. */
static int supervisor_after_crash(struct supervisor *s, int status)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC), pause;
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;

    if (WIFSIGNALED(status))
        log_error("worker died of signal %d (%s); its sessions go on", WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == WORKER_OUTPUT_GONE)
        return EXIT_FAILED; /* the worker said why */

    s->restart_at = now;
    /* Who is killed from outside has done nothing wrong. */
    supervisor_header(s)->crashed = !killed;
    if (killed || now - s->worker_since >= CRASH_ROW_USEC) {
        s->crash_row = 0;
        return -1;
    }
    if (++s->crash_row == CRASH_ROW_MAX) {
        log_error("the worker died %d times in a row; giving up", CRASH_ROW_MAX);
        return EXIT_FAILED;
    }
    pause = CRASH_PAUSE_USEC << s->crash_row;
    s->restart_at = now + min_u64(pause, CRASH_PAUSE_MAX);
    return -1;
}

/* --- Reload --- */

static void supervisor_end_reload(struct supervisor *s, const char *error)
{
    s->reloading = s->layout_changes = false;
    if (error) {
        log_error("reload failed, the old configuration stays: %s", error);
        supervisor_notify_status(s, "READY=1");
    }
}

/* Lets the program on disk check the new configuration, and itself. */
static void supervisor_check(struct supervisor *s)
{
    char layout[16];

    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_usec(CLOCK_MONOTONIC));
    s->reload_wanted = false;
    s->reloading = true;
    s->checker = fork();
    if (s->checker < 0) {
        s->checker = 0;
        supervisor_end_reload(s, strerror(errno));
        return;
    }
    if (s->checker == 0) {
        size_t n = 0;
        char **argv;
        sigset_t none;

        /* It must not keep connections open that the worker closes. */
        (void)close_range(STDERR_FILENO + 1, ~0U, 0);
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        snprintf(layout, sizeof(layout), "%d", TABLE_LAYOUT);
        (void)setenv(ENV_LAYOUT, layout, 1);
        (void)unsetenv("NOTIFY_SOCKET");
        while (s->argv[n])
            n++;
        argv = calloc(n + 2, sizeof(*argv));
        if (!argv)
            _exit(EXIT_FAILED);
        memcpy(argv, s->argv, n * sizeof(*argv));
        argv[n] = (char *)(uintptr_t) "-t";
        execv(s->program, argv);
        log_error("%s: %s", s->program, strerror(errno));
        _exit(EXIT_FAILED);
    }
}

static void supervisor_checked(struct supervisor *s, int status)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED;

    s->checker = 0;
    if (s->stopping)
        return;
    if (code != 0 && code != EXIT_LAYOUT) {
        supervisor_end_reload(s, "the new configuration or program is not good");
        return;
    }
    s->layout_changes = code == EXIT_LAYOUT;
    if (s->layout_changes)
        log_notice("the new program has another session table; ending all sessions");
    supervisor_command(s, s->layout_changes ? COMMAND_STOP : COMMAND_YIELD);
}

/* The sockets that systemd passed are passed on, where they always were: sd_listen_fds(3). */
static void supervisor_pass_listeners(const struct supervisor *s)
{
    char text[16];
    int count = 0;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        count += supervisor_header(s)->listeners[i].passed != 0;
    if (count == 0)
        return;
    snprintf(text, sizeof(text), "%d", count);
    (void)setenv("LISTEN_FDS", text, 1);
    snprintf(text, sizeof(text), "%d", (int)getpid());
    (void)setenv("LISTEN_PID", text, 1);
}

/* Becomes the program on disk. Returns only where that cannot be done. */
static void supervisor_exec(struct supervisor *s)
{
    char text[32];

    __atomic_store_n(&supervisor_header(s)->command, COMMAND_RUN, __ATOMIC_RELEASE);
    if (s->layout_changes) {
        supervisor_pass_listeners(s);
    } else {
        snprintf(text, sizeof(text), "%d:%d", s->table.header_fd, s->table.regions_fd);
        (void)setenv(ENV_TABLE, text, 1);
    }
    execv(s->program, s->argv);
    (void)unsetenv(ENV_TABLE);
    supervisor_end_reload(s, strerror(errno));
}

/* --- Signals and children --- */

static void supervisor_stop(struct supervisor *s)
{
    uint64_t timeout = supervisor_header(s)->config.stop_timeout * USEC_PER_SEC + STOP_EXTRA_USEC;

    if (s->stopping)
        return;
    s->stopping = true;
    s->stop_deadline = now_usec(CLOCK_MONOTONIC) + timeout;
    (void)sd_notifyf(0, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64, timeout);
    supervisor_command(s, COMMAND_STOP);
}

/* The worker is gone. Returns -1, or the exit status. */
static int supervisor_worker_ended(struct supervisor *s, int status)
{
    bool orderly = WIFEXITED(status) && WEXITSTATUS(status) <= EXIT_FAILED &&
                   supervisor_header(s)->command != COMMAND_RUN;

    s->worker = 0;
    if (s->stopping && orderly)
        return WEXITSTATUS(status);
    if (s->reloading && !s->checker && !s->stopping) {
        /* However it ended, the next worker adopts what it left. */
        if (!orderly)
            supervisor_header(s)->crashed = WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL;
        supervisor_exec(s);
        supervisor_start_worker(s);
        return -1;
    }
    return supervisor_after_crash(s, status);
}

/* Looks at every child that ended. Returns -1, or the exit status. */
static int supervisor_reap(struct supervisor *s)
{
    int status, r = -1;
    pid_t pid;

    while (r < 0 && (pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == s->checker)
            supervisor_checked(s, status);
        else if (pid == s->worker)
            r = supervisor_worker_ended(s, status);
    }
    return r;
}

static void supervisor_tick(struct supervisor *s)
{
    static uint64_t last;
    uint64_t now = now_usec(CLOCK_MONOTONIC);

    if (now - last < TICK_USEC)
        return;
    last = now;
    supervisor_watch_heart(s);
    supervisor_notify_status(s, "WATCHDOG=1");
}

/* Serves until there is an exit status. */
static int supervisor_loop(struct supervisor *s)
{
    for (;;) {
        uint64_t now = now_usec(CLOCK_MONOTONIC), wait = TICK_USEC;
        struct timespec timeout = {0};
        int r;

        if (s->worker == 0 && s->restart_at > now)
            wait = min_u64(wait, s->restart_at - now);
        timeout.tv_sec = (time_t)(wait / USEC_PER_SEC);
        timeout.tv_nsec = (long)(wait % USEC_PER_SEC * NSEC_PER_USEC);
        switch (sigtimedwait(&s->signals, NULL, &timeout)) {
        case SIGTERM:
        case SIGINT:
            supervisor_stop(s);
            break;
        case SIGHUP:
            s->reload_wanted = true;
            break;
        default:
            break;
        }
        r = supervisor_reap(s);
        if (r >= 0)
            return r;
        now = now_usec(CLOCK_MONOTONIC);
        if (s->worker == 0 && s->restart_at <= now)
            supervisor_start_worker(s);
        if (supervisor_header(s)->ready)
            supervisor_say_ready(s);
        if (s->reload_wanted && !s->reloading && !s->stopping && s->ready_said && s->worker > 0)
            supervisor_check(s);
        if (s->stopping && now >= s->stop_deadline) {
            log_error("the worker did not stop in time");
            return EXIT_FAILED;
        }
        supervisor_tick(s);
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
    return config->listener.sessions_max + TABLE_LINGERING;
}

/* Says once where netd listens instead of where the configuration has it. */
static void supervisor_compare_passed(const struct table_header *h,
                                      const struct listener_config *settings)
{
    char address[128];

    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        if (h->listeners[i].fd < 0 || listener_matches(&h->listeners[i], settings))
            continue;
        listener_format(&h->listeners[i], address);
        log_notice("systemd passed a socket for %s; the configured %s port %u is not used", address,
                   settings->host, settings->port);
        return;
    }
}

/* A first start: sockets from systemd or from the configuration, an empty table. */
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
        r = listeners_adopt(&s->table, SD_LISTEN_FDS_START, passed, &config->listener, error);
    else
        r = listeners_configure(&s->table, &config->listener, error);
    if (r < 0) {
        log_error("%s", error[0] ? error : strerror(-r));
        return r == -ENOMEM || r == -EMFILE || r == -ENFILE || r == -ENOBUFS ? EXIT_FAILED
                                                                             : EXIT_CONFIG;
    }
    if (passed > 0)
        supervisor_compare_passed(supervisor_header(s), &config->listener);
    supervisor_header(s)->config = *config;
    supervisor_header(s)->output = s->output = supervisor_decide_output(config->output);
    return 0;
}

/* Puts CONFIG in force over what an earlier program left. Returns 0 or a negative errno, said. */
static int supervisor_reconfigure(struct supervisor *s, const struct config *config)
{
    char error[LISTENER_ERROR_MAX] = "";
    int r;

    r = table_grow(&s->table, supervisor_capacity(config));
    if (r >= 0)
        r = listeners_configure(&s->table, &config->listener, error);
    if (r < 0) {
        log_error("reload failed, the old configuration stays: %s",
                  error[0] ? error : strerror(-r));
        return r;
    }
    /* "auto" was decided at the start: a journal that is away for a moment changes nothing. */
    if (config->output != supervisor_header(s)->config.output || config->output != OUTPUT_AUTO)
        supervisor_header(s)->output = supervisor_decide_output(config->output);
    supervisor_header(s)->config = *config;
    return 0;
}

/* The other end of supervisor_exec(). */
static int supervisor_resume(struct supervisor *s, const struct config *config)
{
    int header_fd, regions_fd, r;

    if (sscanf(getenv(ENV_TABLE), "%d:%d", &header_fd, &regions_fd) != 2)
        r = -EINVAL;
    else
        r = table_open(&s->table, header_fd, regions_fd);
    (void)unsetenv(ENV_TABLE);
    if (r < 0) {
        log_error(ENV_TABLE ": not a session table: %s", strerror(-r));
        return EXIT_FAILED;
    }
    if (supervisor_reconfigure(s, config) == 0)
        log_info("reloaded");
    s->output = supervisor_header(s)->output;
    return 0;
}

static void supervisor_block_signals(struct supervisor *s)
{
    sigemptyset(&s->signals);
    sigaddset(&s->signals, SIGCHLD);
    sigaddset(&s->signals, SIGTERM);
    sigaddset(&s->signals, SIGINT);
    sigaddset(&s->signals, SIGHUP);
    sigaddset(&s->signals, SIGNAL_COMMAND);
    (void)sigprocmask(SIG_BLOCK, &s->signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
}

int supervisor_run(const struct config *config, char **argv)
{
    struct supervisor s = {.argv = argv, .table = {.header_fd = -1, .regions_fd = -1}};
    ssize_t n;
    int r;

    supervisor_block_signals(&s);
    n = readlink("/proc/self/exe", s.program, sizeof(s.program) - 1);
    if (n <= 0)
        snprintf(s.program, sizeof(s.program), "%s", argv[0]);
    r = getenv(ENV_TABLE) ? supervisor_resume(&s, config) : supervisor_begin(&s, config);
    if (r == 0) {
        supervisor_start_worker(&s);
        r = supervisor_loop(&s);
    }
    table_deinit(&s.table);
    return r;
}
