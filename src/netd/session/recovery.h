/* SPDX-License-Identifier: MIT */
/* Completes what a dead worker left unfinished; recovery.c explains why that is always possible. */
#pragma once

#include "netd/session/table.h"

/*
 * Applies the results that the kernel stored for the last worker's system calls, and makes the
 * sessions ready for another one. Call after table_attach() and sink_resume(), before anything
 * else.
 *
 * A worker that crashed may have written anywhere: a session that is corrupt is ended with the
 * reason error. Returns 0, or -EUCLEAN if the listeners are corrupt, without which nothing can go
 * on.
 */
int recovery_run(struct table *t);
