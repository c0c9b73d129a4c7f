/* SPDX-License-Identifier: MIT */
/* The lines that every row of the benchmark logs: numbered, so that no two are alike. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

/* A number of at least LOW from the command line. */
static inline unsigned long number(const char *text, unsigned long low)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*text == '\0' || *end != '\0' || n < low) {
        fprintf(stderr, "'%s' is not a number of at least %lu\n", text, low);
        exit(EXIT_FAILURE);
    }
    return n;
}

static inline double seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The COUNT lines in one piece, each of SIZE bytes (at least 32) with END as the last. */
static inline char *make_lines(size_t count, size_t size, char end)
{
    static const char text[] = "GET /articles/2026/a-longer-name-than-most status=200 bytes=5120 ";
    char *lines = malloc(count * size + 1);

    if (!lines)
        die("malloc");
    for (size_t i = 0; i < count; i++) {
        char *line = lines + i * size;
        size_t n = (size_t)snprintf(line, size, "%010zu ", i);

        while (n < size - 1) {
            size_t piece = sizeof(text) - 1 < size - 1 - n ? sizeof(text) - 1 : size - 1 - n;

            memcpy(line + n, text, piece);
            n += piece;
        }
        line[size - 1] = end;
    }
    return lines;
}
