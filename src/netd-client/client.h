/* SPDX-License-Identifier: MIT */
/* Definitions shared by the commands: options, the command table, errors. */
#pragma once

#include "common/address.h"
#include "common/exit-status.h"
#include "common/util.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* What ends each message of send. */
enum send_framing { SEND_LINE, SEND_NUL, SEND_OCTET };

/* Parsed command line. Strings point into argv. */
struct options {
    const char *host, *port; /* NULL: not given */
    uint64_t timeout;        /* microseconds without progress; 0: no limit */
    bool quiet, verbose;
    enum send_framing framing;
    bool relp, reconnect;
    bool tls;
    const char *ca, *cert, *key; /* files; NULL: not given */

    const char *directory, *name_space; /* journal to read; NULL: the default */
    bool json, utc, no_pager;
    bool http;

    bool open, reverse;
    char peer[ENDPOINT_ADDRESS_MAX];   /* as in NETD_PEER_ADDRESS; "": any */
    const char *listener, *reason;     /* NULL: any */
    bool selects;                      /* only records with the following */
    const char *identifier, *hostname; /* NULL: any */
    int priority;                      /* at most; 7: any */
    uint64_t since, until;             /* microseconds since the epoch; 0, UINT64_MAX: no limit */
    uint64_t lines;                    /* UINT64_MAX: not given */
};

struct command {
    const char *name;
    const char *arguments; /* for --help */
    const char *help;      /* one line */
    const char *options;   /* accepted besides the general ones, by their letter in options.c */
    int arguments_max;     /* -1: any number */
    bool argument_needed;
    /* ARGUMENTS are the COUNT words after the command. Returns the exit status. */
    int (*run)(const struct options *options, char **arguments, int count);
};

int send_run(const struct options *options, char **arguments, int count);
int sessions_run(const struct options *options, char **arguments, int count);
int show_run(const struct options *options, char **arguments, int count);
int cat_run(const struct options *options, char **arguments, int count);
int follow_run(const struct options *options, char **arguments, int count);
int verify_run(const struct options *options, char **arguments, int count);
int status_run(const struct options *options, char **arguments, int count);
int doctor_run(const struct options *options, char **arguments, int count);
int metrics_run(const struct options *options, char **arguments, int count);

/* Opens the metrics file PATH. Returns NULL with an exit status in *RET, reported. */
FILE *metrics_open(const char *path, int *ret);

/* Prints "netd-client: ..." as one line on standard error, escaped for a terminal. Returns STATUS.
 */
int client_fail(int status, const char *format, ...) PRINTF(2, 3);
