/* SPDX-License-Identifier: MIT */
/*
 * Bytes to records. A framing is a constant table of functions, chosen by a session's listener.
 * Pure: no descriptor, no allocation, no logging, and no state of its own, so that it can be called
 * again over the same bytes after a crash and gives the same records.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits of max_record, bytes. */
#define MAX_RECORD_LOW  64
#define MAX_RECORD_HIGH 131072

/* Longest head of a counted frame, bytes: nine digits and a blank. */
#define FRAME_HEAD_MAX 10

/* The order is part of the table's layout. */
enum framing { FRAMING_LINE, FRAMING_RAW, FRAMING_NUL, FRAMING_OCTET, FRAMING_RELP, FRAMINGS };

/* What ended a record: NETD_TERMINATOR of netd.journal-fields(7). */
enum terminator {
    TERM_LF,        /* LF */
    TERM_CRLF,      /* CR LF */
    TERM_NONE,      /* the stream ended, or a raw read */
    TERM_CONTINUED, /* cut at the size limit; the session's next data event goes on */
    TERM_NUL,       /* NUL */
    TERM_OCTET,     /* nothing: all bytes of a counted frame are there */
    TERM_RELP,      /* the end of a RELP frame */
};

struct record {
    const uint8_t *data; /* into the caller's buffer */
    size_t length;       /* bytes, without the terminator */
    size_t consumed;     /* bytes, with it and with a counted frame's head */
    enum terminator terminator;
    uint32_t frame_length; /* of a counted frame's first piece: the announced length; else 0 */
    uint32_t frame_left;   /* bytes of the frame that are still to come */
    bool continues;        /* set by the caller: it goes on with the record before it */
    bool relp;             /* of a RELP frame */
};

/* What a framing is asked about: the stream from the end of the last record on. */
struct framing_input {
    const uint8_t *data;
    size_t length;     /* bytes */
    size_t max_record; /* bytes, without the terminator */
    size_t scanned;  /* bytes known to hold no end of a record: 0 after each record, kept between */
    bool at_end;     /* nothing follows the bytes */
    bool mid_record; /* the last record was a continued piece: at the end an empty rest still gets
                        its last, empty piece */
    uint32_t frame_left; /* of the last record */
    uint64_t records;    /* for RELP: whole records of the session before; next() counts on */
};

/* What next() and flush() return. */
enum framing_result {
    FRAMING_MORE,   /* more bytes are needed to tell; at the end: nothing is left */
    FRAMING_RECORD, /* a record, or a piece of one */
    FRAMING_CLOSED, /* the client says that it is done */
};

struct framing_ops {
    /* Takes the first record, or a piece of it. Returns FRAMING_RECORD with *RET filled in, or
     * another enum framing_result, or -EPROTO where the bytes break the protocol's grammar. */
    int (*next)(struct framing_input *in, struct record *ret);

    /* Takes what is there of an unfinished record as a continued piece; NULL where a record never
     * stays unfinished. Returns FRAMING_RECORD, or FRAMING_MORE when there is nothing that surely
     * belongs to the record. */
    int (*flush)(const struct framing_input *in, struct record *ret);

    /* Each read is a record: at most max_record bytes, and none behind what is not logged yet. */
    bool read_is_record;

    /* The client is told of each record that the journal took it, and has nothing lost with what it
     * was not told. Records alone count as bytes, and one stays unfinished for as long as it takes.
     */
    bool acknowledges;
};

/* The functions of FRAMING, which is valid. */
extern const struct framing_ops framing_table[];

static inline const struct framing_ops *framing_ops(enum framing framing)
{
    return &framing_table[framing];
}

/* The framings; each in a file of its own. */
int framing_line_next(struct framing_input *in, struct record *ret);
int framing_line_flush(const struct framing_input *in, struct record *ret);
int framing_raw_next(struct framing_input *in, struct record *ret);
int framing_nul_next(struct framing_input *in, struct record *ret);
int framing_nul_flush(const struct framing_input *in, struct record *ret);
int framing_octet_next(struct framing_input *in, struct record *ret);
int framing_octet_flush(const struct framing_input *in, struct record *ret);
int framing_relp_next(struct framing_input *in, struct record *ret);
int framing_relp_flush(const struct framing_input *in, struct record *ret);

/* For them: fills in *RET with the first LENGTH bytes and END_LENGTH bytes that end the record.
 * Returns 1. */
static inline int framing_emit(struct record *ret, const struct framing_input *in, size_t length,
                               size_t end_length, enum terminator terminator)
{
    *ret = (struct record){
        .data = in->data,
        .length = length,
        .consumed = length + end_length,
        .terminator = terminator,
    };
    return 1;
}
