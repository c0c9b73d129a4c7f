/* SPDX-License-Identifier: MIT */
/*
 * The checker: a child that reads the configuration and resolves its names, for a start, for "netd
 * -t" and for a reload. libconfig crashes or ends the process when an allocation of its own fails,
 * and a resolver may take minutes: neither concerns the supervisor or the worker. What the child
 * found is in memory that its parent shares. For a reload it is the program on disk that checks,
 * and, once executed (handover.h), takes what it had found itself.
 */
#pragma once

#include "netd/config/config.h"
#include "netd/worker/listener.h"

#include <sys/types.h>

/* What a checker found. One program reads what another one wrote, so that the head, up to and with
 * size, stays as it is in every version. */
struct check {
    char error[4096 + 512]; /* one line; empty when all is good */
    int32_t layout;         /* table_layout() of the program that checked */
    int32_t status;         /* exit status of "netd -t" */
    uint32_t size;          /* sizeof(struct check) there; 0 until all of this is written */

    struct config config;
    struct listener_endpoints endpoints[CONFIG_LISTENERS_MAX];
};

struct checker {
    pid_t pid;           /* 0: it does not run */
    struct check *check; /* what it found, or NULL */
    const char *program; /* the one that checks; NULL: this one */
    const char *file;    /* the one that is read, where it is this one */
};

/* Starts a child that checks what INPUT names, which must stay there. With NUMERIC no name is
 * looked up, because systemd passed the sockets. Returns 0 or a negative errno. */
int checker_start(struct checker *c, const struct config_input *input, bool numeric);

/* Has PROGRAM, which must stay there, check the configuration and itself: "-t" added to ARGV.
 * Returns 0 or a negative errno. */
int checker_execute(struct checker *c, const char *program, char **argv, bool numeric);

/* To be called when the child has ended, with its status of waitpid(2), and once only: completes
 * what it found, whatever became of it. */
void checker_ended(struct checker *c, int status);

/* Ends the child where there is one, and forgets what was found. */
void checker_deinit(struct checker *c);

/* "netd -t", also as checker_execute() runs it: checks, and returns the exit status. The error was
 * printed, or given to whoever runs this. */
int checker_main(const struct config_input *input);

/* Copies CHECK to a memfd for the program that is executed next. Returns the descriptor, which is
 * not close-on-exec, or a negative errno. */
int check_save(const struct check *check);

/* In that program: what check_save() wrote to FD, which is closed. Returns 0 or a negative errno:
 * -EPROTONOSUPPORT where it is not from this very program. */
int check_load(struct checker *ret, int fd);
