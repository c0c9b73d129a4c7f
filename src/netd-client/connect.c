/* SPDX-License-Identifier: MIT */
#include "netd-client/connect.h"

#include "common/address.h"
#include "common/names.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FAILURES_MAX 1024 /* bytes of the error line for the errors of all addresses */

/* Maximum length of the path of a unix socket, see unix(7). */
#define PATH_LENGTH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

struct target {
    const char *host; /* or path of a unix socket, or "@" and the name of an abstract one */
    uint16_t port;
};

/* True for "127.0.0.1:3000", "name:3000", "[::1]:3000". An IPv6 address has at least two colons. */
static bool target_has_port(const char *host)
{
    const char *bracket = strchr(host, ']'), *colon = strchr(host, ':');

    return bracket ? bracket[1] == ':' : colon && !strchr(colon + 1, ':');
}

static bool host_is_unix(const char *host)
{
    return *host == '/' || *host == '@';
}

/* Validates VALUE, given by ORIGIN (an option or variable). Returns -1 or EXIT_USAGE. */
static int target_host(struct target *target, const char *origin, const char *value)
{
    if (*value == '\0')
        return client_fail(EXIT_USAGE, "%s is empty", origin);
    if (host_is_unix(value) && strlen(value) > PATH_LENGTH_MAX)
        return client_fail(EXIT_USAGE, "%s: path longer than %zu bytes", origin, PATH_LENGTH_MAX);
    if (strlen(value) > HOST_MAX)
        return client_fail(EXIT_USAGE, "%s: longer than %d bytes", origin, HOST_MAX);
    if (strcmp(value, "*") == 0)
        return client_fail(EXIT_USAGE, "%s: '*' is for netd; a client needs one address", origin);
    if (strcmp(value, "@") == 0)
        return client_fail(EXIT_USAGE, "%s: '@' is not the name of a unix socket", origin);
    if (!host_is_unix(value) && target_has_port(value))
        return client_fail(EXIT_USAGE, "%s: '%s' contains a port; use --port or SERVER_PORT",
                           origin, value);
    target->host = value;
    return -1;
}

static int target_port(struct target *target, const char *origin, const char *value)
{
    uint64_t port;
    int r;

    if (*value == '\0')
        return client_fail(EXIT_USAGE, "%s is empty", origin);
    r = parse_u64(value, UINT16_MAX, &port);
    if (r == -EINVAL)
        return client_fail(EXIT_USAGE, "%s: '%.64s' is not a number", origin, value);
    if (r < 0 || port == 0)
        return client_fail(EXIT_USAGE, "%s: %.64s is not between 1 and %d", origin, value,
                           UINT16_MAX);
    target->port = (uint16_t)port;
    return -1;
}

/* Applies default, environment and options. Returns -1 or EXIT_USAGE. */
static int target_find(struct target *target, const struct options *options)
{
    const char *host = getenv("SERVER_HOST"), *port = getenv("SERVER_PORT");
    int r = -1;

    *target = (struct target){.host = DEFAULT_HOST, .port = DEFAULT_PORT};
    if (options->host)
        r = target_host(target, "--host", options->host);
    else if (host)
        r = target_host(target, "SERVER_HOST", host);
    if (r >= 0)
        return r;
    if (host_is_unix(target->host) && options->tls)
        return client_fail(EXIT_USAGE, "--tls: '%s' is a unix socket", target->host);
    if (host_is_unix(target->host))
        return options->port
                   ? client_fail(EXIT_USAGE, "--port: '%s' is a unix socket, which has no port",
                                 target->host)
                   : -1;
    if (options->port)
        r = target_port(target, "--port", options->port);
    else if (port)
        r = target_port(target, "SERVER_PORT", port);
    return r;
}

/* Waits for connect(2) on FD to finish. TIMEOUT is in microseconds; 0: that of the kernel. */
static int connect_wait(int fd, uint64_t timeout)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC), end = now + timeout;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    socklen_t length = sizeof(int);
    int error = 0, n;

    do {
        now = now_usec(CLOCK_MONOTONIC);
        if (timeout > 0 && now >= end)
            return -ETIMEDOUT;
        n = poll(&p, 1, timeout > 0 ? (int)min_u64((end - now) / 1000 + 1, INT32_MAX) : -1);
    } while (n == 0 || (n < 0 && errno == EINTR));
    if (n < 0)
        return -errno;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        return -errno;
    return -error;
}

/* Returns a connected socket or a negative errno. */
static int connect_address(const struct addrinfo *address, uint64_t timeout)
{
    CLEANUP(close_fd) int fd = -1;
    int r = 0, connected;

    fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, address->ai_addr, address->ai_addrlen) < 0)
        r = errno == EINPROGRESS || errno == EINTR ? connect_wait(fd, timeout) : -errno;
    if (r < 0)
        return r;
    connected = fd;
    fd = -1;
    return connected;
}

/*
 * The same for a unix socket. While its backlog is full, a non-blocking connect(2) fails with
 * EAGAIN and cannot be waited for; a blocking one does so when SO_SNDTIMEO is over, see socket(7).
 */
static int connect_unix(const char *path, uint64_t timeout)
{
    struct timeval limit = {
        .tv_sec = (time_t)(timeout / USEC_PER_SEC),
        .tv_usec = (suseconds_t)(timeout % USEC_PER_SEC),
    };
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    CLEANUP(close_fd) int fd = -1;
    int r, connected;

    memcpy(sa.sun_path, path, strlen(path));
    if (*path == '@')
        sa.sun_path[0] = '\0';
    else
        length++; /* NUL */
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
        return -errno;
    do
        r = connect(fd, (struct sockaddr *)&sa, length);
    while (r < 0 && errno == EINTR); /* after SIGCONT, see signal(7) */
    if (r < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    connected = fd;
    fd = -1;
    return connected;
}

/* Prints "WHAT: WHY" unless QUIET. */
static int connect_fail(bool quiet, const char *what, const char *why)
{
    return quiet ? EXIT_UNAVAILABLE : client_fail(EXIT_UNAVAILABLE, "%s: %s", what, why);
}

/* Appends ", [::1]:3000: Connection refused" to FAILURES. */
static void connect_note_failure(char failures[static FAILURES_MAX], const struct addrinfo *address,
                                 int error)
{
    struct sockaddr_storage sa = {0};
    struct endpoint endpoint;
    char text[ENDPOINT_TEXT_MAX];
    size_t used = strlen(failures);

    memcpy(&sa, address->ai_addr, min_size(sizeof(sa), address->ai_addrlen));
    endpoint_from_sockaddr(&endpoint, &sa, address->ai_addrlen);
    endpoint_format(&endpoint, text);
    snprintf(failures + used, FAILURES_MAX - used, "%s%s: %s", used > 0 ? ", " : "", text,
             strerror(error));
}

/* Tries all addresses of TARGET. Returns -1 and *RET, or an exit status. */
static int connect_host(const struct target *target, uint64_t timeout, bool quiet, int *ret)
{
    char failures[FAILURES_MAX] = "";
    struct addrinfo *addresses;
    int fd = -1, r;

    r = address_resolve(target->host, target->port, 0, &addresses);
    if (r != 0)
        return connect_fail(quiet, target->host,
                            r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
    for (const struct addrinfo *a = addresses; a && fd < 0; a = a->ai_next) {
        fd = connect_address(a, timeout);
        if (fd < 0)
            connect_note_failure(failures, a, -fd);
    }
    freeaddrinfo(addresses);
    if (fd < 0) {
        r = connect_fail(quiet, "no connection", failures);
        errno = -fd;
        return r;
    }
    *ret = fd;
    return -1;
}

int connect_to_netd(const struct options *options, bool quiet, const char **ret_host, int *ret)
{
    char failure[FAILURES_MAX];
    struct target target;
    int fd, r;

    r = target_find(&target, options);
    if (r >= 0)
        return r;
    *ret_host = target.host;
    if (!host_is_unix(target.host))
        return connect_host(&target, options->timeout, quiet, ret);
    fd = connect_unix(target.host, options->timeout);
    if (fd < 0) {
        snprintf(failure, sizeof(failure), "%s: %s", target.host, strerror(-fd));
        r = connect_fail(quiet, "no connection", failure);
        errno = -fd;
        return r;
    }
    *ret = fd;
    return -1;
}
