/* SPDX-License-Identifier: MIT */
/* A worker as the supervisor sees it. What stands for one here is any child. */
#include "netd/supervisor/process.h"

#include "common/util.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

/* More than process.c has patience for. */
#define TICKS 10

static struct table table;
static struct process process;

static int setup(void **state)
{
    (void)state;
    process = (struct process){0};
    return table_create(&table, 4);
}

static int teardown(void **state)
{
    (void)state;
    table_deinit(&table);
    return 0;
}

static void start(void (*how)(void))
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        how();
    process.pid = pid;
    process.since_usec = now_usec(CLOCK_MONOTONIC);
}

static void sleep_for_ever(void)
{
    for (;;)
        (void)pause();
}

static void run_for_ever(void)
{
    for (;;)
        ;
}

static void ends(void)
{
    int status;

    assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
    assert_int_equal(process_ended(&process, &table, status), 0);
    assert_int_equal(process.pid, 0);
}

/* Waits until the worker has used more processor time than one that is held could. */
static void let_it_run(void)
{
    clockid_t clock;

    assert_int_equal(clock_getcpuclockid(process.pid, &clock), 0);
    for (uint64_t first = now_usec(clock); now_usec(clock) < first + 200 * USEC_PER_MSEC;)
        (void)usleep(1000);
}

static void answering_worker_is_asked_again(void **state)
{
    (void)state;
    start(sleep_for_ever);
    for (int i = 0; i < 5 * TICKS; i++) {
        process_watch(&process, &table);
        assert_int_equal(process.silent_ticks, 0);
        assert_int_equal(table.header->ping, i + 1);
        table.header->heartbeat = table.header->ping;
    }
    assert_int_equal(kill(process.pid, SIGKILL), 0);
    ends();
}

/* It was stopped, say, in the middle of what it was working on. */
static void stopped_worker_is_not_blamed(void **state)
{
    (void)state;
    start(sleep_for_ever);
    for (int i = 0; i <= TICKS; i++)
        process_watch(&process, &table);
    ends();
    assert_int_equal(table.header->crashed, 0);
}

static void looping_worker_is_blamed(void **state)
{
    (void)state;
    start(run_for_ever);
    process_watch(&process, &table);
    process_watch(&process, &table);
    assert_int_equal(process.silent_ticks, 1);
    let_it_run();
    for (int i = 1; i < TICKS; i++)
        process_watch(&process, &table);
    ends();
    assert_int_equal(table.header->crashed, 1);
}

static void crashed_worker_is_blamed(void **state)
{
    (void)state;
    start(abort);
    ends();
    assert_int_equal(table.header->crashed, 1);
    start(sleep_for_ever);
    assert_int_equal(kill(process.pid, SIGKILL), 0);
    ends();
    assert_int_equal(table.header->crashed, 0);
}

static void crashes_in_a_row_come_to_an_end(void **state)
{
    int status, n = 1;

    (void)state;
    for (;; n++) {
        start(abort);
        assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
        process.since_usec = now_usec(CLOCK_MONOTONIC);
        if (process_ended(&process, &table, status) < 0)
            break;
        assert_true(process.restart_usec > process.since_usec);
    }
    assert_int_equal(n, 16);
}

static void some_errors_pass(void **state)
{
    (void)state;
    assert_true(process_error_is_transient(-ENOMEM));
    assert_true(process_error_is_transient(-EAGAIN));
    assert_true(process_error_is_transient(-EMFILE));
    assert_false(process_error_is_transient(-ENOENT));
    assert_false(process_error_is_transient(-EACCES));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answering_worker_is_asked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(stopped_worker_is_not_blamed, setup, teardown),
        cmocka_unit_test_setup_teardown(looping_worker_is_blamed, setup, teardown),
        cmocka_unit_test_setup_teardown(crashed_worker_is_blamed, setup, teardown),
        cmocka_unit_test_setup_teardown(crashes_in_a_row_come_to_an_end, setup, teardown),
        cmocka_unit_test(some_errors_pass),
    };
    sigset_t signals;

    /* As the supervisor has it, and its worker. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    (void)alarm(60); /* what hangs, fails */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
