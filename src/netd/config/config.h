/* SPDX-License-Identifier: MIT */
/*
 * Configuration: file, environment and options become one struct, which is not changed afterwards.
 * Precedence, lowest first: built-in default, file, environment, option. Pure: files and arguments
 * in, values or one error message out. config.c is the only file that includes libconfig.h, and
 * uses its 1.5 interface only.
 */
#pragma once

#include "common/access.h"
#include "common/address.h"
#include "common/util.h"
#include "netd/config/settings.h"

#include <limits.h>

/* Size of the text that says where a value was set; of a longer one the end is kept. */
#define CONFIG_ORIGIN_MAX 512

#define CONFIG_WARNING_MAX (CONFIG_ORIGIN_MAX + 160)

/* Allowed and denied networks of all listeners together. */
#define CONFIG_RULES_MAX 16384

/* Size of the path of a unix socket, NUL included: unix(7). */
#define CONFIG_PATH_SIZE 108

/* Where to listen: at PATH if it is not empty, else at HOST and PORT. */
struct listener_address {
    char host[HOST_MAX + 1];
    uint16_t port;
    uint16_t mode;               /* permission bits of the socket file */
    char path[CONFIG_PATH_SIZE]; /* of a unix socket; "@NAME" for an abstract one */
};

/* Bytes of the texts of all listeners' TLS settings together. */
#define CONFIG_TEXTS_MAX 131072

/* The group "tls" of a listener. Texts are offsets in the configuration's, where several are one
 * behind the other; 0 is none. */
struct listener_tls {
    uint32_t certificate, key, client_ca; /* absolute paths */
    uint32_t client_names, n_client_names;
    uint32_t client_fingerprints, n_client_fingerprints; /* 64 hex digits each */
    uint32_t min_minor;                                  /* lowest version: 2 or 3 of TLS 1.x */
};

/* Where the values were set that can fail later, when an address is resolved or bound: for example
 * "SERVER_HOST", "--port" or "/etc/netd/netd.conf:7: host"; "" for a built-in default. */
struct listener_origin {
    char host[CONFIG_ORIGIN_MAX]; /* or path */
    char port[CONFIG_ORIGIN_MAX];
    char tls[CONFIG_ORIGIN_MAX];
};

struct listener_config {
    struct listener_settings settings;
    struct listener_address address;
    struct listener_tls tls; /* with settings.tls */
    struct listener_origin origin;
    uint32_t first_rule, n_rules; /* in the configuration's rules */
};

/* Plain data without pointers, which may be copied to another process. */
struct config {
    struct service_settings service;
    char warning[CONFIG_WARNING_MAX]; /* one line to log when this comes into force, or "" */
    uint32_t n_listeners;             /* at least 1 */
    struct listener_config listeners[CONFIG_LISTENERS_MAX];
    uint32_t n_rules;
    struct access_rule rules[CONFIG_RULES_MAX]; /* a listener's can be compiled: access_build() */
    uint32_t texts_used;
    char texts[CONFIG_TEXTS_MAX];
};

/* The sources of a configuration; NULL where one is not given. */
struct config_input {
    const char *file;        /* --config; NULL: DEFAULT_CONF, which is optional */
    const char *env_host;    /* SERVER_HOST; an empty value is an error */
    const char *env_port;    /* SERVER_PORT; likewise */
    const char *option_host; /* --host */
    const char *option_port; /* --port */
    const char *option_output;
    const char *credentials; /* CREDENTIALS_DIRECTORY, where files are looked for first */
    uint64_t descriptors;    /* limit of open files, RLIMIT_NOFILE; 0: not checked */
};

#define CONFIG_ERROR_MAX (PATH_MAX + 512)

/* The text at OFFSET, or NULL if that is 0. */
static inline const char *config_text(const struct config *c, uint32_t offset)
{
    return offset > 0 && offset < CONFIG_TEXTS_MAX ? &c->texts[offset] : NULL;
}

/* Writes one line, control characters escaped, into ERROR, and returns -EINVAL. */
int config_fail(char error[static CONFIG_ERROR_MAX], const char *format, ...) PRINTF(2, 3);

/*
 * Loads the configuration. Returns 0, or a negative errno with one line in ERROR that names what is
 * wrong, with file and line where it has one, and without the program's name or a newline:
 *   /etc/netd/netd.conf:7: port: 70000 is not between 0 and 65535
 *   SERVER_PORT: '80x' is not a number
 *   --output: invalid output 'xml'; expected one of auto, journal, text, export
 * -EINVAL is an error in the configuration or the environment, or a file that cannot be read (exit
 * status 78); -EBADMSG one in an option (exit status 2; reported before any other); -ENOMEM means
 * out of memory. A value must be valid even where it is overridden. *RET is untouched on failure,
 * ERROR is empty on success. Control characters in quoted input are escaped, and long input is
 * truncated. No name is resolved here.
 *
 * libconfig exits or crashes when it runs out of memory, and version 1.5 leaks on syntax errors. So
 * netd calls this in a child that exits afterwards; RET and ERROR may be in shared memory.
 */
int config_load(struct config *ret, const struct config_input *input,
                char error[static CONFIG_ERROR_MAX]);
