/* SPDX-License-Identifier: MIT */
/*
 * "netd --reload=PID", the ExecReload= of netd.service: has a supervisor reload, and waits for how
 * it came out. Question and answer are queued signals (sigqueue(3)), which need no file, no socket
 * and no privilege: both processes belong to one user.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* Both ways. Signals of this kind are not merged: who asks during a reload is asked for later. */
#define SIGNAL_RELOAD (SIGRTMIN + 1)

/* Asks SUPERVISOR, and returns the exit status: 0 when its new configuration is in force. Why it is
 * not, the supervisor says; other errors were said here. */
int reload_request(pid_t supervisor);

/* In the supervisor: the process that asked, for the signal INFO, or 0 where that was no question.
 */
pid_t reload_requester(const siginfo_t *info);

/* In the supervisor: answers REQUESTER, if it is not 0. */
void reload_answer(pid_t requester, bool done);
