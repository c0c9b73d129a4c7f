/* SPDX-License-Identifier: MIT */
/* Helpers shared by both programs. No state. */
#pragma once

#include "common/names.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CLEANUP(f)    __attribute__((cleanup(f)))
#define PRINTF(f, a)  __attribute__((format(printf, f, a)))

#define USEC_PER_SEC  UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)
#define NSEC_PER_USEC UINT64_C(1000)

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Microseconds of CLOCK, see clock_gettime(2). The clocks used here cannot fail. */
static inline uint64_t now_usec(clockid_t clock)
{
    struct timespec t = {0};

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / NSEC_PER_USEC;
}

/* Writes N in decimal, without a NUL; returns the end. At most NUMBER_MAX characters. */
#define NUMBER_MAX 20
char *put_number(char *at, uint64_t n);

/* Writes BYTE as two lower-case hex digits, without a NUL; returns the end. */
static inline char *put_hex(char *at, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";

    *at++ = digits[byte >> 4];
    *at++ = digits[byte & 15];
    return at;
}

/* Writes BYTE as \xNN, without a NUL; returns the end, ESCAPE_LENGTH characters on. */
#define ESCAPE_LENGTH 4
static inline char *put_escape(char *at, uint8_t byte)
{
    *at++ = '\\';
    *at++ = 'x';
    return put_hex(at, byte);
}

/* True for the bidirectional embedding, override and isolate characters of Unicode. */
static inline bool is_bidi_control(uint32_t c)
{
    return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* Closes *FD unless it is negative; errno is kept. For CLEANUP(). */
void close_fd(int *fd);

/* Frees *POINTER, a pointer to malloc()ed memory. For CLEANUP(). */
void free_pointer(void *pointer);

/* Flushes stdout. Returns 0, or a negative errno if this or any earlier write to stdout failed. */
int flush_standard_output(void);

/*
 * Parses TEXT as a decimal number from 0 to MAX. Digits only: no sign, no blanks, no leading zero
 * (elsewhere a prefix of octal numbers). Returns 0, -EINVAL (not a number) or -ERANGE (above MAX);
 * *RET is unchanged on failure.
 */
int parse_u64(const char *text, uint64_t max, uint64_t *ret);

/* Formats ID as lower-case hex digits. */
void hex_id(const uint8_t id[static SESSION_ID_SIZE], char ret[static SESSION_ID_HEX + 1]);
