/* SPDX-License-Identifier: MIT */
/*
 * "netd --reload=PID", the ExecReload= of netd.service: requests a reload from a supervisor, and
 * waits for its outcome. Request and reply are queued signals (sigqueue(3)), which need no file, no
 * socket and no privilege between processes of one user.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* For both. Real-time signals queue (signal(7)): a request during a reload is handled after it. */
#define SIGNAL_RELOAD (SIGRTMIN + 1)

/* Requests a reload from SUPERVISOR. Returns the exit status: 0 if the new configuration is in
 * force. The supervisor logs why it is not; other errors are logged here. */
int reload_request(pid_t supervisor);

/* In the supervisor: the process that sent the request INFO, or 0 if it is none. */
pid_t reload_requester(const siginfo_t *info);

/* In the supervisor: replies to REQUESTER, unless it is 0. */
void reload_answer(pid_t requester, bool done);
