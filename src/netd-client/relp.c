/* SPDX-License-Identifier: MIT */
#include "netd-client/relp.h"

#include "common/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NUMBER_DIGITS 9
#define COMMAND_MAX   32

uint32_t relp_next_txnr(uint32_t txnr)
{
    return txnr >= RELP_TXNR_MAX ? 1 : txnr + 1;
}

size_t relp_write(char *buffer, uint32_t txnr, const char *command, const char *data, size_t length)
{
    size_t n = (size_t)sprintf(buffer, "%u %s %zu", (unsigned)txnr, command, length);

    if (length > 0) {
        buffer[n++] = ' ';
        memcpy(buffer + n, data, length);
        n += length;
    }
    buffer[n++] = '\n';
    return n;
}

/* A part of an answer that is being parsed. */
struct cursor {
    const char *at, *end;
};

/* Moves a number of one to nine digits to *RET. Returns 1, 0 if its end is missing, or -EBADMSG. */
static int cursor_number(struct cursor *c, uint32_t *ret)
{
    const char *start = c->at;
    uint32_t n = 0;

    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        if (c->at - start == NUMBER_DIGITS)
            return -EBADMSG;
        n = n * 10 + (uint32_t)(*c->at - '0');
    }
    if (c->at == c->end)
        return 0;
    *ret = n;
    return c->at > start ? 1 : -EBADMSG;
}

/* Moves a word of letters, digits, '_' and '-' to *RET. Returns as cursor_number(). */
static int cursor_word(struct cursor *c, const char **ret, size_t *ret_length)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const char *start = c->at;

    while (c->at < c->end && *c->at && strchr(allowed, *c->at))
        c->at++;
    if (c->at - start > COMMAND_MAX)
        return -EBADMSG;
    if (c->at == c->end)
        return 0;
    *ret = start;
    *ret_length = (size_t)(c->at - start);
    return c->at > start ? 1 : -EBADMSG;
}

/* Skips the byte B. Returns as cursor_number(). */
static int cursor_byte(struct cursor *c, char b)
{
    if (c->at == c->end)
        return 0;
    return *c->at++ == b ? 1 : -EBADMSG;
}

static bool word_is(const char *word, size_t length, const char *name)
{
    return length == strlen(name) && memcmp(word, name, length) == 0;
}

/* Splits the data of an answer: STATUS [SP TEXT] [LF OFFERS]. No data at all is no status. */
static int answer_split(struct relp_answer *answer, const char *data, size_t length)
{
    struct cursor c = {data, data + length};
    const char *lf;

    if (length == 0)
        return 0;
    for (int digits = 0; digits < 3; digits++, c.at++) {
        if (c.at == c.end || *c.at < '0' || *c.at > '9')
            return -EBADMSG;
        answer->status = answer->status * 10 + (unsigned)(*c.at - '0');
    }
    if (answer->status < 100 || (c.at < c.end && *c.at != ' ' && *c.at != '\n'))
        return -EBADMSG;
    if (c.at < c.end && *c.at == ' ')
        c.at++;
    lf = memchr(c.at, '\n', (size_t)(c.end - c.at));
    answer->text = c.at;
    answer->text_length = (size_t)((lf ? lf : c.end) - c.at);
    answer->offers = lf ? lf + 1 : c.end;
    answer->offers_length = (size_t)(c.end - answer->offers);
    return 0;
}

/* Parses up to DATALEN. Returns as cursor_number(). */
static int answer_head(struct cursor *c, struct relp_answer *answer, size_t *ret_length)
{
    const char *command = NULL;
    size_t command_length = 0;
    uint32_t length;
    int r;

    r = cursor_number(c, &answer->txnr);
    if (r > 0)
        r = cursor_byte(c, ' ');
    if (r > 0)
        r = cursor_word(c, &command, &command_length);
    if (r > 0)
        r = cursor_byte(c, ' ');
    if (r > 0)
        r = cursor_number(c, &length);
    if (r <= 0)
        return r;
    if (word_is(command, command_length, "rsp") && answer->txnr > 0)
        answer->kind = RELP_RSP;
    else if (word_is(command, command_length, "serverclose") && answer->txnr == 0)
        answer->kind = RELP_SERVERCLOSE;
    else
        return -EBADMSG;
    *ret_length = length;
    return 1;
}

ssize_t relp_parse(struct relp_answer *ret, const char *text, size_t size)
{
    struct cursor c = {text, text + size};
    struct relp_answer answer = {0};
    size_t length = 0;
    const char *data;
    int r;

    r = answer_head(&c, &answer, &length);
    if (r > 0 && length > 0)
        r = cursor_byte(&c, ' ');
    if (r > 0 && (size_t)(c.at - text) + length >= RELP_ANSWER_MAX)
        return -EBADMSG;
    if (r > 0 && length == 0 && c.at < c.end && *c.at == ' ')
        c.at++; /* librelp ends an answer without data so */
    if (r > 0 && (size_t)(c.end - c.at) <= length)
        r = 0;
    if (r <= 0)
        return r;
    data = c.at;
    c.at += length;
    if (cursor_byte(&c, '\n') < 0)
        return -EBADMSG;
    if (answer.kind == RELP_RSP && answer_split(&answer, data, length) < 0)
        return -EBADMSG;
    *ret = answer;
    return c.at - text;
}

const char *relp_offer(const struct relp_answer *answer, const char *name, size_t *ret_length)
{
    const char *line = answer->offers, *end = line + answer->offers_length;
    size_t n = strlen(name);

    while (line < end) {
        const char *lf = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((lf ? lf : end) - line);

        if (length > n && memcmp(line, name, n) == 0 && line[n] == '=') {
            *ret_length = length - n - 1;
            return line + n + 1;
        }
        line += length + 1;
    }
    return NULL;
}
