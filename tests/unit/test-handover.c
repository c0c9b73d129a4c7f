/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/handover.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define NOBODY "/nowhere/netd"

static struct table table;

static int setup(void **state)
{
    (void)state;
    return table_create(&table, 4);
}

static int teardown(void **state)
{
    (void)state;
    table_deinit(&table);
    return 0;
}

static int status_of(pid_t pid)
{
    int status;

    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* The exit status of SCRIPT, run as the program that a reload executes. */
static int exec_script(bool sessions, const char *script)
{
    char *argv[] = {"sh", "-c", (char *)(uintptr_t)script, NULL};
    pid_t pid = fork();

    if (pid == 0) {
        (void)handover_exec(&table, sessions, "/bin/sh", argv);
        _exit(99);
    }
    return status_of(pid);
}

static void the_table_goes_along(void **state)
{
    char script[128];

    (void)state;
    snprintf(script, sizeof(script), "test \"$NETD_TABLE\" = %d:%d && test -z \"$LISTEN_FDS\"",
             table.header_fd, table.regions_fd);
    assert_int_equal(exec_script(true, script), 0);
}

/* Without sessions the program starts as systemd would start it. */
static void passed_sockets_go_along(void **state)
{
    (void)state;
    assert_int_equal(exec_script(false, "test -z \"$NETD_TABLE$LISTEN_FDS$LISTEN_PID\""), 0);
    table.header->listeners[0].passed = 1;
    table.header->listeners[1].passed = 1;
    assert_int_equal(exec_script(false, "test -z \"$NETD_TABLE\" && test \"$LISTEN_FDS\" = 2 && "
                                        "test \"$LISTEN_PID\" = $$"),
                     0);
}

static void a_program_that_is_gone_leaves_nothing_behind(void **state)
{
    char *argv[] = {"netd", NULL};

    (void)state;
    table.header->listeners[0].passed = 1;
    for (int sessions = 0; sessions <= 1; sessions++) {
        assert_int_equal(handover_exec(&table, sessions, NOBODY, argv), -ENOENT);
        assert_false(handover_is_due());
        assert_null(getenv("LISTEN_FDS"));
        assert_null(getenv("LISTEN_PID"));
    }
}

/* "-t" first, then the options as they were; the table's layout, and nothing to notify. */
static void the_new_program_checks(void **state)
{
    char path[] = "/tmp/netd-test-check.XXXXXX", script[256];
    char *argv[] = {"netd", "-c", "file", NULL};
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    snprintf(script, sizeof(script),
             "#!/bin/sh\ntest \"$*\" = '-t -c file' && test \"$NETD_LAYOUT\" = %d && "
             "test -z \"$NOTIFY_SOCKET\" && test ! -e /proc/self/fd/%d && exit 7\n",
             TABLE_LAYOUT, table.header_fd);
    assert_int_equal(write(fd, script, strlen(script)), strlen(script));
    assert_int_equal(fchmod(fd, 0700), 0);
    close_fd(&fd);
    assert_int_equal(setenv("NOTIFY_SOCKET", "/nowhere/notify", 1), 0);
    assert_int_equal(status_of(handover_check(path, argv)), 7);
    assert_string_equal(getenv("NOTIFY_SOCKET"), "/nowhere/notify");
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unlink(path);
    assert_int_equal(status_of(handover_check(path, argv)), EXIT_FAILURE);
}

static void layouts_are_compared(void **state)
{
    char text[16];

    (void)state;
    assert_true(handover_layout_matches());
    snprintf(text, sizeof(text), "%d", TABLE_LAYOUT);
    assert_int_equal(setenv("NETD_LAYOUT", text, 1), 0);
    assert_true(handover_layout_matches());
    assert_int_equal(setenv("NETD_LAYOUT", "1", 1), 0);
    assert_false(handover_layout_matches());
    (void)unsetenv("NETD_LAYOUT");
}

static void tables_are_received(void **state)
{
    struct table received;
    char text[64];

    (void)state;
    assert_int_equal(handover_receive(&received), 0);
    snprintf(text, sizeof(text), "%d:%d", fcntl(table.header_fd, F_DUPFD_CLOEXEC, 3),
             fcntl(table.regions_fd, F_DUPFD_CLOEXEC, 3));
    assert_int_equal(setenv("NETD_TABLE", text, 1), 0);
    assert_true(handover_is_due());
    assert_int_equal(handover_receive(&received), 1);
    assert_int_equal(received.capacity, table.capacity);
    assert_false(handover_is_due());
    table_deinit(&received);
}

static void what_is_no_table_is_refused(void **state)
{
    static const char *const bad[] = {"", "x", "3", "3:", "-1:-1", "0:0"};
    struct table received;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(setenv("NETD_TABLE", bad[i], 1), 0);
        assert_true(handover_receive(&received) < 0);
        assert_false(handover_is_due());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_table_goes_along, setup, teardown),
        cmocka_unit_test_setup_teardown(passed_sockets_go_along, setup, teardown),
        cmocka_unit_test_setup_teardown(a_program_that_is_gone_leaves_nothing_behind, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_new_program_checks, setup, teardown),
        cmocka_unit_test(layouts_are_compared),
        cmocka_unit_test_setup_teardown(tables_are_received, setup, teardown),
        cmocka_unit_test(what_is_no_table_is_refused),
    };

    (void)alarm(60); /* what hangs, fails */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
