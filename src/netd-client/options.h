/* SPDX-License-Identifier: MIT */
#pragma once

#include "netd-client/client.h"

/*
 * Parses the command line: options in any position, and one of the COUNT COMMANDS with its
 * arguments. Sets *OPTIONS, *COMMAND and *ARGUMENTS, which extend to the end of argv. Returns -1;
 * or an exit status, after --help, --version, or an error reported on standard error.
 */
int options_parse(int argc, char **argv, const struct command *commands, size_t count,
                  struct options *options, const struct command **command, char ***arguments);
