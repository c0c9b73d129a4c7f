/* SPDX-License-Identifier: MIT */
#include "common/array.h"

#include <stdlib.h>

#define ROOM_FIRST 16

void *array_grow(void *items, size_t *room, size_t count, size_t size)
{
    size_t larger = *room > 0 ? *room : ROOM_FIRST, bytes;
    void *moved;

    if (items && count <= *room)
        return items;
    while (larger < count)
        if (__builtin_mul_overflow(larger, 2, &larger))
            return NULL;
    if (__builtin_mul_overflow(larger, size, &bytes))
        return NULL;
    moved = realloc(items, bytes);
    if (moved)
        *room = larger;
    return moved;
}
