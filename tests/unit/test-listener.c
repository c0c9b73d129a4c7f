/* SPDX-License-Identifier: MIT */
#include "netd/worker/listener.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <syslog.h>

#include <cmocka.h>

/* True: sockets are of a family that netd does not know. */
static bool foreign_family;

int own_getsockname(int fd, struct sockaddr *sa, socklen_t *length) __asm__("getsockname");
int own_getsockname(int fd, struct sockaddr *sa, socklen_t *length)
{
    int r = (int)syscall(SYS_getsockname, fd, sa, length);

    if (r == 0 && foreign_family)
        sa->sa_family = AF_VSOCK;
    return r;
}

/* Sockets are passed from here on: above what the test has open, in a row. */
#define PASSED 100

static struct table table;
static struct listener_config config;
static char error[LISTENER_ERROR_MAX];
static struct table_accept call;

static int setup(void **state)
{
    (void)state;
    config = (struct listener_config){
        .address = {.host = "127.0.0.1"},
        .settings = {.max_record = 4096, .priority = LOG_INFO, .sessions_max = 8},
    };
    error[0] = '\0';
    return table_create(&table, 8);
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        close_fd(&table.header->listeners[i].fd);
    table_deinit(&table);
    return 0;
}

static int open_listeners(void)
{
    int n = 0;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        n += table.header->listeners[i].fd >= 0;
    return n;
}

static int get_option(int fd, int level, int option)
{
    int value = -1;
    socklen_t length = sizeof(value);

    assert_int_equal(getsockopt(fd, level, option, &value, &length), 0);
    return value;
}

static int configure(void)
{
    struct listener_endpoints endpoints;
    int r = listener_resolve(&config, false, &endpoints, error);

    return r < 0 ? r : listeners_configure(&table, &config, NULL, &endpoints, 1, error);
}

/* Connects to IP and PORT; returns the descriptor. */
static int connect_to(const char *ip, uint16_t port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool four = inet_pton(AF_INET, ip, &sin.sin_addr) == 1;
    int fd = socket(four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (!four)
        assert_int_equal(inet_pton(AF_INET6, ip, &sin6.sin6_addr), 1);
    assert_int_equal(connect(fd, four ? (struct sockaddr *)&sin : (struct sockaddr *)&sin6,
                             four ? sizeof(sin) : sizeof(sin6)),
                     0);
    return fd;
}

/* Accepts what is on its way. */
static int accept_at(const struct table_listener *l, struct endpoint *peer)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};

    assert_int_equal(poll(&p, 1, -1), 1);
    return listener_accept(l, &call, peer);
}

static bool have_ipv6(void)
{
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool have = fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;

    close_fd(&fd);
    return have;
}

/* --- Configured --- */

static void listener_listens(void **state)
{
    const struct table_listener *l = &table.header->listeners[0];
    char text[128], expected[128];
    struct endpoint peer;
    int client, fd;

    (void)state;
    assert_int_equal(configure(), 0);
    assert_int_equal(open_listeners(), 1);
    assert_true(l->fd >= 0);
    assert_int_equal(l->requested.port, 0);
    assert_true(l->bound.port > 0);
    assert_false(l->passed || l->closing);
    assert_int_equal(l->settings.max_record, 4096);
    listener_format(l, text);
    snprintf(expected, sizeof(expected), "127.0.0.1:%u", l->bound.port);
    assert_string_equal(text, expected);

    /* A reload hands it over, nothing ever waits at it, and no other program may share its port. */
    assert_int_equal(fcntl(l->fd, F_GETFD), 0);
    assert_true(fcntl(l->fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(get_option(l->fd, SOL_SOCKET, SO_REUSEPORT), 0);
    assert_int_equal(listener_accept(l, &call, &peer), -EAGAIN);

    client = connect_to("127.0.0.1", l->bound.port);
    fd = accept_at(l, &peer);
    assert_true(fd >= 0);
    endpoint_address(&peer, text);
    assert_string_equal(text, "127.0.0.1");
    assert_int_equal(fcntl(fd, F_GETFD), 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(get_option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(get_option(fd, SOL_SOCKET, SO_OOBINLINE), 1);
    assert_true(get_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) > 0);
    assert_int_equal(listener_accept(l, &call, &peer), -EAGAIN);
    close(client);
    close(fd);
}

static void same_address_stays_open(void **state)
{
    struct table_listener *l = &table.header->listeners[0];
    int fd;

    (void)state;
    assert_int_equal(configure(), 0);
    fd = l->fd;
    config.settings.max_record = 8192;
    assert_int_equal(configure(), 0);
    assert_int_equal(l->fd, fd);
    assert_int_equal(l->settings.max_record, 8192);
    assert_int_equal(open_listeners(), 1);
}

static void other_address_is_opened_before_the_old_one_goes(void **state)
{
    struct table_listener *all = table.header->listeners;

    (void)state;
    assert_int_equal(configure(), 0);
    snprintf(config.address.host, sizeof(config.address.host), "127.0.0.2");
    config.settings.max_record = 8192;
    assert_int_equal(configure(), 0);
    assert_int_equal(open_listeners(), 2);
    assert_true(all[0].closing);
    assert_int_equal(all[0].settings.max_record, 4096); /* its clients keep theirs */
    assert_false(all[1].closing);
    assert_int_equal(all[1].settings.max_record, 8192);
    /* Back again before anybody closed it: it is on its way out, a new one comes. */
    snprintf(config.address.host, sizeof(config.address.host), "127.0.0.1");
    assert_int_equal(configure(), 0);
    assert_int_equal(open_listeners(), 3);
    assert_true(all[0].closing && all[1].closing && !all[2].closing);
}

/* One address becomes all on the same port: no client finds it closed in between. */
static void every_address_and_one_share_the_port(void **state)
{
    struct table_listener *all = table.header->listeners;
    struct endpoint peer;
    char text[128];
    int client, fd;

    (void)state;
    assert_int_equal(configure(), 0);
    config.address.port = all[0].bound.port;
    close_fd(&all[0].fd);
    assert_int_equal(configure(), 0);
    snprintf(config.address.host, sizeof(config.address.host), "*");
    assert_int_equal(configure(), 0);
    assert_int_equal(open_listeners(), 2);
    assert_true(all[0].closing);
    assert_int_equal(all[1].bound.port, config.address.port);
    assert_int_equal(get_option(all[0].fd, SOL_SOCKET, SO_REUSEPORT), 0);
    assert_int_equal(get_option(all[1].fd, SOL_SOCKET, SO_REUSEPORT), 0);
    close_fd(&all[0].fd);

    client = connect_to("127.0.0.1", config.address.port);
    fd = accept_at(&all[1], &peer);
    assert_true(fd >= 0);
    endpoint_address(&peer, text);
    assert_string_equal(text, "127.0.0.1");
    close(client);
    close(fd);
    if (!have_ipv6())
        return;
    client = connect_to("::1", config.address.port);
    fd = accept_at(&all[1], &peer);
    assert_true(fd >= 0);
    endpoint_address(&peer, text);
    assert_string_equal(text, "::1");
    close(client);
    close(fd);
}

static void ipv6_alone_is_ipv6_alone(void **state)
{
    (void)state;
    if (!have_ipv6())
        skip();
    snprintf(config.address.host, sizeof(config.address.host), "[::1]");
    assert_int_equal(configure(), 0);
    assert_int_equal(get_option(table.header->listeners[0].fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    assert_int_equal(table.header->listeners[0].bound.family, AF_INET6);
    /* For every address the kernel would have both. */
    snprintf(config.address.host, sizeof(config.address.host), "::");
    assert_int_equal(configure(), 0);
    assert_int_equal(get_option(table.header->listeners[1].fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
}

static void a_mapped_address_is_ipv4(void **state)
{
    const struct table_listener *l = &table.header->listeners[0];
    struct endpoint peer;
    int client, fd;

    (void)state;
    if (!have_ipv6())
        skip();
    snprintf(config.address.host, sizeof(config.address.host), "::ffff:127.0.0.1");
    assert_int_equal(configure(), 0);
    assert_int_equal(l->bound.family, AF_INET);
    client = connect_to("127.0.0.1", l->bound.port);
    fd = accept_at(l, &peer);
    assert_true(fd >= 0);
    assert_int_equal(peer.family, AF_INET);
    close(client);
    close(fd);
    /* It is the one that is open. */
    fd = l->fd;
    assert_int_equal(configure(), 0);
    assert_int_equal(l->fd, fd);
    assert_false(l->closing);
}

static void errors_name_the_thing(void **state)
{
    struct table_listener taken, before;
    struct listener_endpoints endpoints;
    char expected[LISTENER_ERROR_MAX];

    (void)state;
    assert_int_equal(configure(), 0);
    taken = table.header->listeners[0];
    table.header->listeners[0] = (struct table_listener){.fd = -1}; /* somebody else's */
    before = table.header->listeners[0];

    config.address.port = taken.bound.port;
    assert_int_equal(configure(), -EADDRINUSE);
    snprintf(expected, sizeof(expected), "cannot listen on 127.0.0.1:%u: Address already in use",
             taken.bound.port);
    assert_string_equal(error, expected);
    snprintf(config.origin.port, sizeof(config.origin.port), "SERVER_PORT");
    snprintf(config.origin.host, sizeof(config.origin.host), "netd.conf:7: host");
    assert_int_equal(configure(), -EADDRINUSE);
    assert_non_null(strstr(error, "SERVER_PORT: cannot listen on 127.0.0.1:"));

    snprintf(config.address.host, sizeof(config.address.host),
             "192.0.2.1"); /* TEST-NET-1: nobody has it */
    config.address.port = 1;
    assert_int_equal(configure(), -EADDRNOTAVAIL);
    assert_string_equal(error, "netd.conf:7: host: cannot listen on 192.0.2.1:1: "
                               "Cannot assign requested address");
    snprintf(config.address.host, sizeof(config.address.host), "[::1");
    assert_int_equal(configure(), -EINVAL);
    assert_non_null(strstr(error, "netd.conf:7: host: cannot resolve '[::1': "));
    snprintf(config.address.host, sizeof(config.address.host), "192.0.2.1");
    /* Whether it is here is not asked. */
    assert_int_equal(listener_resolve(&config, false, &endpoints, error), 0);
    assert_int_equal(endpoints.count, 1);

    assert_int_equal(open_listeners(), 0);
    assert_memory_equal(&table.header->listeners[0], &before, sizeof(before));
    close_fd(&taken.fd);
}

/* A name that is not there for good, and one that nobody can tell of. */
static void names_are_resolved(void **state)
{
    struct listener_endpoints endpoints = {.count = 99};

    (void)state;
    config.address.port = 4711;
    snprintf(config.address.host, sizeof(config.address.host), "[::1]");
    assert_int_equal(listener_resolve(&config, false, &endpoints, error), 0);
    assert_int_equal(endpoints.count, 1);
    assert_int_equal(endpoints.at[0].family, AF_INET6);
    assert_int_equal(endpoints.at[0].port, 4711);
    snprintf(config.address.host, sizeof(config.address.host), "*");
    assert_int_equal(listener_resolve(&config, true, &endpoints, error), 0);
    assert_int_equal(endpoints.count, 1);
    snprintf(config.address.host, sizeof(config.address.host), "no-such-name.invalid");
    assert_int_equal(listener_resolve(&config, true, &endpoints, error), 0);
    assert_int_equal(endpoints.count, 0);
    endpoints.count = 99;
    assert_true(listener_resolve(&config, false, &endpoints, error) < 0);
    assert_non_null(strstr(error, "cannot resolve 'no-such-name.invalid': "));
    assert_int_equal(endpoints.count, 99);
}

/* A number is free when no socket and no session needs it. */
static void numbers_stay_while_sessions_name_them(void **state)
{
    struct session *s;

    (void)state;
    assert_int_equal(table_attach(&table), 0);
    assert_int_equal(configure(), 0);
    s = table_take(&table);
    assert_non_null(s);
    s->listener = 0;
    table_publish(s, SESSION_OPEN);
    close_fd(&table.header->listeners[0].fd);
    config.settings.max_record = 8192;
    assert_int_equal(configure(), 0);
    assert_true(table.header->listeners[1].fd >= 0);
    assert_int_equal(table.header->listeners[0].settings.max_record, 4096);
    table_free(&table, s);
    close_fd(&table.header->listeners[1].fd);
    assert_int_equal(configure(), 0);
    assert_true(table.header->listeners[0].fd >= 0);
}

/* A session at the open listener, which then closes. */
static struct session *session_of_open_listener(void)
{
    struct session *s = table_take(&table);
    struct table_listener *all = table.header->listeners;

    assert_non_null(s);
    for (uint32_t i = 0; i < LISTENERS_MAX; i++)
        if (all[i].fd >= 0) {
            s->listener = i;
            close_fd(&all[i].fd);
        }
    table_publish(s, SESSION_OPEN);
    return s;
}

static int setup_many(void **state)
{
    int r = setup(state);

    table_deinit(&table);
    return r < 0 ? r : table_create(&table, 4 * LISTENERS_MAX);
}

/* Sessions of ever other addresses: the settings they share need one number. */
static void closed_listeners_share_a_number(void **state)
{
    struct session *s;

    (void)state;
    assert_int_equal(table_attach(&table), 0);
    for (int i = 0; i < 3 * LISTENERS_MAX; i++) {
        config.settings.max_record = 4096 + (uint32_t)i % 3;
        assert_int_equal(configure(), 0);
        s = session_of_open_listener();
        assert_int_equal(table.header->listeners[s->listener].settings.max_record, 4096 + i % 3);
    }
    for (uint32_t i = 0; i < table.header->used; i++) {
        s = &table.sessions[i];
        assert_int_equal(table.header->listeners[s->listener].settings.max_record, 4096 + i % 3);
    }
}

static void numbers_come_to_an_end(void **state)
{
    (void)state;
    assert_int_equal(table_attach(&table), 0);
    for (int i = 0; i < LISTENERS_MAX; i++) {
        config.settings.max_record = 4096 + (uint32_t)i;
        assert_int_equal(configure(), 0);
        (void)session_of_open_listener();
    }
    assert_int_equal(configure(), -ENOSPC);
    assert_string_equal(error, "cannot listen on 127.0.0.1:0: sessions use the settings of too "
                               "many earlier listeners");
}

/* --- Passed by systemd --- */

/* Binds a socket for NAME ('@' in front for an abstract one) at descriptor PASSED + I. */
static void pass_unix(int i, const char *name, int type, bool listening)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type, 0);

    assert_true(fd >= 0);
    memcpy(sa.sun_path, name, strlen(name));
    if (name[0] == '@')
        sa.sun_path[0] = '\0';
    assert_int_equal(bind(fd, (struct sockaddr *)&sa,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
                     0);
    if (listening)
        assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(dup3(fd, PASSED + i, O_CLOEXEC), PASSED + i);
    close(fd);
}

static void pass_tcp(int i)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(dup3(fd, PASSED + i, O_CLOEXEC), PASSED + i);
    close(fd);
}

static void passed_sockets_are_adopted(void **state)
{
    const struct table_listener *all = table.header->listeners;
    char text[128], path[108];

    (void)state;
    snprintf(path, sizeof(path), "@netd-test-%d\n\x7f", (int)getpid());
    pass_tcp(0);
    pass_unix(1, path, SOCK_STREAM, true);
    assert_int_equal(listeners_adopt(&table, PASSED, 2, NULL, error), 0);
    assert_int_equal(configure(), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(all[i].fd, PASSED + i);
        assert_true(all[i].passed);
        assert_int_equal(all[i].settings.max_record, 4096);
        assert_int_equal(fcntl(PASSED + i, F_GETFD), 0);
        assert_true(fcntl(PASSED + i, F_GETFL) & O_NONBLOCK);
    }
    assert_true(all[0].bound.port > 0);
    assert_string_equal(all[0].path, "");
    /* It becomes a field's value: nothing in it may end one. */
    snprintf(path, sizeof(path), "@netd-test-%d??", (int)getpid());
    assert_string_equal(all[1].path, path);
    listener_format(&all[1], text);
    assert_string_equal(text, path);

    /* The settings are for them, the address is not. */
    config.settings.max_record = 8192;
    assert_int_equal(configure(), 0);
    assert_int_equal(open_listeners(), 2);
    assert_int_equal(all[0].settings.max_record, 8192);
    assert_false(all[0].closing || all[1].closing);
}

static void paths_may_be_as_long_as_they_can(void **state)
{
    char path[109];

    (void)state;
    memset(path, 'x', sizeof(path));
    path[0] = '@';
    path[108] = '\0';
    pass_unix(0, path, SOCK_STREAM, true);
    assert_int_equal(listeners_adopt(&table, PASSED, 1, NULL, error), 0);
    path[107] = '\0';
    assert_string_equal(table.header->listeners[0].path, path);
}

/* Their clients would have no address to be named by. */
static void other_families_are_refused(void **state)
{
    (void)state;
    pass_tcp(0);
    foreign_family = true;
    assert_int_equal(listeners_adopt(&table, PASSED, 1, NULL, error), -EINVAL);
    foreign_family = false;
    assert_non_null(strstr(error, " is not a listening TCP or unix stream socket"));
    close(PASSED);
}

static void other_descriptors_are_refused(void **state)
{
    char path[64], expected[128];
    int fds[2];

    (void)state;
    snprintf(path, sizeof(path), "@netd-test-refused-%d", (int)getpid());
    snprintf(expected, sizeof(expected),
             "LISTEN_FDS: descriptor %d is not a listening TCP or unix stream socket", PASSED + 1);
    for (int i = 0; i < 6; i++) {
        pass_tcp(0);
        switch (i) {
        case 0:
            pass_unix(1, path, SOCK_DGRAM, false);
            break;
        case 1:
            pass_unix(1, path, SOCK_STREAM, false);
            break;
        case 2:
            pass_unix(1, path, SOCK_SEQPACKET, true);
            break;
        case 3: /* connected */
            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
            assert_int_equal(dup3(fds[0], PASSED + 1, O_CLOEXEC), PASSED + 1);
            close(fds[0]);
            close(fds[1]);
            break;
        case 4:
            assert_int_equal(dup3(table.header_fd, PASSED + 1, O_CLOEXEC), PASSED + 1);
            break;
        case 5:
            break; /* closed */
        }
        assert_int_equal(listeners_adopt(&table, PASSED, 2, NULL, error), -EINVAL);
        assert_string_equal(error, expected);
        close(PASSED + 1);
    }
    assert_int_equal(listeners_adopt(&table, PASSED, CONFIG_LISTENERS_MAX + 1, NULL, error),
                     -EINVAL);
    assert_string_equal(error, "LISTEN_FDS: 65 passed sockets are more than 64");
}

static bool matches(const struct table_listener *l, bool numeric)
{
    struct listener_endpoints endpoints;

    assert_int_equal(listener_resolve(&config, numeric, &endpoints, error), 0);
    return listener_matches(l, &config, &endpoints);
}

static void matching_is_by_address_and_port(void **state)
{
    const struct table_listener *l = &table.header->listeners[0];
    uint16_t port;

    (void)state;
    assert_int_equal(configure(), 0);
    port = config.address.port = l->bound.port;
    assert_true(matches(l, true));
    config.address.port++;
    assert_false(matches(l, true));
    config.address.port = port;
    snprintf(config.address.host, sizeof(config.address.host), "127.0.0.2");
    assert_false(matches(l, true));
    snprintf(config.address.host, sizeof(config.address.host), "*");
    assert_true(matches(l, true));
    /* A name is looked up only where that is wanted. */
    snprintf(config.address.host, sizeof(config.address.host), "localhost");
    assert_false(matches(l, true));
    assert_true(matches(l, false));
}

/* --- Accepting --- */

static void accept_errors_are_told_apart(void **state)
{
    struct table_listener *l = &table.header->listeners[0];
    struct table_listener bad = {.fd = -1};
    struct rlimit before, limit;
    struct endpoint peer;
    int client, fd;

    (void)state;
    assert_int_equal(configure(), 0);
    client = connect_to("127.0.0.1", l->bound.port);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    fd = listener_accept(l, &call, &peer);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(fd, -EMFILE);
    /* It was not lost; but valgrind has accepted and closed it, to say EMFILE itself. */
    if (!strstr(getenv("LD_PRELOAD") ?: "", "vgpreload")) {
        fd = accept_at(l, &peer);
        assert_true(fd >= 0);
        close(fd);
    }
    close(client);
    assert_int_equal(listener_accept(&bad, &call, &peer), -EBADF);
    bad.fd = table.header_fd;
    assert_int_equal(listener_accept(&bad, &call, &peer), -ENOTSOCK);
}

/* Connects without waiting. Returns the descriptor, or -1 where nobody answered. */
static int connect_soon(uint16_t port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno == EINPROGRESS) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};

        if (poll(&p, 1, 100) == 1)
            return fd;
        close_fd(&fd);
    }
    return fd;
}

/* A handshake that has begun still completes: without that its client would see a reset. */
static void new_connections_are_dropped(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "*"};
    struct table_listener *l = &table.header->listeners[0];
    struct endpoint peer;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
        int complete, half, fd, on = 1;

        snprintf(config.address.host, sizeof(config.address.host), "%s", hosts[i]);
        assert_int_equal(configure(), 0);
        /* The last segment of a handshake is then ignored until there are bytes: tcp(7). */
        assert_int_equal(setsockopt(l->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &on, sizeof(on)), 0);
        complete = connect_to("127.0.0.1", l->bound.port);
        half = connect_to("127.0.0.1", l->bound.port);
        assert_int_equal(send(complete, "x", 1, 0), 1);
        l->closing = true;
        listener_drop_new(l);
        fd = accept_at(l, &peer);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(connect_soon(l->bound.port), -1);
        assert_int_equal(listener_accept(l, &call, &peer), -EAGAIN);
        assert_int_equal(send(half, "one", 3, 0), 3);
        fd = accept_at(l, &peer);
        assert_true(fd >= 0);
        assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
        assert_int_equal(send(half, "two", 3, 0), 3);
        assert_int_equal(recv(fd, error, 6, MSG_WAITALL), 6);
        close(fd);
        close(complete);
        close(half);
        close_fd(&l->fd);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(listener_listens),
        TEST(same_address_stays_open),
        TEST(other_address_is_opened_before_the_old_one_goes),
        TEST(every_address_and_one_share_the_port),
        TEST(ipv6_alone_is_ipv6_alone),
        TEST(a_mapped_address_is_ipv4),
        TEST(errors_name_the_thing),
        TEST(names_are_resolved),
        TEST(numbers_stay_while_sessions_name_them),
        cmocka_unit_test_setup_teardown(closed_listeners_share_a_number, setup_many, teardown),
        cmocka_unit_test_setup_teardown(numbers_come_to_an_end, setup_many, teardown),
        TEST(passed_sockets_are_adopted),
        TEST(paths_may_be_as_long_as_they_can),
        TEST(other_descriptors_are_refused),
        TEST(other_families_are_refused),
        TEST(matching_is_by_address_and_port),
        TEST(accept_errors_are_told_apart),
        TEST(new_connections_are_dropped),
    };

    alarm(300); /* what hangs, fails */
    return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}
