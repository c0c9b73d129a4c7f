/* SPDX-License-Identifier: MIT */
/* Messages of alloc.c, inside the program, to inject.c: prctl(INJECT_PRCTL, one of these), which
 * the kernel itself would reject with EINVAL. */
#pragma once

#define INJECT_PRCTL    0x6e657464
#define INJECT_BEGIN    1 /* main() is next; 0 if allocations are to be announced */
#define INJECT_END      3 /* main() is over */
#define INJECT_ALLOCATE 2 /* fails with ENOMEM if the allocation is to fail */

/* The number of allocations, which are counted like system calls. */
#define CALL_ALLOCATE (-2)
