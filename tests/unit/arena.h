/* SPDX-License-Identifier: MIT */
/* The memory of entries in unit tests: set-up and tear-down of a group. */
#pragma once

#include "netd/output/event.h"

#include <stdlib.h>

static struct arena arena;

static int make_arena(void **state)
{
    (void)state;
    arena = (struct arena){.base = malloc(EVENT_ARENA_SIZE), .size = EVENT_ARENA_SIZE};
    return arena.base ? 0 : -1;
}

static int free_arena(void **state)
{
    (void)state;
    free(arena.base);
    return 0;
}
