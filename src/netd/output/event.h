/* SPDX-License-Identifier: MIT */
/*
 * Events to entries: the fields of netd.journal-fields(7) in the output's encoding, as an array of
 * pieces for writev(2) and sendmsg(2). Pure: bytes in, bytes out, no descriptor.
 *
 * Encodings: the journal's native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/), the
 * Journal Export Format (https://systemd.io/JOURNAL_EXPORT_FORMATS/), which has the same fields
 * between a timestamp and an empty line, and a person's lines.
 *
 * What a client sent stands in an entry in two forms only: as MESSAGE, or as another field of a
 * syslog record, after it was found free of, or rid of, every byte that could end a field; and
 * length-prefixed in NETD_DATA.
 */
#pragma once

#include "common/address.h"
#include "netd/output/output.h"
#include "netd/protocol/format.h"
#include "netd/protocol/framing.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* The most text that one record needs, and the size of an arena that holds any entry. */
#define EVENT_ESCAPED_MAX ((size_t)MAX_RECORD_HIGH * 4)
#define EVENT_ARENA_SIZE  ((size_t)1024 * 1024)

#define ENTRY_PIECES_MAX 6

/* Bytes of SYSLOG_IDENTIFIER; a longer one is cut. */
#define EVENT_IDENTIFIER_MAX 255

/* One entry: pieces that point into an arena, a session's region or constants. */
struct entry {
    struct iovec pieces[ENTRY_PIECES_MAX];
    size_t count;
    size_t size; /* bytes of all pieces */
};

/* Text of the entries of one batch: allocated from the front, freed all at once. Never grows. */
struct arena {
    uint8_t *base;
    size_t size, used; /* bytes */
};

/* Bytes that may be any. */
struct event_text {
    const uint8_t *bytes;
    size_t length; /* 0: the field is absent */
};

/* What a proxy, or netd-tls, says of its client's TLS session. */
struct event_tls {
    struct event_text version, cipher, name, subject, fingerprint;
    struct event_text refused; /* why there is no session; for the MESSAGE of refused */
};

/* What all entries of one session have in common. */
struct event_source {
    const char *id; /* 32 hex digits */
    const struct endpoint *peer, *local;
    const char *local_path;          /* of an AF_UNIX listener, else NULL */
    const struct endpoint *proxy;    /* who connected for the peer, else NULL */
    const struct event_tls *tls;     /* for connect, disconnect and refused; may be NULL */
    const char *listener;            /* its name; NULL or empty without one */
    const struct ucred *credentials; /* of a unix client, for connect; else NULL */
    int priority;
    const char *identifier; /* as in struct listener_settings */
    enum output output;
    enum format format;  /* of records */
    bool trust_severity; /* as in struct listener_settings */
};

/* Everything a disconnect says. */
struct event_totals {
    const char *reason;
    int error; /* errno for ERRNO, or 0 */
    uint64_t records, bytes, duration_usec;
};

/* No NETD_RESENT: the event repeats nothing. */
#define NOT_RESENT UINT64_MAX

/* The text that precedes a record, the same for all records of one turn. */
struct event_prefix {
    struct iovec text;
    struct iovec identifier; /* format "syslog": that of a plain record */
    enum output output;
    enum format format;
    bool trust_severity;
};

/*
 * Each fills in *RET with pieces in ARENA and returns 0, or -ENOBUFS when the arena has no room:
 * come back with it emptied (an empty one of EVENT_ARENA_SIZE holds any entry). ARENA->used is
 * untouched on failure.
 */
int event_connect(struct entry *ret, struct arena *arena, const struct event_source *source);
int event_disconnect(struct entry *ret, struct arena *arena, const struct event_source *source,
                     const struct event_totals *totals);
int event_refused(struct entry *ret, struct arena *arena, const struct event_source *source,
                  const char *reason);

/* The prefix for event_data(), valid as long as the arena is not emptied. Errors as above. */
int event_data_prefix(struct event_prefix *ret, struct arena *arena,
                      const struct event_source *source);

/*
 * One record. The bytes of MESSAGE are not copied where they can stand there as they are: *RET
 * points to them. In format "syslog" the record is parsed (protocol/syslog.h), but not a piece that
 * continues another one; in the output "text" it is a line as it came. RESENT is for NETD_RESENT:
 * the offset of the record's first byte in what the client sent, or NOT_RESENT. Returns 0; 1 where
 * the record was parsed and is not of its format; or an error as above.
 */
int event_data(struct entry *ret, struct arena *arena, const struct event_prefix *prefix,
               const struct record *record, uint64_t resent);

/*
 * How many of the LENGTH bytes at TEXT, from the start, may stand in MESSAGE: valid UTF-8 (Unicode,
 * table 3-7: no overlong forms, no surrogates) without control characters but TAB, C1 (U+0080 to
 * U+009F) and the bidirectional overrides (U+202A to U+202E, U+2066 to U+2069) included.
 */
size_t event_clean_length(const uint8_t *text, size_t length);

/* Writes TEXT with each byte that may not stand in MESSAGE as \xNN; RET holds 4 * LENGTH. Returns
 * the bytes written. */
size_t event_escape(uint8_t *ret, const uint8_t *text, size_t length);
