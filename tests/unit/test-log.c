/* SPDX-License-Identifier: MIT */
#include "netd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

/* Where standard error goes while a test runs, and what comes out there. */
static int reader = -1, saved = -1;
static char text[256 * 1024];

static void take_stderr(int fd)
{
    fflush(stderr);
    saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    assert_true(saved >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
}

static void begin_pipe(void)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    reader = fds[0];
    take_stderr(fds[1]);
}

static void begin_socket(void)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    reader = fds[0];
    take_stderr(fds[1]);
}

static int setup(void **state)
{
    (void)state;
    (void)unsetenv("JOURNAL_STREAM");
    log_init();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (saved >= 0) {
        (void)dup2(saved, STDERR_FILENO);
        close(saved);
    }
    close_fd(&reader);
    saved = -1;
    return setup(state);
}

/* What came since the last time. */
static const char *said(void)
{
    size_t length = 0;
    ssize_t n;

    while ((n = read(reader, text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)n;
    text[length] = '\0';
    return text;
}

static void lines_say_who_speaks(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            begin_pipe();
        else
            begin_socket();
        log_error("%s:%d: bad", "file", 7);
        log_info("fine");
        assert_string_equal(said(), "netd: file:7: bad\nnetd: fine\n");
        (void)teardown(state);
    }
}

static void journal_gets_the_level(void **state)
{
    char stream[64];
    struct stat st;

    (void)state;
    begin_socket();
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    (void)setenv("JOURNAL_STREAM", stream, 1);
    log_init();
    log_error("bad");
    log_warning("not good");
    log_notice("good to know");
    log_info("fine");
    assert_string_equal(said(), "<3>bad\n<4>not good\n<5>good to know\n<6>fine\n");
}

/* Standard error went elsewhere after systemd said where the journal is; or it is said badly. */
static void another_stream_is_not_the_journal(void **state)
{
    static const char *const values[] = {"1:2", "", "1", "x:y", "99999999999999999999999:1"};
    char same_device[64];
    struct stat st;

    (void)state;
    begin_pipe();
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        (void)setenv("JOURNAL_STREAM", values[i], 1);
        log_init();
        log_error("bad");
        assert_string_equal(said(), "netd: bad\n");
    }
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(same_device, sizeof(same_device), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino + 1);
    (void)setenv("JOURNAL_STREAM", same_device, 1);
    log_init();
    log_error("bad");
    assert_string_equal(said(), "netd: bad\n");
}

static void long_lines_are_cut(void **state)
{
    static char line[20000];
    const char *out;

    (void)state;
    memset(line, 'x', sizeof(line) - 1);
    begin_pipe();
    log_error("%s", line);
    out = said();
    assert_true(strlen(out) > PATH_MAX);
    assert_true(strlen(out) < PATH_MAX + 1200);
    assert_int_equal(out[strlen(out) - 1], '\n');
    assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
    log_error("next");
    assert_string_equal(said(), "netd: next\n");
}

/* Nobody reads: nothing blocks, and what was lost is counted. */
static void full_pipes_do_not_block(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *out, *lost;
        unsigned said_lines = 0, count = 0;

        if (i == 0)
            begin_pipe();
        else
            begin_socket();
        for (int k = 0; k < 10000; k++)
            log_error("line");
        out = said();
        for (const char *p = out; *p; p++)
            said_lines += *p == '\n';
        assert_true(said_lines > 0);
        log_error("again");
        out = said();
        lost = strstr(out, " (");
        assert_non_null(lost);
        assert_int_equal(sscanf(lost, " (%u lines lost before)\n", &count), 1);
        assert_int_equal(said_lines + count, 10000);
        log_error("and again");
        assert_string_equal(said(), "netd: and again\n");
        (void)teardown(state);
    }
}

static void closed_standard_error_is_no_harm(void **state)
{
    (void)state;
    begin_pipe();
    close(STDERR_FILENO);
    log_error("nobody hears this");
    log_init();
    log_error("nor this");
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    close(saved);
    saved = -1;
    close_fd(&reader);
    begin_pipe();
    log_error("but this");
    assert_string_equal(said(), "netd: but this (2 lines lost before)\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_say_who_speaks),
        TEST(journal_gets_the_level),
        TEST(another_stream_is_not_the_journal),
        TEST(long_lines_are_cut),
        TEST(full_pipes_do_not_block),
        TEST(closed_standard_error_is_no_harm),
    };

    alarm(300); /* what hangs, fails */
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
