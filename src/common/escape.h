/* SPDX-License-Identifier: MIT */
/*
 * Bytes that anybody may have written, made safe to look at: whatever is not part of a printable
 * character of the locale (LC_CTYPE) becomes \xNN. So nothing reaches a terminal that moves its
 * cursor or turns the reading direction around, and in the C locale, which is netd's, nothing that
 * is not ASCII.
 */
#pragma once

#include "common/util.h"

#include <stddef.h>
#include <stdio.h>

/*
 * Writes the LENGTH bytes at DATA in their safe form to RET, which has SIZE bytes, and a NUL. What
 * does not fit is left out, whole characters and escapes; ESCAPE_LENGTH * LENGTH + 1 is always
 * enough. Returns the bytes written, without the NUL.
 */
size_t escape_copy(char *ret, size_t size, const void *data, size_t length);

/* The same to a stream, but TAB stays. */
void escape_write(FILE *stream, const void *data, size_t length);
