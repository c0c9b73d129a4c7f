/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/handover.h"

#include "common/util.h"
#include "netd/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "HEADER_FD:REGIONS_FD", for the program that is executed. */
#define ENV_TABLE "NETD_TABLE"

/* The layout of the table that "netd -t" would take over. */
#define ENV_LAYOUT "NETD_LAYOUT"

/* A check that takes longer has failed: it could be any program. */
#define CHECK_SEC 60

/* How often, and how far apart, the new program tries to map the table. */
#define OPEN_TRIES      50
#define OPEN_PAUSE_USEC (20 * USEC_PER_MSEC)

static int handover_setenv(const char *name, int value)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", value);
    return setenv(name, text, 1) < 0 ? -errno : 0;
}

void handover_find_program(char ret[static PATH_MAX])
{
    static const char self[] = "/proc/self/exe";
    ssize_t n = readlink(self, ret, PATH_MAX - 1);

    if (n < 0)
        memcpy(ret, self, sizeof(self)); /* this program, if not what replaces it */
    else
        ret[n] = '\0';
}

/* In the child of handover_check(): executes the check, or exits. */
static _Noreturn void handover_exec_check(const char *program, char **argv)
{
    size_t n = 0;
    char **more;
    sigset_t none;

    /* It must not keep connections open that the worker closes. */
    (void)close_range(STDERR_FILENO + 1, ~0U, 0);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    while (argv[n])
        n++;
    more = calloc(n + 2, sizeof(*more));
    if (!more || handover_setenv(ENV_LAYOUT, TABLE_LAYOUT) < 0 || unsetenv("NOTIFY_SOCKET") < 0)
        _exit(EXIT_FAILURE);
    more[0] = argv[0];
    more[1] = (char *)(uintptr_t) "-t"; /* execv(3) does not write to it */
    memcpy(more + 2, argv + 1, (n - 1) * sizeof(*more));
    (void)alarm(CHECK_SEC);
    execv(program, more);
    log_error("%s: %s", program, strerror(errno));
    free(more);
    _exit(EXIT_FAILURE);
}

pid_t handover_check(const char *program, char **argv)
{
    pid_t pid = fork();

    if (pid == 0)
        handover_exec_check(program, argv);
    return pid < 0 ? -errno : pid;
}

bool handover_layout_matches(void)
{
    const char *layout = getenv(ENV_LAYOUT);

    return !layout || atoi(layout) == TABLE_LAYOUT;
}

bool handover_is_check(void)
{
    return getenv(ENV_LAYOUT) != NULL;
}

/* The sockets that systemd passed are passed on, where they always were: sd_listen_fds(3). */
static int handover_pass_sockets(const struct table *table)
{
    int count = 0, r = 0;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        count += table->header->listeners[i].passed != 0;
    if (count > 0)
        r = handover_setenv("LISTEN_FDS", count);
    if (count > 0 && r == 0)
        r = handover_setenv("LISTEN_PID", (int)getpid());
    return r;
}

int handover_exec(const struct table *table, bool sessions, const char *program, char **argv)
{
    char text[32];
    int r = 0;

    snprintf(text, sizeof(text), "%d:%d", table->header_fd, table->regions_fd);
    if (!sessions)
        r = handover_pass_sockets(table);
    else if (setenv(ENV_TABLE, text, 1) < 0)
        r = -errno;
    if (r < 0)
        return r;
    execv(program, argv);
    r = -errno;
    (void)unsetenv(ENV_TABLE);
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_PID");
    return r;
}

bool handover_is_due(void)
{
    return getenv(ENV_TABLE) != NULL;
}

int handover_receive(struct table *ret)
{
    const char *text = getenv(ENV_TABLE);
    int header_fd, regions_fd, r;

    if (!text)
        return 0;
    r = -EINVAL;
    /* All sessions hang on this: a moment without memory must not end them. */
    if (sscanf(text, "%d:%d", &header_fd, &regions_fd) == 2)
        for (int i = 0; i < OPEN_TRIES; i++) {
            r = table_open(ret, header_fd, regions_fd);
            if (r != -ENOMEM)
                break;
            (void)usleep(OPEN_PAUSE_USEC);
        }
    (void)unsetenv(ENV_TABLE);
    if (r < 0) {
        log_error(ENV_TABLE ": not a session table: %s", strerror(-r));
        return r;
    }
    return 1;
}
