/* SPDX-License-Identifier: MIT */
/* A configuration as text: what "netd -T" prints. */
#pragma once

#include "netd/config/config.h"

#include <stdio.h>

/*
 * Prints CONFIG to F in the syntax of netd.conf(5), with every key that applies. Loading that text,
 * without any other source, gives the same settings. Errors of F are the caller's: ferror(3).
 */
void config_print(FILE *f, const struct config *config);
