/* SPDX-License-Identifier: MIT */
/*
 * Parser of timestamps, see systemd.time(7):
 *   2026-11-22 08:00:01.5   2026-11-22 08:00   2026-11-22   08:00:01   08:00   26-11-22
 *   Sun 2026-11-22 08:00    2026-11-22T08:00
 *   now   today   yesterday   tomorrow   @1795334400   -1h30min   +2 days   1h ago   5min left
 * Dates are in local time, unless they end with UTC, Z, or an offset: +01:00, +0100, +01. Names of
 * other time zones are not supported.
 */
#pragma once

#include <stdint.h>

/*
 * Parses TEXT. NOW and *RET are microseconds since the epoch; a relative time before the epoch is
 * 0. Returns 0, -EINVAL if TEXT is not a timestamp or out of range, or -EOPNOTSUPP if it ends with
 * the name of a time zone; *RET is then unchanged.
 */
int timestamp_parse(const char *text, uint64_t now, uint64_t *ret);

/* Parses a time span such as "1h 30min" or "30", seconds. Returns 0 and *RET in microseconds, or
 * -EINVAL, and *RET is unchanged. */
int timespan_parse(const char *text, uint64_t *ret);
