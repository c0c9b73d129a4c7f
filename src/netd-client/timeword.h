/* SPDX-License-Identifier: MIT */
/*
 * Points in time as people write them for journalctl, see systemd.time(7):
 *   2026-11-22 08:00:01.5   2026-11-22 08:00   2026-11-22   08:00:01   08:00   26-11-22
 *   Sun 2026-11-22 08:00    2026-11-22T08:00
 *   now   today   yesterday   tomorrow   @1795334400   -1h30min   +2 days   1h ago   5min left
 * A date is in the zone of localtime(3), or that at its end:
 *   ... UTC   ...Z   ... +01:00   ...-0330   ... CET (as local time is called)   ... Asia/Tokyo
 * With a place's name, the environment is another one for a moment.
 */
#pragma once

#include <stdint.h>

/*
 * Reads TEXT; NOW and *RET are microseconds since the epoch. What would lie before the epoch is the
 * epoch. Returns 0, -EINVAL when TEXT is no such time, or none that fits, or another negative errno
 * where a place cannot be looked up; *RET is untouched then.
 */
int timeword_parse(const char *text, uint64_t now, uint64_t *ret);
