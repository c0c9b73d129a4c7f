/* SPDX-License-Identifier: MIT */
/* What the fuzzers share. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What libFuzzer calls; the result is always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An assertion: aborts, so that libFuzzer saves the input. */
#define MUST(condition)                                                                    \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

/* The input that is not consumed yet. */
struct input {
    const uint8_t *data;
    size_t size;
};

/* Consumes N bytes as a big-endian number; missing bytes are zero. */
static inline uint32_t input_number(struct input *in, size_t n)
{
    uint32_t value = 0;

    for (; n > 0; n--) {
        value = value << 8 | (in->size > 0 ? in->data[0] : 0);
        in->data += in->size > 0;
        in->size -= in->size > 0;
    }
    return value;
}

/* Consumes a line. Returns it as a string for free(3), or NULL at the end. */
static inline char *input_line(struct input *in)
{
    const uint8_t *lf = in->size > 0 ? memchr(in->data, '\n', in->size) : NULL;
    size_t length = lf ? (size_t)(lf - in->data) : in->size;
    char *line;

    if (in->size == 0)
        return NULL;
    line = malloc(length + 1);
    if (!line)
        abort();
    memcpy(line, in->data, length);
    line[length] = '\0';
    in->data += lf ? length + 1 : length;
    in->size -= lf ? length + 1 : length;
    return line;
}
