/* SPDX-License-Identifier: MIT */
/*
 * From one program to the next: a reload executes the program that is on disk now in the same
 * process, and hands it the session table with all descriptors. So a reload is also an upgrade.
 */
#pragma once

#include "netd/session/table.h"

#include <limits.h>
#include <sys/types.h>

/* Exit status of "netd -t" for a reload: all is well, but its session table has another layout. */
#define EXIT_LAYOUT 79

/* Writes the program's path, which a package may replace while it runs, to RET. */
void handover_find_program(char ret[static PATH_MAX]);

/* Has PROGRAM check the configuration and itself: "-t" added to ARGV. Returns the child's process
 * id, whose exit status is the answer (0, EXIT_LAYOUT, or it is no good), or a negative errno. */
pid_t handover_check(const char *program, char **argv);

/* In that child: true when the table of who asks is one that this program understands. */
bool handover_layout_matches(void);

/* True in a program that handover_check() executed: what comes into force is not for it to say. */
bool handover_is_check(void);

/*
 * Becomes PROGRAM, which takes over TABLE, or only the sockets that systemd passed where SESSIONS
 * is false. There must be no worker. Returns only where it cannot be done, with a negative errno.
 */
int handover_exec(const struct table *table, bool sessions, const char *program, char **argv);

/* In the new program: true when a table waits to be taken over. */
bool handover_is_due(void);

/* In the new program: takes the table over. Returns 1, 0 when this is no handover, or a negative
 * errno. */
int handover_receive(struct table *ret);
