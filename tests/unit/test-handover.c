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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define NOBODY "/nowhere/netd"

static struct handover handover;

static int setup(void **state)
{
    struct check *check =
        mmap(NULL, sizeof(*check), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_ptr_not_equal(check, MAP_FAILED);
    check->layout = table_layout();
    check->size = sizeof(*check);
    check->config.n_listeners = 77;
    handover = (struct handover){.checker.check = check, .requester = 4711};
    return table_create(&handover.table, 4);
}

static int teardown(void **state)
{
    (void)state;
    (void)munmap(handover.checker.check, sizeof(*handover.checker.check));
    table_deinit(&handover.table);
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
        (void)handover_exec(&handover, sessions, "/bin/sh", argv);
        _exit(99);
    }
    return status_of(pid);
}

static void the_table_goes_along(void **state)
{
    char script[256];

    (void)state;
    snprintf(script, sizeof(script),
             "test \"$NETD_TABLE\" = %d:%d && test -z \"$LISTEN_FDS\" && "
             "case $NETD_RELOAD in [0-9]*:4711) test -s /proc/self/fd/${NETD_RELOAD%%:*};; *) "
             "false;; esac",
             handover.table.header_fd, handover.table.regions_fd);
    assert_int_equal(exec_script(true, script), 0);
}

/* Without sessions the program starts as systemd would start it. */
static void passed_sockets_go_along(void **state)
{
    (void)state;
    assert_int_equal(exec_script(false, "test -z \"$NETD_TABLE$LISTEN_FDS$LISTEN_PID\""), 0);
    handover.table.header->listeners[0].passed = 1;
    handover.table.header->listeners[1].passed = 1;
    assert_int_equal(exec_script(false, "test -z \"$NETD_TABLE\" && test \"$LISTEN_FDS\" = 2 && "
                                        "test \"$LISTEN_PID\" = $$"),
                     0);
}

static void a_program_that_is_gone_leaves_nothing_behind(void **state)
{
    char *argv[] = {"netd", NULL};

    (void)state;
    handover.table.header->listeners[0].passed = 1;
    for (int sessions = 0; sessions <= 1; sessions++) {
        assert_int_equal(handover_exec(&handover, sessions, NOBODY, argv), -ENOENT);
        assert_null(getenv("NETD_TABLE"));
        assert_null(getenv("NETD_RELOAD"));
        assert_null(getenv("LISTEN_FDS"));
        assert_null(getenv("LISTEN_PID"));
    }
}

static void tables_are_received(void **state)
{
    struct handover received = {0};
    char text[64];

    (void)state;
    assert_int_equal(handover_receive(&received), 0);
    assert_false(received.reload);
    snprintf(text, sizeof(text), "%d:%d", fcntl(handover.table.header_fd, F_DUPFD_CLOEXEC, 3),
             fcntl(handover.table.regions_fd, F_DUPFD_CLOEXEC, 3));
    assert_int_equal(setenv("NETD_TABLE", text, 1), 0);
    assert_int_equal(handover_receive(&received), 1);
    assert_true(received.reload);
    assert_int_equal(received.table.capacity, handover.table.capacity);
    assert_null(received.checker.check); /* nothing was found */
    assert_null(getenv("NETD_TABLE"));
    table_deinit(&received.table);
}

/* What a check found, and who waits for the outcome. */
static void checks_are_received(void **state)
{
    struct handover received = {0};
    char text[64];

    (void)state;
    snprintf(text, sizeof(text), "%d:4711", check_save(handover.checker.check));
    assert_int_equal(setenv("NETD_RELOAD", text, 1), 0);
    assert_int_equal(handover_receive(&received), 0);
    assert_true(received.reload);
    assert_int_equal(received.requester, 4711);
    assert_non_null(received.checker.check);
    assert_int_equal(received.checker.check->config.n_listeners, 77);
    assert_null(getenv("NETD_RELOAD"));
    checker_deinit(&received.checker);
}

/* Another program was installed since it was checked. */
static void a_check_by_another_program_is_not_taken(void **state)
{
    struct handover received = {0};
    char text[64];

    (void)state;
    for (int i = 0; i < 3; i++) {
        handover.checker.check->size = sizeof(struct check) - (i == 0);
        handover.checker.check->layout = table_layout() + (i == 1);
        handover.checker.check->status = i == 2;
        snprintf(text, sizeof(text), "%d:4711", check_save(handover.checker.check));
        assert_int_equal(setenv("NETD_RELOAD", text, 1), 0);
        assert_int_equal(handover_receive(&received), 0);
        assert_true(received.reload);
        assert_null(received.checker.check);
    }
}

static void other_files_are_refused(void **state)
{
    static const char *const bad[] = {"", "x", "3", "3:", "-1:-1", "0:0"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct handover received = {0};

        assert_int_equal(setenv("NETD_TABLE", bad[i], 1), 0);
        assert_int_equal(setenv("NETD_RELOAD", bad[i], 1), 0);
        assert_true(handover_receive(&received) < 0);
        assert_null(received.checker.check);
        assert_null(getenv("NETD_TABLE"));
        (void)unsetenv("NETD_RELOAD");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_table_goes_along, setup, teardown),
        cmocka_unit_test_setup_teardown(passed_sockets_go_along, setup, teardown),
        cmocka_unit_test_setup_teardown(a_program_that_is_gone_leaves_nothing_behind, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(tables_are_received, setup, teardown),
        cmocka_unit_test_setup_teardown(checks_are_received, setup, teardown),
        cmocka_unit_test_setup_teardown(a_check_by_another_program_is_not_taken, setup, teardown),
        cmocka_unit_test(other_files_are_refused),
    };

    (void)alarm(60); /* what hangs, fails */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
