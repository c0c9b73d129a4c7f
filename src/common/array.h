/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/*
 * Makes room for COUNT elements of SIZE bytes at ITEMS, which has room for *ROOM of them, or is
 * NULL. Returns where they are now, to free with free(3), and sets *ROOM; or NULL without memory,
 * and then nothing has changed. Room at least doubles, so that adding one at a time costs little.
 */
void *array_grow(void *items, size_t *room, size_t count, size_t size);
