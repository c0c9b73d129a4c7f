/* SPDX-License-Identifier: MIT */
/*
 * Bytes to records. Pure: no descriptor, no allocation, no logging, and no state of its own, so
 * that it can be called again over the same bytes after a crash and gives the same records. No byte
 * is searched twice for a line end, but for two behind a cut.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits of max_record, bytes. */
#define MAX_RECORD_LOW  64
#define MAX_RECORD_HIGH 131072

enum framing { FRAMING_LINE, FRAMING_RAW };

/* What ended a record: NETD_TERMINATOR of netd.journal-fields(7). */
enum terminator {
    TERM_LF,        /* LF */
    TERM_CRLF,      /* CR LF */
    TERM_NONE,      /* the stream ended, or a raw read */
    TERM_CONTINUED, /* cut at the size limit; the session's next data event goes on */
};

struct record {
    const uint8_t *data; /* into the caller's buffer */
    size_t length;       /* bytes, without the terminator */
    size_t consumed;     /* bytes, with it */
    enum terminator terminator;
};

struct framer {
    enum framing framing;
    size_t max_record; /* bytes, without the terminator */
};

/*
 * Takes the first record off the LENGTH bytes at DATA, the stream from the end of the last record
 * on. AT_END says that nothing follows them. MID_RECORD says that the last record taken was a
 * continued piece, so that at the end an empty rest still gets its last, empty piece. *SCANNED is
 * how many of the bytes are known to hold no LF: 0 after each record, kept in between. Returns 1
 * with *RET filled in, or 0 when it takes more bytes to tell (AT_END: when nothing is left).
 */
int framer_next(const struct framer *framer, const uint8_t *data, size_t length, bool at_end,
                bool mid_record, size_t *scanned, struct record *ret);

/*
 * Takes all LENGTH bytes at DATA, an unfinished record, as a continued piece, but for a last CR
 * that may belong to the record's end. Returns 1, or 0 when nothing is left to take.
 */
int framer_cut(const uint8_t *data, size_t length, struct record *ret);
