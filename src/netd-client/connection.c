/* SPDX-License-Identifier: MIT */
#include "netd-client/connection.h"

#include "netd-client/connect.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

int connection_open(struct connection *ret, const struct options *options, bool quiet)
{
    int fd, r = connect_to_netd(options, quiet, &fd);

    if (r < 0)
        *ret = (struct connection){.fd = fd};
    return r;
}

void connection_close(struct connection *c)
{
    close_fd(&c->fd);
    c->fd = -1;
}

ssize_t connection_read(struct connection *c, char *buffer, size_t size)
{
    ssize_t n;

    do
        n = recv(c->fd, buffer, size, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t connection_write(struct connection *c, const char *buffer, size_t size)
{
    ssize_t n;

    do
        n = send(c->fd, buffer, size, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int connection_finish(struct connection *c)
{
    return shutdown(c->fd, SHUT_WR) < 0 ? -errno : 0;
}

short connection_events(const struct connection *c, bool writing)
{
    (void)c;
    return (short)(POLLIN | (writing ? POLLOUT : 0));
}

const char *connection_error(const struct connection *c, int error)
{
    (void)c;
    return strerror(-error);
}
