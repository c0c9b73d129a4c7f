/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/tls.h"

#include "common/exit-status.h"
#include "common/util.h"
#include "netd-tls/interface.h"
#include "netd/log.h"
#include "netd/worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Time limit of a check: a certificate may be a pipe that nobody writes to. */
#define CHECK_SEC 30

/* Time limit of a start, for the same reason. */
#define START_SEC 30

/* One that ends sooner than this is assumed to end of the same cause as the previous one. */
#define CRASH_STREAK_USEC USEC_PER_SEC
#define CRASH_PAUSE_USEC  (100 * USEC_PER_MSEC)
#define CRASH_PAUSE_MAX   (30 * USEC_PER_SEC)

/* The longest line of an answer. */
#define ANSWER_LINE_MAX (TLS_ERROR_MAX + 64)

/* Descriptors of a netd-tls beside its listeners. */
#define FIXED_FDS (TLS_FD_FIRST - TLS_FD_SETTINGS)

_Static_assert(COUNTERS_MAX == TLS_COUNTERS_MAX, "other numbers of counters");
_Static_assert(CONFIG_ERROR_MAX >= CONFIG_ORIGIN_MAX + 256, "an error has no room");

/* --- Settings --- */

/* Texts that settings point to. */
struct tls_lists {
    const char *names[TLS_NAMES_MAX];
    uint8_t fingerprints[TLS_FINGERPRINTS_MAX][TLS_FINGERPRINT_SIZE];
};

static void tls_parse_fingerprint(const char *digits, uint8_t ret[static TLS_FINGERPRINT_SIZE])
{
    for (size_t i = 0; i < TLS_FINGERPRINT_SIZE; i++) {
        const char byte[] = {digits[2 * i], digits[2 * i + 1], '\0'};

        ret[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
}

/* Returns the settings of listener ID, whose lists are written to LISTS. */
static struct tls_listener_settings tls_settings_of(const struct config *config,
                                                    const struct listener_tls *tls, uint32_t id,
                                                    struct tls_lists *lists)
{
    const char *name = config->texts + tls->client_names;
    const char *print = config->texts + tls->client_fingerprints;

    for (uint32_t i = 0; i < tls->n_client_names; i++, name += strlen(name) + 1)
        lists->names[i] = name;
    for (uint32_t i = 0; i < tls->n_client_fingerprints; i++, print += strlen(print) + 1)
        tls_parse_fingerprint(print, lists->fingerprints[i]);
    return (struct tls_listener_settings){
        .id = id,
        .fd = -1,
        .min_minor = (uint8_t)tls->min_minor,
        .certificate = config_text(config, tls->certificate),
        .key = config_text(config, tls->key),
        .client_ca = config_text(config, tls->client_ca),
        .client_names = lists->names,
        .n_client_names = tls->n_client_names,
        .client_fingerprints = (const uint8_t(*)[TLS_FINGERPRINT_SIZE])lists->fingerprints,
        .n_client_fingerprints = tls->n_client_fingerprints,
    };
}

static struct tls_settings *tls_settings_new(const struct config *config)
{
    struct tls_settings *s = calloc(1, sizeof(*s));

    if (s)
        *s = (struct tls_settings){
            .connections_max = config->service.sessions_max + TLS_HANDSHAKES_MAX,
            .handshakes_max = TLS_HANDSHAKES_MAX,
            .handshake_timeout_ms = TLS_HANDSHAKE_TIMEOUT_MS,
            .linger_timeout_ms = TLS_LINGER_TIMEOUT_MS,
            .refusals_per_second = TLS_REFUSALS_PER_SECOND,
        };
    return s;
}

/* --- Starting a child --- */

/* Gives the child the COUNT descriptors FDS from TLS_FD_SETTINGS on, and no others, and executes
 * netd-tls, or exits. */
static _Noreturn void tls_become(int *fds, int count, bool check)
{
    char *const arguments[] = {(char *)(uintptr_t) "netd-tls",
                               check ? (char *)(uintptr_t) "--check" : NULL, NULL};
    char error[256];
    sigset_t none;
    int length;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* First out of the way of each other. */
    for (int i = 0; i < count; i++)
        fds[i] = fcntl(fds[i], F_DUPFD, TLS_FD_SETTINGS + count);
    for (int i = 0; i < count; i++)
        if (fds[i] < 0 || dup2(fds[i], TLS_FD_SETTINGS + i) < 0)
            _exit(EXIT_FAILED);
    (void)close_range((unsigned)(TLS_FD_SETTINGS + count), ~0U, 0);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)unsetenv("NOTIFY_SOCKET");
    if (check)
        (void)alarm(CHECK_SEC);
    execv(NETD_TLS_PROGRAM, arguments);
    length = snprintf(error, sizeof(error), "error - " NETD_TLS_PROGRAM ": %s\n", strerror(errno));
    (void)send(TLS_FD_CONTROL, error, (size_t)length, MSG_NOSIGNAL);
    _exit(EXIT_FAILED);
}

/* Forks a netd-tls with the descriptors FDS, of which that of the control socket is filled in.
 * Returns its process id, with our end of the control socket in *CONTROL, or a negative errno. */
static pid_t tls_fork(int *fds, int count, bool check, int *control)
{
    CLEANUP(close_fd) int ours = -1;
    CLEANUP(close_fd) int theirs = -1;
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    ours = pair[0];
    theirs = pair[1];
    (void)fcntl(theirs, F_SETFL, 0);
    fds[1] = theirs;
    pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        tls_become(fds, count, check);
    *control = ours;
    ours = -1;
    return pid;
}

/* --- The answer --- */

/* Reads the line that a netd-tls wrote to CONTROL: "" if there is none. */
static void tls_read_answer(int control, char line[static ANSWER_LINE_MAX + 1])
{
    ssize_t n = recv(control, line, ANSWER_LINE_MAX, MSG_DONTWAIT);

    line[n > 0 ? n : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
}

/* The text of an answer "error LISTENER TEXT", and the listener's id or -1. */
static const char *tls_parse_error(const char *line, int *listener)
{
    const char *text = strncmp(line, "error ", 6) == 0 ? strchr(line + 6, ' ') : NULL;

    *listener = text && line[6] != '-' ? atoi(line + 6) : -1;
    return text ? text + 1 : "netd-tls ended without an answer";
}

/* --- Check --- */

/* Waits for the end of the child. Returns its exit status, or EXIT_FAILED. */
static int tls_wait(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return EXIT_FAILED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED;
}

static int tls_run_check(const struct config *config, const struct tls_settings *settings,
                         const uint32_t *of, char error[static CONFIG_ERROR_MAX])
{
    CLEANUP(close_fd) int fd = tls_settings_create(settings);
    CLEANUP(close_fd) int control = -1;
    int fds[2] = {fd, -1}, status, listener;
    char line[ANSWER_LINE_MAX + 1];
    const char *origin, *text;
    pid_t pid;

    if (fd < 0)
        return fd;
    pid = tls_fork(fds, 2, true, &control);
    if (pid < 0)
        return pid;
    status = tls_wait(pid);
    tls_read_answer(control, line);
    if (status == EXIT_SUCCESS)
        return 0;
    text = tls_parse_error(line, &listener);
    origin = listener >= 0 && (uint32_t)listener < settings->n_listeners
                 ? config->listeners[of[listener]].origin.tls
                 : "TLS";
    snprintf(error, CONFIG_ERROR_MAX, "%.*s: %s", CONFIG_ORIGIN_MAX, origin, text);
    return status == EXIT_CONFIG ? -EINVAL : -EIO;
}

static int tls_check_listeners(const struct config *config, char error[static CONFIG_ERROR_MAX])
{
    CLEANUP(free_pointer) struct tls_settings *settings = tls_settings_new(config);
    CLEANUP(free_pointer)
    struct tls_lists *lists = calloc(CONFIG_LISTENERS_MAX, sizeof(*lists));
    uint32_t of[CONFIG_LISTENERS_MAX], n = 0;
    int r = 0;

    if (!settings || !lists)
        return -ENOMEM;
    for (uint32_t i = 0; i < config->n_listeners; i++) {
        if (!config->listeners[i].settings.tls)
            continue;
        of[n] = i;
        settings->listeners[n] = tls_settings_of(config, &config->listeners[i].tls, n, &lists[n]);
        n++;
    }
    settings->n_listeners = n;
    if (n > 0)
        r = tls_run_check(config, settings, of, error);
    if (r < 0 && error[0] == '\0')
        snprintf(error, CONFIG_ERROR_MAX, "cannot check TLS: %s", strerror(-r));
    return r;
}

static bool tls_is_configured(const struct config *config)
{
    for (uint32_t i = 0; i < config->n_listeners; i++)
        if (config->listeners[i].settings.tls)
            return true;
    return false;
}

int tls_check(const struct config *config, char error[static CONFIG_ERROR_MAX])
{
    return tls_is_configured(config) ? tls_check_listeners(config, error) : 0;
}

/* --- The table --- */

/* Our children of the next program have these, too. */
static void tls_keep(int fd)
{
    (void)fcntl(fd, F_SETFD, 0);
}

static int tls_make_counters(struct table_tls *tls)
{
    CLEANUP(close_fd) int fd = -1;

    if (tls->counters_fd > 0)
        return 0;
    fd = memfd_create("netd-tls-counters", 0);
    if (fd < 0 || ftruncate(fd, sizeof(struct tls_counters)) < 0)
        return -errno;
    tls->counters_fd = fd;
    fd = -1;
    return 0;
}

static const struct listener_config *tls_config_of(const struct table_listener *l,
                                                   const struct config *config)
{
    for (uint32_t i = 0; i < config->n_listeners; i++)
        if (strcmp(config->listeners[i].settings.name, l->settings.name) == 0)
            return &config->listeners[i];
    return NULL;
}

/* Adds L to SETTINGS. */
static int tls_add_listener(struct tls_settings *settings, const struct table_listener *l,
                            const struct config *config, struct tls_lists *lists)
{
    const struct listener_config *of = tls_config_of(l, config);
    uint32_t n = settings->n_listeners;
    struct tls_listener_settings *s = &settings->listeners[n];

    if (!of || n == TLS_LISTENERS_MAX)
        return -ENOSPC;
    *s = tls_settings_of(config, &of->tls, n, &lists[n]);
    s->counters = l->counters;
    s->fd = TLS_FD_FIRST + (int)n;
    s->internal_length = sizeof(s->internal);
    if (getsockname(l->fd, (struct sockaddr *)&s->internal, &s->internal_length) < 0)
        return -errno;
    settings->n_listeners++;
    return 0;
}

static bool tls_is_served(const struct table_listener *l)
{
    return l->fd >= 0 && l->tls_fd > 0 && !l->closing;
}

static bool tls_is_counted(const struct table *t, uint32_t counters)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (tls_is_served(&t->header->listeners[i]) && t->header->listeners[i].counters == counters)
            return true;
    return false;
}

static bool tls_zero(int fd, size_t at, size_t size)
{
    static const struct tls_listener_counters none;

    return pwrite(fd, &none, size, (off_t)at) == (ssize_t)size;
}

/* Resets the counters whose number has another name now, and the certificates of listeners that
 * have none any more. */
static void tls_reset_counters(struct table *t)
{
    const int fd = t->header->tls.counters_fd;

    for (uint32_t i = 0; fd > 0 && i < COUNTERS_MAX; i++) {
        const size_t size = sizeof(struct tls_listener_counters);
        const size_t at = offsetof(struct tls_listener_counters, not_after);
        struct counters *c = &t->header->counters[i];

        if (!tls_is_counted(t, i))
            (void)tls_zero(fd, i * size + at, sizeof(int64_t));
        else if (!c->tls)
            c->tls = tls_zero(fd, i * size, size);
    }
}

static int tls_configure_listeners(struct table *t, const struct config *config)
{
    CLEANUP(free_pointer) struct tls_settings *settings = tls_settings_new(config);
    CLEANUP(free_pointer) struct tls_lists *lists = calloc(TLS_LISTENERS_MAX, sizeof(*lists));
    struct table_tls *tls = &t->header->tls;
    int fd = 0, r = settings && lists ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < LISTENERS_MAX; i++)
        if (tls_is_served(&t->header->listeners[i]))
            r = tls_add_listener(settings, &t->header->listeners[i], config, lists);
    if (r == 0 && settings->n_listeners > 0)
        r = tls_make_counters(tls);
    if (r == 0 && settings->n_listeners > 0)
        fd = tls_settings_create(settings);
    if (r < 0 || fd < 0)
        return r < 0 ? r : fd;
    if (fd > 0)
        tls_keep(fd);
    if (tls->settings_fd > 0)
        close(tls->settings_fd);
    tls->settings_fd = fd;
    return 0;
}

int tls_configure(struct table *t, const struct config *config)
{
    int r = 0;

    if (tls_is_configured(config)) {
        r = tls_configure_listeners(t, config);
    } else {
        if (t->header->tls.settings_fd > 0)
            close(t->header->tls.settings_fd);
        t->header->tls.settings_fd = 0;
    }
    tls_reset_counters(t);
    return r;
}

/* --- Processes --- */

static void tls_command(const struct tls_process *p, enum tls_command command)
{
    const char byte = (char)command;

    (void)send(p->control, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Forgets P; of a netd-tls that still runs the closed control socket is the end. */
static void tls_forget(struct tls_process *p)
{
    __atomic_store_n(&p->pid, 0, __ATOMIC_RELEASE);
    close_fd(&p->control);
}

/* A free place; the longest draining one gives way. */
static struct tls_process *tls_find_place(struct table_tls *tls)
{
    struct tls_process *all = tls->processes, *last = &all[TLS_PROCESSES_MAX - 1];

    if (all[0].pid != 0 && last->pid != 0) {
        log_warning("TLS: more than %d reloads with sessions; ending the oldest",
                    TLS_PROCESSES_MAX);
        tls_forget(&all[0]);
    }
    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++)
        if (all[i].pid == 0)
            return &all[i];
    return &all[0];
}

static int tls_try_start(struct table *t)
{
    struct table_tls *tls = &t->header->tls;
    struct tls_process *p = tls_find_place(tls);
    int fds[FIXED_FDS + TLS_LISTENERS_MAX] = {tls->settings_fd, -1, tls->counters_fd};
    int count = FIXED_FDS, control;
    pid_t pid;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (tls_is_served(&t->header->listeners[i]) && count < FIXED_FDS + TLS_LISTENERS_MAX)
            fds[count++] = t->header->listeners[i].tls_fd;
    pid = tls_fork(fds, count, false, &control);
    if (pid < 0)
        return pid;
    p->control = control;
    p->state = TLS_STARTING;
    __atomic_store_n(&p->pid, pid, __ATOMIC_RELEASE);
    /* Its answer wakes us: fcntl(2), F_SETSIG. */
    (void)fcntl(control, F_SETOWN, getpid());
    (void)fcntl(control, F_SETSIG, SIGNAL_COMMAND);
    (void)fcntl(control, F_SETFL, O_NONBLOCK | O_ASYNC);
    return 0;
}

/* Schedules the next one, unless there is one that accepts. */
static void tls_schedule(struct tls *tls, const struct table *t)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC);

    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++)
        if (t->header->tls.processes[i].pid != 0 &&
            t->header->tls.processes[i].state != TLS_DRAINING)
            return;
    if (t->header->tls.settings_fd == 0 || t->header->command == COMMAND_STOP)
        return;
    if (now - tls->since_usec >= CRASH_STREAK_USEC)
        tls->crash_streak = 0;
    tls->restart_usec =
        now + min_u64(CRASH_PAUSE_USEC << min_u64(tls->crash_streak, 16), CRASH_PAUSE_MAX);
    tls->crash_streak++;
}

static void tls_fail(struct tls *tls, const struct table *t, int status, const char *why)
{
    tls->failed = status;
    (void)snprintf(tls->failure, sizeof(tls->failure), "%s", why);
    tls_schedule(tls, t);
}

void tls_start(struct tls *tls, struct table *t)
{
    char why[128];
    int r;

    tls->restart_usec = 0;
    if (t->header->tls.settings_fd == 0) {
        for (size_t i = 0; i < TLS_PROCESSES_MAX; i++)
            if (t->header->tls.processes[i].pid != 0)
                tls_command(&t->header->tls.processes[i], TLS_DRAIN);
        return;
    }
    tls->since_usec = now_usec(CLOCK_MONOTONIC);
    r = tls_try_start(t);
    if (r < 0) {
        (void)snprintf(why, sizeof(why), "cannot start netd-tls: %s", strerror(-r));
        tls_fail(tls, t, EXIT_FAILED, why);
    }
}

/* READY takes the place of the others. */
static void tls_replace(struct table_tls *tls, struct tls_process *ready)
{
    ready->state = TLS_SERVING;
    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++) {
        struct tls_process *p = &tls->processes[i];

        if (p == ready || p->pid == 0 || p->state != TLS_SERVING)
            continue;
        tls_command(p, TLS_DRAIN);
        p->state = TLS_DRAINING;
    }
}

/* Takes notice if P, which starts, has become ready. An error is left to be read when it ends. */
static void tls_look_at(struct table_tls *tls, struct tls_process *p)
{
    static const char ready[] = "ready\n";
    char line[sizeof(ready)];

    if (recv(p->control, line, sizeof(line), MSG_DONTWAIT | MSG_PEEK) == sizeof(ready) - 1 &&
        memcmp(line, ready, sizeof(ready) - 1) == 0)
        tls_replace(tls, p);
}

/* P has not become ready in time. */
static void tls_give_up(struct tls *tls, const struct table *t, struct tls_process *p)
{
    char why[64];

    (void)kill(p->pid, SIGKILL);
    (void)waitpid(p->pid, NULL, 0);
    tls_forget(p);
    (void)snprintf(why, sizeof(why), "netd-tls was not ready within %d seconds", START_SEC);
    tls_fail(tls, t, EXIT_FAILED, why);
}

void tls_update(struct tls *tls, struct table *t, uint64_t now)
{
    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++) {
        struct tls_process *p = &t->header->tls.processes[i];

        if (p->pid == 0 || p->state != TLS_STARTING)
            continue;
        tls_look_at(&t->header->tls, p);
        if (p->state == TLS_STARTING && now >= tls->since_usec + START_SEC * USEC_PER_SEC)
            tls_give_up(tls, t, p);
    }
    if (tls->restart_usec > 0 && tls->restart_usec <= now)
        tls_start(tls, t);
}

bool tls_is_starting(const struct table *t)
{
    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++)
        if (t->header->tls.processes[i].pid != 0 &&
            t->header->tls.processes[i].state == TLS_STARTING)
            return true;
    return false;
}

/* P ended with STATUS before it was ready. */
static void tls_start_failed(struct tls *tls, const struct table *t, struct tls_process *p,
                             int status)
{
    const bool is_config = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONFIG;
    char line[ANSWER_LINE_MAX + 1], signal[128];
    const char *why = signal;
    int listener;

    tls_read_answer(p->control, line);
    if (WIFSIGNALED(status))
        (void)snprintf(signal, sizeof(signal), "netd-tls died of signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    else
        why = tls_parse_error(line, &listener);
    tls_forget(p);
    tls_fail(tls, t, is_config ? EXIT_CONFIG : EXIT_FAILED, why);
}

bool tls_ended(struct tls *tls, struct table *t, pid_t pid, int status)
{
    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++) {
        struct tls_process *p = &t->header->tls.processes[i];

        if (p->pid != pid)
            continue;
        if (p->state == TLS_STARTING)
            tls_look_at(&t->header->tls, p);
        if (p->state == TLS_STARTING) {
            tls_start_failed(tls, t, p, status);
            return true;
        }
        if (WIFSIGNALED(status))
            log_error("netd-tls died of signal %d (%s); its sessions are reset", WTERMSIG(status),
                      strsignal(WTERMSIG(status)));
        tls_forget(p);
        tls_schedule(tls, t);
        return true;
    }
    return false;
}

void tls_stop(struct tls *tls, struct table *t)
{
    tls->restart_usec = 0;
    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++)
        if (t->header->tls.processes[i].pid != 0)
            tls_command(&t->header->tls.processes[i], TLS_STOP);
}

bool tls_is_running(const struct table *t)
{
    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++)
        if (t->header->tls.processes[i].pid != 0)
            return true;
    return false;
}

void tls_kill(struct table *t)
{
    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++) {
        struct tls_process *p = &t->header->tls.processes[i];

        if (p->pid == 0)
            continue;
        (void)kill(p->pid, SIGKILL);
        (void)waitpid(p->pid, NULL, 0);
        tls_forget(p);
    }
}
