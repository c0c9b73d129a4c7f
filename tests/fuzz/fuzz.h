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

/* Ends the fuzzer, which keeps the input, where what must hold does not. */
#define MUST(condition)                                                                    \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

/* The input, taken off from the front. */
struct input {
    const uint8_t *data;
    size_t size;
};

/* The next N bytes as a number; zeros where there are no more. */
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

/* The next line as a string to be given to free(3), or NULL when there is none. */
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
