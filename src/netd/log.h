/* SPDX-License-Identifier: MIT */
/*
 * netd's own diagnostics: one line each on standard error. Where that is the journal's stream
 * (JOURNAL_STREAM, systemd.exec(5)) a "<N>" prefix gives the level (sd-daemon(3)), elsewhere "netd:
 * " says who speaks. Never blocks: a line that a full pipe or socket does not take at once is
 * dropped, and the next one says how many were.
 */
#pragma once

#include "common/util.h"

#include <syslog.h>

/* Looks once at what standard error is. */
void log_init(void);

/* Writes one line at the syslog level LEVEL; bytes that are not printable ASCII or UTF-8 stay as
 * they are, so quote what comes from outside before. */
void log_line(int level, const char *format, ...) PRINTF(2, 3);

#define log_error(...)   log_line(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_INFO, __VA_ARGS__)
