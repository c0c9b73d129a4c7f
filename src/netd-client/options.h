/* SPDX-License-Identifier: MIT */
#pragma once

#include "netd-client/client.h"

/*
 * Reads the command line: options anywhere, then the command, one of the COUNT at COMMANDS. Fills
 * in *OPTIONS, *COMMAND and *ARGUMENTS, the words after the command, up to argv's end. Returns -1,
 * or the status to exit with, after --help, --version or one line on standard error.
 */
int options_parse(int argc, char **argv, const struct command *commands, size_t count,
                  struct options *options, const struct command **command, char ***arguments);
