/* SPDX-License-Identifier: MIT */
/*
 * A process has connected stream sockets that are not clients: standard output, or what a library
 * keeps open. The connection that a worker accepted and did not make a session of before it died is
 * identified by all of these:
 *
 * - accept.listener is set: accept4(2) is called for one connection at a time;
 * - it belongs to no session;
 * - its local address is the listener's: for AF_UNIX the name, which neither connect(2) nor
 *   socketpair(2) gives to a socket; for TCP the port;
 * - its peer is the one that the kernel stored in the table before it made the descriptor.
 *
 * No two TCP sockets have the same two addresses and ports.
 */
#include "netd/worker/unclaimed.h"

#include "common/util.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct name {
    struct sockaddr_storage address;
    socklen_t length;
};

/* getsockname(2) or getpeername(2). */
typedef int name_call(int fd, struct sockaddr *address, socklen_t *length);

static bool unclaimed_name(struct name *ret, name_call *call, int fd)
{
    *ret = (struct name){.length = sizeof(ret->address)};
    return call(fd, (struct sockaddr *)&ret->address, &ret->length) == 0 &&
           ret->length <= sizeof(ret->address);
}

static bool unclaimed_same_name(const struct name *a, const struct name *b)
{
    return a->length == b->length && memcmp(&a->address, &b->address, a->length) == 0;
}

/* A listener for all addresses has none of those that its connections have. */
static bool unclaimed_is_own_name(const struct name *connection, const struct name *listener)
{
    struct endpoint a, b;

    if (connection->address.ss_family != AF_INET && connection->address.ss_family != AF_INET6)
        return unclaimed_same_name(connection, listener);
    endpoint_from_sockaddr(&a, &connection->address, connection->length);
    endpoint_from_sockaddr(&b, &listener->address, listener->length);
    return connection->address.ss_family == listener->address.ss_family && a.port == b.port;
}

/* True if FD is the connection that was being accepted. */
static bool unclaimed_is_accepted(const struct table *t, int fd)
{
    const struct table_accept *call = &t->header->accept;
    struct name peer, own, listener, accepted = {.address = call->peer, .length = call->length};

    return call->listener < LISTENERS_MAX && call->length <= sizeof(call->peer) &&
           unclaimed_name(&listener, getsockname, t->header->listeners[call->listener].fd) &&
           unclaimed_name(&own, getsockname, fd) && unclaimed_name(&peer, getpeername, fd) &&
           unclaimed_is_own_name(&own, &listener) && unclaimed_same_name(&peer, &accepted);
}

static bool unclaimed_is_of_tls(const struct table_tls *tls, int fd)
{
    for (size_t i = 0; i < TLS_PROCESSES_MAX; i++)
        if (tls->processes[i].pid != 0 && tls->processes[i].control == fd)
            return true;
    return tls->settings_fd == fd || tls->counters_fd == fd;
}

static bool unclaimed_is_known(const struct table *t, int fd)
{
    if (fd <= STDERR_FILENO || fd == t->header_fd || fd == t->regions_fd ||
        stream_owns(&t->header->batch.stream, fd))
        return true;
    if (unclaimed_is_of_tls(&t->header->tls, fd))
        return true;
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &t->header->listeners[i];

        if (l->fd == fd || l->tls_fd == fd ||
            (l->fd >= 0 && l->rules.access.ranges > 0 && l->rules.fd == fd))
            return true;
    }
    return false;
}

/* The descriptors of all sessions. */
struct claimed {
    int *fds;
    size_t count;
};

static int unclaimed_compare(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

static int unclaimed_find_claimed(struct claimed *ret, const struct table *t)
{
    /* The header is what a crashed worker left. */
    uint32_t used = t->header->used < t->capacity ? t->header->used : t->capacity;

    ret->fds = calloc(used + 1, sizeof(*ret->fds));
    if (!ret->fds)
        return -ENOMEM;
    for (uint32_t i = 0; i < used; i++) {
        const struct session *s = &t->sessions[i];

        if (s->state != SESSION_FREE && session_has_connection(s))
            ret->fds[ret->count++] = s->fd;
    }
    qsort(ret->fds, ret->count, sizeof(*ret->fds), unclaimed_compare);
    return 0;
}

static bool unclaimed_is_claimed(const struct claimed *claimed, int fd)
{
    return bsearch(&fd, claimed->fds, claimed->count, sizeof(fd), unclaimed_compare) != NULL;
}

int unclaimed_collect(const struct table *t, int *ret)
{
    DIR *dir = opendir("/proc/self/fd");
    struct claimed claimed = {0};
    const struct dirent *entry;
    uint64_t fd;
    int r;

    if (!dir)
        return -errno;
    r = unclaimed_find_claimed(&claimed, t);
    if (r == 0)
        *ret = NO_UNCLAIMED;
    while (r == 0 && (entry = readdir(dir))) {
        if (parse_u64(entry->d_name, INT32_MAX, &fd) < 0 || (int)fd == dirfd(dir) ||
            unclaimed_is_known(t, (int)fd) || unclaimed_is_claimed(&claimed, (int)fd))
            continue;
        if (*ret == NO_UNCLAIMED && unclaimed_is_accepted(t, (int)fd))
            *ret = (int)fd;
        else
            close((int)fd);
    }
    closedir(dir);
    free(claimed.fds);
    return r;
}
