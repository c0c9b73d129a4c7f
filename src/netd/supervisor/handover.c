/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/handover.h"

#include "common/util.h"
#include "netd/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "HEADER_FD:REGIONS_FD" */
#define ENV_TABLE "NETD_TABLE"

/* "CHECK_FD:REQUESTER" */
#define ENV_RELOAD "NETD_RELOAD"

/* Attempts of the new program to map the table, and the pause between them. */
#define OPEN_TRIES      50
#define OPEN_PAUSE_USEC (20 * USEC_PER_MSEC)

void handover_find_program(char ret[static PATH_MAX])
{
    static const char self[] = "/proc/self/exe";
    ssize_t n = readlink(self, ret, PATH_MAX - 1);

    if (n < 0)
        memcpy(ret, self, sizeof(self)); /* this program, without what replaces it */
    else
        ret[n] = '\0';
}

/* Sets the environment of the program to be executed. Without SESSIONS the sockets that systemd
 * passed are passed on, at the same descriptors: sd_listen_fds(3). */
static int handover_set_environment(const struct handover *h, bool sessions, int check_fd)
{
    /* putenv(3), because setenv(3) leaks its copy when the environment cannot grow. */
    static char table[64], reload[64], fds[32], pid[32];
    static char names[32 + CONFIG_LISTENERS_MAX * (LISTENER_NAME_MAX + 1)];
    char *end = stpcpy(names, "LISTEN_FDNAMES=");
    int count = 0;

    for (size_t i = 0; i < LISTENERS_MAX && count < CONFIG_LISTENERS_MAX; i++) {
        const struct table_listener *l = &h->table.header->listeners[i];

        if (l->passed)
            end += sprintf(end, "%s%s", count++ > 0 ? ":" : "",
                           l->passed_name[0] ? l->passed_name : "unknown");
    }
    snprintf(table, sizeof(table), ENV_TABLE "=%d:%d", h->table.header_fd, h->table.regions_fd);
    snprintf(reload, sizeof(reload), ENV_RELOAD "=%d:%d", check_fd, (int)h->requester);
    snprintf(fds, sizeof(fds), "LISTEN_FDS=%d", count);
    snprintf(pid, sizeof(pid), "LISTEN_PID=%d", (int)getpid());
    if (putenv(reload) != 0 || (sessions && putenv(table) != 0) ||
        (!sessions && count > 0 && (putenv(fds) != 0 || putenv(pid) != 0 || putenv(names) != 0)))
        return -errno;
    return 0;
}

int handover_exec(const struct handover *h, bool sessions, const char *program, char **argv)
{
    CLEANUP(close_fd) int fd = check_save(h->checker.check);
    int r = fd;

    if (r >= 0)
        r = handover_set_environment(h, sessions, fd);
    if (r >= 0) {
        execv(program, argv);
        r = -errno;
    }
    (void)unsetenv(ENV_TABLE);
    (void)unsetenv(ENV_RELOAD);
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDNAMES");
    return r;
}

static int handover_open_table(const char *text, struct table *ret)
{
    int header_fd, regions_fd, r = -EINVAL;

    if (sscanf(text, "%d:%d", &header_fd, &regions_fd) != 2)
        return r;
    /* A temporary lack of memory must not end all sessions. */
    for (int i = 0; i < OPEN_TRIES; i++) {
        r = table_open(ret, header_fd, regions_fd);
        if (r != -ENOMEM)
            break;
        (void)usleep(OPEN_PAUSE_USEC);
    }
    return r;
}

static void handover_receive_check(struct handover *ret)
{
    const char *text = getenv(ENV_RELOAD);
    int fd, requester;

    if (!text || sscanf(text, "%d:%d", &fd, &requester) != 2)
        return;
    ret->reload = true;
    ret->requester = requester;
    if (check_load(&ret->checker, fd) < 0)
        ret->checker = (struct checker){0};
    (void)unsetenv(ENV_RELOAD);
}

int handover_receive(struct handover *ret)
{
    const char *text;
    int r;

    handover_receive_check(ret);
    text = getenv(ENV_TABLE);
    if (!text)
        return 0;
    r = handover_open_table(text, &ret->table);
    (void)unsetenv(ENV_TABLE);
    if (r < 0) {
        log_error(ENV_TABLE ": not a session table: %s", strerror(-r));
        return r;
    }
    ret->reload = true;
    return 1;
}
