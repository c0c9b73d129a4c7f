/* SPDX-License-Identifier: MIT */
/*
 * The service's main process. It keeps the descriptors of listeners and clients open by living, and
 * the session table by mapping it; it starts the worker, which shares both, and starts another when
 * that one dies; it reloads by executing the program on disk in its own place; and it speaks to
 * systemd. It touches no byte of a client and writes nothing to the journal but its own
 * diagnostics.
 */
#pragma once

#include "netd/config/config.h"

/* Runs netd until it is stopped. INPUT says where the configuration is; ARGV is main's, for a
 * reload. Returns the exit status; every error was said. */
int supervisor_run(const struct config_input *input, char **argv);
