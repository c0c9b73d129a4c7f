/* SPDX-License-Identifier: MIT */
/* What alloc.c, inside the program, says to inject.c by a system call that means nothing to the
 * kernel: prctl(INJECT_PRCTL, one of these). Without inject.c it fails, with EINVAL. */
#pragma once

#define INJECT_PRCTL    0x6e657464
#define INJECT_BEGIN    1 /* main() is next */
#define INJECT_END      3 /* main() is over */
#define INJECT_ALLOCATE 2 /* fails with ENOMEM where the allocation is to fail */

/* Allocations, among the numbers of system calls. */
#define CALL_ALLOCATE (-2)
