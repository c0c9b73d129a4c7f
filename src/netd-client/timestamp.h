/* SPDX-License-Identifier: MIT */
/*
 * Timestamps as people write them for journalctl, see systemd.time(7):
 *   2026-11-22 08:00:01.5   2026-11-22 08:00   2026-11-22   08:00:01   08:00   26-11-22
 *   Sun 2026-11-22 08:00    2026-11-22T08:00
 *   now   today   yesterday   tomorrow   @1795334400   -1h30min   +2 days   1h ago   5min left
 * A date is in the zone of localtime(3), unless it ends with " UTC", "Z", " +01:00", " +0100", "
 * +01" or, without a blank, "+01:00". Unlike journalctl, other zones have no names.
 */
#pragma once

#include <stdint.h>

/*
 * Reads TEXT; NOW and *RET are microseconds since the epoch. What would lie before the epoch is the
 * epoch. Returns 0, -EINVAL when TEXT is no timestamp, or none that fits, or -EOPNOTSUPP when it is
 * one but for the name of a zone; *RET is untouched then.
 */
int timestamp_parse(const char *text, uint64_t now, uint64_t *ret);
