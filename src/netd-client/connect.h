/* SPDX-License-Identifier: MIT */
#pragma once

#include "netd-client/client.h"

/*
 * Connects to the host and port, or the unix socket, given by OPTIONS and the environment, trying
 * each address of a name in turn.
 * Returns -1 and a non-blocking stream socket in *RET, to be closed by the caller; or an exit
 * status after printing one line on standard error. With QUIET, it does not print that there is no
 * connection; errno then says why, for the last address tried. *RET_HOST is the host in OPTIONS or
 * the environment.
 */
int connect_to_netd(const struct options *options, bool quiet, const char **ret_host, int *ret);
