/* SPDX-License-Identifier: MIT */
#pragma once

#include "netd-client/client.h"

/*
 * Connects to the netd that OPTIONS and the environment name, each of its addresses in turn.
 * Returns a non-blocking stream socket, which the caller closes, in *RET and -1; or the status to
 * exit with, after one line on standard error.
 */
int connect_to_netd(const struct options *options, int *ret);
