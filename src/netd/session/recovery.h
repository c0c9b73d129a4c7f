/* SPDX-License-Identifier: MIT */
/* What the worker that died left half done, made true: see recovery.c for why that is always
 * possible. */
#pragma once

#include "netd/session/table.h"

/*
 * Makes true what the last worker left half done: applies the results that the kernel wrote for its
 * system calls. Call after table_attach() and sink_resume(), before anything else.
 *
 * A worker that crashed may have written anywhere. A session that cannot be as it stands there is
 * ended with the reason error. Returns 0, or -EUCLEAN where the listeners cannot be, without which
 * nothing can go on.
 */
int recovery_run(struct table *t);
