/* SPDX-License-Identifier: MIT */
/*
 * Random input for property tests. The seed is printed; NETD_TEST_SEED=SEED in the environment
 * gives the same input again.
 */
#pragma once

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t random_state;

/* Takes the seed from the environment or from the clock, and prints it. */
static inline void random_begin(void)
{
    const char *said = getenv("NETD_TEST_SEED");

    random_state =
        said ? (uint64_t)strtoull(said, NULL, 0) : (uint64_t)time(NULL) << 20 ^ (uint64_t)getpid();
    printf("NETD_TEST_SEED=%" PRIu64 "\n", random_state);
}

/* How often a property is tried: N times, or as many percent of that as make valgrind, under which
 * everything takes fifty times as long, says in NETD_TEST_PERCENT. */
static inline int random_rounds(int n)
{
    const char *percent = getenv("NETD_TEST_PERCENT");

    return percent ? 1 + n * atoi(percent) / 100 : n;
}

/* splitmix64, public domain, by Sebastiano Vigna. */
static inline uint64_t random_next(void)
{
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* A number from 0 to N - 1. */
static inline size_t random_below(size_t n)
{
    return (size_t)(random_next() % n);
}

/*
 * Fills RET with what a client might send: lines of text and of anything, ended in every way. LINE
 * is about the length of the longer lines.
 */
static inline void random_stream(uint8_t *ret, size_t length, size_t line)
{
    static const char *const bits[] = {
        "\n",
        "\r\n",
        "\r",
        "\n\n",
        "\r\r\n",
        "\t",
        "abc",
        "plain text",
        "\xc3\xa9",
        "\xe2\x82\xac",
        "\xf0\x9f\x98\x80",
        "\xe2\x80\xae",
        "\xc2",
        "\xed\xa0\x80",
        "\xc0\xaf",
        "\xff",
        "\x1b[31m",
        "PRIORITY=0\n",
        "\nNETD_EVENT=connect\n",
        "\n\n",
    };
    size_t i = 0;

    while (i < length) {
        size_t kind = random_below(8), n = random_below(kind == 0 ? 2 * line + 2 : 24) + 1;

        n = n < length - i ? n : length - i;
        if (kind < 2) {
            memset(ret + i, 'a' + (int)random_below(26), n);
        } else if (kind == 2) {
            for (size_t k = 0; k < n; k++)
                ret[i + k] = (uint8_t)random_next();
        } else {
            const char *bit = bits[random_below(sizeof(bits) / sizeof(bits[0]))];
            size_t bit_length = strlen(bit);

            n = bit_length < length - i ? bit_length : length - i;
            memcpy(ret + i, bit, n);
        }
        i += n;
    }
}

/* The same with counted frames, whole and cut short, lines and NULs between them; a frame is at
 * most about three times as long as MAX. */
static inline void random_frames(uint8_t *ret, size_t length, size_t max)
{
    size_t at = 0;

    while (at < length) {
        char bit[32];
        size_t size = random_below(random_below(4) ? 12 : 3 * max), n;

        n = (size_t)sprintf(bit, random_below(16) ? "%zu " : "%zu", size);
        if (random_below(4) == 0) /* a line, or NUL */
            n = (size_t)sprintf(bit, "%s", random_below(2) ? "line\n" : "line\r\n");
        n = n < length - at ? n : length - at;
        memcpy(ret + at, bit, n);
        at += n;
        n = size < length - at ? size : length - at;
        random_stream(ret + at, n, max);
        if (n > 0 && random_below(4) == 0)
            ret[at + random_below(n)] = '\0';
        at += n;
    }
}
