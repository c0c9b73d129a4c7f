/* SPDX-License-Identifier: MIT */
/*
 * netd's own diagnostics: one line each on standard error. If that is connected to the journal
 * (JOURNAL_STREAM, systemd.exec(5)) the prefix is the level, "<N>" (sd-daemon(3)), otherwise
 * "netd: ". Never blocks: a line that a full pipe or socket does not take at once is dropped, and
 * the next line reports the number of lost lines.
 */
#pragma once

#include "common/util.h"

#include <syslog.h>

/* Determines whether standard error is the journal. */
void log_init(void);

/* Writes one line at the syslog level LEVEL. Nothing is escaped here: text from outside must be
 * escaped before. */
void log_line(int level, const char *format, ...) PRINTF(2, 3);

#define log_error(...)   log_line(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_INFO, __VA_ARGS__)
