/* SPDX-License-Identifier: MIT */
/*
 * A reload executes the program on disk in the same process, and passes the session table and all
 * descriptors to it. So a reload is also an upgrade.
 */
#pragma once

#include "netd/session/table.h"
#include "netd/supervisor/checker.h"

#include <sys/types.h>

/* What is passed from one program to the next. */
struct handover {
    struct table table;     /* unset if no sessions are passed */
    struct checker checker; /* result of the check; unset if another program made it */
    pid_t requester;        /* waits for the outcome; 0: none */
    bool reload;            /* false: an ordinary start */
};

/* Writes the path of the running program to RET. A package may have replaced the file. */
void handover_find_program(char ret[static PATH_MAX]);

/*
 * Executes PROGRAM and passes H to it, without SESSIONS all but the table. There must be no worker.
 * Returns only on failure, with a negative errno.
 */
int handover_exec(const struct handover *h, bool sessions, const char *program, char **argv);

/* Receives what the previous program passed. Returns 1 if that includes a table, 0 if not, or a
 * negative errno, which is logged. */
int handover_receive(struct handover *ret);
