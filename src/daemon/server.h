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

/*
 * Adopts what is in the table, then serves until the supervisor says otherwise. OUTPUT is decided
 * (not OUTPUT_AUTO); JOURNAL_PATH is journald's socket. Descriptors that are neither in the table
 * nor 0 to 2 are closed, or become sessions where they are connections. Returns the worker's exit
 * status: 0, or 1 where something could not be logged.
 */
int server_run(struct table *table, enum output output, const char *journal_path);
