/* SPDX-License-Identifier: MIT */
/*
 * framing = "octet": octet counting of RFC 6587, 3.4.1. A frame is a length of one to nine digits
 * without a leading zero, a blank, and that many bytes. Anything else is a line, because senders
 * mix the two in one stream (3.4.2 there).
 *
 * A frame longer than max_record comes in pieces. How many of its bytes are still to come cannot be
 * derived from the stream once its head is consumed: each record says so in frame_left, which the
 * caller passes back with the next bytes, and which must be stored together with what the journal
 * took to survive a crash. The first piece also has the announced length in frame_length, so that a
 * reader can rebuild the head.
 */
#include "netd/protocol/framing.h"

#include "common/util.h"

#define LENGTH_DIGITS_MAX (FRAME_HEAD_MAX - 1)

struct head {
    size_t size;     /* bytes, including the blank */
    uint32_t length; /* announced */
};

/* Parses a frame's head. Returns 1 with *RET filled in, 0 when more bytes are needed, or -1 if this
 * is a line. */
static int octet_head(const struct framing_input *in, struct head *ret)
{
    struct head head = {0};

    while (head.size < in->length && head.size <= LENGTH_DIGITS_MAX) {
        uint8_t c = in->data[head.size++];

        if (c == ' ' && head.length > 0) {
            *ret = head;
            return 1;
        }
        if (c < (head.length > 0 ? '0' : '1') || c > '9')
            return -1;
        head.length = head.length * 10 + (c - '0');
    }
    return head.size > LENGTH_DIGITS_MAX ? -1 : 0;
}

/* As octet_head(), or continues the frame or line that the last record was a piece of. *LEFT is how
 * many bytes of the frame follow *HEAD, which is empty when a frame continues. */
static int octet_begin(const struct framing_input *in, struct head *head, uint32_t *left)
{
    int r;

    *head = (struct head){0};
    *left = in->frame_left;
    if (in->frame_left > 0)
        return 1;
    if (in->mid_record)
        return -1;
    r = octet_head(in, head);
    *left = head->length;
    return r;
}

/* Takes what has arrived of a frame; UNENDED is the terminator if that is not all of it. */
static int octet_emit(const struct framing_input *in, const struct head *head, uint32_t left,
                      enum terminator unended, struct record *ret)
{
    size_t length = min_size(min_size(in->length - head->size, left), in->max_record);

    *ret = (struct record){
        .data = in->data + head->size,
        .length = length,
        .consumed = head->size + length,
        .terminator = length == in->max_record ? TERM_CONTINUED : unended,
        .frame_length = head->length,
        .frame_left = left - (uint32_t)length,
    };
    if (length == left)
        ret->terminator = TERM_OCTET;
    else if (ret->terminator == TERM_NONE)
        ret->frame_left = 0;
    return 1;
}

int framing_octet_next(struct framing_input *in, struct record *ret)
{
    struct head head;
    uint32_t left;
    int r = octet_begin(in, &head, &left);

    if (r < 0 || (r == 0 && in->at_end))
        return framing_line_next(in, ret);
    if (r == 0 || (!in->at_end && in->length - head.size < min_size(left, in->max_record))) {
        in->scanned = in->length;
        return 0;
    }
    in->scanned = 0;
    return octet_emit(in, &head, left, TERM_NONE, ret);
}

int framing_octet_flush(const struct framing_input *in, struct record *ret)
{
    struct head head;
    uint32_t left;
    int r = octet_begin(in, &head, &left);

    if (r < 0)
        return framing_line_flush(in, ret);
    /* Not a head without data: there is nothing to show, and an incomplete one may still be a line.
     */
    return r > 0 && in->length > head.size && octet_emit(in, &head, left, TERM_CONTINUED, ret);
}
