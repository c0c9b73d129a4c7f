/* SPDX-License-Identifier: MIT */
/* The lines that every row of the benchmark logs: numbered, so that no two are alike. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline _Noreturn void die(const char *what)
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

/* Fills the SIZE bytes at AT with text. */
static inline void fill_text(char *at, size_t size)
{
    static const char text[] = "GET /articles/2026/a-longer-name-than-most status=200 bytes=5120 ";

    for (size_t n = 0; n < size; n += sizeof(text) - 1)
        memcpy(at + n, text, sizeof(text) - 1 < size - n ? sizeof(text) - 1 : size - n);
}

/* The COUNT lines in one piece, each of SIZE bytes (at least 32) with END as the last. */
static inline char *make_lines(size_t count, size_t size, char end)
{
    char *lines = malloc(count * size + 1);

    if (!lines)
        die("malloc");
    for (size_t i = 0; i < count; i++) {
        char *line = lines + i * size;
        size_t n = (size_t)snprintf(line, size, "%010zu ", i);

        fill_text(line + n, size - n - 1);
        line[size - 1] = end;
    }
    return lines;
}

/* Counted frames instead (RFC 6587), which begin as HEADS say by turns: SIZE bytes each (104 to
 * 999), the length and the blank in front included. */
static inline char *make_frames(size_t count, size_t size, const char *const *heads, size_t n_heads)
{
    char *frames = malloc(count * size + 1);

    if (!frames)
        die("malloc");
    for (size_t i = 0; i < count; i++) {
        char *frame = frames + i * size;
        size_t n = (size_t)snprintf(frame, size, heads[i % n_heads], size - 4, i);

        fill_text(frame + n, size - n);
        frame[size - 1] = '.'; /* a blank would not be part of a syslog MESSAGE */
    }
    return frames;
}

static inline char *make_octet(size_t count, size_t size)
{
    static const char *const head = "%zu %010zu ";

    return make_frames(count, size, &head, 1);
}

/* Syslog messages, by turns of RFC 3164 and RFC 5424. */
static inline char *make_syslog(size_t count, size_t size)
{
    static const char *const heads[] = {
        "%zu <38>Nov 25 09:20:10 web1 sshd[4711]: %010zu ",
        "%zu <165>1 2026-11-25T09:20:10.123456+01:00 web1 app 4711 ID47 - %010zu ",
    };

    return make_frames(count, size, heads, 2);
}
