/* SPDX-License-Identifier: MIT */
/*
 * Kills netd's worker at every single place, with ptrace(2), so that it is the installed program
 * that dies and nothing in it knows.
 *
 *   die SUPERVISOR
 *
 * A place is a number of stops at system calls since the worker was born (before and behind each),
 * and a number of changes since then to what outlives the worker: the two memfds of the session
 * table. Two instructions with neither between them are the same place. Commands, on standard
 * input; each kills the worker that is there, and has another one born:
 *
 *   die STOPS CHANGES ...   has the worker die at that place, the one after it at the next, ...
 *
 * It says "born" when the worker has not done anything yet, and waits for a line. "done" ends a
 * life that does not come to its place, once the worker has nothing to do. The answer is a line:
 * how many workers died; where not all of them, whether the other one came to that many stops at
 * all.
 */
#include "netd/session/table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a worker changes: of the table the header up to the configuration, and the first sessions;
 * of the regions the front of the first session's, to where unfinished records move. */
#define HEADER_SEEN   offsetof(struct table_header, output)
#define SESSIONS_SEEN (4 * sizeof(struct session))
#define REGION_SEEN   ((size_t)4096)

#define LINE_SIZE 64

/* Nothing to do, once there is nothing more to come. */
#define IDLE_MSEC 20

#define OPTIONS (PTRACE_O_TRACEFORK | PTRACE_O_TRACESYSGOOD)

struct seen {
    const uint8_t *now;
    uint8_t *before;
    size_t size;
};

static pid_t supervisor, worker;
static bool client_done;   /* "done" */
static bool worker_is_new; /* the worker has not done anything yet */
static struct seen header, sessions, region;

static void fail(const char *what)
{
    fprintf(stderr, "die: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- What outlives a worker --- */

/* Maps SIZE bytes from OFFSET on of the supervisor's MEMFD. */
static void map_memfd(struct seen *s, const char *memfd, size_t offset, size_t size)
{
    char directory[64], path[PATH_MAX], target[PATH_MAX];
    struct dirent *entry;
    DIR *dir;

    snprintf(directory, sizeof(directory), "/proc/%d/fd", (int)supervisor);
    dir = opendir(directory);
    while (dir && (entry = readdir(dir))) {
        ssize_t n;
        int fd;

        snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
        n = readlink(path, target, sizeof(target) - 1);
        if (n < 0 || strncmp(target, memfd, strlen(memfd)) != 0)
            continue;
        fd = open(path, O_RDONLY);
        s->now = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t)offset);
        s->before = calloc(1, size);
        s->size = size;
        if (fd < 0 || s->now == MAP_FAILED || !s->before)
            fail(path);
        close(fd);
        closedir(dir);
        return;
    }
    fail(memfd);
}

static size_t sessions_offset(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (sizeof(struct table_header) + page - 1) & ~(page - 1);
}

static bool seen_changed(struct seen *s)
{
    if (memcmp(s->before, s->now, s->size) == 0)
        return false;
    memcpy(s->before, s->now, s->size);
    return true;
}

static bool changed(void)
{
    bool a = seen_changed(&header), b = seen_changed(&sessions), c = seen_changed(&region);

    return a || b || c;
}

/* --- The two processes --- */

static void wait_for(pid_t pid, int *status)
{
    while (waitpid(pid, status, __WALL) < 0)
        if (errno != EINTR)
            fail("waitpid");
}

/* Has PID go on as it would have without us. */
static void resume(pid_t pid, int status, enum __ptrace_request how)
{
    int signal = WSTOPSIG(status), event = status >> 16;

    if (event != 0 || signal == (SIGTRAP | 0x80) || signal == SIGTRAP)
        signal = 0;
    if (ptrace(how, pid, NULL, (void *)(intptr_t)signal) < 0 && errno != ESRCH)
        fail("ptrace");
}

/* Lets the supervisor run until it has made the next worker, which has not done anything yet. */
static void wait_for_worker(void)
{
    unsigned long child;
    int status;

    worker = 0;
    while (worker == 0) {
        wait_for(supervisor, &status);
        if (WIFEXITED(status) || WIFSIGNALED(status))
            fail("the supervisor ended");
        if (status >> 16 == PTRACE_EVENT_FORK) {
            if (ptrace(PTRACE_GETEVENTMSG, supervisor, NULL, &child) < 0)
                fail("PTRACE_GETEVENTMSG");
            worker = (pid_t)child;
        }
        resume(supervisor, status, PTRACE_CONT);
    }
    wait_for(worker, &status);
    worker_is_new = true;
}

static void kill_worker(void)
{
    int status;

    worker_is_new = false;
    (void)kill(worker, SIGKILL);
    do
        wait_for(worker, &status);
    while (!WIFSIGNALED(status) && !WIFEXITED(status));
}

/* What the supervisor stops for meanwhile (signals) must not keep it from its work. */
static void continue_supervisor(void)
{
    int status;

    while (waitpid(supervisor, &status, __WALL | WNOHANG) > 0) {
        if (WIFEXITED(status) || WIFSIGNALED(status))
            fail("the supervisor ended");
        resume(supervisor, status, PTRACE_CONT);
    }
}

/* True when standard input has a line, after at most MSEC. */
static bool input_ready(int msec)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    return poll(&input, 1, msec) > 0;
}

/* A line of standard input; the supervisor goes on meanwhile. Returns false at its end. */
static bool read_line(char line[static LINE_SIZE])
{
    while (!input_ready(1))
        continue_supervisor();
    return fgets(line, LINE_SIZE, stdin);
}

/* The worker's next stop. Returns false when it has ended, or has nothing to do after "done". */
static bool next_stop(int *status, enum __ptrace_request how)
{
    char line[LINE_SIZE];

    worker_is_new = false;
    resume(worker, *status, how);
    if (how == PTRACE_SINGLESTEP) {
        wait_for(worker, status);
        return WIFSTOPPED(*status);
    }
    for (unsigned idle = 0; idle < IDLE_MSEC; idle += client_done) {
        pid_t pid = waitpid(worker, status, __WALL | WNOHANG);

        if (pid == worker)
            return WIFSTOPPED(*status);
        continue_supervisor();
        if (client_done)
            (void)poll(NULL, 0, 1);
        else if (input_ready(0))
            client_done = read_line(line);
        else
            sched_yield();
    }
    return false;
}

static bool is_system_call(int status)
{
    return WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80);
}

/* --- Commands --- */

/* PTRACE_SINGLESTEP runs through a system call without a stop before it, so each instruction is
 * looked at: "syscall" is 0f 05, and "svc #0" d4000001. */
static bool at_system_call(void)
{
#if defined(__x86_64__)
    long ip = ptrace(PTRACE_PEEKUSER, worker, (void *)(16 * sizeof(long)), NULL);

    return (ptrace(PTRACE_PEEKTEXT, worker, (void *)ip, NULL) & 0xffff) == 0x050f;
#else
#error "teach it this machine's system call"
#endif
}

/* Steps until there were so many changes. Returns false where a system call comes first. */
static bool step(int *status, unsigned changes)
{
    (void)changed();
    while (changes > 0) {
        if (at_system_call() || !next_stop(status, PTRACE_SINGLESTEP))
            return false;
        changes -= changed();
    }
    return true;
}

/* The same, while the supervisor stands still: so slow a worker it would take for one that hangs.
 */
static bool step_alone(int *status, unsigned changes)
{
    int supervisors;
    bool there;

    if (changes == 0)
        return true;
    if (ptrace(PTRACE_INTERRUPT, supervisor, NULL, NULL) < 0)
        fail("PTRACE_INTERRUPT");
    wait_for(supervisor, &supervisors);
    there = step(status, changes);
    resume(supervisor, supervisors, PTRACE_CONT);
    return there;
}

/* Whether the worker came to as many stops, and then whether it came to as many changes before the
 * next one. */
enum reached { NOT_REACHED, TOO_FEW_CHANGES, THERE };

static enum reached run_to(unsigned stops, unsigned changes)
{
    int status = 0;

    for (unsigned i = 0; i < stops;) {
        if (!next_stop(&status, PTRACE_SYSCALL))
            return NOT_REACHED;
        i += is_system_call(status);
    }
    if (step_alone(&status, changes))
        return THERE;
    while (next_stop(&status, PTRACE_SYSCALL))
        ;
    return TOO_FEW_CHANGES;
}

/* Has workers die at PLACES, one after the other. */
static void die(const char *places)
{
    unsigned stops, changes, died = 0;
    enum reached reached = THERE;
    int length;

    for (; sscanf(places, "%u %u%n", &stops, &changes, &length) == 2; places += length) {
        reached = run_to(stops, changes);
        if (reached != THERE)
            break;
        kill_worker();
        died++;
        wait_for_worker();
    }
    printf("%u %d\n", died, reached != NOT_REACHED);
}

/* The worker that is there, which nobody traces. */
static pid_t find_worker(void)
{
    char path[64];
    FILE *children;
    int pid;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)supervisor, (int)supervisor);
    children = fopen(path, "r");
    if (!children || fscanf(children, "%d", &pid) != 1)
        fail(path);
    fclose(children);
    return pid;
}

static void run_command(const char *line)
{
    char go[LINE_SIZE];

    (void)kill(find_worker(), SIGKILL);
    wait_for_worker();
    printf("born\n");
    if (!read_line(go))
        exit(0);
    client_done = false;
    die(line + strcspn(line, " \n"));
    if (!worker_is_new) {
        kill_worker();
        wait_for_worker();
    }
    if (ptrace(PTRACE_DETACH, worker, NULL, NULL) < 0)
        fail("PTRACE_DETACH");
}

int main(int argc, char **argv)
{
    char line[LINE_SIZE];

    if (argc != 2)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    supervisor = (pid_t)atoi(argv[1]);
    if (ptrace(PTRACE_SEIZE, supervisor, NULL, (void *)OPTIONS) < 0)
        fail("PTRACE_SEIZE");
    map_memfd(&header, "/memfd:netd-table", 0, HEADER_SEEN);
    map_memfd(&sessions, "/memfd:netd-table", sessions_offset(), SESSIONS_SEEN);
    map_memfd(&region, "/memfd:netd-regions", 0, REGION_SEEN);
    while (read_line(line))
        if (strcmp(line, "done\n") != 0) /* for a life that is over */
            run_command(line);
    return 0;
}
