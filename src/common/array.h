/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/*
 * Grows ITEMS, an array with room for *ROOM elements of SIZE bytes, or NULL, to at least COUNT
 * elements. Returns the array, to be freed with free(3), and updates *ROOM; or NULL if out of
 * memory, with both unchanged. The size at least doubles: appending takes amortized constant time.
 */
void *array_grow(void *items, size_t *room, size_t count, size_t size);
