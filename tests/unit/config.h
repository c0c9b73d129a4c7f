/* SPDX-License-Identifier: MIT */
/* Files to load as a configuration, in a directory of the test's own, and what holds for every
 * result. */
#pragma once

#include "netd/config/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libconfig-leaks.h"
#include "random.h"

/* Where a test writes its files. */
static char directory[64];
static char conf[80];

static char error[CONFIG_ERROR_MAX];

static inline int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/netd-test-config.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(conf, sizeof(conf), "%s/netd.conf", directory);
    return 0;
}

static inline int remove_directory(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command) == 0 ? 0 : -1;
}

/* Returns the path of NAME in the directory, good until the next call. */
static inline const char *in_directory(const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static inline void write_bytes(const char *name, const void *bytes, size_t length)
{
    FILE *f = fopen(in_directory(name), "we");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
}

static inline void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

/* Loads INPUT and checks what holds for every result. */
static inline int load(struct config *ret, const struct config_input *input)
{
    static struct config before;
    int r;

    memset(ret, 0x5a, sizeof(*ret));
    before = *ret;
    memset(error, 0x5a, sizeof(error));
    r = config_load(ret, input, error);
    if (r == 0) {
        assert_string_equal(error, "");
        return 0;
    }
    assert_true(r == -EINVAL || r == -EBADMSG);
    assert_memory_equal(ret, &before, sizeof(before));
    assert_true(memchr(error, '\0', sizeof(error)) != NULL);
    assert_true(error[0] != '\0');
    for (const char *p = error; *p; p++)
        assert_true(*p >= ' ' && *p <= '~');
    return r;
}

/* Loads the file that holds TEXT. */
static inline int load_text(struct config *ret, const char *text)
{
    write_text("netd.conf", text);
    return load(ret, &(struct config_input){.file = conf});
}

/* Asserts that loading INPUT fails with R and an error of PREFIX and REST. */
static inline void check_error(const struct config_input *input, int r, const char *prefix,
                               const char *rest)
{
    static struct config c;
    char expected[CONFIG_ERROR_MAX + 512];

    assert_int_equal(load(&c, input), r);
    snprintf(expected, sizeof(expected), "%s%s", prefix, rest);
    assert_string_equal(error, expected);
}

/* Asserts that loading the file that holds TEXT fails with an error of its path and REST. */
static inline void check_text_error(const char *text, const char *rest)
{
    write_text("netd.conf", text);
    check_error(&(struct config_input){.file = conf}, -EINVAL, conf, rest);
}

#define CONFIG_TEST(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)
