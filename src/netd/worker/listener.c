/* SPDX-License-Identifier: MIT */
#include "netd/worker/listener.h"

#include "common/util.h"
#include "netd/session/rules.h"
#include "netd/worker/unix-socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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

/* Opens the socket at which netd-tls, who accepts the clients of L, says who they are. The kernel
 * chooses an abstract name: autobind, unix(7). Returns the descriptor or a negative errno. */
static int listener_open_internal(void)
{
    const struct sockaddr_un sa = {.sun_family = AF_UNIX};
    CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int r = fd;

    if (fd < 0 || bind(fd, (const struct sockaddr *)&sa, sizeof(sa_family_t)) < 0 ||
        listen(fd, LISTEN_BACKLOG) < 0)
        return -errno;
    fd = -1;
    return r;
}

/* The socket that clients connect to. */
static int listener_public(const struct table_listener *l)
{
    return l->tls_fd > 0 ? l->tls_fd : l->fd;
}

/* L listens with TLS from now on; INTERNAL is its descriptor for netd-tls. */
static void listener_begin_tls(struct table_listener *l, int internal)
{
    l->tls_fd = l->fd;
    l->fd = internal;
}

/* L, a passed socket, listens without TLS from now on. */
static void listener_end_tls(struct table_listener *l)
{
    close_fd(&l->fd);
    l->fd = l->tls_fd;
    l->tls_fd = 0;
}

/* --- Resolving --- */

int listener_resolve(const struct listener_config *config, bool numeric,
                     struct listener_endpoints *ret, char error[static LISTENER_ERROR_MAX])
{
    struct listener_endpoints found = {0};
    struct addrinfo *list = NULL;
    int r;

    if (config->address.path[0]) {
        *ret = found;
        return 0;
    }
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
            listener_set(listener_public(l), SOL_SOCKET, SO_REUSEPORT, on);
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

/* What a configuration makes of the table's listeners. */
struct listeners_plan {
    const struct listener_config *of[LISTENERS_MAX]; /* what each is to be, or NULL */
    bool opened[LISTENERS_MAX];                      /* it was not there before */
    struct table_rules rules[LISTENERS_MAX];
    int internal[LISTENERS_MAX]; /* for a passed socket that is to have TLS, or 0 */
};

/* True where L, which is open, listens at WANTED for CONFIG. Each port 0 is a port of its own. */
static bool listener_is_at(const struct table_listener *l, const struct listener_config *config,
                           const struct endpoint *wanted)
{
    const struct listener_address *a = &config->address;

    if ((l->tls_fd > 0) != config->settings.tls)
        return false;
    if (a->path[0])
        return strcmp(l->path, a->path) == 0 && unix_socket_is_there(a->path, &l->file);
    return !l->path[0] && listener_same_endpoint(&l->requested, wanted) &&
           (wanted->port != 0 || strcmp(l->settings.name, config->settings.name) == 0);
}

static int listeners_find(const struct table *t, const struct listener_config *config,
                          const struct endpoint *wanted)
{
    for (int i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &t->header->listeners[i];

        if (l->fd >= 0 && !l->passed && !l->closing && listener_is_at(l, config, wanted))
            return i;
    }
    return -1;
}

/* Opens a socket at WANTED, or at CONFIG's path. Returns 0 or a negative errno. */
static int listener_open(const struct table *t, const struct listener_config *config,
                         const struct endpoint *wanted, struct table_listener *ret)
{
    struct table_listener l = {.requested = *wanted, .settings = config->settings};
    const struct listener_address *a = &config->address;
    bool any = strcmp(a->host, "*") == 0;
    int fd, r;

    if (a->path[0])
        fd = unix_socket_listen(a->path, a->mode, LISTEN_BACKLOG, &l.file);
    else
        fd = listener_bind(t, wanted, any);
    if (fd < 0)
        return fd;
    r = listener_describe(&l, fd);
    if (r == 0 && config->settings.tls) {
        r = listener_open_internal();
        if (r >= 0)
            listener_begin_tls(&l, r);
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret = l;
    return 0;
}

/* Plans the listener of CONFIG at WANTED, open already or opened now. Returns 0 or a negative
 * errno. */
static int listeners_plan(struct table *t, struct listeners_plan *plan,
                          const struct listener_config *config, const struct endpoint *wanted)
{
    int n = listeners_find(t, config, wanted), r;

    if (n >= 0 && plan->of[n] && plan->of[n] != config)
        return -EEXIST;
    if (n < 0) {
        n = listeners_free_number(t);
        if (n < 0) {
            listeners_merge_closed(t);
            n = listeners_free_number(t);
        }
        if (n < 0)
            return -ENOSPC;
        r = listener_open(t, config, wanted, &t->header->listeners[n]);
        if (r < 0)
            return r;
        plan->opened[n] = true;
    }
    plan->of[n] = config;
    return 0;
}

/* Describes the error NUMBER. */
static const char *listener_reason(int number, const struct listener_address *a)
{
    bool path = a->path[0] != '\0';

    if (number == -ENOSPC)
        return "sessions use the settings of too many earlier listeners";
    if (number == -EEXIST)
        return path ? "the file is not a socket" : "another listener has the same address";
    if (number == -EADDRINUSE && path)
        return "another program listens there";
    if (number == -ENOENT && path)
        return "its directory does not exist";
    if (number == -EACCES && !path && a->port < IPPORT_RESERVED)
        return "Permission denied; for a port below 1024 use netd.socket, or a drop-in with "
               "AmbientCapabilities=CAP_NET_BIND_SERVICE, see netd(8)";
    return strerror(-number);
}

/* Writes the error line, with the origin of the setting unless it is the default. Returns NUMBER.
 */
static int listener_error(char error[static LISTENER_ERROR_MAX],
                          const struct listener_config *config, int number)
{
    const struct listener_address *a = &config->address;
    bool at_host = a->path[0] || number == -EADDRNOTAVAIL || number == -EAFNOSUPPORT;
    const char *origin = at_host ? config->origin.host : config->origin.port;
    const char *separator = origin[0] ? ": " : "", *reason = listener_reason(number, a);
    bool colon = strchr(a->host, ':') && a->host[0] != '[';

    if (a->path[0])
        snprintf(error, LISTENER_ERROR_MAX, "%s%scannot listen on %s: %s", origin, separator,
                 a->path, reason);
    else
        snprintf(error, LISTENER_ERROR_MAX, "%s%scannot listen on %s%s%s:%u: %s", origin, separator,
                 colon ? "[" : "", a->host, colon ? "]" : "", a->port, reason);
    return number;
}

/* Plans all of CONFIG's sockets. Of several endpoints one is enough. */
static int listeners_plan_config(struct table *t, struct listeners_plan *plan,
                                 const struct listener_config *config,
                                 const struct listener_endpoints *endpoints,
                                 char error[static LISTENER_ERROR_MAX])
{
    /* A machine without IPv6: every address is every IPv4 address. */
    const struct endpoint every = {.family = AF_INET, .port = config->address.port};
    const struct endpoint local = {.family = AF_UNIX};
    int r, first_error = 0;
    bool found = false;

    if (config->address.path[0]) {
        r = listeners_plan(t, plan, config, &local);
        return r < 0 ? listener_error(error, config, r) : 0;
    }
    for (uint32_t i = 0; i < endpoints->count; i++) {
        r = listeners_plan(t, plan, config, &endpoints->at[i]);
        if (r < 0 && first_error == 0)
            first_error = r;
        found = found || r == 0;
    }
    if (!found && strcmp(config->address.host, "*") == 0 && first_error == -EAFNOSUPPORT) {
        first_error = listeners_plan(t, plan, config, &every);
        found = first_error == 0;
    }
    if (found && first_error != -EEXIST)
        return 0;
    if (endpoints->count == 0) {
        snprintf(error, LISTENER_ERROR_MAX,
                 "%s%scannot resolve '%s': names are not looked up when systemd passes sockets",
                 config->origin.host, config->origin.host[0] ? ": " : "", config->address.host);
        return -EINVAL;
    }
    return listener_error(error, config, first_error);
}

/* What netd-tls has accepted by then still comes to the internal socket. */
static void listener_close_public(struct table_listener *l)
{
    if (l->tls_fd > 0)
        close(l->tls_fd);
    l->tls_fd = 0;
}

static void listener_close(struct table_listener *l)
{
    rules_close(&l->rules);
    if (l->path[0])
        unix_socket_remove(l->path, &l->file);
    close_fd(&l->fd);
    listener_close_public(l);
}

static int listeners_make_rules(struct listeners_plan *plan, const struct access_rule *rules,
                                char error[static LISTENER_ERROR_MAX])
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < LISTENERS_MAX; i++)
        if (plan->of[i])
            r = rules_make(&plan->rules[i], rules + plan->of[i]->first_rule, plan->of[i]->n_rules);
    if (r < 0)
        snprintf(error, LISTENER_ERROR_MAX, "cannot compile the access rules: %s", strerror(-r));
    return r;
}

/* Closes what was opened for a plan that cannot be carried out. */
static void listeners_undo(struct table *t, struct listeners_plan *plan)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        rules_close(&plan->rules[i]);
        if (plan->internal[i] > 0)
            close(plan->internal[i]);
        if (plan->opened[i])
            listener_close(&t->header->listeners[i]);
    }
}

/* Makes the table what is planned. */
static void listeners_apply(struct table *t, const struct listeners_plan *plan)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        struct table_listener *l = &t->header->listeners[i];

        if (plan->of[i]) {
            l->settings = plan->of[i]->settings;
            if (plan->internal[i] > 0)
                listener_begin_tls(l, plan->internal[i]);
            else if (l->tls_fd > 0 && !l->settings.tls)
                listener_end_tls(l);
            l->counters = counters_find(t, l->settings.name);
            rules_close(&l->rules);
            l->rules = plan->rules[i];
            if (!l->passed && l->path[0] == '/')
                (void)chmod(l->path, plan->of[i]->address.mode);
        } else if (l->fd >= 0 && !l->closing) {
            l->closing = true;
            listener_close_public(l);
            if (!l->passed && l->path[0])
                unix_socket_remove(l->path, &l->file);
        }
    }
}

/* Passed sockets that are to have TLS. */
static int listeners_plan_internal(const struct table *t, struct listeners_plan *plan,
                                   char error[static LISTENER_ERROR_MAX])
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        if (!plan->of[i] || !plan->of[i]->settings.tls || t->header->listeners[i].tls_fd > 0)
            continue;
        plan->internal[i] = listener_open_internal();
        if (plan->internal[i] < 0) {
            snprintf(error, LISTENER_ERROR_MAX, "cannot open a socket for netd-tls: %s",
                     strerror(-plan->internal[i]));
            return plan->internal[i];
        }
    }
    return 0;
}

const struct listener_config *listener_config_of(const struct table_listener *l,
                                                 const struct listener_config *configs,
                                                 uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (l->passed_name[0] && strcmp(configs[i].settings.name, l->passed_name) == 0)
            return &configs[i];
    return &configs[0];
}

int listeners_configure(struct table *t, const struct listener_config *configs,
                        const struct access_rule *rules, const struct listener_endpoints *endpoints,
                        uint32_t count, char error[static LISTENER_ERROR_MAX])
{
    struct table_listener *all = t->header->listeners;
    struct listeners_plan plan = {0};
    bool passed[CONFIG_LISTENERS_MAX] = {false};
    int r = 0;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (all[i].fd >= 0 && all[i].passed) {
            plan.of[i] = listener_config_of(&all[i], configs, count);
            passed[plan.of[i] - configs] = true;
        }
    r = listeners_plan_internal(t, &plan, error);
    for (uint32_t i = 0; r == 0 && i < count; i++)
        if (!passed[i])
            r = listeners_plan_config(t, &plan, &configs[i], &endpoints[i], error);
    if (r == 0)
        r = listeners_make_rules(&plan, rules, error);
    if (r == 0)
        listeners_apply(t, &plan);
    else
        listeners_undo(t, &plan);
    return r;
}

void listeners_remove_files(const struct table *t)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &t->header->listeners[i];

        if (l->fd >= 0 && !l->passed && !l->closing && l->path[0])
            unix_socket_remove(l->path, &l->file);
    }
}

/* --- Passed sockets --- */

int listeners_adopt(struct table *t, int first, int count, char *const *names,
                    char error[static LISTENER_ERROR_MAX])
{
    if (count > CONFIG_LISTENERS_MAX) {
        snprintf(error, LISTENER_ERROR_MAX, "LISTEN_FDS: %d passed sockets are more than %d", count,
                 CONFIG_LISTENERS_MAX);
        return -EINVAL;
    }
    for (int i = 0; i < count; i++) {
        struct table_listener l = {.passed = true};
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
        /* A longer name is no listener's. */
        if (names && strlen(names[i]) <= LISTENER_NAME_MAX)
            strcpy(l.passed_name, names[i]);
        t->header->listeners[i] = l;
    }
    return 0;
}

bool listener_matches(const struct table_listener *l, const struct listener_config *config,
                      const struct listener_endpoints *endpoints)
{
    bool any = strcmp(config->address.host, "*") == 0;

    if (config->address.path[0])
        return strcmp(l->path, config->address.path) == 0;
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
