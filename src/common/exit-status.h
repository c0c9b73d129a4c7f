/* SPDX-License-Identifier: MIT */
/* Exit statuses other than EXIT_SUCCESS, see netd(8) and netd-client(1). */
#pragma once

#include <stdlib.h>

#define EXIT_FAILED      1  /* netd-client: not everything logged, no match, failed check */
#define EXIT_USAGE       2  /* wrong usage */
#define EXIT_UNAVAILABLE 3  /* netd-client: no connection, or no journal to read */
#define EXIT_CONFIG      78 /* netd: EX_CONFIG of sysexits(3); systemd does not restart */
