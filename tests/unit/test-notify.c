/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/notify.h"

#include "common/util.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

static char name[64];

/* A receiver at NAME, "@" for an abstract one, that $NOTIFY_SOCKET leads to. */
static int receiver(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    memcpy(address.sun_path, name, length);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    else
        length = sizeof(address.sun_path);
    length += offsetof(struct sockaddr_un, sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, (socklen_t)length), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
    return fd;
}

static void assert_received(int fd, const char *expected)
{
    char text[NOTIFY_MAX + 1] = "";
    ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

    assert_true(n >= 0);
    assert_string_equal(text, expected);
}

static int setup(void **state)
{
    static int number;

    snprintf(name, sizeof(name), "%s/tmp/netd-test-notify.%d.%d", *state ? "@" : "", (int)getpid(),
             number++);
    return 0;
}

static int setup_abstract(void **state)
{
    *state = name;
    return setup(state);
}

static int teardown(void **state)
{
    (void)state;
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unlink(name);
    return 0;
}

static void messages_arrive(void **state)
{
    CLEANUP(close_fd) int fd = receiver();
    struct notify n = {0};

    (void)state;
    assert_int_equal(notify_send(&n, "WATCHDOG=1"), 0);
    assert_received(fd, "WATCHDOG=1");
    notify_announce(&n, "READY=1");
    assert_int_equal(notify_send(&n, "STATUS=fine"), 0);
    assert_received(fd, "READY=1\nSTATUS=fine");
    assert_int_equal(notify_send(&n, "STATUS=fine"), 0);
    assert_received(fd, "STATUS=fine");
    notify_announce(&n, "STOPPING=1");
    assert_int_equal(notify_send(&n, ""), 0);
    assert_received(fd, "STOPPING=1");
}

/* Sends until the queue of whoever reads FD is full; returns how many that took. */
static unsigned fill(void)
{
    struct notify n = {0};
    unsigned count = 0;

    while (notify_send(&n, "X=1") == 0)
        count++;
    return count;
}

static void what_did_not_go_out_goes_with_the_next(void **state)
{
    CLEANUP(close_fd) int fd = receiver();
    struct notify n = {0};
    unsigned count = fill();

    (void)state;
    notify_announce(&n, "RELOADING=1\nMONOTONIC_USEC=5");
    assert_int_equal(notify_send(&n, ""), -EAGAIN);
    notify_announce(&n, "READY=1"); /* over, before anybody heard of it */
    assert_int_equal(notify_send(&n, "STATUS=old"), -EAGAIN);
    for (unsigned i = 0; i < count; i++)
        assert_received(fd, "X=1");
    assert_int_equal(notify_send(&n, "STATUS=new"), 0);
    assert_received(fd, "READY=1\nSTATUS=new");
}

static void nobody_is_notified(void **state)
{
    struct notify n = {0};

    (void)state;
    assert_int_equal(notify_send(&n, "READY=1"), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", "", 1), 0);
    notify_announce(&n, "READY=1");
    assert_int_equal(notify_send(&n, "READY=1"), 0);
    assert_string_equal(n.state, ""); /* nothing is left to be sent */
}

static void a_bogus_address_is_an_error(void **state)
{
    char longest[200];
    struct notify n = {0};
    const char *const bad[] = {"relative", "@", "/", longest, "vsock:2:1234"};

    (void)state;
    memset(longest, 'x', sizeof(longest) - 1);
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(setenv("NOTIFY_SOCKET", bad[i], 1), 0);
        assert_int_equal(notify_send(&n, "READY=1"), -EINVAL);
    }
    assert_int_equal(setenv("NOTIFY_SOCKET", "/nowhere/notify", 1), 0);
    assert_int_equal(notify_send(&n, "READY=1"), -ENOENT);
    assert_int_equal(setenv("NOTIFY_SOCKET", "@netd-test-nobody", 1), 0);
    assert_int_equal(notify_send(&n, "READY=1"), -ECONNREFUSED);
}

static void a_long_message_is_cut(void **state)
{
    CLEANUP(close_fd) int fd = receiver();
    char more[NOTIFY_MAX * 2], expected[NOTIFY_MAX];
    struct notify n = {0};

    (void)state;
    memset(more, 'x', sizeof(more) - 1);
    more[sizeof(more) - 1] = '\0';
    memcpy(expected, more, sizeof(expected));
    expected[sizeof(expected) - 1] = '\0';
    assert_int_equal(notify_send(&n, more), 0);
    assert_received(fd, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_arrive, setup, teardown),
        {"messages_arrive_at_an_abstract_address", messages_arrive, setup_abstract, teardown, NULL},
        cmocka_unit_test_setup_teardown(what_did_not_go_out_goes_with_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_is_notified, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bogus_address_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_message_is_cut, setup, teardown),
    };

    (void)alarm(60); /* what hangs, fails */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
