/* SPDX-License-Identifier: MIT */
/*
 * The service's main process. It keeps the descriptors of listeners and clients open by living, and
 * the session table by mapping it; it starts the worker, which shares both, and starts another when
 * that one dies; it reloads by executing the program on disk in its own place; and it speaks to
 * systemd. It touches no byte of a client and writes nothing to the journal but its own
 * diagnostics.
 */
#pragma once

#include "daemon/config.h"

/* Exit statuses: sysexits(3) for the configuration, see netd(8). */
#define EXIT_FAILED 1
#define EXIT_USAGE  2
#define EXIT_CONFIG 78

/* Of "netd -t" for a reload: all is well, but its session table has another layout. */
#define EXIT_LAYOUT 79

/* In the environment of "netd -t": the layout of the table that it would take over. */
#define ENV_LAYOUT "NETD_LAYOUT"

/* Runs netd until it is stopped. ARGV is main's, for a reload. Returns the exit status; every error
 * was said. */
int supervisor_run(const struct config *config, char **argv);
