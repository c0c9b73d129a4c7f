/* SPDX-License-Identifier: MIT */
/*
 * framing = "relp": the data of a RELP syslog command is a record.
 *
 * The open command stays in front of the first record and is consumed with it. So whether one is
 * to be expected follows from whether there was a record, also for a worker that begins anew. A
 * close command is never consumed.
 *
 * A record longer than max_record comes in pieces, see octet.c for what is remembered meanwhile. A
 * record that the stream's end cut short is one of the journal's records, but is not acknowledged:
 * frame_left says so then.
 */
#include "netd/protocol/relp.h"

#include "common/util.h"
#include "netd/protocol/framing.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* Version, software and commands as librelp expects them, which ignores an offer that it does not
 * know; there is no LF behind the last. */
#define RELP_OFFERS "200 OK\nrelp_version=0\nrelp_software=netd\ncommands=syslog\nnetd_session="

/* --- Heads --- */

/* Bytes that are being parsed. */
struct cursor {
    const uint8_t *at, *end;
};

/* Parses at most RELP_DIGITS_MAX digits, which something else must follow. Returns 1, 0 or -EPROTO.
 */
static int relp_number(struct cursor *c, uint32_t *ret)
{
    uint32_t value = 0, digits = 0;

    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++, digits++) {
        if (digits == RELP_DIGITS_MAX)
            return -EPROTO;
        value = value * 10 + (*c->at - '0');
    }
    if (c->at == c->end)
        return 0;
    *ret = value;
    return digits > 0 ? 1 : -EPROTO;
}

/* Parses TEXT. Returns 1, 0 if the bytes end before it does, or -EPROTO. */
static int relp_text(struct cursor *c, const char *text)
{
    size_t length = strlen(text), n = min_size(length, (size_t)(c->end - c->at));

    if (memcmp(c->at, text, n) != 0)
        return -EPROTO;
    c->at += n;
    return n == length;
}

static int relp_command(struct cursor *c, enum relp_command *ret)
{
    static const char *const commands[] = {
        [RELP_OPEN] = " open ", [RELP_SYSLOG] = " syslog ", [RELP_CLOSE] = " close "};

    for (enum relp_command i = RELP_OPEN; i <= RELP_CLOSE; i++) {
        struct cursor try = *c;
        int r = relp_text(&try, commands[i]);

        if (r < 0)
            continue;
        *c = try;
        *ret = i;
        return r;
    }
    return -EPROTO;
}

int relp_parse_head(const uint8_t *data, size_t length, struct relp_head *ret)
{
    struct cursor c = {data, data + length};
    struct relp_head head = {0};
    int r;

    r = relp_number(&c, &head.txnr);
    if (r > 0)
        r = relp_command(&c, &head.command);
    if (r > 0)
        r = relp_number(&c, &head.length);
    if (r > 0 && head.length > 0)
        r = relp_text(&c, " ");
    if (r <= 0)
        return r;
    head.size = (size_t)(c.at - data);
    *ret = head;
    return 1;
}

uint32_t relp_txnr(uint64_t number)
{
    return (uint32_t)(number % RELP_TXNR_MAX) + 1;
}

/* The frame at DATA, a command without a record: as relp_parse_open(). */
static int relp_whole(const uint8_t *data, size_t length, const struct relp_head *head,
                      size_t *size)
{
    size_t end = head->size + head->length;

    if (head->length > RELP_OFFERS_MAX)
        return -EPROTO;
    if (length <= end)
        return 0;
    if (data[end] != '\n')
        return -EPROTO;
    *size = end + 1;
    return 1;
}

int relp_parse_open(const uint8_t *data, size_t length, size_t *size)
{
    struct relp_head head;
    int r = relp_parse_head(data, length, &head);

    if (r <= 0)
        return r;
    if (head.command != RELP_OPEN || head.txnr != relp_txnr(0))
        return -EPROTO;
    return relp_whole(data, length, &head, size);
}

/* --- Responses --- */

static size_t relp_put(char *ret, uint64_t number, const char *rest)
{
    return (size_t)(stpcpy(put_number(ret, relp_txnr(number)), rest) - ret);
}

size_t relp_put_opened(char ret[static RELP_RESPONSE_MAX], const char *session)
{
    char *p = stpcpy(put_number(ret, relp_txnr(0)), " rsp ");

    p = put_number(p, sizeof(RELP_OFFERS) - 1 + strlen(session));
    p = stpcpy(stpcpy(p, " " RELP_OFFERS), session);
    *p++ = '\n';
    return (size_t)(p - ret);
}

size_t relp_put_logged(char ret[static RELP_RESPONSE_MAX], uint64_t number)
{
    return relp_put(ret, number, " rsp 6 200 OK\n");
}

size_t relp_put_closed(char ret[static RELP_RESPONSE_MAX], uint64_t number)
{
    return relp_put(ret, number, " rsp 0\n");
}

/* --- Framing --- */

/* Where the data of a record, or the rest of them, stand. */
struct relp_rest {
    size_t skip;           /* bytes in front of them */
    uint32_t left;         /* bytes, without the LF */
    uint32_t frame_length; /* DATALEN where they are the first of the record */
};

/* Finds the data of the next record. Returns FRAMING_RECORD, FRAMING_CLOSED, FRAMING_MORE, or
 * -EPROTO. */
static int relp_find(const struct framing_input *in, struct relp_rest *ret)
{
    struct relp_head head;
    size_t skip = 0;
    int r;

    *ret = (struct relp_rest){.left = in->frame_left};
    if (in->mid_record)
        return FRAMING_RECORD;
    r = in->records > 0 ? 1 : relp_parse_open(in->data, in->length, &skip);
    if (r > 0)
        r = relp_parse_head(in->data + skip, in->length - skip, &head);
    if (r <= 0)
        return r;
    if (head.command == RELP_OPEN || head.txnr != relp_txnr(in->records + 1))
        return -EPROTO;
    if (head.command == RELP_CLOSE) {
        r = relp_whole(in->data + skip, in->length - skip, &head, &skip);
        return r > 0 ? FRAMING_CLOSED : r;
    }
    *ret = (struct relp_rest){skip + head.size, head.length, head.length};
    return FRAMING_RECORD;
}

/* Takes LENGTH bytes of *REST, and BEHIND bytes that end the record. */
static int relp_emit(const struct framing_input *in, const struct relp_rest *rest, size_t length,
                     size_t behind, enum terminator terminator, struct record *ret)
{
    *ret = (struct record){
        .data = in->data + rest->skip,
        .length = length,
        .consumed = rest->skip + length + behind,
        .terminator = terminator,
        .relp = true,
    };
    if (terminator == TERM_RELP)
        return FRAMING_RECORD;
    ret->frame_length = rest->frame_length;
    ret->frame_left = rest->left - (uint32_t)length;
    return FRAMING_RECORD;
}

int framing_relp_next(struct framing_input *in, struct record *ret)
{
    struct relp_rest rest;
    int r = relp_find(in, &rest);
    size_t there;

    in->scanned = r == FRAMING_MORE ? in->length : 0;
    if (r != FRAMING_RECORD)
        return r;
    there = in->length - rest.skip;
    if (rest.left > in->max_record && there >= in->max_record)
        return relp_emit(in, &rest, in->max_record, 0, TERM_CONTINUED, ret);
    if (there > rest.left) {
        if (in->data[rest.skip + rest.left] != '\n')
            return -EPROTO;
        in->records++;
        return relp_emit(in, &rest, rest.left, 1, TERM_RELP, ret);
    }
    if (!in->at_end || (there == 0 && !in->mid_record)) {
        in->scanned = in->length;
        return FRAMING_MORE;
    }
    (void)relp_emit(in, &rest, there, 0, TERM_NONE, ret);
    ret->frame_left++; /* at least the LF is missing */
    return FRAMING_RECORD;
}

int framing_relp_flush(const struct framing_input *in, struct record *ret)
{
    struct relp_rest rest;
    size_t there;

    if (relp_find(in, &rest) != FRAMING_RECORD)
        return FRAMING_MORE;
    there = min_size(in->length - rest.skip, min_size(rest.left, in->max_record));
    return there > 0 ? relp_emit(in, &rest, there, 0, TERM_CONTINUED, ret) : FRAMING_MORE;
}
