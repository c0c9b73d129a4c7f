/* SPDX-License-Identifier: MIT */
#include "netd-client/connection.h"

#include "netd-client/connect.h"
#include "netd-client/tls.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

int connection_open(struct connection *ret, const struct options *options, bool quiet)
{
    struct connection c = {.fd = -1};
    const char *host;
    int r = connect_to_netd(options, quiet, &host, &c.fd);

    if (r < 0 && options->tls)
        r = tls_open(&c.tls, options, quiet, host, c.fd);
    if (r < 0)
        *ret = c;
    else
        connection_close(&c);
    return r;
}

void connection_close(struct connection *c)
{
    tls_free(c->tls);
    close_fd(&c->fd);
    *c = (struct connection){.fd = -1};
}

ssize_t connection_read(struct connection *c, char *buffer, size_t size)
{
    ssize_t n;

    if (c->tls)
        return tls_read(c->tls, buffer, size);
    do
        n = recv(c->fd, buffer, size, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t connection_write(struct connection *c, const char *buffer, size_t size)
{
    ssize_t n;

    if (c->tls)
        return tls_write(c->tls, buffer, size);
    do
        n = send(c->fd, buffer, size, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int connection_finish(struct connection *c)
{
    if (c->tls)
        return tls_finish(c->tls);
    return shutdown(c->fd, SHUT_WR) < 0 ? -errno : 0;
}

short connection_events(const struct connection *c, bool writing)
{
    writing = writing || (c->tls && tls_wants_to_write(c->tls));
    return (short)(POLLIN | (writing ? POLLOUT : 0));
}

const char *connection_error(const struct connection *c, int error)
{
    return c->tls && error == -EPROTO ? tls_error(c->tls) : strerror(-error);
}
