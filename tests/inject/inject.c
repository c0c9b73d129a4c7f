/* SPDX-License-Identifier: MIT */
/*
 * Runs a program, counts the system calls and allocations of all its processes, and makes one of
 * them fail, or that one and all later ones of its kind. The kernel reports each system call here
 * (seccomp_unotify(2)), including those of libraries.
 *
 *   inject [-f PROCESS:CALL:ERROR:once|good] [-o NAME] [-T SECONDS] -r REPORT -- PROGRAM
 *          [ARGUMENT...]
 *
 * PROCESS numbers the processes in the order of their first calls, CALL the calls of that process;
 * both start at 1. ERROR is an index into the list of that call's errors. Counting starts in
 * main(): alloc.c, linked into the program, announces it, and asks before each allocation. Calls of
 * a sanitizer are not counted and never fail. With -o only system calls of processes that execute a
 * program NAME count, and no allocations.
 *
 * REPORT is a file descriptor to which lines are written: "pid N" before the program starts, "call
 * PROCESS CALL NAME ERRORS GOOD" for each call without -f (GOOD: 1 if it may fail permanently),
 * "failed PROCESS CALL NAME ERROR" for the first call made to fail, "hang" if the program did not
 * end in time. The exit status is the program's; 128 plus the number of the signal that killed it;
 * 120 for errors of inject itself.
 */
#include "inject.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXIT_BROKEN   120
#define PROCESSES_MAX 256
#define RANGES_MAX    16
#define ERRORS_MAX    8
#define COUNT(a)      (sizeof(a) / sizeof((a)[0]))

/* Calls that cannot fail, or whose failure a caller cannot handle. */
static const int exempt[] = {
    SYS_exit,         SYS_exit_group,      SYS_restart_syscall,
    SYS_rt_sigreturn, SYS_futex, /* glibc aborts by design */
    SYS_close,                   /* Linux always closes it; a failure made here would not */
    SYS_brk,                     /* has no errors; allocations fail separately */
    SYS_getpid,       SYS_gettid,          SYS_getppid,
    SYS_getuid,       SYS_geteuid,         SYS_getgid,
    SYS_getegid,      SYS_rt_sigprocmask,  SYS_rt_sigaction,
    SYS_sigaltstack,  SYS_set_robust_list, SYS_set_tid_address,
    SYS_rseq,         SYS_clock_gettime,   SYS_sched_yield,
    SYS_shutdown, /* fails only if the connection is gone */
    SYS_munmap,
#ifdef SYS_arch_prctl
    SYS_arch_prctl,
#endif
};

/* Plausible errors of each call; the first one may also be permanent. Calls that are not listed
 * fail as under SystemCallFilter=. */
static const struct call {
    int number;
    const char *name;
    int errors[ERRORS_MAX];
} calls[] = {
#define CALL(name, ...)    \
    {                      \
        SYS_##name, #name, \
        {                  \
            __VA_ARGS__    \
        }                  \
    }
    {CALL_ALLOCATE, "allocate", {ENOMEM}},
    CALL(accept4, EMFILE, ENOBUFS, ENOMEM, ECONNABORTED, EINTR, EPERM),
    CALL(bind, EADDRINUSE, EADDRNOTAVAIL, EACCES),
    CALL(clock_nanosleep, EINTR),
    CALL(clone, EAGAIN, ENOMEM),
    CALL(clone3, EAGAIN, ENOMEM),
    CALL(close_range, ENOSYS, ENOMEM),
    CALL(connect, ECONNREFUSED, EAGAIN, ENOENT, EINTR),
    CALL(epoll_create1, EMFILE, ENOMEM),
    CALL(epoll_ctl, ENOMEM, ENOSPC),
    CALL(epoll_wait, EINTR),
    CALL(epoll_pwait, EINTR),
    CALL(epoll_pwait2, EINTR, ENOSYS),
    CALL(execve, ENOENT, ENOMEM, EACCES),
    CALL(fcntl, EMFILE, EPERM),
    CALL(fstat, ENOMEM),
    CALL(fstatfs, ENOMEM),
    CALL(ftruncate, ENOSPC, EINTR),
    CALL(getdents64, EIO),
    CALL(getpeername, ENOTCONN, ENOBUFS),
    CALL(getrandom, ENOSYS, EINTR),
    CALL(getsockname, ENOBUFS),
    CALL(getsockopt, ENOBUFS),
    CALL(inotify_add_watch, ENOSPC, ENOMEM),
    CALL(inotify_init1, EMFILE, ENOMEM),
    CALL(ioctl, ENOTTY, EIO),
    CALL(kill, EPERM),
    CALL(listen, EADDRINUSE),
    CALL(lseek, EIO),
    CALL(madvise, ENOMEM, EAGAIN),
    CALL(memfd_create, EMFILE, ENOMEM),
    CALL(mmap, ENOMEM),
    CALL(newfstatat, ENOMEM, ENOENT),
    CALL(openat, EMFILE, ENOENT, EACCES, EIO),
#ifdef SYS_poll
    CALL(poll, ENOMEM, EINTR),
#endif
    CALL(pipe2, EMFILE, ENFILE),
    CALL(ppoll, EINTR, ENOMEM),
    CALL(pread64, EIO, EINTR),
    CALL(prlimit64, EPERM),
    CALL(read, EIO, EINTR),
    CALL(readlinkat, ENOMEM, EACCES),
    CALL(recvfrom, ECONNRESET, EINTR, ENOMEM),
    CALL(recvmmsg, ECONNRESET, ETIMEDOUT, ENOMEM, EAGAIN, EINTR),
    CALL(recvmsg, ENOMEM, EINTR),
    CALL(rt_sigtimedwait, EINTR),
    CALL(sendmmsg, ENOBUFS, EAGAIN, ENOMEM, EINTR, ECONNREFUSED, ENOTCONN),
    CALL(sendmsg, ENOBUFS, EAGAIN, EINTR, ECONNREFUSED),
    CALL(sendto, ENOBUFS, EAGAIN, EINTR),
    CALL(setsockopt, ENOMEM),
    CALL(signalfd4, EMFILE, ENOMEM),
    CALL(socket, EMFILE, ENOBUFS, EAFNOSUPPORT),
    CALL(splice, EAGAIN, ENOMEM, EINTR, EPIPE),
    CALL(statfs, ENOMEM),
    CALL(statx, ENOMEM, ENOSYS),
    CALL(timerfd_create, EMFILE, ENOMEM),
    CALL(timerfd_settime, EINVAL),
    CALL(wait4, EINTR),
    CALL(write, EIO, ENOSPC, EINTR),
    CALL(writev, EIO, EAGAIN, EINTR),
#ifdef SYS_open
    CALL(access, ENOMEM),
    CALL(open, EMFILE, ENOENT, EACCES),
    CALL(poll, EINTR, ENOMEM),
    CALL(readlink, ENOMEM, EACCES),
    CALL(stat, ENOMEM, ENOENT),
#endif
};

struct process {
    pid_t pid;
    unsigned number, count;
    bool counting;
    bool mapped; /* RANGES are known */
    size_t ranges;
    struct {
        uint64_t begin, end;
    } range[RANGES_MAX]; /* code of sanitizers */
};

struct inject {
    int listener;
    FILE *report;
    const char *only; /* of -o, or NULL */
    pid_t child;
    struct process processes[PROCESSES_MAX];
    size_t known;
    unsigned numbers;

    bool wanted, good;
    unsigned process, call, error;
    int failing; /* call number that fails from now on, or -1 */
    int failing_error;
    bool failed;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
    exit(EXIT_BROKEN);
}

/* --- The program --- */

static int install_filter(void)
{
    struct sock_filter filter[2 + 2 * COUNT(exempt) + 1];
    struct sock_fprog program = {.filter = filter};
    unsigned short n = 0;

    filter[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < COUNT(exempt); i++) {
        filter[n++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)exempt[i], 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    program.len = n;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    /* A signal must not restart a call that was already reported. */
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                        SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
                        &program);
}

/* Starts PROGRAM; returns the listener of its filter. */
static int start(char **program, pid_t *child)
{
    int *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int pidfd, fd;

    if (shared == MAP_FAILED)
        die("mmap");
    *child = fork();
    if (*child < 0)
        die("fork");
    if (*child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* its calls would block forever */
        fd = install_filter();
        if (fd < 0)
            die("seccomp");
        __atomic_store_n(shared, fd, __ATOMIC_RELEASE);
        execv(program[0], program);
        die(program[0]);
    }
    /* The child can report it only through memory: all its system calls block already. */
    while ((fd = __atomic_load_n(shared, __ATOMIC_ACQUIRE)) == 0)
        if (usleep(100) < 0 || waitpid(*child, NULL, WNOHANG) != 0)
            die("the child");
    pidfd = (int)syscall(SYS_pidfd_open, *child, 0);
    fd = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    if (fd < 0)
        die("pidfd_getfd");
    close(pidfd);
    munmap(shared, sizeof(*shared));
    return fd;
}

/* --- Processes --- */

static struct process *find_process(struct inject *in, pid_t pid)
{
    for (size_t i = 0; i < in->known; i++)
        if (in->processes[i].pid == pid)
            return &in->processes[i];
    if (in->known == PROCESSES_MAX)
        die("too many processes");
    /* Forks of a counting process count; the first process does not yet. */
    in->processes[in->known] =
        (struct process){.pid = pid, .counting = pid != in->child && !in->only};
    return &in->processes[in->known++];
}

/* True if the program that PID executes is the one of -o. */
static bool process_counts(const struct inject *in, pid_t pid)
{
    char path[64], name[32] = "";
    FILE *f;

    if (!in->only)
        return true;
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    f = fopen(path, "re");
    if (f && fgets(name, sizeof(name), f))
        name[strcspn(name, "\n")] = '\0';
    if (f)
        fclose(f);
    return strcmp(name, in->only) == 0;
}

/* Looks up where code of sanitizers is mapped. */
static void find_ranges(struct process *p)
{
    char path[64], line[512];
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)p->pid);
    f = fopen(path, "re");
    p->mapped = true;
    p->ranges = 0;
    while (f && fgets(line, sizeof(line), f) && p->ranges < RANGES_MAX) {
        uint64_t begin, end;

        if ((strstr(line, "/libasan.") || strstr(line, "/libubsan.")) &&
            sscanf(line, "%" SCNx64 "-%" SCNx64, &begin, &end) == 2) {
            p->range[p->ranges].begin = begin;
            p->range[p->ranges++].end = end;
        }
    }
    if (f)
        fclose(f);
}

static bool is_sanitizer(const struct process *p, uint64_t where)
{
    for (size_t i = 0; i < p->ranges; i++)
        if (where >= p->range[i].begin && where < p->range[i].end)
            return true;
    return false;
}

/* --- Calls --- */

static struct call find_call(int number)
{
    static char name[32];
    struct call other = {number, name, {EPERM}};

    for (size_t i = 0; i < COUNT(calls); i++)
        if (calls[i].number == number)
            return calls[i];
    snprintf(name, sizeof(name), "call-%d", number);
    return other;
}

static unsigned count_errors(const struct call *call)
{
    unsigned n = 0;

    while (n < ERRORS_MAX && call->errors[n] != 0)
        n++;
    return n;
}

/* EINTR is never permanent. */
static bool may_fail(const struct call *call, unsigned error, bool good)
{
    return error < count_errors(call) && !(good && call->errors[error] == EINTR);
}

/* Returns the error that this call gets, or 0. */
static int judge(struct inject *in, struct process *p, int number)
{
    struct call call;

    if (p->number == 0)
        p->number = ++in->numbers;
    p->count++;
    if (!in->wanted) {
        call = find_call(number);
        fprintf(in->report, "call %u %u %s %u %d\n", p->number, p->count, call.name,
                count_errors(&call), may_fail(&call, 0, true));
        return 0;
    }
    if (in->failed)
        return number == in->failing ? in->failing_error : 0;
    if (p->number != in->process || p->count != in->call)
        return 0;
    call = find_call(number);
    if (!may_fail(&call, in->error, in->good))
        return 0;
    in->failed = true;
    in->failing_error = call.errors[in->error];
    if (in->good)
        in->failing = number;
    fprintf(in->report, "failed %u %u %s %d\n", p->number, p->count, call.name, in->failing_error);
    fflush(in->report);
    return in->failing_error;
}

/* newfstatat() on a descriptor is fstat(), which cannot fail with ENOENT. */
static int call_number(const struct seccomp_data *data)
{
    if (data->nr == SYS_newfstatat && (data->args[3] & AT_EMPTY_PATH))
        return SYS_fstat;
    return data->nr;
}

/* Answers one call. */
static void answer(struct inject *in, const struct seccomp_notif *n, struct seccomp_notif_resp *r)
{
    const struct seccomp_data *data = &n->data;
    struct process *p = find_process(in, (pid_t)n->pid);
    bool marked = data->nr == SYS_prctl && data->args[0] == INJECT_PRCTL;

    r->id = n->id;
    if (marked && data->args[1] == INJECT_BEGIN) {
        p->counting = process_counts(in, p->pid);
        p->mapped = false;
        r->error = in->only ? -EINVAL : 0;
        return;
    }
    if (marked && data->args[1] == INJECT_END) {
        p->counting = false;
        return;
    }
    if (marked) {
        r->error = p->counting ? -judge(in, p, CALL_ALLOCATE) : 0;
        return;
    }
    r->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    if (!p->counting || (data->nr == SYS_prctl && !in->only))
        return;
    if (!p->mapped)
        find_ranges(p);
    if (is_sanitizer(p, data->instruction_pointer))
        return;
    r->error = -judge(in, p, call_number(data));
    if (r->error != 0)
        r->flags = 0;
    else if (data->nr == SYS_execve)
        p->counting = false; /* until its main() */
}

/* --- The run --- */

static uint64_t now_msec(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void kill_all(const struct inject *in)
{
    for (size_t i = 0; i < in->known; i++)
        (void)kill(in->processes[i].pid, SIGKILL);
}

/* Answers until no process is left. */
static void serve(struct inject *in, uint64_t deadline)
{
    struct pollfd ready = {.fd = in->listener, .events = POLLIN};
    struct seccomp_notif n;
    struct seccomp_notif_resp r;

    for (;;) {
        uint64_t now = now_msec();

        if (poll(&ready, 1, now < deadline ? (int)(deadline - now) : 0) == 0) {
            fprintf(in->report, "hang\n");
            kill_all(in);
            return;
        }
        if (!(ready.revents & POLLIN))
            return;
        memset(&n, 0, sizeof(n));
        memset(&r, 0, sizeof(r));
        if (ioctl(in->listener, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0)
            continue; /* killed meanwhile */
        answer(in, &n, &r);
        (void)ioctl(in->listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
    }
}

int main(int argc, char **argv)
{
    static struct inject in = {.failing = -1};
    uint64_t seconds = 60;
    char mode[8];
    int c, status;

    while ((c = getopt(argc, argv, "f:o:T:r:")) >= 0) {
        if (c == 'f' &&
            sscanf(optarg, "%u:%u:%u:%7s", &in.process, &in.call, &in.error, mode) == 4) {
            in.wanted = true;
            in.good = strcmp(mode, "good") == 0;
        } else if (c == 'o') {
            in.only = optarg;
        } else if (c == 'T') {
            seconds = strtoul(optarg, NULL, 10);
        } else if (c == 'r') {
            int fd = atoi(optarg);

            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
            in.report = fdopen(fd, "w");
        } else {
            return EXIT_BROKEN;
        }
    }
    if (!in.report || optind == argc)
        return EXIT_BROKEN;
    in.listener = start(argv + optind, &in.child);
    fprintf(in.report, "pid %d\n", (int)in.child);
    fflush(in.report);
    serve(&in, now_msec() + seconds * 1000);
    if (waitpid(in.child, &status, 0) < 0)
        die("waitpid");
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
