/* SPDX-License-Identifier: MIT */
#include "netd/worker/listener.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

/* Completed connections that wait for accept(2); the kernel limits it to net.core.somaxconn. */
#define LISTEN_BACKLOG 4096

/* A peer that is silent for KEEPALIVE_IDLE is probed every KEEPALIVE_INTERVAL; after DEAD without
 * an answer the connection fails with ETIMEDOUT (tcp(7), RFC 5482). */
#define KEEPALIVE_IDLE_SEC     60
#define KEEPALIVE_INTERVAL_SEC 10
#define KEEPALIVE_PROBES       6
#define DEAD_MSEC              ((KEEPALIVE_IDLE_SEC + KEEPALIVE_INTERVAL_SEC * KEEPALIVE_PROBES) * 1000)

static void listener_set(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof(value));
}

/* Options that accepted sockets inherit. Those that do not apply to AF_UNIX fail there, which is
 * harmless. */
static void listener_set_options(int fd)
{
    listener_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    listener_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_SEC);
    listener_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SEC);
    listener_set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    listener_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, DEAD_MSEC);
    /* Urgent data is data: a byte sent with MSG_OOB stays in its place in the stream. */
    listener_set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
}

void listener_format(const struct table_listener *l, char ret[static 128])
{
    char text[ENDPOINT_TEXT_MAX];

    endpoint_format(&l->bound, text);
    snprintf(ret, 128, "%s", l->path[0] ? l->path : text);
}

/* Fills in the address of the socket FD. */
static int listener_describe(struct table_listener *l, int fd)
{
    struct sockaddr_storage sa = {0};
    socklen_t length = sizeof(sa);
    const struct sockaddr_un *un = (const struct sockaddr_un *)&sa;
    size_t path;

    if (getsockname(fd, (struct sockaddr *)&sa, &length) < 0)
        return -errno;
    if (sa.ss_family != AF_INET && sa.ss_family != AF_INET6 && sa.ss_family != AF_UNIX)
        return -EAFNOSUPPORT; /* AF_VSOCK: its clients could not be named */
    endpoint_from_sockaddr(&l->bound, &sa, length);
    if (sa.ss_family == AF_UNIX && length > offsetof(struct sockaddr_un, sun_path)) {
        path = length - offsetof(struct sockaddr_un, sun_path);
        memcpy(l->path, un->sun_path, min_size(path, sizeof(l->path) - 1));
        if (l->path[0] == '\0')
            l->path[0] = '@';
        /* It becomes the value of a field, which a control character could end. */
        for (char *p = l->path; *p; p++)
            if ((unsigned char)*p < 0x20 || *p == 0x7f)
                *p = '?';
    }
    l->fd = fd;
    return 0;
}

/* --- Resolving --- */

int listener_resolve(const struct listener_config *config, bool numeric,
                     struct listener_endpoints *ret, char error[static LISTENER_ERROR_MAX])
{
    struct listener_endpoints found = {0};
    struct addrinfo *list = NULL;
    int r;

    r = address_resolve(config->address.host, config->address.port,
                        AI_PASSIVE | (numeric ? AI_NUMERICHOST : 0), &list);
    if (r != 0 && numeric)
        r = 0;
    if (r != 0) {
        snprintf(error, LISTENER_ERROR_MAX, "%s%scannot resolve '%s': %s", config->origin.host,
                 config->origin.host[0] ? ": " : "", config->address.host, gai_strerror(r));
        return r == EAI_NONAME || r == EAI_NODATA || r == EAI_ADDRFAMILY ? -EINVAL : -EAGAIN;
    }
    for (const struct addrinfo *ai = list; ai && found.count < ENDPOINTS_MAX; ai = ai->ai_next) {
        struct sockaddr_storage sa = {0};

        memcpy(&sa, ai->ai_addr, ai->ai_addrlen);
        endpoint_from_sockaddr(&found.at[found.count++], &sa, ai->ai_addrlen);
    }
    freeaddrinfo(list);
    *ret = found;
    return 0;
}

/* --- Binding --- */

static bool listener_same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && endpoint_same_address(a, b);
}

/* Binds WANTED. Returns the descriptor or a negative errno. */
static int listener_try(const struct endpoint *wanted, bool any, bool share)
{
    CLEANUP(close_fd) int fd = -1;
    struct sockaddr_storage sa;
    socklen_t length = endpoint_to_sockaddr(wanted, &sa);
    int r;

    /* Without close-on-exec: a reload hands it over. */
    fd = socket(wanted->family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    listener_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (share)
        listener_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (wanted->family == AF_INET6)
        listener_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !any);
    if (bind(fd, (struct sockaddr *)&sa, length) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
        return -errno;
    listener_set(fd, SOL_SOCKET, SO_REUSEPORT, 0);
    listener_set_options(fd);
    r = fd;
    fd = -1;
    return r;
}

static void listeners_share(const struct table *t, uint16_t port, int on)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &t->header->listeners[i];

        if (l->fd >= 0 && !l->passed && l->bound.port == port)
            listener_set(l->fd, SOL_SOCKET, SO_REUSEPORT, on);
    }
}

/* Binds WANTED. If that conflicts with one of our own listeners (127.0.0.1 becomes *), both share
 * the port for a moment, so that it is never closed. */
static int listener_bind(const struct table *t, const struct endpoint *wanted, bool any)
{
    int fd = listener_try(wanted, any, false);

    if (fd != -EADDRINUSE)
        return fd;
    listeners_share(t, wanted->port, 1);
    fd = listener_try(wanted, any, true);
    listeners_share(t, wanted->port, 0);
    return fd;
}

/* True if both are closed and have the same settings. Padding may differ; then they are merely not
 * merged. */
static bool listener_is_alike(const struct table_listener *a, const struct table_listener *b)
{
    const void *x = &a->settings, *y = &b->settings;

    return a->fd < 0 && b->fd < 0 && strcmp(a->path, b->path) == 0 &&
           memcmp(x, y, sizeof(a->settings)) == 0;
}

/* Gives sessions of closed listeners with equal settings the number of one of them. */
static void listeners_merge_closed(struct table *t)
{
    const struct table_listener *all = t->header->listeners;
    uint32_t same[LISTENERS_MAX];

    for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
        same[i] = i;
        for (uint32_t j = 0; j < i && same[i] == i; j++)
            if (listener_is_alike(&all[i], &all[j]))
                same[i] = j;
    }
    for (uint32_t i = 0; i < t->header->used; i++)
        if (t->sessions[i].listener < LISTENERS_MAX)
            t->sessions[i].listener = same[t->sessions[i].listener];
}

/* A number that no open listener has and no session refers to, or -1. */
static int listeners_free_number(const struct table *t)
{
    bool needed[LISTENERS_MAX] = {false};

    for (uint32_t i = 0; i < t->header->used; i++)
        if (t->sessions[i].state != SESSION_FREE && t->sessions[i].listener < LISTENERS_MAX)
            needed[t->sessions[i].listener] = true;
    for (int i = 0; i < LISTENERS_MAX; i++)
        if (t->header->listeners[i].fd < 0 && !needed[i])
            return i;
    return -1;
}

static int listeners_find(const struct table *t, const struct endpoint *requested)
{
    for (int i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &t->header->listeners[i];

        if (l->fd >= 0 && !l->passed && !l->closing &&
            listener_same_endpoint(&l->requested, requested))
            return i;
    }
    return -1;
}

/* Gets the listener for WANTED, open already or bound now. Returns its number or a negative errno.
 */
static int listeners_get_or_bind(struct table *t, const struct endpoint *wanted, bool any)
{
    struct table_listener l = {.requested = *wanted};
    int fd, n, r;

    n = listeners_find(t, wanted);
    if (n >= 0)
        return n;
    n = listeners_free_number(t);
    if (n < 0) {
        listeners_merge_closed(t);
        n = listeners_free_number(t);
    }
    if (n < 0)
        return -ENOSPC;
    fd = listener_bind(t, wanted, any);
    if (fd < 0)
        return fd;
    r = listener_describe(&l, fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    t->header->listeners[n] = l;
    return n;
}

/* Describes the error NUMBER. */
static const char *listener_reason(int number, uint16_t port)
{
    if (number == -ENOSPC)
        return "sessions use the settings of too many earlier listeners";
    if (number == -EACCES && port < IPPORT_RESERVED)
        return "Permission denied; for a port below 1024 use netd.socket, or a drop-in with "
               "AmbientCapabilities=CAP_NET_BIND_SERVICE, see netd(8)";
    return strerror(-number);
}

/* Writes the error line, with the origin of the setting unless it is the default. */
static void listener_error(char error[static LISTENER_ERROR_MAX],
                           const struct listener_config *config, int number)
{
    const struct listener_address *a = &config->address;
    bool at_host = number == -EADDRNOTAVAIL || number == -EAFNOSUPPORT;
    const char *origin = at_host ? config->origin.host : config->origin.port;
    bool colon = strchr(a->host, ':') && a->host[0] != '[';

    snprintf(error, LISTENER_ERROR_MAX, "%s%scannot listen on %s%s%s:%u: %s", origin,
             origin[0] ? ": " : "", colon ? "[" : "", a->host, colon ? "]" : "", a->port,
             listener_reason(number, a->port));
}

/* Gets the listeners of CONFIG, and marks their numbers in WANTED. */
static int listeners_bind(struct table *t, const struct listener_config *config,
                          const struct listener_endpoints *endpoints,
                          bool wanted[static LISTENERS_MAX], char error[static LISTENER_ERROR_MAX])
{
    bool any = strcmp(config->address.host, "*") == 0, found = false;
    int r, first_error = 0;

    for (uint32_t i = 0; i < endpoints->count; i++) {
        r = listeners_get_or_bind(t, &endpoints->at[i], any);
        if (r >= 0)
            wanted[r] = found = true;
        else if (first_error == 0)
            first_error = r;
    }
    if (!found && any && first_error == -EAFNOSUPPORT) {
        /* A machine without IPv6: listen on all IPv4 addresses. */
        struct endpoint every = {.family = AF_INET, .port = config->address.port};

        r = listeners_get_or_bind(t, &every, false);
        if (r >= 0)
            wanted[r] = found = true;
        else
            first_error = r;
    }
    if (found)
        return 0;
    listener_error(error, config, first_error);
    return first_error;
}

int listeners_configure(struct table *t, const struct listener_config *config,
                        const struct listener_endpoints *endpoints,
                        char error[static LISTENER_ERROR_MAX])
{
    struct table_listener *all = t->header->listeners;
    bool wanted[LISTENERS_MAX] = {false}, passed = false;
    int r;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (all[i].fd >= 0 && all[i].passed)
            wanted[i] = passed = true;
    if (!passed) {
        r = listeners_bind(t, config, endpoints, wanted, error);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        if (wanted[i])
            all[i].settings = config->settings;
        else if (all[i].fd >= 0)
            all[i].closing = true;
    }
    return 0;
}

/* --- Passed sockets --- */

int listeners_adopt(struct table *t, int first, int count, const struct listener_config *config,
                    char error[static LISTENER_ERROR_MAX])
{
    if (count > CONFIG_LISTENERS_MAX) {
        snprintf(error, LISTENER_ERROR_MAX, "LISTEN_FDS: %d passed sockets are more than %d", count,
                 CONFIG_LISTENERS_MAX);
        return -EINVAL;
    }
    for (int i = 0; i < count; i++) {
        struct table_listener l = {.passed = true, .settings = config->settings};
        int fd = first + i, r;

        r = sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1);
        if (r > 0)
            r = listener_describe(&l, fd) < 0 ? -EINVAL : r;
        if (r <= 0) {
            snprintf(error, LISTENER_ERROR_MAX,
                     "LISTEN_FDS: descriptor %d is not a listening TCP or unix stream socket", fd);
            return -EINVAL;
        }
        /* sd_listen_fds(3) set close-on-exec, but a reload hands it over; accept(2) must not block.
         */
        if (fcntl(fd, F_SETFD, 0) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
            return -errno;
        listener_set_options(fd);
        l.requested = l.bound;
        t->header->listeners[i] = l;
    }
    return 0;
}

bool listener_matches(const struct table_listener *l, const struct listener_config *config,
                      const struct listener_endpoints *endpoints)
{
    bool any = strcmp(config->address.host, "*") == 0;

    for (uint32_t i = 0; i < endpoints->count; i++) {
        const struct endpoint *e = &endpoints->at[i];

        if (any ? l->bound.port == e->port : listener_same_endpoint(&l->bound, e))
            return true;
    }
    return false;
}

/* --- Accepting --- */

/* 0 is any. */
static void listener_set_min_ttl(int fd, int ttl)
{
    listener_set(fd, IPPROTO_IP, IP_MINTTL, ttl);
    listener_set(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, ttl);
}

void listener_drop_new(const struct table_listener *l)
{
    listener_set_min_ttl(l->fd, 255);
}

int listener_accept(const struct table_listener *l, struct table_accept *call,
                    struct endpoint *peer)
{
    int fd;

    call->length = sizeof(call->peer);
    fd = accept4(l->fd, (struct sockaddr *)&call->peer, &call->length, SOCK_NONBLOCK);
    if (fd >= 0) {
        if (l->closing)
            listener_set_min_ttl(fd, 0); /* it is inherited */
        endpoint_from_sockaddr(peer, &call->peer, call->length);
        return fd;
    }
    switch (errno) {
    case EAGAIN:
        return -EAGAIN;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return -EMFILE;
    /* Errors of the connection or the network, reported here: accept(2). */
    case ECONNABORTED:
    case EINTR:
    case EPERM:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case ETIMEDOUT:
        return -ECONNABORTED;
    default:
        return -errno;
    }
}
