/* SPDX-License-Identifier: MIT */
/* netd-tls as the supervisor sees it. What stands for one here is any child. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/exit-status.h"
#include "logged.h"
#include "netd/supervisor/tls.h"
#include "netd/worker/worker.h"
#include "table.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS_MAX 30

static struct tls tls;

/* A child that says ANSWER and ends with STATUS, or with a negative one runs on; as the netd-tls of
 * place N. Returns its process id. */
static pid_t begin(size_t n, enum tls_state state, const char *answer, int status)
{
    struct tls_process *p = &table.header->tls.processes[n];
    int pair[2];
    pid_t pid;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(pair[0]);
        if (write(pair[1], answer, strlen(answer)) < 0)
            _exit(99);
        while (status < 0)
            (void)pause();
        _exit(status);
    }
    close(pair[1]);
    *p = (struct tls_process){.pid = pid, .control = pair[0], .state = state};
    return pid;
}

static void ends(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(tls_ended(&tls, &table, pid, status));
}

/* Waits for the answer of place N. */
static void answers(size_t n)
{
    char byte;

    assert_int_equal(recv(table.header->tls.processes[n].control, &byte, 1, MSG_PEEK), 1);
}

static int setup_tls(void **state)
{
    sigset_t signals;

    tls = (struct tls){.since_usec = now_usec(CLOCK_MONOTONIC)};
    if (setup(state) < 0)
        return -1;
    sigemptyset(&signals);
    sigaddset(&signals, SIGNAL_COMMAND);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    table.header->tls.settings_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return 0;
}

static int teardown_tls(void **state)
{
    tls_kill(&table);
    close_fd(&table.header->tls.settings_fd);
    return teardown(state);
}

static void one_that_is_ready_replaces_the_other(void **state)
{
    (void)state;
    begin(0, TLS_SERVING, "ready\n", -1);
    begin(1, TLS_STARTING, "ready\n", -1);
    answers(1);
    tls_update(&tls, &table, tls.since_usec);
    assert_int_equal(table.header->tls.processes[0].state, TLS_DRAINING);
    assert_int_equal(table.header->tls.processes[1].state, TLS_SERVING);
    assert_int_equal(tls.failed, 0);
}

static void one_that_does_not_become_ready_is_ended(void **state)
{
    const pid_t pid = begin(0, TLS_STARTING, "", -1);

    (void)state;
    tls_update(&tls, &table, tls.since_usec + SECONDS_MAX * USEC_PER_SEC - 1);
    assert_true(tls_is_starting(&table));
    tls_update(&tls, &table, tls.since_usec + SECONDS_MAX * USEC_PER_SEC);
    assert_int_equal(waitpid(pid, NULL, 0), -1);
    assert_int_equal(tls.failed, EXIT_FAILED);
    assert_string_equal(tls.failure, "netd-tls was not ready within 30 seconds");
}

static void earlier_one_goes_on_if_the_next_one_fails(void **state)
{
    (void)state;
    begin(0, TLS_SERVING, "ready\n", -1);
    ends(begin(1, TLS_STARTING, "error 0 /etc/x.pem: none\n", EXIT_CONFIG));
    assert_int_equal(tls.failed, EXIT_CONFIG);
    assert_string_equal(tls.failure, "/etc/x.pem: none");
    assert_int_equal(table.header->tls.processes[0].state, TLS_SERVING);
    assert_true(tls.restart_usec == 0);
}

static void one_that_says_nothing_has_failed(void **state)
{
    (void)state;
    ends(begin(0, TLS_STARTING, "", 0));
    assert_int_equal(tls.failed, EXIT_FAILED);
    assert_string_equal(tls.failure, "netd-tls ended without an answer");
    assert_true(tls.restart_usec > 0);
}

static void one_that_dies_at_its_start_has_failed(void **state)
{
    const pid_t pid = begin(0, TLS_STARTING, "", -1);

    (void)state;
    assert_int_equal(kill(pid, SIGKILL), 0);
    ends(pid);
    assert_int_equal(tls.failed, EXIT_FAILED);
    assert_string_equal(tls.failure, "netd-tls died of signal 9 (Killed)");
}

/* It had become ready before anybody looked. */
static void one_that_dies_when_it_is_ready_has_started(void **state)
{
    const pid_t pid = begin(0, TLS_STARTING, "ready\n", -1);

    (void)state;
    answers(0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    logged_begin();
    ends(pid);
    expect_log("netd: netd-tls died of signal 9 (Killed); its sessions are reset\n");
    logged_end();
    assert_int_equal(tls.failed, 0);
    assert_true(tls.restart_usec > 0);
}

static void one_that_cannot_be_started_has_failed(void **state)
{
    (void)state;
    close_fd(&table.header->tls.settings_fd);
    table.header->tls.settings_fd = 1000;
    tls_start(&tls, &table);
    ends(table.header->tls.processes[0].pid); /* the child finds no settings */
    assert_int_equal(tls.failed, EXIT_FAILED);
    assert_string_equal(tls.failure, "netd-tls ended without an answer");
    table.header->tls.settings_fd = -1;
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup_tls, teardown_tls)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(one_that_is_ready_replaces_the_other),
        test(one_that_does_not_become_ready_is_ended),
        test(earlier_one_goes_on_if_the_next_one_fails),
        test(one_that_says_nothing_has_failed),
        test(one_that_dies_at_its_start_has_failed),
        test(one_that_dies_when_it_is_ready_has_started),
        test(one_that_cannot_be_started_has_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
