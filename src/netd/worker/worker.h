/* SPDX-License-Identifier: MIT */
/*
 * The worker: one event loop over listeners, clients, timers and the supervisor's commands. While
 * the journal has no room, no client is read and no connection accepted.
 */
#pragma once

#include "netd/worker/unclaimed.h"

/* The signal by which the supervisor says that header->command changed, and the worker that it is
 * ready. It must be blocked. */
#define SIGNAL_COMMAND SIGUSR1

/* Exit status of a worker whose standard output has failed for good. */
#define WORKER_OUTPUT_GONE 3

/* Exit status of a worker that was told to yield. */
#define WORKER_YIELDED 4

/* Exit status of a worker that could not go on; another one may. */
#define WORKER_FAILED 5

/*
 * Adopts what is in the table, and the connection UNCLAIMED, then serves until the supervisor says
 * otherwise. OUTPUT is decided (not OUTPUT_AUTO); JOURNAL_PATH is journald's socket. Returns the
 * worker's exit status: 0, EXIT_FAILURE where something could not be logged before a stop, or one
 * of the above.
 */
int worker_run(struct table *table, enum output output, const char *journal_path, int unclaimed);
