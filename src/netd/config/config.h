/* SPDX-License-Identifier: MIT */
/*
 * Configuration: file, environment and options become one struct that nobody changes afterwards.
 * Precedence, lowest first: built-in default, file, environment, option. Pure: files and arguments
 * in, values or one line of error out. config.c is the only file that includes libconfig.h, and
 * uses its 1.5 interface only.
 */
#pragma once

#include "common/address.h"
#include "common/util.h"
#include "netd/config/settings.h"

#include <limits.h>

#define CONFIG_LISTENERS_MAX 64

/* Room for where a value was written; of a longer one the end is kept. */
#define CONFIG_ORIGIN_MAX 512

#define CONFIG_WARNING_MAX (CONFIG_ORIGIN_MAX + 160)

/* Where to listen. */
struct listener_address {
    char host[HOST_MAX + 1];
    uint16_t port;
};

/* Where a value was written that may turn out to be wrong later, when it is resolved or bound, say:
 * "SERVER_HOST", "--port", "/etc/netd/netd.conf:7: host", or "" for the built-in default. */
struct listener_origin {
    char host[CONFIG_ORIGIN_MAX];
    char port[CONFIG_ORIGIN_MAX];
    char sessions_max[CONFIG_ORIGIN_MAX];
};

struct listener_config {
    struct listener_settings settings;
    struct listener_address address;
    struct listener_origin origin;
};

/* Plain data, without pointers: it may be copied to another process. */
struct config {
    struct service_settings service;
    char warning[CONFIG_WARNING_MAX]; /* one line to log where this comes into force, or "" */
    uint32_t n_listeners;             /* at least 1; today never more */
    struct listener_config listeners[CONFIG_LISTENERS_MAX];
};

/* What main found outside the file; NULL where nothing was said. */
struct config_input {
    const char *file;        /* --config; NULL: DEFAULT_CONF, which may be missing */
    const char *env_host;    /* SERVER_HOST; an empty value counts as said, and is an error */
    const char *env_port;    /* SERVER_PORT; likewise */
    const char *option_host; /* --host */
    const char *option_port; /* --port */
    const char *option_output;
    uint64_t descriptors; /* limit of open files, RLIMIT_NOFILE; 0: not looked at */
};

#define CONFIG_ERROR_MAX (PATH_MAX + 512)

/* Writes a line into ERROR, made safe for a terminal, and returns -EINVAL. */
int config_fail(char error[static CONFIG_ERROR_MAX], const char *format, ...) PRINTF(2, 3);

/*
 * Loads everything. Returns 0, or a negative errno with one line in ERROR that names the thing,
 * with file and line where it has one, and without the program's name or a newline:
 *   /etc/netd/netd.conf:7: port: 70000 is not between 0 and 65535
 *   SERVER_PORT: '80x' is not a number
 *   --output: invalid output 'xml'; expected one of auto, journal, text, export
 * -EINVAL is an error of the configuration, files that cannot be read included, or of the
 * environment (exit 78), -EBADMSG one of an option (exit 2; said first), -ENOMEM what it says. A
 * value must be good even where another one wins over it. *RET is untouched on failure. Control
 * bytes in quoted input are shown escaped, and long input is cut, so that the line stays one line
 * that is safe on a terminal. Nothing is resolved here.
 *
 * libconfig ends the process, or crashes, when it runs out of memory, and some versions leak where
 * the syntax is wrong. So netd calls this in a child that exits afterwards; RET and ERROR may be in
 * memory that it shares.
 */
int config_load(struct config *ret, const struct config_input *input,
                char error[static CONFIG_ERROR_MAX]);
