/* SPDX-License-Identifier: MIT */
/*
 * Kills netd's worker at a chosen place with ptrace(2), so that the program under test is the
 * installed one, unmodified.
 *
 *   die SUPERVISOR
 *
 * A place is a number of ptrace stops at system calls since the worker was forked (at entry and at
 * exit of each), and then a number of changes to memory that outlives the worker: the two memfds of
 * the session table. Instructions without either between them are the same place. A command on
 * standard input kills the current worker and waits for the next one:
 *
 *   die STOPS CHANGES ...   kills the worker at that place, the following one at the next, ...
 *
 * It prints "born" when the new worker has not executed anything yet, and waits for a line. "done"
 * ends a run in which the worker does not reach its place, once it is idle. The result is a line:
 * how many workers were killed; and, if not all, whether the last one reached that many stops.
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

/* Where changes are looked for: the table's header up to the configuration, the first sessions, and
 * of the first session's region its start, to where unfinished records are moved, and where a PROXY
 * header is kept. */
#define HEADER_SEEN   offsetof(struct table_header, output)
#define SESSIONS_SEEN (4 * sizeof(struct session))
#define REGION_SEEN   ((size_t)4096)
#define KEPT_SEEN     ((size_t)4096)

#define LINE_SIZE 64

/* The worker is idle when it has not stopped for so long after "done". */
#define IDLE_MSEC 20

#define OPTIONS (PTRACE_O_TRACEFORK | PTRACE_O_TRACESYSGOOD)

struct seen {
    const uint8_t *now;
    uint8_t *before;
    size_t size;
};

static pid_t supervisor, worker;
static bool client_done;   /* "done" was read */
static bool worker_is_new; /* the worker has not executed anything yet */
static struct seen header, sessions, region, kept;

static void fail(const char *what)
{
    fprintf(stderr, "die: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- Memory that outlives a worker --- */

/* Maps SIZE bytes at OFFSET of the supervisor's MEMFD. */
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
    struct seen *const all[] = {&header, &sessions, &region, &kept};
    bool found = false;

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        found |= seen_changed(all[i]);
    return found;
}

/* --- The two processes --- */

static void wait_for(pid_t pid, int *status)
{
    while (waitpid(pid, status, __WALL) < 0)
        if (errno != EINTR)
            fail("waitpid");
}

/* Continues PID, and delivers the signal that it stopped for. */
static void resume(pid_t pid, int status, enum __ptrace_request how)
{
    int signal = WSTOPSIG(status), event = status >> 16;

    if (event != 0 || signal == (SIGTRAP | 0x80) || signal == SIGTRAP)
        signal = 0;
    if (ptrace(how, pid, NULL, (void *)(intptr_t)signal) < 0 && errno != ESRCH)
        fail("ptrace");
}

/* Lets the supervisor run until it has forked the next worker, which stops before it runs. */
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

/* Continues the supervisor if it stopped, for example for a signal. */
static void continue_supervisor(void)
{
    int status;

    while (waitpid(supervisor, &status, __WALL | WNOHANG) > 0) {
        if (WIFEXITED(status) || WIFSIGNALED(status))
            fail("the supervisor ended");
        resume(supervisor, status, PTRACE_CONT);
    }
}

/* Waits up to MSEC milliseconds for a line on standard input. */
static bool input_ready(int msec)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    return poll(&input, 1, msec) > 0;
}

/* Reads a line of standard input while the supervisor runs. Returns false at the end of file. */
static bool read_line(char line[static LINE_SIZE])
{
    while (!input_ready(1))
        continue_supervisor();
    return fgets(line, LINE_SIZE, stdin);
}

static bool is_system_call(int status)
{
    return WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80);
}

/* Runs the worker to its next stop. Returns false if it ended, or is idle after "done". */
static bool next_stop(int *status, enum __ptrace_request how)
{
    char line[LINE_SIZE];

    bool blocks = how != PTRACE_SINGLESTEP || is_system_call(*status); /* maybe at its entry */

    worker_is_new = false;
    resume(worker, *status, how);
    if (!blocks) {
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

/* --- Commands --- */

/* PTRACE_SINGLESTEP does not stop at the entry of a system call, so the instruction itself is
 * examined: "syscall" is 0f 05. */
static bool at_system_call(void)
{
#if defined(__x86_64__)
    long ip = ptrace(PTRACE_PEEKUSER, worker, (void *)(16 * sizeof(long)), NULL);

    return (ptrace(PTRACE_PEEKTEXT, worker, (void *)ip, NULL) & 0xffff) == 0x050f;
#else
#error "add this architecture's system call instruction"
#endif
}

/* Single-steps until CHANGES changes were seen. Returns false if a system call comes first. */
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

/* The same with the supervisor stopped, which otherwise would take the slow worker for a hang. */
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

/* NOT_REACHED: fewer stops; TOO_FEW_CHANGES: fewer changes before the next stop. */
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

/* Kills workers at PLACES, one after the other. */
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

/* The name of process PID. */
static void read_name(pid_t pid, char name[static LINE_SIZE])
{
    char path[64];
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    f = fopen(path, "r");
    if (!f || !fgets(name, LINE_SIZE, f))
        fail(path);
    fclose(f);
}

/* Returns the current worker, which is not traced. netd-tls is another child. */
static pid_t find_worker(void)
{
    char path[64], name[LINE_SIZE], own[LINE_SIZE] = "";
    FILE *children;
    int pid = 0;

    read_name(supervisor, name);
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)supervisor, (int)supervisor);
    children = fopen(path, "r");
    while (strcmp(name, own) != 0) {
        if (!children || fscanf(children, "%d", &pid) != 1)
            fail(path);
        read_name(pid, own);
    }
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
    map_memfd(&kept, "/memfd:netd-regions", WINDOW_SIZE, KEPT_SEEN);
    while (read_line(line))
        if (strcmp(line, "done\n") != 0) /* left over from the last run */
            run_command(line);
    return 0;
}
