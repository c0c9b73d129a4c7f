/* SPDX-License-Identifier: MIT */
/*
 * From one program to the next: a reload executes the program that is on disk now in the same
 * process, and hands it the session table with all descriptors. So a reload is also an upgrade.
 */
#pragma once

#include "netd/session/table.h"
#include "netd/supervisor/checker.h"

#include <sys/types.h>

/* What goes from one program to the next. */
struct handover {
    struct table table; /* as it was made where no sessions go along */
    struct checker
        checker;     /* what the new program found when it checked; without: it was another */
    pid_t requester; /* who waits for the outcome, or 0 */
    bool reload;     /* false: this is an ordinary start */
};

/* Writes the program's path, which a package may replace while it runs, to RET. */
void handover_find_program(char ret[static PATH_MAX]);

/*
 * Becomes PROGRAM, which takes over H, or with SESSIONS false everything but its sessions. There
 * must be no worker. Returns only where it cannot be done, with a negative errno.
 */
int handover_exec(const struct handover *h, bool sessions, const char *program, char **argv);

/* In the new program: takes over what there is. Returns 1 where that is a table, 0 where there is
 * none, or a negative errno, said. */
int handover_receive(struct handover *ret);
