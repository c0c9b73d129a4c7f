/* SPDX-License-Identifier: MIT */
/*
 * Configuration: file, environment and options become one struct that nobody changes afterwards.
 * Precedence, lowest first: built-in default, file, environment, option. Pure: files and arguments
 * in, values or one line of error out. config.c is the only file that includes libconfig.h, and
 * uses its 1.5 interface only.
 */
#pragma once

#include "common/address.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define MAX_RECORD_LOW     64
#define MAX_RECORD_HIGH    131072
#define SESSIONS_MAX_HIGH  1000000
#define BUFFER_MEMORY_LOW  UINT64_C(65536)
#define BUFFER_MEMORY_HIGH (UINT64_C(1) << 40)
#define SECONDS_HIGH       31536000 /* a year, for every key in seconds */

enum framing { FRAMING_LINE, FRAMING_RAW };
enum output { OUTPUT_AUTO, OUTPUT_JOURNAL, OUTPUT_TEXT, OUTPUT_EXPORT };

/* What belongs to a listener. One is configured today; nothing assumes that there is only one. */
struct listener_config {
    char host[HOST_MAX + 1];
    uint16_t port;
    uint32_t max_record; /* bytes */
    enum framing framing;
    int priority; /* syslog level, LOG_NOTICE to LOG_DEBUG */
    bool receipt;
    uint32_t sessions_max;
    uint32_t sessions_max_per_address; /* 0: no limit */
    uint32_t idle_timeout;             /* seconds; 0: never */
    /* Where host and port were said last, for errors that show only at bind: "SERVER_HOST",
     * "--port", "/etc/netd/netd.conf:7: host", or "" for the built-in default. */
    char host_origin[PATH_MAX + 32];
    char port_origin[PATH_MAX + 32];
};

struct config {
    struct listener_config listener;
    enum output output;
    uint32_t stop_timeout;  /* seconds */
    uint64_t buffer_memory; /* bytes */
};

/* What main found outside the file; NULL where nothing was said. */
struct config_input {
    const char *file;        /* --config; NULL: DEFAULT_CONF, which may be missing */
    const char *env_host;    /* SERVER_HOST; an empty value counts as said, and is an error */
    const char *env_port;    /* SERVER_PORT; likewise */
    const char *option_host; /* --host */
    const char *option_port; /* --port */
    const char *option_output;
};

#define CONFIG_ERROR_MAX (PATH_MAX + 512)

/*
 * Loads everything. Returns 0, or a negative errno with one line in ERROR that names the thing,
 * with file and line where it has one, and without the program's name or a newline:
 *   /etc/netd/netd.conf:7: port: 70000 is not between 0 and 65535
 *   SERVER_PORT: '80x' is not a number
 *   --output: 'xml' is none of auto, journal, text, export
 * -EINVAL is an error of the configuration, files that cannot be read included, or of the
 * environment (exit 78), -EBADMSG one of an option (exit 2; said first), -ENOMEM what it says. A
 * value must be good even where another one wins over it. *RET is untouched on failure. Control
 * bytes in quoted input are shown escaped, and long input is cut, so that the line stays one line
 * that is safe on a terminal. Nothing is resolved here. libconfig may end the process when it runs
 * out of memory: what it is given is bounded, see config-text.h, and netd calls this in a process
 * apart, see config-apart.h.
 */
int config_load(struct config *ret, const struct config_input *input,
                char error[static CONFIG_ERROR_MAX]);
