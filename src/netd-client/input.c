/* SPDX-License-Identifier: MIT */
#include "netd-client/input.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void input_init(struct input *ret, enum send_framing framing, char **words, int count)
{
    static char standard_input[] = "-";
    static char *only_input[] = {standard_input};

    *ret = (struct input){
        .words = count > 0 ? words : only_input,
        .count = count > 0 ? count : 1,
        .framing = framing,
    };
}

const char *input_word(const struct input *input)
{
    return input->at < input->count ? input->words[input->at] : NULL;
}

bool input_is_stdin(const struct input *input)
{
    const char *word = input_word(input);

    return word && strcmp(word, "-") == 0;
}

bool input_has_stdin(const struct input *input)
{
    for (int i = 0; i < input->count; i++)
        if (strcmp(input->words[i], "-") == 0)
            return true;
    return false;
}

void input_next(struct input *input)
{
    input->at++;
    input->offset = 0;
}

/* Copies up to SIZE bytes of the rest of the current word, a message, and what frames it. */
static size_t input_message(struct input *input, const char *word, char *buffer, size_t size)
{
    const char *rest = word + input->offset;
    size_t length = strlen(rest), head = 0, end = input->framing != SEND_OCTET, n;

    if (input->framing == SEND_OCTET && input->offset == 0)
        head = (size_t)sprintf(buffer, "%zu ", length);
    n = min_size(length, size - head);
    memcpy(buffer + head, rest, n);
    input->offset += n;
    if (n < length || head + n + end > size)
        return head + n;
    if (end)
        buffer[head + n] = input->framing == SEND_NUL ? '\0' : '\n';
    input_next(input);
    return head + n + end;
}

ssize_t input_read(struct input *input, char *buffer, size_t size)
{
    const char *word;

    while (input_is_stdin(input)) {
        ssize_t n = read(STDIN_FILENO, buffer, size);

        if (n > 0)
            return n;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            input_next(input);
    }
    word = input_word(input);
    return word ? (ssize_t)input_message(input, word, buffer, size) : 0;
}
