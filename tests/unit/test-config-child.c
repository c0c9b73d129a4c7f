/* SPDX-License-Identifier: MIT */
/* What becomes of the process that reads the configuration. What it reads: test-config.c. */
#include "netd/config/child.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

static struct config config;
static char error[CONFIG_ERROR_MAX];

static int load(int (*how)(struct config *, char *), const char *file)
{
    struct config_input input = {.file = file};
    int result;

    reading = how;
    memset(&config, 0x55, sizeof(config));
    memset(error, 0, sizeof(error));
    result = config_load_apart(&config, &input, error);
    /* It left no child behind. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    return result;
}

static void assert_untouched(void)
{
    const uint8_t *p = (const uint8_t *)&config;

    for (size_t i = 0; i < sizeof(config); i++)
        assert_int_equal(p[i], 0x55);
}

static int read_well(struct config *ret, char *line)
{
    memset(ret, 0x77, sizeof(*ret));
    line[0] = 'x';
    return 0;
}

static int read_badly(struct config *ret, char *line)
{
    memset(ret, 0x77, sizeof(*ret));
    memset(line, 'e', CONFIG_ERROR_MAX - 1);
    return -EBADMSG;
}

static int leave(struct config *ret, char *line)
{
    (void)ret;
    (void)line;
    fputs("out of dynamic memory in yy_scan_buffer()\n", stderr);
    fflush(stderr);
    _exit(2);
}

static int leave_content(struct config *ret, char *line)
{
    (void)ret;
    (void)line;
    _exit(EXIT_SUCCESS);
}

static int get_killed(struct config *ret, char *line)
{
    (void)ret;
    (void)line;
    (void)raise(SIGKILL);
    return 0;
}

static void what_was_read_comes_back(void **state)
{
    struct config expected;

    (void)state;
    memset(&expected, 0x77, sizeof(expected));
    assert_int_equal(load(read_well, "/a"), 0);
    assert_memory_equal(&config, &expected, sizeof(config));
    assert_string_equal(error, "");
}

static void so_does_an_error_with_all_of_its_line(void **state)
{
    (void)state;
    assert_int_equal(load(read_badly, "/a"), -EBADMSG);
    assert_int_equal(strlen(error), CONFIG_ERROR_MAX - 1);
    assert_int_equal(error[CONFIG_ERROR_MAX - 2], 'e');
    assert_untouched();
}

static void whoever_dies_of_it_does_so_alone(void **state)
{
    (void)state;
    assert_int_equal(load(get_killed, "/a"), -ENOMEM);
    assert_string_equal(error, "/a: cannot be read: its reader died; out of memory?");
    assert_untouched();
    assert_int_equal(load(leave_content, NULL), -ENOMEM);
    assert_string_equal(error, SYSCONFDIR
                        "/netd/netd.conf: cannot be read: its reader died; out of memory?");
    assert_untouched();
}

static void a_library_that_exits_is_not_heard(void **state)
{
    char said[64];
    int fds[2], saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);

    (void)state;
    assert_true(saved >= 0);
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(load(leave, "/a"), -ENOMEM);
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(read(fds[0], said, sizeof(said)), -1);
    close(fds[0]);
    close(fds[1]);
    close(saved);
}

static void children_may_be_ignored(void **state)
{
    (void)state;
    assert_ptr_not_equal(signal(SIGCHLD, SIG_IGN), SIG_ERR);
    assert_int_equal(load(read_well, "/a"), 0);
    assert_int_equal(load(get_killed, "/a"), -ENOMEM);
    assert_ptr_not_equal(signal(SIGCHLD, SIG_DFL), SIG_ERR);
}

/* Root has no limit: as nobody, in a process of its own. */
static void there_may_be_no_process_to_have(void **state)
{
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
        if (load(read_well, "/a") != -ENOMEM)
            _exit(3);
        _exit(strcmp(error, "/a: cannot be read: Resource temporarily unavailable") == 0 ? 0 : 4);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_read_comes_back),
        cmocka_unit_test(so_does_an_error_with_all_of_its_line),
        cmocka_unit_test(whoever_dies_of_it_does_so_alone),
        cmocka_unit_test(a_library_that_exits_is_not_heard),
        cmocka_unit_test(children_may_be_ignored),
        cmocka_unit_test(there_may_be_no_process_to_have),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
