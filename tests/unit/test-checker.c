/* SPDX-License-Identifier: MIT */
/* What becomes of the process that checks. What it reads and resolves: test-config.c and
 * test-listener.c. */
#include "netd/supervisor/checker.h"

#include "common/util.h"
#include "netd/session/table.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int (*reading)(struct config *ret, char *error);

/* In place of config.c's. */
int config_load(struct config *ret, const struct config_input *input,
                char error[static CONFIG_ERROR_MAX])
{
    (void)input;
    return reading(ret, error);
}

static struct checker checker;

static int teardown(void **state)
{
    (void)state;
    checker_deinit(&checker);
    return 0;
}

/* Runs a check in which config_load() does as HOW; returns its exit status. */
static int check(int (*how)(struct config *, char *), const char *file, bool numeric)
{
    static struct config_input input;
    int status;

    input.file = file;
    reading = how;
    assert_int_equal(checker_start(&checker, &input, numeric), 0);
    assert_int_equal(waitpid(checker.pid, &status, 0), checker.pid);
    checker_ended(&checker, status);
    return checker.check->status;
}

static int read_host(struct config *ret, const char *host)
{
    ret->n_listeners = 1;
    ret->listeners[0].address.port = 4711;
    snprintf(ret->listeners[0].address.host, sizeof(ret->listeners[0].address.host), "%s", host);
    return 0;
}

static int read_address(struct config *ret, char *error)
{
    (void)error;
    return read_host(ret, "::1");
}

static int read_name(struct config *ret, char *error)
{
    (void)error;
    return read_host(ret, "no-such-name.invalid");
}

static int read_badly(struct config *ret, char *error)
{
    memset(ret, 0x77, sizeof(*ret));
    memset(error, 'e', CONFIG_ERROR_MAX - 1);
    return -EINVAL;
}

static int read_bad_option(struct config *ret, char *error)
{
    (void)ret;
    snprintf(error, CONFIG_ERROR_MAX, "bad option");
    return -EBADMSG;
}

static int leave(struct config *ret, char *error)
{
    (void)ret;
    (void)error;
    fputs("out of dynamic memory in yy_scan_buffer()\n", stderr);
    fflush(stderr);
    _exit(2);
}

static int leave_content(struct config *ret, char *error)
{
    (void)ret;
    (void)error;
    _exit(EXIT_SUCCESS);
}

static int get_killed(struct config *ret, char *error)
{
    (void)ret;
    (void)error;
    (void)raise(SIGKILL);
    return 0;
}

static int hang(struct config *ret, char *error)
{
    (void)ret;
    (void)error;
    while (pause() < 0)
        ;
    return 0;
}

static void what_was_found_comes_back(void **state)
{
    const struct endpoint *e;

    (void)state;
    assert_int_equal(check(read_address, "/a", false), 0);
    assert_string_equal(checker.check->error, "");
    assert_int_equal(checker.check->layout, table_layout());
    assert_string_equal(checker.check->config.listeners[0].address.host, "::1");
    assert_int_equal(checker.check->endpoints[0].count, 1);
    e = &checker.check->endpoints[0].at[0];
    assert_int_equal(e->family, AF_INET6);
    assert_int_equal(e->port, 4711);
}

static void errors_come_with_all_of_their_line(void **state)
{
    (void)state;
    assert_int_equal(check(read_badly, "/a", false), 78);
    assert_int_equal(strlen(checker.check->error), CONFIG_ERROR_MAX - 1);
    checker_deinit(&checker);
    assert_int_equal(check(read_bad_option, "/a", false), 2);
    assert_string_equal(checker.check->error, "bad option");
}

/* Sockets that systemd passed need no name. */
static void names_are_only_looked_up_where_they_matter(void **state)
{
    (void)state;
    assert_true(check(read_name, "/a", false) > 0);
    assert_non_null(strstr(checker.check->error, "cannot resolve 'no-such-name.invalid'"));
    checker_deinit(&checker);
    assert_int_equal(check(read_name, "/a", true), 0);
    assert_int_equal(checker.check->endpoints[0].count, 0);
}

static void a_parser_that_terminates_does_so_alone(void **state)
{
    (void)state;
    assert_int_equal(check(get_killed, "/a", false), 1);
    assert_string_equal(checker.check->error,
                        "/a: cannot be read: the parser process terminated; out of memory?");
    checker_deinit(&checker);
    assert_int_equal(check(leave_content, NULL, false), 1);
    assert_string_equal(checker.check->error,
                        SYSCONFDIR "/netd/netd.conf: cannot be read: the parser process "
                                   "terminated; out of memory?");
}

static void a_library_that_exits_is_not_heard(void **state)
{
    char said[64];
    int fds[2], saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);

    (void)state;
    assert_true(saved >= 0);
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(check(leave, "/a", false), 1);
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(read(fds[0], said, sizeof(said)), -1);
    close(fds[0]);
    close(fds[1]);
    close(saved);
}

static void hanging_worker_is_ended(void **state)
{
    static const struct config_input input;
    int status;
    pid_t pid;

    (void)state;
    reading = hang;
    assert_int_equal(checker_start(&checker, &input, false), 0);
    pid = checker.pid;
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
    checker_deinit(&checker);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_null(checker.check);
}

static void children_may_be_ignored(void **state)
{
    static const struct config_input input;

    (void)state;
    reading = read_address;
    assert_ptr_not_equal(signal(SIGCHLD, SIG_IGN), SIG_ERR);
    assert_int_equal(checker_main(&input, NULL), 0);
    reading = get_killed;
    assert_ptr_not_equal(signal(SIGCHLD, SIG_IGN), SIG_ERR);
    assert_int_equal(checker_main(&input, NULL), 1);
    assert_ptr_not_equal(signal(SIGCHLD, SIG_DFL), SIG_ERR);
}

/* Root has no limit: as nobody, in a process of its own. */
static void there_may_be_no_process_to_have(void **state)
{
    static const struct config_input input;
    pid_t pid = fork();
    int status;

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};

        if (getuid() == 0 && setuid(65534) < 0)
            _exit(1);
        if (setrlimit(RLIMIT_NPROC, &none) < 0)
            _exit(2);
        _exit(checker_start(&checker, &input, false) == -EAGAIN ? 0 : 3);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- Another program --- */

static char program[64];

static int make_program(void **state)
{
    int fd;

    (void)state;
    snprintf(program, sizeof(program), "/tmp/netd-test-check.XXXXXX");
    fd = mkstemp(program);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, 0700), 0);
    close(fd);
    return 0;
}

static int remove_program(void **state)
{
    (void)unlink(program);
    return teardown(state);
}

/* Has SCRIPT check; returns the exit status. */
static int execute(const char *script, bool numeric)
{
    char *argv[] = {"netd", "-c", "file", NULL};
    FILE *f = fopen(program, "we");
    int status;

    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", script);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(checker_execute(&checker, program, argv, numeric), 0);
    assert_int_equal(waitpid(checker.pid, &status, 0), checker.pid);
    checker_ended(&checker, status);
    return checker.check->status;
}

/* "-t" first, then the options as they were, nothing to notify, and one descriptor. */
static void the_program_is_asked(void **state)
{
    char expected[256];
    int fd = open("/dev/null", O_RDONLY);

    (void)state;
    assert_int_equal(setenv("NOTIFY_SOCKET", "/nowhere/notify", 1), 0);
    assert_int_equal(execute("test \"$*\" = '-t -c file' && test $NETD_CHECK = numeric && "
                             "test -z \"$NOTIFY_SOCKET\" && test -e /proc/self/fd/3 && "
                             "test ! -e /proc/self/fd/4 && exit 7",
                             true),
                     1);
    snprintf(expected, sizeof(expected), "%s: the check ended with status 7", program);
    assert_string_equal(checker.check->error, expected);
    assert_string_equal(getenv("NOTIFY_SOCKET"), "/nowhere/notify");
    (void)unsetenv("NOTIFY_SOCKET");
    close(fd);
}

static void a_program_that_does_not_answer_is_bad(void **state)
{
    char expected[256];

    (void)state;
    assert_int_equal(execute("exit 0", false), 1);
    checker_deinit(&checker);
    assert_int_equal(execute("kill -ALRM $$", false), 1);
    snprintf(expected, sizeof(expected), "%s: the check took more than 60 seconds", program);
    assert_string_equal(checker.check->error, expected);
    checker_deinit(&checker);
    assert_int_equal(execute("kill -SEGV $$", false), 1);
    snprintf(expected, sizeof(expected),
             "%s: the check was ended by signal 11 (Segmentation fault)", program);
    assert_string_equal(checker.check->error, expected);
    checker_deinit(&checker);
    assert_int_equal(execute("head -c 1048576 /dev/zero | tr '\\0' x >/proc/self/fd/3", false), 1);
    checker_deinit(&checker);
    (void)unlink(program);
    assert_int_equal(checker_execute(&checker, program, (char *[]){"netd", NULL}, false), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_was_found_comes_back, teardown),
        cmocka_unit_test_teardown(errors_come_with_all_of_their_line, teardown),
        cmocka_unit_test_teardown(names_are_only_looked_up_where_they_matter, teardown),
        cmocka_unit_test_teardown(a_parser_that_terminates_does_so_alone, teardown),
        cmocka_unit_test_teardown(a_library_that_exits_is_not_heard, teardown),
        cmocka_unit_test_teardown(hanging_worker_is_ended, teardown),
        cmocka_unit_test_teardown(children_may_be_ignored, teardown),
        cmocka_unit_test_teardown(there_may_be_no_process_to_have, teardown),
        cmocka_unit_test_setup_teardown(the_program_is_asked, make_program, remove_program),
        cmocka_unit_test_setup_teardown(a_program_that_does_not_answer_is_bad, make_program,
                                        remove_program),
    };

    (void)alarm(60); /* what hangs, fails */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
