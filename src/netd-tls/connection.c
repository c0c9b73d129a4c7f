/* SPDX-License-Identifier: MIT */
#include "netd-tls/connection.h"

#include "common/util.h"
#include "netd-tls/header.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* TLS 1.3's KeyUpdate messages that a client may send without data between them. */
#define KEY_UPDATES_MAX 32

/* Rounds of one turn: at most that many times CONNECTION_BUFFER each way. */
#define TURN_ROUNDS 4

/* Repeats a call of OpenSSL's that was interrupted: nothing else would, since the kernel does not
 * tell a second time that the descriptor is ready (EPOLLET). */
#define UNINTERRUPTED(call)                       \
    ({                                            \
        int result_;                              \
        do {                                      \
            errno = 0;                            \
            result_ = (call);                     \
        } while (result_ != 1 && errno == EINTR); \
        result_;                                  \
    })

/* What is carried at the moment. Answers have the greeting, or the byte in its place, in front. */
static uint8_t buffer[CONNECTION_BUFFER + 1];

static int watch(int epoll, int operation, int fd, uint32_t events, uintptr_t data)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.u64 = data};

    return epoll_ctl(epoll, operation, fd, &event) < 0 ? -errno : 0;
}

/* Keeps what netd is to get next. Returns false if out of memory. */
static bool keep_pending(struct connection *c, const uint8_t *data, size_t length)
{
    c->pending = malloc(length);
    if (!c->pending)
        return false;
    memcpy(c->pending, data, length);
    c->pending_length = (uint32_t)length;
    return true;
}

static void drop_pending(struct connection *c)
{
    free(c->pending);
    c->pending = NULL;
    c->pending_length = c->pending_sent = 0;
}

static void close_client(struct connection *c)
{
    SSL_free(c->ssl);
    c->ssl = NULL;
    close_fd(&c->client);
}

static void end(struct connection *c)
{
    close_client(c);
    close_fd(&c->internal);
    drop_pending(c);
    c->state = CONNECTION_ENDED;
}

struct connection *connection_new(const struct tls_listener *listener, int epoll, int client,
                                  const struct endpoint *peer)
{
    struct connection *c = calloc(1, sizeof(*c));
    struct sockaddr_storage sa = {0};
    socklen_t length = sizeof(sa);

    if (!c) {
        close_fd(&client);
        return NULL;
    }
    c->listener = listener;
    c->client = client;
    c->internal = -1;
    c->peer = *peer;
    c->forwarded = 1;
    c->ssl = SSL_new(listener->context.ssl);
    if (getsockname(client, (struct sockaddr *)&sa, &length) < 0 || !c->ssl ||
        SSL_set_fd(c->ssl, client) != 1 ||
        watch(epoll, EPOLL_CTL_ADD, client, EPOLLIN | EPOLLOUT | EPOLLRDHUP, (uintptr_t)c) < 0) {
        connection_free(c);
        return NULL;
    }
    endpoint_from_sockaddr(&c->local, &sa, length);
    SSL_set_accept_state(c->ssl);
    return c;
}

void connection_free(struct connection *c)
{
    end(c);
    free(c);
}

void connection_abort(struct connection *c, enum tls_result result, const char *refusal)
{
    if (c->state == CONNECTION_HANDSHAKE) {
        c->result = result;
        c->refusal = refusal;
    }
    end(c);
}

/* --- Handshake --- */

/* What the client has to read is out; waits for its end. */
static void begin_linger(struct connection *c)
{
    c->notified = true;
    (void)shutdown(c->client, SHUT_WR);
    c->state = CONNECTION_LINGER;
}

static void fail_handshake(struct connection *c, int error)
{
    const bool is_eof = error == SSL_ERROR_SYSCALL ||
                        ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING;

    if (is_eof && SSL_get_verify_result(c->ssl) == X509_V_OK) {
        /* Whoever connects and sends nothing looks whether the port is open. */
        const bool sent = BIO_number_read(SSL_get_rbio(c->ssl)) > 0;

        connection_abort(c, TLS_CLOSED, sent ? "closed by the client" : NULL);
        return;
    }
    c->result = TLS_FAILED;
    c->refusal = context_refusal(c->ssl);
    begin_linger(c); /* the alert is out; a reset would destroy it */
}

/* The PROXY header is the first that netd gets. Returns false if out of memory. */
static bool prepare_header(struct connection *c)
{
    X509 *certificate = SSL_get0_peer_certificate(c->ssl);
    uint8_t data[TLS_HEADER_MAX];
    struct identity identity;
    size_t length;

    if (certificate)
        identity_describe(certificate, c->listener->settings, &identity);
    length = header_write(
        &(struct header){
            .peer = c->peer,
            .local = c->local,
            .listener = c->listener->settings->id,
            .version = SSL_get_version(c->ssl),
            .cipher = SSL_get_cipher_name(c->ssl),
            .identity = certificate ? &identity : NULL,
        },
        data);
    return keep_pending(c, data, length);
}

/* Ends the stream of a client that keeps asking for new keys: SSL_read(3) answers such requests,
 * and returns only when something else comes. See SSL_set_msg_callback(3). */
static void limit_key_updates(int is_sent, int version, int type, const void *message,
                              size_t length, SSL *ssl, void *userdata)
{
    struct connection *c = userdata;

    (void)version;
    if (is_sent || type != SSL3_RT_HANDSHAKE || length == 0 ||
        *(const uint8_t *)message != SSL3_MT_KEY_UPDATE)
        return;
    if (++c->key_updates > KEY_UPDATES_MAX)
        SSL_set_shutdown(ssl, SSL_get_shutdown(ssl) | SSL_RECEIVED_SHUTDOWN);
}

/* Returns true if the state is another one. */
static bool drive_handshake(struct connection *c)
{
    int r, error;

    ERR_clear_error();
    r = UNINTERRUPTED(SSL_do_handshake(c->ssl));
    if (r != 1) {
        error = SSL_get_error(c->ssl, r);
        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
            return false;
        fail_handshake(c, error);
    } else if (prepare_header(c)) {
        c->result = TLS_COMPLETE;
        c->state = CONNECTION_CONNECT;
        SSL_set_msg_callback(c->ssl, limit_key_updates);
        SSL_set_msg_callback_arg(c->ssl, c);
    } else {
        connection_abort(c, TLS_FAILED, "out of memory");
    }
    ERR_clear_error();
    return true;
}

/* --- Connection to netd --- */

int connection_open_internal(const struct tls_listener_settings *listener)
{
    CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int r = fd;

    if (fd < 0 ||
        connect(fd, (const struct sockaddr *)&listener->internal, listener->internal_length) < 0)
        return -errno;
    fd = -1;
    return r;
}

static bool drive_connect(struct connection *c, int epoll)
{
    int fd = connection_open_internal(c->listener->settings), r;

    if (fd == -EAGAIN)
        return false;
    c->internal = fd < 0 ? -1 : fd;
    r = fd < 0 ? fd
               : watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP,
                       (uintptr_t)c | CONNECTION_TAG_INTERNAL);
    if (r == 0) {
        c->state = CONNECTION_RELAY;
        c->answers_ready = true;
    } else {
        c->connect_errno = -r;
        end(c);
    }
    return true;
}

/* --- Client to netd --- */

/* What the client sent cannot be carried on: for netd its stream ends here, and not well. */
static void truncate_input(struct connection *c)
{
    c->input = INPUT_TRUNCATED;
    close_client(c);
}

/* Returns the number of bytes that netd took, maybe 0. */
static size_t send_internal(struct connection *c, const uint8_t *data, size_t length)
{
    ssize_t n = send(c->internal, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n >= 0)
        return (size_t)n;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    if (errno != EPIPE && errno != ECONNRESET)
        truncate_input(c);
    c->internal_is_deaf = true;
    return 0;
}

/* The descriptor is only watched for room to write while netd has none: every read of netd's would
 * wake this process otherwise. */
static void watch_for_room(struct connection *c, int epoll, bool wanted)
{
    if (c->wants_room == wanted)
        return;
    c->wants_room = wanted;
    (void)watch(epoll, EPOLL_CTL_MOD, c->internal, EPOLLIN | EPOLLRDHUP | (wanted ? EPOLLOUT : 0),
                (uintptr_t)c | CONNECTION_TAG_INTERNAL);
}

/* Returns true if nothing is pending any more. */
static bool flush_pending(struct connection *c, int epoll)
{
    if (!c->pending)
        return true;
    c->pending_sent += (uint32_t)send_internal(c, c->pending + c->pending_sent,
                                               c->pending_length - c->pending_sent);
    if (c->pending_sent < c->pending_length && !c->internal_is_deaf) {
        watch_for_room(c, epoll, true);
        return false;
    }
    drop_pending(c);
    watch_for_room(c, epoll, false);
    return true;
}

/* Reads as many TLS records as have arrived, and fit into the buffer. Returns the number of bytes;
 * c->input says if the stream has ended behind them. */
static size_t read_client(struct connection *c)
{
    size_t length = 0, n;
    int error;

    ERR_clear_error();
    while (length < CONNECTION_BUFFER) {
        if (UNINTERRUPTED(SSL_read_ex(c->ssl, buffer + length, CONNECTION_BUFFER - length, &n)) ==
            1) {
            c->key_updates = 0;
            length += n;
            continue;
        }
        error = SSL_get_error(c->ssl, 0);
        if (c->key_updates > KEY_UPDATES_MAX)
            error = SSL_ERROR_SSL; /* whether SSL_read(3) has seen it or wants more */
        if (error == SSL_ERROR_ZERO_RETURN)
            c->input = INPUT_FINISHED;
        else if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
            truncate_input(c);
        break;
    }
    return length;
}

/* Returns true if the client may have sent more than was carried now. */
static bool carry_input(struct connection *c, int epoll)
{
    size_t length, sent;

    if (!flush_pending(c, epoll) || c->internal_is_deaf || c->input != INPUT_OPEN)
        return false;
    length = read_client(c);
    if (length == 0)
        return false;
    sent = send_internal(c, buffer, length);
    if (sent == length || c->internal_is_deaf)
        return length == CONNECTION_BUFFER;
    if (keep_pending(c, buffer + sent, length - sent))
        watch_for_room(c, epoll, true);
    else
        truncate_input(c);
    return false;
}

/* Reads what the client has, but for the last byte while that must stay unread. What cannot be read
 * now is skipped, and read the next time. */
static void consume(struct connection *c)
{
    const int length = c->forwarded - (c->end_is_told ? 0 : 1);
    ssize_t n = length > 0 ? recv(c->internal, buffer, (size_t)length, MSG_DONTWAIT) : 0;

    if (n > 0)
        c->forwarded = (uint16_t)(c->forwarded - n);
}

/*
 * Tells netd the end of a stream that ended with close_notify: the byte that was left unread is
 * read, and so the end is a plain end of file.
 */
static void tell_end(struct connection *c)
{
    if (c->end_is_told || c->input != INPUT_FINISHED || c->pending || !c->greeted)
        return;
    c->end_is_told = true;
    consume(c);
    (void)shutdown(c->internal, SHUT_WR);
}

/* --- netd to client --- */

/* Returns the number of bytes that the client's connection took, maybe 0. */
static size_t write_client(struct connection *c, const uint8_t *data, size_t length)
{
    size_t n = 0;
    int error;

    ERR_clear_error();
    if (UNINTERRUPTED(SSL_write_ex(c->ssl, data, length, &n)) == 1)
        return n;
    error = SSL_get_error(c->ssl, 0);
    if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ)
        c->client_is_deaf = true;
    return 0;
}

static bool client_can_be_written(const struct connection *c)
{
    return c->ssl && !c->client_is_deaf;
}

/*
 * Answers are looked at (MSG_PEEK), written, and only then read, but for the last byte, which stays
 * unread until the client's end is known (interface.h). A write that is to be repeated finds the
 * same bytes again, as SSL_write(3) demands. Returns true if there may be more at once.
 */
static bool carry_answers(struct connection *c)
{
    ssize_t n;
    size_t written;

    if (!c->answers_ready)
        return false;
    n = recv(c->internal, buffer, sizeof(buffer), MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR)
        return true;
    c->greeted |= n > 0;
    c->answers_ready = n > c->forwarded;
    if (!c->answers_ready || !client_can_be_written(c)) {
        c->answers_are_over = c->internal_hung_up || n == 0 || (n < 0 && errno != EAGAIN);
        return false;
    }
    written = write_client(c, buffer + c->forwarded, (size_t)n - c->forwarded);
    c->forwarded = (uint16_t)(c->forwarded + written);
    consume(c);
    return written > 0 || c->client_is_deaf; /* then the next round ends it */
}

/* --- All of a session --- */

/* True if nothing is left to carry. */
static bool relay_is_over(const struct connection *c)
{
    if (c->answers_are_over)
        return true;
    return c->input == INPUT_TRUNCATED && !c->pending && c->greeted;
}

static void end_relay(struct connection *c)
{
    if (!client_can_be_written(c)) {
        end(c);
        return;
    }
    drop_pending(c);
    close_fd(&c->internal);
    c->state = CONNECTION_LINGER;
}

static bool drive_relay(struct connection *c, int epoll, bool *more)
{
    bool carried = true;

    for (unsigned round = 0; carried && round < TURN_ROUNDS; round++) {
        carried = carry_input(c, epoll);
        carried |= carry_answers(c);
        tell_end(c);
        if (relay_is_over(c)) {
            end_relay(c);
            return true;
        }
    }
    *more = carried;
    return false;
}

/* --- The end --- */

/* Returns true if close_notify is out, or cannot be sent. */
static bool send_close_notify(struct connection *c)
{
    int r;

    ERR_clear_error();
    r = UNINTERRUPTED(SSL_shutdown(c->ssl));
    return r >= 0 || SSL_get_error(c->ssl, r) != SSL_ERROR_WANT_WRITE;
}

/* What the client still sends is discarded: unread, it would have close(2) send a reset, which
 * can destroy what the client has yet to read. */
static bool drive_linger(struct connection *c, bool *more)
{
    ssize_t n = 0;

    if (!c->notified && !send_close_notify(c))
        return false;
    if (!c->notified)
        begin_linger(c);
    for (unsigned round = 0; round < TURN_ROUNDS; round++) {
        n = recv(c->client, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return false;
        if (n <= 0) {
            end(c);
            return true;
        }
    }
    *more = true;
    return false;
}

bool connection_drive(struct connection *c, int epoll)
{
    bool changed = true, more = false;

    while (changed)
        switch (c->state) {
        case CONNECTION_HANDSHAKE:
            changed = drive_handshake(c);
            break;
        case CONNECTION_CONNECT:
            changed = drive_connect(c, epoll);
            break;
        case CONNECTION_RELAY:
            changed = drive_relay(c, epoll, &more);
            break;
        case CONNECTION_LINGER:
            changed = drive_linger(c, &more);
            break;
        default:
            changed = false;
            break;
        }
    return more;
}

bool connection_is_quiet(const struct connection *c)
{
    int unsent = 0;

    return c->notified && ioctl(c->client, SIOCOUTQ, &unsent) == 0 && unsent == 0;
}
