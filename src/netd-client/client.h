/* SPDX-License-Identifier: MIT */
/* What the commands of netd-client share: the options, the command table's row, errors. */
#pragma once

#include "common/address.h"
#include "common/exit-status.h"
#include "common/util.h"

#include <stdbool.h>
#include <stdint.h>

/* What the command line said. Strings belong to argv. */
struct options {
    const char *host, *port; /* NULL: not said */
    uint64_t timeout;        /* microseconds without progress; 0: no limit */
    bool quiet, verbose;

    const char *directory, *name_space; /* where the journal is; NULL: the default one */
    bool json, utc, no_pager;

    bool open;
    char peer[ENDPOINT_ADDRESS_MAX]; /* as in NETD_PEER_ADDRESS; "": any */
    uint64_t since, until;           /* microseconds since the epoch, 0 and UINT64_MAX: no bound */
    uint64_t lines;                  /* UINT64_MAX: not said */
};

struct command {
    const char *name;
    const char *arguments; /* for --help */
    const char *help;      /* one line */
    const char *options;   /* the letters of options.c that it takes beside the general ones */
    int arguments_max;     /* -1: any number */
    bool argument_needed;
    /* Runs with the COUNT words after the command's name; returns the exit status. */
    int (*run)(const struct options *options, char **arguments, int count);
};

int send_run(const struct options *options, char **arguments, int count);
int sessions_run(const struct options *options, char **arguments, int count);
int show_run(const struct options *options, char **arguments, int count);
int cat_run(const struct options *options, char **arguments, int count);
int follow_run(const struct options *options, char **arguments, int count);
int verify_run(const struct options *options, char **arguments, int count);

/*
 * Writes one line, "netd-client: ..." on standard error, with whatever would not be safe on a
 * terminal escaped. Returns STATUS, so that an error can be reported and returned in one go.
 */
int client_fail(int status, const char *format, ...) PRINTF(2, 3);
