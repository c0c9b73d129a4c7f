/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/notify.h"

#include "common/util.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

bool notify_is_wanted(void)
{
    const char *name = getenv("NOTIFY_SOCKET");

    return name && name[0];
}

void notify_announce(struct notify *n, const char *state)
{
    snprintf(n->state, sizeof(n->state), "%s", state);
}

/* Converts $NOTIFY_SOCKET, a path or "@" and an abstract name. Returns the address's length, 0 if
 * it is not set, or -EINVAL. */
static int notify_address(struct sockaddr_un *ret)
{
    const char *name = getenv("NOTIFY_SOCKET");
    size_t length = name ? strlen(name) : 0;

    if (length == 0)
        return 0;
    if ((name[0] != '/' && name[0] != '@') || length < 2 || length >= sizeof(ret->sun_path))
        return -EINVAL;
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret->sun_path, name, length);
    if (name[0] == '@')
        ret->sun_path[0] = '\0';
    /* A path includes its NUL; in an abstract name that would be one more byte: unix(7). */
    return (int)(offsetof(struct sockaddr_un, sun_path) + length + (name[0] == '/'));
}

int notify_send(struct notify *n, const char *more)
{
    CLEANUP(close_fd) int fd = -1;
    struct sockaddr_un address;
    char text[NOTIFY_MAX];
    int length, size;

    length = notify_address(&address);
    if (length <= 0) {
        n->state[0] = '\0'; /* it will never be sent */
        return length;
    }
    size =
        snprintf(text, sizeof(text), "%s%s%s", n->state, n->state[0] && more[0] ? "\n" : "", more);
    /* A new socket each time: a restarted service manager has bound a new one. */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (sendto(fd, text, min_size((size_t)size, sizeof(text) - 1), MSG_DONTWAIT | MSG_NOSIGNAL,
               (const struct sockaddr *)&address, (socklen_t)length) < 0)
        return -errno;
    n->state[0] = '\0';
    return 0;
}
