/* SPDX-License-Identifier: MIT */
/*
 * Bytes that anybody may have written, made safe to look at: whatever is not a printable character
 * of the locale (LC_CTYPE) becomes \xNN. So nothing reaches a terminal that moves its cursor, and
 * under LANG=C nothing that is not ASCII.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

/* Bytes that one byte of input can become. */
#define TEXT_GROWTH 4

/*
 * Writes the LENGTH bytes at DATA in their safe form to RET, which holds TEXT_GROWTH * LENGTH + 1,
 * and a NUL. TAB stays. Returns the bytes written.
 */
size_t text_escape(char *ret, const void *data, size_t length);

/* The same to a stream. */
void text_write(FILE *stream, const void *data, size_t length);
