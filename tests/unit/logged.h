/* SPDX-License-Identifier: MIT */
/* What a test logs: standard error is a pipe between logged_begin() and logged_end(). Needs
 * cmocka.h before. */
#pragma once

#include "common/util.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int logged_reader = -1, logged_saved = -1;

static inline void logged_begin(void)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    logged_reader = fds[0];
    logged_saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
    close(fds[1]);
}

static inline void logged_end(void)
{
    (void)dup2(logged_saved, STDERR_FILENO);
    close_fd(&logged_saved);
    close_fd(&logged_reader);
}

/* Checks that the lines since the last call are EXPECTED. */
static inline void expect_log(const char *expected)
{
    char text[4096];
    ssize_t n = read(logged_reader, text, sizeof(text) - 1);

    text[n > 0 ? n : 0] = '\0';
    assert_string_equal(text, expected);
}
