/* SPDX-License-Identifier: MIT */
/*
 * Escaping of untrusted bytes for display: every byte that is not part of a printable character of
 * the locale (LC_CTYPE) becomes \xNN. No control sequence and no bidirectional control character
 * reaches the terminal. In the C locale, which netd uses, the output is ASCII.
 */
#pragma once

#include "common/util.h"

#include <stddef.h>
#include <stdio.h>

/*
 * Escapes the LENGTH bytes at DATA into RET, which holds SIZE bytes including the terminating NUL.
 * The output is truncated between characters if it does not fit; ESCAPE_LENGTH * LENGTH + 1 bytes
 * are always enough. Returns the length of the result.
 */
size_t escape_copy(char *ret, size_t size, const void *data, size_t length);

/* Escapes the LENGTH bytes at DATA to STREAM. TAB is not escaped. */
void escape_write(FILE *stream, const void *data, size_t length);
