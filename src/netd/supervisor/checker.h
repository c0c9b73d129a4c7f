/* SPDX-License-Identifier: MIT */
/*
 * The checker: a child process that reads the configuration and resolves its names, for a start,
 * "netd -t" and a reload. libconfig crashes or exits when it runs out of memory, and a resolver may
 * take minutes; neither affects the supervisor or the worker. The result is in memory shared with
 * the parent. For a reload the program on disk runs the check and, when it is executed
 * (handover.h), receives its own result.
 */
#pragma once

#include "netd/config/config.h"
#include "netd/worker/listener.h"

#include <stdio.h>
#include <sys/types.h>

/* Result of a check. It may be written by another version than the one that reads it: the members
 * up to and including size never change. */
struct check {
    char error[4096 + 512]; /* one line; empty on success */
    int32_t layout;         /* table_layout() of the program that checked */
    int32_t status;         /* exit status of "netd -t" */
    uint32_t size;          /* sizeof(struct check) there; 0 until the result is complete */

    struct config config;
    struct listener_endpoints endpoints[CONFIG_LISTENERS_MAX];
};

struct checker {
    pid_t pid;           /* 0: not running */
    struct check *check; /* its result, or NULL */
    const char *program; /* the program that checks; NULL: this one */
    const char *file;    /* the file that is read, if program is NULL */
};

/* Starts a child that checks what INPUT names; INPUT must stay valid. With NUMERIC no names are
 * resolved, because systemd passed the sockets. Returns 0 or a negative errno. */
int checker_start(struct checker *c, const struct config_input *input, bool numeric);

/* Starts PROGRAM as a child with "-t" and ARGV to run the check; PROGRAM must stay valid. Returns 0
 * or a negative errno. */
int checker_execute(struct checker *c, const char *program, char **argv, bool numeric);

/* To be called once when the child has exited with STATUS (waitpid(2)). Sets an error if it did not
 * complete the result. */
void checker_ended(struct checker *c, int status);

/* Kills the child, if it runs, and frees the result. */
void checker_deinit(struct checker *c);

/* "netd -t", also when run by checker_execute(); with PRINT "netd -T", which prints the
 * configuration there. Returns the exit status; the error is logged, or passed to the running netd.
 */
int checker_main(const struct config_input *input, FILE *print);

/* Copies CHECK to a memfd, without close-on-exec, for the program to be executed. Returns the
 * descriptor or a negative errno. */
int check_save(const struct check *check);

/* Maps what check_save() wrote to FD, and closes FD. Returns 0 or a negative errno, such as
 * -EPROTONOSUPPORT if another program wrote it. */
int check_load(struct checker *ret, int fd);
