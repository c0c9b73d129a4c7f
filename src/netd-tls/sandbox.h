/* SPDX-License-Identifier: MIT */
/*
 * What netd-tls gives up once its files are loaded and its sockets open. The service's own sandbox
 * (netd.service) is the one of all processes; this one is narrower.
 */
#pragma once

/*
 * From here on no file can be opened, no program executed, no process made, no memory become
 * executable, and no socket be made but unix ones: other system calls than those of sandbox.c fail
 * with EPERM. No core file is written, and no other process of the user reads the keys with
 * ptrace(2) (prctl(2), PR_SET_DUMPABLE). Returns 0 or a negative errno.
 */
int sandbox_enter(void);
