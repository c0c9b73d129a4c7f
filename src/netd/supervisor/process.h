/* SPDX-License-Identifier: MIT */
/*
 * The worker as the supervisor sees it: start, command, watch, restart.
 */
#pragma once

#include "netd/config/config.h"
#include "netd/session/table.h"

#include <sys/types.h>

struct process {
    pid_t pid; /* 0: none */
    uint64_t since_usec, restart_usec;
    unsigned crash_streak; /* consecutive workers that died soon after their start */
    unsigned silent_ticks; /* since an unanswered ping */
    uint64_t silent_cpu;   /* its processor time at that ping, microseconds */
    bool stalled;          /* it was killed while blocked or stopped */
};

/* Starts a worker on TABLE, which shares the caller's descriptors. Returns 0, or a negative errno,
 * which is logged; the next attempt is then due at w->restart_usec. */
int process_start(struct process *w, struct table *table, enum output output);

/* True if the error R of process_start() may go away by itself. */
bool process_error_is_transient(int r);

/* Starts a worker if there is none and one is due at NOW (microseconds, CLOCK_MONOTONIC). */
void process_start_if_due(struct process *w, struct table *table, enum output output, uint64_t now);

/* Writes COMMAND to the table and signals the worker. */
void process_command(const struct process *w, struct table *table, enum table_command command);

/* To be called once a second, or less often while w->silent_ticks is 0: pings the worker, and kills
 * one that no longer answers. */
void process_watch(struct process *w, struct table *table);

/*
 * Handles the unexpected end of the worker with STATUS (waitpid(2)) and schedules the next one.
 * Returns 0, or a negative errno, which is logged, if there will be none: -EPIPE if the output is
 * closed, -ELOOP if workers keep dying soon after their start.
 */
int process_ended(struct process *w, struct table *table, int status);
