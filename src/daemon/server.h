/* SPDX-License-Identifier: MIT */
/*
 * The worker: one event loop over listeners, clients, timers and the supervisor's word. It decides
 * who may be read now: nobody while the journal has no room.
 */
#pragma once

#include "daemon/table.h"

/* The signal by which the supervisor says that header->command changed, and the worker that it is
 * ready. It must be blocked. */
#define SIGNAL_COMMAND SIGUSR1

/* Exit status of a worker whose standard output is gone for good. */
#define WORKER_OUTPUT_GONE 3

/* Connections that are in no session: accepted by a worker that died before it could say so. */
struct orphans {
    int *fds; /* for free(3) */
    size_t count, room;
};

/*
 * Before a worker starts: closes the descriptors that a dead one left behind, but for connections,
 * and fills in *RET with those that are in no session. It is the supervisor who must call it,
 * between two workers: they share one table of descriptors, so that one process must not close what
 * it does not know while the other runs. Returns 0 or a negative errno.
 */
int server_sweep(const struct table *t, struct orphans *ret);

/*
 * Adopts what is in the table, and ORPHANS, then serves until the supervisor says otherwise. OUTPUT
 * is decided (not OUTPUT_AUTO); JOURNAL_PATH is journald's socket. Returns the worker's exit
 * status: 0, EXIT_FAILURE where something could not be logged or set up, or WORKER_OUTPUT_GONE
 * where another worker could not write either.
 */
int server_run(struct table *table, enum output output, const char *journal_path,
               const struct orphans *orphans);
