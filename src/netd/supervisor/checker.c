/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/checker.h"

#include "common/exit-status.h"
#include "common/names.h"
#include "common/util.h"
#include "netd/config/print.h"
#include "netd/log.h"
#include "netd/session/table.h"
#include "netd/supervisor/tls.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Size of a mapping for a check in every version: the program that checks may have a larger struct
 * than the one that reads. Pages that are not written take no memory. */
#define CHECK_ROOM (UINT64_C(1) << 20)

_Static_assert(sizeof(struct check) <= CHECK_ROOM, "a check does not fit");
_Static_assert(sizeof(((struct check *)0)->error) >= CONFIG_ERROR_MAX, "an error does not fit");
_Static_assert(sizeof(((struct check *)0)->error) >= LISTENER_ERROR_MAX, "an error does not fit");

/* Tells "netd -t" to write its result to descriptor CHECK_FD. The value is "numeric" or "resolve".
 */
#define ENV_CHECK            "NETD_CHECK"
#define CHECK_FD             3
#define CHECK_WORDS(numeric) ((numeric) ? "numeric" : "resolve")

/* Time limit for the program on disk. */
#define CHECK_SEC 60

/* --- In the child --- */

static int checker_exit_status(int r)
{
    return r == -EBADMSG ? EXIT_USAGE : r == -EINVAL ? EXIT_CONFIG : r < 0 ? EXIT_FAILED : 0;
}

/* Reads and resolves everything into CHECK. */
static void checker_find(struct check *check, const struct config_input *input, bool numeric)
{
    int r;

    r = config_load(&check->config, input, check->error);
    for (uint32_t i = 0; r == 0 && i < check->config.n_listeners; i++)
        r = listener_resolve(&check->config.listeners[i], numeric, &check->endpoints[i],
                             check->error);
    if (r == 0)
        r = tls_check(&check->config, check->error);
    check->layout = table_layout();
    check->status = checker_exit_status(r);
    __atomic_store_n(&check->size, (uint32_t)sizeof(*check), __ATOMIC_RELEASE);
}

static void checker_unblock_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Executes PROGRAM for the check, or exits. */
static _Noreturn void checker_become(const char *program, char **argv, bool numeric, int memfd)
{
    size_t n = 0;
    char **more;

    /* Connections that the worker closes must not stay open here. */
    if ((memfd != CHECK_FD && dup2(memfd, CHECK_FD) < 0) || close_range(CHECK_FD + 1, ~0U, 0) < 0)
        _exit(EXIT_FAILED);
    checker_unblock_signals();
    while (argv[n])
        n++;
    more = calloc(n + 2, sizeof(*more));
    if (!more || setenv(ENV_CHECK, CHECK_WORDS(numeric), 1) < 0 || unsetenv("NOTIFY_SOCKET") < 0)
        _exit(EXIT_FAILED);
    more[0] = argv[0];
    more[1] = (char *)(uintptr_t) "-t"; /* execv(3) does not write to it */
    memcpy(more + 2, argv + 1, (n - 1) * sizeof(*more));
    (void)alarm(CHECK_SEC);
    execv(program, more);
    log_error("%s: %s", program, strerror(errno));
    free(more);
    _exit(EXIT_FAILED);
}

/* --- In its parent --- */

static struct check *checker_map(int fd)
{
    void *p = mmap(NULL, CHECK_ROOM, PROT_READ | PROT_WRITE,
                   fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* Like fork(2), but the child dies with its parent. */
static pid_t checker_fork(void)
{
    pid_t parent = getpid(), pid = fork();

    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(EXIT_FAILED);
    }
    return pid < 0 ? -errno : pid;
}

/* Forks. The parent's C then owns CHECK; without a child it is unmapped. */
static pid_t checker_begin(struct checker *c, struct check *check)
{
    pid_t pid = checker_fork();

    if (pid > 0) {
        c->pid = pid;
        c->check = check;
    } else if (pid < 0) {
        (void)munmap(check, CHECK_ROOM);
    }
    return pid;
}

static int checker_start_over(struct checker *c, struct check *check,
                              const struct config_input *input, bool numeric)
{
    pid_t pid;

    *c = (struct checker){.file = input->file ? input->file : DEFAULT_CONF};
    pid = checker_begin(c, check);
    if (pid == 0) {
        checker_unblock_signals();
        (void)close(STDERR_FILENO); /* flex prints its fatal errors there */
        checker_find(check, input, numeric);
        _exit(EXIT_SUCCESS);
    }
    return pid < 0 ? pid : 0;
}

int checker_start(struct checker *c, const struct config_input *input, bool numeric)
{
    struct check *check = checker_map(-1);

    return check ? checker_start_over(c, check, input, numeric) : -errno;
}

static int checker_make_memfd(void)
{
    CLEANUP(close_fd) int fd = memfd_create("netd-check", 0);
    int r = fd;

    if (fd < 0 || ftruncate(fd, CHECK_ROOM) < 0)
        return -errno;
    fd = -1;
    return r;
}

int checker_execute(struct checker *c, const char *program, char **argv, bool numeric)
{
    CLEANUP(close_fd) int fd = checker_make_memfd();
    struct check *check;
    pid_t pid;

    if (fd < 0)
        return fd;
    check = checker_map(fd);
    if (!check)
        return -errno;
    *c = (struct checker){.program = program};
    pid = checker_begin(c, check);
    if (pid == 0)
        checker_become(program, argv, numeric, fd);
    return pid < 0 ? pid : 0;
}

/* Sets the error of a child that exited with STATUS and left no result. */
static void checker_explain(struct checker *c, int status)
{
    const size_t size = sizeof(c->check->error);
    char *error = c->check->error;

    if (!c->program)
        snprintf(error, size, "%s: cannot be read: the parser process terminated; out of memory?",
                 c->file);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        snprintf(error, size, "%s: the check took more than %d seconds", c->program, CHECK_SEC);
    else if (WIFSIGNALED(status))
        snprintf(error, size, "%s: the check was ended by signal %d (%s)", c->program,
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(error, size, "%s: the check ended with status %d", c->program,
                 WEXITSTATUS(status));
}

void checker_ended(struct checker *c, int status)
{
    uint32_t size = __atomic_load_n(&c->check->size, __ATOMIC_ACQUIRE);

    c->pid = 0;
    c->check->error[sizeof(c->check->error) - 1] = '\0';
    if (size > 0 && size <= CHECK_ROOM)
        return;
    c->check->status = EXIT_FAILED;
    checker_explain(c, status);
}

void checker_deinit(struct checker *c)
{
    if (c->pid > 0)
        (void)kill(c->pid, SIGKILL);
    if (c->check)
        (void)munmap(c->check, CHECK_ROOM);
    *c = (struct checker){0};
}

/* --- netd -t --- */

/* Maps CHECK_FD, or returns NULL. */
static struct check *checker_map_given(void)
{
    struct stat st;

    if (fstat(CHECK_FD, &st) < 0 || (uint64_t)st.st_size != CHECK_ROOM)
        return NULL;
    return checker_map(CHECK_FD);
}

int checker_main(const struct config_input *input, FILE *print)
{
    const char *mode = getenv(ENV_CHECK);
    bool numeric = mode && strcmp(mode, CHECK_WORDS(true)) == 0;
    struct check *check = mode ? checker_map_given() : checker_map(-1);
    struct checker c;
    int status = 0, r;

    (void)signal(SIGCHLD, SIG_DFL);
    r = check ? checker_start_over(&c, check, input, numeric) : -ENOMEM;
    if (r < 0) {
        log_error("cannot start the checker: %s", strerror(-r));
        return EXIT_FAILED;
    }
    while (waitpid(c.pid, &status, 0) < 0 && errno == EINTR)
        ;
    checker_ended(&c, status);
    if (!mode && c.check->error[0])
        log_error("%s", c.check->error);
    else if (!mode && c.check->config.warning[0])
        log_warning("%s", c.check->config.warning);
    status = c.check->status;
    if (print && status == EXIT_SUCCESS)
        config_print(print, &c.check->config);
    checker_deinit(&c);
    return status;
}

/* --- From one program to the next --- */

int check_save(const struct check *check)
{
    CLEANUP(close_fd) int fd = checker_make_memfd();
    ssize_t n;
    int r = fd;

    if (fd < 0)
        return fd;
    n = write(fd, check, check->size);
    if (n != (ssize_t)check->size)
        return n < 0 ? -errno : -ENOSPC;
    fd = -1;
    return r;
}

int check_load(struct checker *ret, int fd)
{
    struct check *check;
    struct stat st;
    int r = 0;

    if (fstat(fd, &st) < 0)
        return -errno;
    check = (uint64_t)st.st_size == CHECK_ROOM ? checker_map(fd) : NULL;
    close(fd);
    if (!check)
        return -EPROTONOSUPPORT;
    if (check->size != sizeof(*check) || check->layout != table_layout() || check->status != 0)
        r = -EPROTONOSUPPORT;
    *ret = (struct checker){.check = check};
    if (r < 0)
        checker_deinit(ret);
    return r;
}
