/* SPDX-License-Identifier: MIT */
#pragma once

#include "netd-client/client.h"

/* send --relp; see send_run(). */
int send_relp_run(const struct options *options, char **arguments, int count);
