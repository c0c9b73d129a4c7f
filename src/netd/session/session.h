/* SPDX-License-Identifier: MIT */
/*
 * One client: bytes are received into its region, framed into records, and put in the batch as
 * entries. Last come the disconnect event and the client's receipt.
 *
 * A session is plain data in memory that outlives the process that works on it (table.h). Each step
 * that cannot be repeated leaves its result there in one store, and the results of the system calls
 * that matter are written there by the kernel itself (recvmmsg and sendmmsg fill in msg_len), so
 * that a process killed between any two instructions leaves nothing to guess:
 *
 *   bytes taken from the socket   struct transfer, applied by session_apply_receive()
 *   entries the journal took      struct batch, applied by session_apply()
 *   what the client was told      struct transfer, applied by answer_apply() (answer.h)
 *
 * Each apply function may run any number of times over the same result. recovery.c says for each
 * step what is found when it was the last.
 */
#pragma once

#include "common/address.h"
#include "netd/config/settings.h"
#include "netd/output/sink.h"
#include "netd/protocol/proxy.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Bytes that one turn reads in line framing. */
#define READ_MAX 32768

/* Maximum records that one turn puts in the batch, so that a busy client leaves room for others. */
#define TURN_RECORDS 128

/* A region's window holds an unfinished record twice (it moves to the front without overlap) and a
 * read; behind it is a PROXY header that is kept. Both are multiples of every page size. */
#define WINDOW_SIZE      ((size_t)320 * 1024)
#define HEADER_AREA_SIZE ((size_t)64 * 1024)
#define REGION_SIZE      (WINDOW_SIZE + HEADER_AREA_SIZE)

#define NO_SESSION UINT32_MAX

/* session.address where the session is not counted. */
#define NO_ADDRESS_COUNT UINT32_MAX

enum session_state {
    SESSION_FREE,
    SESSION_OPEN,
    SESSION_REFUSED, /* over a limit: gets a refused event and a line, and no session */
    SESSION_HEADER,  /* its PROXY header has not arrived; or it is LOCAL, and nothing follows yet */
};

/* Whether the byte was written that netd-tls reads when its client has said that nothing more comes
 * (netd-tls/interface.h): it makes an end that is not orderly a reset. */
enum session_greeting {
    GREETING_NONE, /* not a session with TLS */
    GREETING_DUE,
    GREETING_SENT,
};

/* Why a session ends: NETD_REASON. The order is part of the table's layout. */
enum session_reason {
    REASON_NONE, /* it has not ended */
    REASON_EOF,
    REASON_RESET,
    REASON_TIMEOUT,
    REASON_IDLE,
    REASON_SHUTDOWN,
    REASON_ERROR,
    REASON_PROTOCOL,
    REASON_SESSION_LIMIT, /* from here on: of a refused connection */
    REASON_ADDRESS_LIMIT,
    REASON_DENIED,
    REASON_TLS,
    REASONS,
};

/* Membership in a list of sessions: neighbours' numbers. */
struct session_link {
    uint32_t previous, next;
};

enum session_list {
    LIST_RUN,    /* has something to do: the queue for a turn */
    LIST_TRIM,   /* may have pages that it does not need, silent for longest first; may be free */
    LIST_ANSWER, /* its client is told something when the batch is taken */
    LIST_LINGER, /* its client may still have to read the answer, oldest answer first */
    LISTS,
};

struct session {
    uint32_t state; /* enum session_state; the store that publishes a new session, and the one that
                       frees */
    int32_t fd;
    uint64_t cookie; /* SO_COOKIE: tells whether FD is still this connection */
    uint8_t id[16];
    struct endpoint peer, local;
    struct endpoint proxy; /* who connected, at a listener with proxy; family 0 at another */
    uint32_t listener;     /* number of its listener, whose settings apply */
    uint8_t framing;       /* enum framing: the listener's when the session began */
    uint8_t format;        /* enum format: likewise */
    uint8_t counters;      /* number of the counters of that listener's name, see counters.h */
    uint64_t begin_usec;   /* CLOCK_MONOTONIC, like all times here */
    uint64_t end_usec;     /* valid with a reason */
    uint64_t active_usec;  /* of the last byte, or the answer */
    uint64_t rate_usec;    /* its bytes' arrival time at max_rate, see rate.h */

    /* What the journal has. */
    uint64_t records, bytes;
    uint64_t told;       /* what the client was told, see answer.h */
    uint32_t frame_left; /* bytes of a counted frame that are still to come */
    uint8_t connect_taken;
    uint8_t continued; /* its last record has more pieces to come */
    uint8_t end_taken; /* disconnect or refused */
    uint8_t opened;    /* RELP: the open command is in the window, or was */
    uint8_t closed;    /* RELP: ended by a close command */

    uint8_t reason;         /* enum session_reason, once not REASON_NONE it stays */
    uint8_t crashes;        /* in a row, of workers that were processing this session's bytes */
    uint8_t poisoned;       /* its bytes crashed workers: they are not processed again */
    uint8_t pending_reason; /* enum session_reason: how it will end when its last bytes are read */
    int32_t error;          /* errno for REASON_ERROR, here or in pending_reason */
    uint16_t header_length; /* bytes of the header that is kept, for its TLS part; or 0 */
    uint8_t header_local;   /* the header is LOCAL */
    uint8_t greeting;       /* enum session_greeting */

    /* Bytes received and not taken by the journal: offsets in the region, the first in the low half
     * and the one behind the last in the high half, so that one store changes both. */
    uint64_t window;
    uint32_t resent_end; /* records that begin before this offset may be in the output already */

    /* Private to the worker; initialized by session_adopt() and recovery_run(). */
    uint32_t framed;                     /* offset behind the last record in the batch */
    uint32_t scanned;                    /* bytes behind FRAMED known to hold no LF */
    uint32_t resident_bytes;             /* bytes of the region that have pages; the table's own */
    uint64_t batch_records, batch_bytes; /* as they will be when the batch is taken */
    uint32_t batch_frame_left;           /* the same */
    uint32_t stop_bytes;                 /* bytes that may still be read while netd stops */
    uint8_t batch_connect, batch_end, batch_continued; /* is in the batch, or taken */
    uint8_t listed;                                    /* a bit for each list it is in */
    uint8_t watched;   /* enum watch: which of the worker's epolls has its connection */
    uint8_t deaf;      /* has no room for its answers: not read meanwhile */
    uint8_t flushed;   /* nothing more of its unfinished record can be logged before a new byte */
    uint8_t throttled; /* max_rate is reached: neither read nor watched until rate_due() */
    uint32_t address;  /* number of its address's count, see address-count.h */
    struct session_link resident_link; /* others with as many pages, if it has any */
    struct session_link links[LISTS];
};

/* A system call on one session whose result the kernel writes where the next worker finds it. */
struct transfer {
    uint32_t session;   /* NO_SESSION: no call is in progress */
    uint32_t base;      /* receive: the window's end before */
    uint32_t rate;      /* receive: max_rate */
    uint32_t length;    /* answer: bytes to send */
    uint64_t rate_usec; /* receive: what rate_begin() returned, if there is a rate */
    uint64_t told;      /* answer: session.told before */
    uint64_t told_all;  /* answer: and after all of it */
    struct mmsghdr message;
};

/* Marks the beginning of a system call whose result belongs to session NUMBER, and its end. PIECE
 * is what is received or sent. */
void transfer_begin(struct transfer *t, uint32_t number, struct iovec *piece);
void transfer_finish(struct transfer *t);

/* Settings of a session's listener and what surrounds the session, for the calls below. */
struct session_context {
    const struct listener_settings *settings;
    const char *local_path; /* see struct event_source */
    struct sink *sink;
    uint8_t *region;
    uint32_t number; /* the session's */
};

static inline uint32_t window_start(uint64_t window)
{
    return (uint32_t)window;
}

static inline uint32_t window_end(uint64_t window)
{
    return (uint32_t)(window >> 32);
}

static inline uint64_t window_make(uint32_t start, uint32_t end)
{
    return (uint64_t)end << 32 | start;
}

/* The value of NETD_REASON, which the receipt has too. */
const char *session_reason_name(enum session_reason reason);

/* Initializes the fields that are private to the worker from what the journal has taken. */
void session_adopt(struct session *s);

/* True if S knows who its client is: always, except while its PROXY header is due. */
bool session_has_header(const struct session *s);

/*
 * Parses the PROXY header of S, which is in SESSION_HEADER, as far as it has arrived: sets peer and
 * local, and takes the header out of the window. What cannot become a header ends the session, and
 * *WHY is then what proxy_parse() says of it, otherwise untouched. Returns session_has_header().
 */
bool session_parse_header(struct session *s, const struct session_context *c, const char **why);

/* Writes the greeting, if it is due, before anything is read. TRANSFER as for session_receive(). */
void session_greet(struct session *s, const struct session_context *c, struct transfer *transfer);

/* Records that the greeting of TRANSFER was sent. */
void session_apply_greeting(struct session *s, const struct transfer *transfer);

/* True if S has a LOCAL header and no byte behind it: so far it is a proxy's health check. */
bool session_is_health_check(const struct session *s);

/* True if S has ended and leaves no event: a health check, or a connection of netd-tls, which died
 * before it could say who the client is. */
bool session_is_discarded(const struct session *s);

/* S leaves SESSION_HEADER: it becomes an open session, or a refused one if that is its reason. What
 * has arrived of an incomplete header is discarded. */
void session_open(struct session *s);

/* Bytes of the region that hold something unfinished or not yet taken. */
uint32_t session_pending(const struct session *s);

/* True when all bytes received have been framed: those not in the batch are an unfinished record.
 */
bool session_is_framed(const struct session *s);

/* Moves the unfinished rest to the front of REGION, the session's, where nothing of it is in the
 * batch and no byte of it is overwritten: until the window is stored it is valid where it was. */
void session_compact(struct session *s, uint8_t *region);

/*
 * Receives once, if the session goes on and has no bytes left to frame; the end of the stream and
 * errors end the session with their reason. LIMIT is the most bytes to take. Returns the bytes
 * received, 0 when nothing was to be had. TRANSFER is where the kernel writes the result.
 */
uint32_t session_receive(struct session *s, const struct session_context *c,
                         struct transfer *transfer, uint32_t limit);

/* The result of session_log(). */
enum session_progress {
    SESSION_WAITS,   /* nothing is left to do before more bytes arrive or the batch is sent */
    SESSION_RUNS,    /* its turn is over, and there is more to do */
    SESSION_BLOCKED, /* no room in the batch or its text: send it, then call again */
};

/*
 * Puts what is due in the batch: connect, at most TURN_RECORDS records, and after the last one of
 * an ended session the disconnect.
 */
enum session_progress session_log(struct session *s, const struct session_context *c);

/* True when session_flush_partial() may have something to do. */
bool session_has_partial(const struct session *s);

/* True for a RELP session whose open command is not complete yet: netd answers that one also while
 * the journal takes nothing. */
bool session_awaits_open(const struct session *s);

/* Looks for that command. */
void session_find_open(struct session *s, const struct session_context *c);

/* Remembers that the connection failed with ERROR, a positive errno: nothing is sent any more, and
 * the session ends when the bytes that came before are read. */
void session_note_error(struct session *s, int error);

/* Puts the unfinished record in the batch as a continued piece: all of it but for bytes that may
 * belong to its end. Every whole record is in the batch before. */
enum session_progress session_flush_partial(struct session *s, const struct session_context *c);

/* Ends the session: the one place that sets a reason. Only the first call counts. */
void session_end(struct session *s, enum session_reason reason, int error);

/* Applies ITEM, the consequences of an entry that the journal has taken. */
void session_apply(struct session *s, const struct item *item);

/* Counts the bytes that TRANSFER says were received, also for max_rate. */
void session_apply_receive(struct session *s, const struct transfer *transfer);

/* Bytes that arrived and were not read (SIOCINQ, tcp(7)). */
uint32_t session_unread(const struct session *s);

/* True when the client's kernel has acknowledged all that was sent, the end of the stream included
 * (SIOCOUTQ, tcp(7)). */
bool session_is_acknowledged(const struct session *s);

/* Makes the connection end with a reset when it is closed, which tells the client of a failure. */
void session_reset_at_close(const struct session *s);

/* The kernel's name for the socket FD, which no other socket ever has (SO_COOKIE, socket(7)); 0
 * where FD is none. */
uint64_t session_cookie(int fd);

/* True when the descriptor of S is still its connection, or when the kernel cannot tell. */
bool session_has_connection(const struct session *s);

/* Reads and discards a bounded amount of what the client sends after its session has ended. Returns
 * true when nothing more can arrive and the connection may be closed. */
bool session_drain(struct session *s);
