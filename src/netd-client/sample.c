/* SPDX-License-Identifier: MIT */
#include "netd-client/sample.h"

#include <errno.h>
#include <string.h>

#define NAME_CHARACTERS  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789:"
#define VALUE_CHARACTERS "0123456789+-.eINFinfNa"

/* Ends the word at *AT, of at least one of CHARACTERS. Returns what stood behind it, or '\0' if
 * that is the end or there is no word. */
static char sample_word(char **at, const char *characters)
{
    size_t length = strspn(*at, characters);
    char next = (*at)[length];

    if (length == 0 || next == '\0')
        return '\0';
    (*at)[length] = '\0';
    *at += length + 1;
    return next;
}

/* Removes the escapes of the label value at *AT, and moves *AT behind its closing quote. Returns 0
 * or -EINVAL. */
static int sample_unescape(char **at)
{
    char *to = *at, *from = *at;

    for (; *from && *from != '"'; from++) {
        if (*from == '\\' && *++from == '\0')
            return -EINVAL;
        *to++ = from > *at && from[-1] == '\\' && *from == 'n' ? '\n' : *from;
    }
    if (*from == '\0')
        return -EINVAL;
    *to = '\0';
    *at = from + 1;
    return 0;
}

/* Parses the labels at *AT, behind the brace. Returns 0 or -EINVAL. */
static int sample_labels(char **at, struct sample *ret)
{
    char next = ',';

    while (next == ',') {
        struct sample_label *label = &ret->labels[ret->n_labels];

        if (ret->n_labels == SAMPLE_LABELS_MAX)
            return -EINVAL;
        label->name = *at;
        if (sample_word(at, NAME_CHARACTERS) != '=' || *(*at)++ != '"')
            return -EINVAL;
        label->value = *at;
        if (sample_unescape(at) < 0)
            return -EINVAL;
        ret->n_labels++;
        next = *(*at)++;
    }
    return next == '}' && *(*at)++ == ' ' ? 0 : -EINVAL;
}

int sample_parse(char *line, struct sample *ret)
{
    struct sample sample = {.name = line};
    char *at = line, next;

    line[strcspn(line, "\n")] = '\0';
    if (*line == '\0' || *line == '#')
        return 0;
    next = sample_word(&at, NAME_CHARACTERS);
    if (next != ' ' && (next != '{' || sample_labels(&at, &sample) < 0))
        return -EINVAL;
    if (*at == '\0' || at[strspn(at, VALUE_CHARACTERS)] != '\0')
        return -EINVAL;
    sample.value = at;
    *ret = sample;
    return 1;
}

const char *sample_label(const struct sample *sample, const char *name)
{
    for (size_t i = 0; i < sample->n_labels; i++)
        if (strcmp(sample->labels[i].name, name) == 0)
            return sample->labels[i].value;
    return NULL;
}
