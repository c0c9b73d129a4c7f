/* SPDX-License-Identifier: MIT */
#include "netd/session/session.h"

#include "common/names.h"
#include "common/util.h"
#include "netd/protocol/relp.h"
#include "netd/session/rate.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

/* Reads of one turn of draining, and bytes of each. */
#define DRAIN_READS 4
#define DRAIN_BYTES 16384

_Static_assert(WINDOW_SIZE >= (size_t)2 * (RELP_PREFIX_MAX + MAX_RECORD_HIGH + 1) + READ_MAX,
               "a region is too small");
_Static_assert(HEADER_AREA_SIZE >= PROXY_HEADER_MAX, "a header does not fit");
_Static_assert(sizeof(struct session) <= 320, "a session costs more memory than promised");

const char *session_reason_name(enum session_reason reason)
{
    static const char *const names[] = {
        [REASON_NONE] = "none",
        [REASON_EOF] = "eof",
        [REASON_RESET] = "reset",
        [REASON_TIMEOUT] = "timeout",
        [REASON_IDLE] = "idle",
        [REASON_SHUTDOWN] = "shutdown",
        [REASON_ERROR] = "error",
        [REASON_PROTOCOL] = "protocol",
        [REASON_SESSION_LIMIT] = "session-limit",
        [REASON_ADDRESS_LIMIT] = "address-limit",
        [REASON_DENIED] = "denied",
        [REASON_TLS] = "tls",
    };

    return (size_t)reason < ARRAY_SIZE(names) ? names[reason] : "error";
}

void session_adopt(struct session *s)
{
    s->framed = window_start(s->window);
    s->scanned = 0;
    s->batch_records = s->records;
    s->batch_bytes = s->bytes;
    s->batch_connect = s->connect_taken;
    s->batch_end = s->end_taken;
    s->batch_continued = s->continued;
    s->batch_frame_left = s->frame_left;
    s->stop_bytes = UINT32_MAX;
    s->watched = false;
    s->flushed = false;
    s->throttled = false;
    s->deaf = false;
}

uint32_t session_pending(const struct session *s)
{
    return window_end(s->window) - window_start(s->window);
}

bool session_is_framed(const struct session *s)
{
    return s->framed + s->scanned >= window_end(s->window);
}

void session_end(struct session *s, enum session_reason reason, int error)
{
    if (s->reason != REASON_NONE)
        return;
    s->error = reason == REASON_ERROR ? error : 0;
    s->end_usec = now_usec(CLOCK_MONOTONIC);
    __atomic_store_n(&s->reason, (uint8_t)reason, __ATOMIC_RELEASE);
}

/* --- Receiving --- */

/* The reason for which recv(2) failed with ERROR. */
static enum session_reason session_reason_of(int error)
{
    switch (error) {
    case ECONNRESET:
    case EPIPE:
        return REASON_RESET;
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return REASON_TIMEOUT;
    default:
        return REASON_ERROR;
    }
}

void session_compact(struct session *s, uint8_t *region)
{
    uint32_t start = window_start(s->window), rest = session_pending(s);

    /* The last piece of an ended session may be in the batch and have no bytes. */
    if (s->reason != REASON_NONE || start == 0 || rest > start || s->framed != start)
        return;
    if (s->state == SESSION_HEADER) /* where it starts says that the header is known */
        return;
    memcpy(region, region + start, rest);
    __atomic_store_n(&s->window, window_make(0, rest), __ATOMIC_RELEASE);
    /* After the window: a mark too many does no harm. */
    __atomic_store_n(&s->resent_end, s->resent_end - (uint32_t)min_size(s->resent_end, start),
                     __ATOMIC_RELEASE);
    s->framed = 0;
}

void session_apply_receive(struct session *s, const struct transfer *transfer)
{
    uint32_t n = transfer->message.msg_len;

    if (n == NOT_TAKEN || n == 0)
        return;
    if (transfer->rate > 0)
        s->rate_usec = rate_charge(transfer->rate_usec, transfer->rate, n);
    __atomic_store_n(&s->window, window_make(window_start(s->window), transfer->base + n),
                     __ATOMIC_RELEASE);
}

void transfer_begin(struct transfer *t, uint32_t number, struct iovec *piece)
{
    t->message = (struct mmsghdr){
        .msg_hdr.msg_iov = piece,
        .msg_hdr.msg_iovlen = 1,
        .msg_len = NOT_TAKEN,
    };
    __atomic_store_n(&t->session, number, __ATOMIC_RELEASE);
}

void transfer_finish(struct transfer *t)
{
    __atomic_store_n(&t->session, NO_SESSION, __ATOMIC_RELEASE);
}

/* Takes at most WANT bytes behind the window. Returns how many, or a negative errno. */
static int session_take_bytes(struct session *s, const struct session_context *c,
                              struct transfer *transfer, uint32_t want)
{
    uint32_t end = window_end(s->window);
    struct iovec piece = {.iov_base = c->region + end, .iov_len = want};
    int r;

    transfer->rate = s->state == SESSION_HEADER ? 0 : c->settings->max_rate;
    if (transfer->rate > 0)
        transfer->rate_usec = rate_begin(s->rate_usec, now_usec(CLOCK_MONOTONIC));
    transfer->base = end;
    transfer_begin(transfer, c->number, &piece);
    r = recvmmsg(s->fd, &transfer->message, 1, MSG_DONTWAIT, NULL) < 0 ? -errno : 0;
    session_apply_receive(s, transfer);
    transfer_finish(transfer);
    return r < 0 ? r : (int)transfer->message.msg_len;
}

/* recvmmsg(2), unlike recv(2), reports an error of the socket, once, before the bytes that arrived
 * first: those are read up to their end. */
void session_note_error(struct session *s, int error)
{
    if (s->pending_reason != REASON_NONE || s->reason != REASON_NONE)
        return;
    s->error = error;
    __atomic_store_n(&s->pending_reason, (uint8_t)session_reason_of(error), __ATOMIC_RELEASE);
}

/* True if S has no peer any more: of TCP after a reset. netd-tls ends a stream with shutdown(2) and
 * keeps its end open for answers; if it is closed, it died, or its client's stream was cut off. */
static bool session_has_lost_peer(const struct session *s)
{
    struct pollfd end = {.fd = s->fd};
    struct sockaddr_storage sa;
    socklen_t length = sizeof(sa);

    if (s->greeting != GREETING_NONE)
        return poll(&end, 1, 0) == 1 && (end.revents & POLLHUP);
    return getpeername(s->fd, (struct sockaddr *)&sa, &length) < 0;
}

/* Ends S where its stream ends. A connection that has no peer any more did not end in order: the
 * worker that got the error may have died before it could note it. */
static void session_end_stream(struct session *s)
{
    if (s->pending_reason != REASON_NONE)
        session_end(s, s->pending_reason, s->error);
    else if (session_has_lost_peer(s))
        session_end(s, REASON_RESET, 0);
    else
        session_end(s, session_has_header(s) ? REASON_EOF : REASON_PROTOCOL, 0);
}

uint32_t session_receive(struct session *s, const struct session_context *c,
                         struct transfer *transfer, uint32_t limit)
{
    bool read_is_record = framing_ops(s->framing)->read_is_record;
    uint32_t want = read_is_record ? c->settings->max_record : READ_MAX;
    int n;

    if (s->reason != REASON_NONE)
        return 0;
    session_compact(s, c->region);
    want = (uint32_t)min_size(want, limit);
    if ((read_is_record && session_pending(s) > 0 && session_has_header(s)) ||
        want > WINDOW_SIZE - window_end(s->window))
        return 0; /* until the journal has taken something */

    n = session_take_bytes(s, c, transfer, want);
    if (n < 0 && n != -EAGAIN && n != -EINTR && s->pending_reason == REASON_NONE) {
        session_note_error(s, -n);
        n = session_take_bytes(s, c, transfer, want);
    }
    if (n == -EINTR || (n == -EAGAIN && s->pending_reason == REASON_NONE))
        return 0;
    if (n <= 0) {
        session_end_stream(s);
        return 0;
    }
    s->flushed = false;
    return (uint32_t)n;
}

/* --- The PROXY header --- */

/* Where a header is kept. */
static uint8_t *session_header_area(const struct session_context *c)
{
    return c->region + WINDOW_SIZE;
}

bool session_has_header(const struct session *s)
{
    return s->state != SESSION_HEADER || window_start(s->window) > 0;
}

bool session_is_health_check(const struct session *s)
{
    return s->state == SESSION_HEADER && session_has_header(s) && s->header_local &&
           session_pending(s) == 0;
}

bool session_is_discarded(const struct session *s)
{
    return s->state == SESSION_HEADER && s->reason != REASON_NONE &&
           (session_is_health_check(s) ||
            (s->greeting != GREETING_NONE && !session_has_header(s) && !s->poisoned));
}

void session_apply_greeting(struct session *s, const struct transfer *transfer)
{
    if (transfer->message.msg_len == 1)
        s->greeting = GREETING_SENT;
}

/* Without a netd-tls that could read it, it is too late for an orderly end. */
void session_greet(struct session *s, const struct session_context *c, struct transfer *transfer)
{
    char byte = '\n';
    struct iovec piece = {.iov_base = &byte, .iov_len = 1};

    if (s->greeting != GREETING_DUE || s->reason != REASON_NONE || s->pending_reason != REASON_NONE)
        return;
    transfer_begin(transfer, c->number, &piece);
    if (sendmmsg(s->fd, &transfer->message, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        session_note_error(s, errno);
    session_apply_greeting(s, transfer);
    transfer_finish(transfer);
}

/* Takes over what HEADER says. The window's start completes it: until then the header is parsed
 * again, with the same result. */
static void session_apply_header(struct session *s, const struct session_context *c,
                                 const struct proxy_header *header)
{
    uint32_t end = window_end(s->window), rate = c->settings->max_rate;
    bool own = s->greeting != GREETING_NONE;

    if (header->tls.present || own) {
        memcpy(session_header_area(c), c->region, header->length);
        s->header_length = header->length;
    }
    if (header->forwarded) {
        s->peer = header->source;
        s->local = header->destination;
    }
    s->header_local = header->local;
    if (rate > 0)
        s->rate_usec =
            rate_charge(rate_begin(0, now_usec(CLOCK_MONOTONIC)), rate, end - header->length);
    s->framed = header->length;
    __atomic_store_n(&s->window, window_make(header->length, end), __ATOMIC_RELEASE);
}

bool session_parse_header(struct session *s, const struct session_context *c, const char **why)
{
    struct proxy_header header = {0};
    int r;

    if (session_has_header(s) || s->poisoned)
        return session_has_header(s);
    r = proxy_parse(c->region, session_pending(s), &header, why);
    if (r < 0)
        session_end(s, REASON_PROTOCOL, 0);
    else if (r > 0)
        session_apply_header(s, c, &header);
    if (r > 0 && s->greeting != GREETING_NONE && header.own.refused.length > 0)
        session_end(s, REASON_TLS, 0);
    return r > 0;
}

void session_open(struct session *s)
{
    uint32_t end = window_end(s->window);

    if (!session_has_header(s)) {
        s->framed = end;
        __atomic_store_n(&s->window, window_make(end, end), __ATOMIC_RELEASE);
    }
    __atomic_store_n(&s->state, s->reason < REASON_SESSION_LIMIT ? SESSION_OPEN : SESSION_REFUSED,
                     __ATOMIC_RELEASE);
}

static struct event_text session_header_text(const struct session_context *c,
                                             const struct proxy_text *text)
{
    return (struct event_text){session_header_area(c) + text->offset, text->length};
}

/* What the header that is kept says of TLS. One that may have crashed workers is not read again. */
static struct event_tls session_tls(const struct session *s, const struct session_context *c)
{
    struct proxy_header header = {0};
    struct event_tls tls = {0};
    const char *why;

    if (s->header_length == 0 || s->poisoned ||
        proxy_parse(session_header_area(c), s->header_length, &header, &why) <= 0)
        return tls;
    tls.version = session_header_text(c, &header.tls.version);
    tls.cipher = session_header_text(c, &header.tls.cipher);
    if (header.tls.verified)
        tls.name = session_header_text(c, &header.tls.common_name);
    if (s->greeting == GREETING_NONE)
        return tls;
    if (header.own.name.length > 0)
        tls.name = session_header_text(c, &header.own.name);
    tls.subject = session_header_text(c, &header.own.subject);
    tls.fingerprint = session_header_text(c, &header.own.fingerprint);
    tls.refused = session_header_text(c, &header.own.refused);
    return tls;
}

/* --- Logging --- */

/* Who has the other end of the connection. */
static const struct endpoint *session_connected(const struct session *s)
{
    return s->proxy.family != 0 ? &s->proxy : &s->peer;
}

static struct event_source session_source(const struct session *s, const struct session_context *c,
                                          const char *id)
{
    return (struct event_source){
        .id = id,
        .peer = &s->peer,
        .local = &s->local,
        .local_path = s->local.family == AF_UNIX ? c->local_path : NULL,
        .proxy = s->proxy.family != 0 && s->greeting == GREETING_NONE ? &s->proxy : NULL,
        .listener = c->settings->name,
        .priority = c->settings->priority,
        .identifier = c->settings->identifier,
        .output = c->sink->output,
        .format = (enum format)s->format,
        .trust_severity = c->settings->trust_severity,
    };
}

/* Those at connect(2), which the kernel keeps: unix(7), SO_PEERCRED. */
static bool session_read_credentials(const struct session *s, struct ucred *ret)
{
    socklen_t length = sizeof(*ret);

    return getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, ret, &length) == 0 && length == sizeof(*ret);
}

static bool session_log_connect(struct session *s, const struct session_context *c,
                                struct event_source source)
{
    struct item item = {.session = c->number, .kind = ITEM_CONNECT};
    struct event_tls tls = session_tls(s, c);
    struct ucred credentials;
    struct entry entry;

    source.tls = &tls;
    if (s->peer.family == AF_UNIX && session_connected(s)->family == AF_UNIX &&
        session_read_credentials(s, &credentials))
        source.credentials = &credentials;
    if (!sink_has_room(c->sink) || event_connect(&entry, &c->sink->arena, &source) < 0)
        return false;
    sink_push(c->sink, &entry, &item);
    s->batch_connect = true;
    return true;
}

static bool session_log_end(struct session *s, const struct session_context *c,
                            struct event_source source)
{
    struct item item = {.session = c->number, .kind = ITEM_END};
    struct event_tls tls = session_tls(s, c);
    struct event_totals totals = {
        .reason = session_reason_name(s->reason),
        .error = s->error,
        .records = s->batch_records,
        .bytes = s->batch_bytes +
                 (s->poisoned && !framing_ops(s->framing)->acknowledges ? session_pending(s) : 0),
        .duration_usec = s->end_usec - s->begin_usec,
    };
    struct entry entry;
    int r;

    if (!sink_has_room(c->sink))
        return false;
    source.tls = &tls;
    if (s->state == SESSION_REFUSED)
        r = event_refused(&entry, &c->sink->arena, &source, totals.reason);
    else
        r = event_disconnect(&entry, &c->sink->arena, &source, &totals);
    if (r < 0)
        return false;
    sink_push(c->sink, &entry, &item);
    s->batch_end = true;
    return true;
}

static bool session_log_record(struct session *s, const struct session_context *c,
                               const struct event_prefix *prefix, const struct record *record)
{
    size_t counted = record->relp ? record->length : record->consumed;
    struct item item = {
        .session = c->number,
        .kind = ITEM_DATA,
        .continued = record->terminator == TERM_CONTINUED,
        .resent = s->framed < s->resent_end,
        .end = s->framed + (uint32_t)record->consumed,
        .frame_left = record->frame_left,
        .bytes = s->batch_bytes + counted,
    };
    uint64_t resent = item.resent ? s->batch_bytes : NOT_RESENT;
    struct entry entry;
    int r;

    item.records = s->batch_records + !item.continued;
    if (!sink_has_room(c->sink))
        return false;
    r = event_data(&entry, &c->sink->arena, prefix, record, resent);
    if (r < 0)
        return false;
    item.unparsed = r > 0;
    sink_push(c->sink, &entry, &item);
    s->framed = item.end;
    s->scanned = 0;
    s->batch_records = item.records;
    s->batch_bytes = item.bytes;
    s->batch_continued = item.continued;
    s->batch_frame_left = item.frame_left;
    return true;
}

/* The bytes of S that are in no record yet, for its framing. */
static struct framing_input session_framing_input(const struct session *s,
                                                  const struct session_context *c)
{
    return (struct framing_input){
        .data = c->region + s->framed,
        .length = window_end(s->window) - s->framed,
        .max_record = c->settings->max_record,
        .scanned = s->scanned,
        .at_end = s->reason != REASON_NONE,
        .mid_record = s->batch_continued,
        .frame_left = s->batch_frame_left,
        .records = s->batch_records,
    };
}

/* S ends by what its client sent: in order if it CLOSED the session. */
static void session_end_protocol(struct session *s, bool closed)
{
    if (s->reason != REASON_NONE)
        return;
    s->closed = closed;
    session_end(s, closed ? REASON_EOF : REASON_PROTOCOL, 0);
}

static enum session_progress session_log_records(struct session *s, const struct session_context *c,
                                                 const struct event_source *source)
{
    const struct framing_ops *framing = framing_ops(s->framing);
    struct framing_input in = session_framing_input(s, c);
    enum session_progress progress = SESSION_WAITS;
    struct event_prefix prefix;
    struct record record;
    int r;

    for (unsigned n = 0; (r = framing->next(&in, &record)) == FRAMING_RECORD; n++) {
        record.continues = in.mid_record;
        progress = n == TURN_RECORDS ? SESSION_RUNS : SESSION_BLOCKED;
        if (n == TURN_RECORDS ||
            (n == 0 && event_data_prefix(&prefix, &c->sink->arena, source) < 0) ||
            !session_log_record(s, c, &prefix, &record))
            break;
        progress = SESSION_WAITS;
        in.data += record.consumed;
        in.length -= record.consumed;
        in.mid_record = s->batch_continued;
        in.frame_left = s->batch_frame_left;
    }
    s->scanned = (uint32_t)in.scanned;
    if (r < 0 || r == FRAMING_CLOSED)
        session_end_protocol(s, r == FRAMING_CLOSED);
    return progress;
}

enum session_progress session_log(struct session *s, const struct session_context *c)
{
    enum session_progress progress;
    struct event_source source;
    char id[SESSION_ID_HEX + 1];

    hex_id(s->id, id);
    source = session_source(s, c, id);

    if (s->state == SESSION_OPEN) {
        if (!s->batch_connect && !session_log_connect(s, c, source))
            return SESSION_BLOCKED;
        progress = s->poisoned ? SESSION_WAITS : session_log_records(s, c, &source);
        if (progress != SESSION_WAITS)
            return progress;
    }
    if (s->state != SESSION_HEADER && s->reason != REASON_NONE && !s->batch_end &&
        !session_log_end(s, c, source))
        return SESSION_BLOCKED;
    return SESSION_WAITS;
}

bool session_awaits_open(const struct session *s)
{
    return framing_ops(s->framing)->acknowledges && !s->opened && s->reason == REASON_NONE &&
           (s->state == SESSION_HEADER || (s->state == SESSION_OPEN && session_is_framed(s)));
}

void session_find_open(struct session *s, const struct session_context *c)
{
    size_t size;
    int r;

    if (s->state != SESSION_OPEN || s->opened || s->poisoned)
        return;
    r = relp_parse_open(c->region + window_start(s->window), session_pending(s), &size);
    if (r > 0)
        s->opened = true;
    else if (r == 0)
        s->scanned = session_pending(s);
}

bool session_has_partial(const struct session *s)
{
    return !s->flushed && window_end(s->window) > s->framed && session_is_framed(s);
}

enum session_progress session_flush_partial(struct session *s, const struct session_context *c)
{
    const struct framing_ops *framing = framing_ops(s->framing);
    struct framing_input in = session_framing_input(s, c);
    struct event_source source;
    struct event_prefix prefix;
    struct record record;
    char id[SESSION_ID_HEX + 1];

    if (!framing->flush || framing->flush(&in, &record) != FRAMING_RECORD) {
        s->flushed = true;
        return SESSION_WAITS;
    }
    record.continues = in.mid_record;
    hex_id(s->id, id);
    source = session_source(s, c, id);
    if (event_data_prefix(&prefix, &c->sink->arena, &source) < 0 ||
        !session_log_record(s, c, &prefix, &record))
        return SESSION_BLOCKED;
    s->scanned = window_end(s->window) - s->framed; /* a CR at most */
    s->flushed = true;
    return SESSION_WAITS;
}

void session_apply(struct session *s, const struct item *item)
{
    switch ((enum item_kind)item->kind) {
    case ITEM_CONNECT:
        s->connect_taken = true;
        break;
    case ITEM_DATA:
        s->records = item->records;
        s->bytes = item->bytes;
        s->continued = item->continued;
        s->frame_left = item->frame_left;
        __atomic_store_n(&s->window, window_make(item->end, window_end(s->window)),
                         __ATOMIC_RELEASE);
        break;
    case ITEM_END:
        s->end_taken = true;
        break;
    }
}

/* --- The end --- */

uint64_t session_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t length = sizeof(cookie);

    (void)getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length);
    return cookie;
}

bool session_has_connection(const struct session *s)
{
    uint64_t cookie = 0;
    socklen_t length = sizeof(cookie);

    if (s->fd < 0 || s->cookie == 0)
        return false;
    if (getsockopt(s->fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0)
        return errno != EBADF && errno != ENOTSOCK;
    return cookie == s->cookie;
}

void session_reset_at_close(const struct session *s)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    (void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

uint32_t session_unread(const struct session *s)
{
    int unread = 0;

    return ioctl(s->fd, SIOCINQ, &unread) < 0 || unread < 0 ? 0 : (uint32_t)unread;
}

bool session_is_acknowledged(const struct session *s)
{
    int queued = 0;

    /* What was sent to an AF_UNIX socket is in the client's queue at once: unix(7). */
    return session_connected(s)->family == AF_UNIX || ioctl(s->fd, SIOCOUTQ, &queued) < 0 ||
           queued == 0;
}

bool session_drain(struct session *s)
{
    static char discard[DRAIN_BYTES];
    ssize_t n = 1;

    for (int i = 0; i < DRAIN_READS && n > 0; i++) {
        n = recv(s->fd, discard, sizeof(discard), MSG_DONTWAIT);
        if (n > 0)
            explicit_bzero(discard, (size_t)n); /* what clients send has no place in a core file */
    }
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}
