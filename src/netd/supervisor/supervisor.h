/* SPDX-License-Identifier: MIT */
/*
 * The service's main process. It holds the descriptors of listeners and clients and maps the
 * session table; starts the worker, which shares both, and restarts it when it dies; reloads by
 * executing the program on disk in its place; and notifies systemd. It does not touch clients'
 * bytes, and writes nothing to the journal but its own diagnostics.
 */
#pragma once

#include "netd/config/config.h"

/* Runs netd until it is stopped. INPUT names the sources of the configuration; ARGV is main's, for
 * a reload. Returns the exit status; errors are logged here. */
int supervisor_run(const struct config_input *input, char **argv);
