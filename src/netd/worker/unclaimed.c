/* SPDX-License-Identifier: MIT */
#include "netd/worker/unclaimed.h"

#include "common/util.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

static bool unclaimed_fd_is_known(const struct table *t, int fd)
{
    if (fd <= STDERR_FILENO || fd == t->header_fd || fd == t->regions_fd)
        return true;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (t->header->listeners[i].fd == fd)
            return true;
    return false;
}

static bool unclaimed_fd_is_connection(int fd)
{
    int type = 0, listening = 1;
    socklen_t length = sizeof(int);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && !listening;
}

static int unclaimed_add(struct unclaimed_fds *o, int fd)
{
    if (o->count == o->room) {
        size_t room = o->room * 2 + 64;
        int *more = reallocarray(o->fds, room, sizeof(*more));

        if (!more)
            return -ENOMEM;
        o->fds = more;
        o->room = room;
    }
    o->fds[o->count++] = fd;
    return 0;
}

static int unclaimed_compare(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

/* Drops the connections that belong to a session. */
static int unclaimed_drop_claimed(struct unclaimed_fds *o, const struct table *t)
{
    CLEANUP(free_pointer) bool *known = calloc(o->count + 1, sizeof(*known));
    size_t kept = 0;

    if (!known)
        return -ENOMEM;
    qsort(o->fds, o->count, sizeof(*o->fds), unclaimed_compare);
    /* The header is what a crashed worker left. */
    for (uint32_t i = 0; i < t->header->used && i < t->capacity; i++) {
        const struct session *s = &t->sessions[i];
        int *fd = bsearch(&s->fd, o->fds, o->count, sizeof(*o->fds), unclaimed_compare);

        if (fd && s->state != SESSION_FREE && session_has_connection(s))
            known[fd - o->fds] = true;
    }
    for (size_t i = 0; i < o->count; i++)
        if (!known[i])
            o->fds[kept++] = o->fds[i];
    o->count = kept;
    return 0;
}

int unclaimed_collect(const struct table *t, struct unclaimed_fds *ret)
{
    DIR *dir = opendir("/proc/self/fd");
    struct unclaimed_fds o = {0};
    const struct dirent *entry;
    uint64_t fd;
    int r = 0;

    if (!dir)
        return -errno;
    while (r == 0 && (entry = readdir(dir))) {
        if (parse_u64(entry->d_name, INT32_MAX, &fd) < 0 || (int)fd == dirfd(dir) ||
            unclaimed_fd_is_known(t, (int)fd))
            continue;
        if (unclaimed_fd_is_connection((int)fd))
            r = unclaimed_add(&o, (int)fd);
        else
            close((int)fd);
    }
    closedir(dir);
    if (r == 0 && o.count > 0)
        r = unclaimed_drop_claimed(&o, t);
    if (r < 0) {
        free(o.fds);
        return r;
    }
    *ret = o;
    return 0;
}
