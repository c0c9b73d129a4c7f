/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/process.h"

#include "common/util.h"
#include "netd/log.h"
#include "netd/worker/worker.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Ticks without an answer after which the worker is considered hung, and ticks it gets to dump
 * core. Ticks, not time: a suspended machine must not look like a hung worker. */
#define HANG_TICKS  10
#define ABORT_TICKS 2

/* A hung worker that used less processor time than this was blocked or stopped from outside; one
 * that used more is in an endless loop. */
#define HANG_CPU_USEC (100 * USEC_PER_MSEC)

/* A worker that dies sooner than this is assumed to die of the same cause as the previous one. */
#define CRASH_STREAK_USEC USEC_PER_SEC
#define CRASH_STREAK_MAX  16
#define CRASH_PAUSE_USEC  (10 * USEC_PER_MSEC)
#define CRASH_PAUSE_MAX   USEC_PER_SEC

/* Like fork(2), but with a shared descriptor table: what the worker accepts stays open when it
 * dies. glibc's clone(3) cannot return in the child (see raw_clone() of systemd). */
static pid_t process_clone(void)
{
#if defined(__s390__)
    return (pid_t)syscall(SYS_clone, NULL, CLONE_FILES | SIGCHLD, NULL, NULL, NULL);
#else
    return (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
#endif
}

bool process_error_is_transient(int r)
{
    return r == -EAGAIN || r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}

int process_start(struct process *w, struct table *table, enum output output)
{
    pid_t self = getpid();
    int unclaimed, r;

    table->header->ready = false;
    r = unclaimed_collect(table, &unclaimed);
    if (r == 0) {
        w->pid = process_clone();
        r = w->pid < 0 ? -errno : 0;
    }
    if (r == 0 && w->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != self)
            _exit(EXIT_FAILURE);
        exit(worker_run(table, output, JOURNAL_SOCKET, unclaimed));
    }
    w->since_usec = now_usec(CLOCK_MONOTONIC);
    w->silent_ticks = 0;
    w->stalled = false;
    if (r == 0)
        counter_add(&table->header->worker_starts, 1);
    if (r < 0) {
        if (process_error_is_transient(r))
            log_error("cannot start a worker: %s; trying again", strerror(-r));
        else
            log_error("cannot start a worker: /proc/self/fd: %s", strerror(-r));
        w->pid = 0;
        w->restart_usec = w->since_usec + CRASH_PAUSE_MAX;
    }
    return r;
}

void process_start_if_due(struct process *w, struct table *table, enum output output, uint64_t now)
{
    if (w->pid == 0 && w->restart_usec <= now)
        (void)process_start(w, table, output);
}

void process_command(const struct process *w, struct table *table, enum table_command command)
{
    __atomic_store_n(&table->header->command, (uint32_t)command, __ATOMIC_RELEASE);
    if (w->pid > 0)
        (void)kill(w->pid, SIGNAL_COMMAND);
}

/* Processor time of PID in microseconds, or 0 if unknown. */
static uint64_t process_cpu_usec(pid_t pid)
{
    clockid_t clock;

    return clock_getcpuclockid(pid, &clock) == 0 ? now_usec(clock) : 0;
}

void process_watch(struct process *w, struct table *table)
{
    uint64_t heartbeat = __atomic_load_n(&table->header->heartbeat, __ATOMIC_ACQUIRE);

    if (w->pid == 0)
        return;
    if (heartbeat == table->header->ping) {
        w->silent_ticks = 0;
        __atomic_store_n(&table->header->ping, heartbeat + 1, __ATOMIC_RELEASE);
        (void)kill(w->pid, SIGNAL_COMMAND);
        return;
    }
    if (w->silent_ticks == 0)
        w->silent_cpu = process_cpu_usec(w->pid);
    w->silent_ticks++;
    if (w->silent_ticks == HANG_TICKS) {
        w->stalled = process_cpu_usec(w->pid) - w->silent_cpu < HANG_CPU_USEC;
        log_error("worker %d does not respond; killing it", (int)w->pid);
        (void)kill(w->pid, SIGABRT); /* dumps core */
        (void)kill(w->pid, SIGCONT); /* it may be stopped */
    } else if (w->silent_ticks == HANG_TICKS + ABORT_TICKS) {
        (void)kill(w->pid, SIGKILL);
    }
}

int process_ended(struct process *w, struct table *table, int status)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;

    w->pid = 0;
    stream_settle(&table->header->batch.stream, STDOUT_FILENO);
    if (WIFSIGNALED(status))
        log_error("worker died of signal %d (%s); its sessions continue", WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == WORKER_OUTPUT_GONE)
        return -EPIPE; /* the worker logged why */

    /* SIGKILL and a stall come from outside, not from what the worker was doing. */
    table->header->crashed = !killed && !w->stalled;
    w->restart_usec = now;
    if (killed || now - w->since_usec >= CRASH_STREAK_USEC) {
        w->crash_streak = 0;
        return 0;
    }
    if (++w->crash_streak == CRASH_STREAK_MAX) {
        log_error("the worker died %d times in a row; giving up", CRASH_STREAK_MAX);
        return -ELOOP;
    }
    w->restart_usec += min_u64(CRASH_PAUSE_USEC << w->crash_streak, CRASH_PAUSE_MAX);
    return 0;
}
