/* SPDX-License-Identifier: MIT */
/* What send sends: the messages on the command line, and standard input where one of them is "-".
 */
#pragma once

#include "netd-client/client.h"

#include <sys/types.h>

struct input {
    char **words;
    int count;
    enum send_framing framing;
    int at;        /* index of the current word */
    size_t offset; /* bytes of it already read */
};

/* Starts with the COUNT WORDS, which are kept; none is standard input. */
void input_init(struct input *ret, enum send_framing framing, char **words, int count);

/* The current word; NULL at the end. */
const char *input_word(const struct input *input);

/* True if the current word is standard input. */
bool input_is_stdin(const struct input *input);

/* True if any word is standard input. */
bool input_has_stdin(const struct input *input);

/* Goes on to the next word. */
void input_next(struct input *input);

/*
 * Reads up to SIZE bytes of the current word: of standard input as it comes, of a message with what
 * frames it. SIZE is more than the head of a counted frame. Goes on to the next word at the end of
 * one. Returns the number of bytes, 0 at the end of all, or a negative errno.
 */
ssize_t input_read(struct input *input, char *buffer, size_t size);
