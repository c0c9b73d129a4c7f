/* SPDX-License-Identifier: MIT */
#include "netd/worker/unclaimed.h"

#include "common/util.h"
#include "netd/worker/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { TCP_ANY, TCP_ONE, UNIX_ABSTRACT, LISTENERS };

static struct table table;

static int listen_at(const void *sa, socklen_t length)
{
    int fd = socket(((const struct sockaddr *)sa)->sa_family, SOCK_STREAM, 0), off = 0;

    assert_true(fd >= 0);
    (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    assert_int_equal(bind(fd, sa, length), 0);
    assert_int_equal(listen(fd, 5), 0);
    return fd;
}

static int setup(void **state)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    struct sockaddr_in one = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un name = {.sun_family = AF_UNIX};

    (void)state;
    if (table_create(&table, 8) < 0)
        return -1;
    table.header->listeners[TCP_ANY].fd = listen_at(&any, sizeof(any));
    table.header->listeners[TCP_ONE].fd = listen_at(&one, sizeof(one));
    table.header->listeners[UNIX_ABSTRACT].fd = listen_at(&name, sizeof(sa_family_t));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < LISTENERS; i++)
        close_fd(&table.header->listeners[i].fd);
    table_deinit(&table);
    return 0;
}

/* A client of LISTENER. */
static int connected(uint32_t listener)
{
    struct sockaddr_storage sa = {0};
    socklen_t length = sizeof(sa);
    int fd;

    assert_int_equal(
        getsockname(table.header->listeners[listener].fd, (struct sockaddr *)&sa, &length), 0);
    fd = socket(sa.ss_family, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, length), 0);
    return fd;
}

/* What accept(2) gave, as a worker calls it. */
static int accepted(uint32_t listener)
{
    struct endpoint peer;
    int fd;

    table.header->accept.listener = listener;
    fd = listener_accept(&table.header->listeners[listener], &table.header->accept, &peer);
    assert_true(fd >= 0);
    return fd;
}

static struct session *session_with(int fd)
{
    struct session *s = &table.sessions[table.header->used++];

    s->fd = fd;
    s->cookie = session_cookie(fd);
    s->state = SESSION_OPEN;
    return s;
}

/* Calls unclaimed_collect() in a process of its own, which may lose its descriptors, and there
 * checks that EXPECTED is what is found, or NO_UNCLAIMED, that the COUNT descriptors at OPEN stay
 * and that the one at GONE, where it is one, is closed. */
static void collects(int expected, const int *open, size_t count, int gone)
{
    pid_t pid = fork();
    int status, fd = -7;

    assert_true(pid >= 0);
    if (pid == 0) {
        int wrong = unclaimed_collect(&table, &fd) != 0 || fd != expected;

        for (size_t i = 0; i < count; i++)
            wrong |= (fcntl(open[i], F_GETFD) < 0) << 1;
        for (int i = 0; i < LISTENERS; i++)
            wrong |= (fcntl(table.header->listeners[i].fd, F_GETFD) < 0) << 2;
        wrong |= (gone >= 0 && fcntl(gone, F_GETFD) >= 0) << 3;
        _exit(wrong);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void connection_without_a_session_is_found(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LISTENERS; i++) {
        int other = connected(i), client = connected(i), first, fd;

        first = accepted(i);
        session_with(first);
        fd = accepted(i);
        collects(fd, (int[]){first, fd}, 2, client);
        /* It is in a session. */
        session_with(fd);
        collects(NO_UNCLAIMED, (int[]){first, fd}, 2, client);
        /* It was, and the number is another connection's. */
        table.sessions[--table.header->used].cookie++;
        table.header->used++;
        collects(fd, (int[]){first, fd}, 2, client);
        table.header->used = 0;
        /* Nobody was accepting. */
        table.header->accept.listener = NO_LISTENER;
        collects(NO_UNCLAIMED, NULL, 0, fd);
        close(other);
        close(client);
        close(first);
        close(fd);
    }
}

/* Reset before anybody knew of it: nothing was read. */
static void connection_that_was_reset_is_closed(void **state)
{
    struct linger now = {.l_onoff = 1};
    int client = connected(TCP_ONE), fd = accepted(TCP_ONE);

    (void)state;
    assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    close(client);
    collects(NO_UNCLAIMED, NULL, 0, fd);
    close(fd);
}

/* What a library may keep, and standard output's duplicate: connected stream sockets all. */
static void sockets_of_no_client_are_not_adopted(void **state)
{
    int pair[2], client, fd;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    for (uint32_t i = 0; i < LISTENERS; i++) {
        /* The one that was accepted is in its session. */
        client = connected(i);
        fd = accepted(i);
        session_with(fd);
        collects(NO_UNCLAIMED, &fd, 1, pair[1]);
        collects(NO_UNCLAIMED, &fd, 1, client); /* its other end, in this very process */
        /* And the one that was not made is not mistaken for another. */
        table.header->accept.length = sizeof(sa_family_t);
        memset(&table.header->accept.peer, 0, sizeof(table.header->accept.peer));
        table.header->accept.peer.ss_family = AF_UNIX;
        collects(NO_UNCLAIMED, &fd, 1, pair[1]);
        table.header->used = 0;
        close(client);
        close(fd);
    }
    close(pair[0]);
    close(pair[1]);
}

/* A crashed worker may have written anything into the table. */
static void impossible_calls_find_nothing(void **state)
{
    int client = connected(TCP_ONE), fd = accepted(TCP_ONE);

    (void)state;
    table.header->accept.listener = LISTENERS_MAX;
    collects(NO_UNCLAIMED, NULL, 0, fd);
    table.header->accept.listener = LISTENERS; /* which was never open */
    collects(NO_UNCLAIMED, NULL, 0, fd);
    table.header->accept.listener = TCP_ONE;
    table.header->accept.length = UINT32_MAX;
    collects(NO_UNCLAIMED, NULL, 0, fd);
    table.header->used = UINT32_MAX;
    collects(NO_UNCLAIMED, NULL, 0, fd);
    close(client);
    close(fd);
}

static void no_descriptor_to_look_with_is_an_error(void **state)
{
    struct rlimit before, none = {0};
    int fd = -7;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(unclaimed_collect(&table, &fd), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(fd, -7);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(connection_without_a_session_is_found),  TEST(connection_that_was_reset_is_closed),
        TEST(sockets_of_no_client_are_not_adopted),   TEST(impossible_calls_find_nothing),
        TEST(no_descriptor_to_look_with_is_an_error),
    };

    return cmocka_run_group_tests_name("unclaimed", tests, NULL, NULL);
}
