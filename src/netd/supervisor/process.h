/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's view of the worker: started, told what to do, watched, and started again when it
 * dies.
 */
#pragma once

#include "netd/config/config.h"
#include "netd/session/table.h"

#include <sys/types.h>

struct process {
    pid_t pid; /* 0: none */
    uint64_t since_usec, restart_usec;
    unsigned crash_streak; /* workers in a row that died as soon as they began */
    unsigned silent_ticks; /* since it was asked and did not answer */
    uint64_t silent_cpu;   /* microseconds that it had run by then */
    bool stalled;          /* it was ended because it hung, and not by its own fault */
};

/* Starts a worker over TABLE, which shares the caller's descriptors. Returns 0 or a negative errno,
 * said; then w->restart_usec says when to try again. */
int process_start(struct process *w, struct table *table, enum output output);

/* True where what process_start() returned may pass. */
bool process_error_is_transient(int r);

/* Starts one if there is none and its time has come, as of NOW (microseconds, CLOCK_MONOTONIC). */
void process_start_if_due(struct process *w, struct table *table, enum output output, uint64_t now);

/* Writes COMMAND in the table, and has the worker look at it. */
void process_command(const struct process *w, struct table *table, enum table_command command);

/* To be called once a second, or less often while w->silent_ticks is 0: asks the worker whether its
 * loop turns, and ends one that does not answer any more. */
void process_watch(struct process *w, struct table *table);

/*
 * Takes note that the worker ended with STATUS (waitpid(2)) without having been told to, and
 * decides when the next one starts. Returns 0, or a negative errno, said, when there is none:
 * -EPIPE where the output is gone, -ELOOP where workers die as soon as they begin.
 */
int process_ended(struct process *w, struct table *table, int status);
