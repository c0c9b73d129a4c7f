/* SPDX-License-Identifier: MIT */
/*
 * Clients and netd do anything in any order, as the bytes of an input say, and at the end
 *
 *   - netd has a beginning of what the client sent, and an end of file only if that is all of it,
 *     close_notify included, else ECONNRESET;
 *   - everything that a client sent before an orderly end of its connection has arrived;
 *   - the client has a beginning of netd's answers, and close_notify only behind all of them.
 */
#pragma once

#include "tls.h"

#define ACTORS 3

struct actor {
    int fd; /* -1: closed, or never opened */
    SSL *ssl;
    uint16_t port;
    uint8_t wire[1 << 16]; /* of the client's TLS, not sent yet */
    size_t wire_length;
    uint64_t wire_made, wire_sent;       /* bytes since the beginning */
    uint64_t plain_made, plain_complete; /* sent completely: as the wire's position says */
    uint64_t plain_positions[64];        /* where the last writes end on the wire, and their ends */
    uint64_t plain_ends[64];
    unsigned writes;
    uint64_t notify_position; /* where close_notify ends on the wire; 0: not made */
    bool reset, failed;       /* the client reset its connection; its TLS has failed */
    bool notified;            /* it has read netd-tls' close_notify */
    uint64_t answers_read;

    struct session session; /* netd's, fd -1: none */
    bool greeted, closed;   /* by netd */
    uint64_t received, answers_made;
};

struct actors {
    struct world *world;
    struct actor at[ACTORS];
    struct session waiting[ACTORS]; /* accepted, and without a header so far */
    const uint8_t *input;
    size_t length;
};

static inline uint8_t actors_next(struct actors *a)
{
    if (a->length == 0)
        return 0;
    a->length--;
    return *a->input++;
}

static inline size_t actors_size(struct actors *a)
{
    const uint8_t n = actors_next(a);

    return n < 192 ? 1U + n : 1U << (n % 15);
}

/* --- A client --- */

static inline void actor_open(struct actors *a, struct actor *c)
{
    struct sockaddr_in sin;
    socklen_t length = sizeof(sin);

    if (c->port)
        return;
    c->fd = client_connect(a->world);
    CHECK(getsockname(c->fd, (struct sockaddr *)&sin, &length) == 0);
    c->port = ntohs(sin.sin_port);
    c->ssl = SSL_new(a->world->client);
    SSL_set_bio(c->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(c->ssl), -1);
    SSL_set_connect_state(c->ssl);
}

/* Takes what TLS has made. */
static inline void actor_collect(struct actor *c)
{
    int n = BIO_read(SSL_get_wbio(c->ssl), c->wire + c->wire_length,
                     (int)(sizeof(c->wire) - c->wire_length));

    if (n <= 0)
        return;
    c->wire_length += (size_t)n;
    c->wire_made += (size_t)n;
}

static inline void actor_send(struct actor *c, size_t size)
{
    ssize_t n = 0;

    if (c->fd < 0)
        return;
    actor_collect(c);
    if (c->wire_length > 0)
        n = send(c->fd, c->wire, min_size(size, c->wire_length), MSG_NOSIGNAL);
    if (n <= 0)
        return;
    c->wire_length -= (size_t)n;
    c->wire_sent += (size_t)n;
    memmove(c->wire, c->wire + n, c->wire_length);
    for (unsigned i = 0; i < c->writes; i++)
        if (c->plain_positions[i] <= c->wire_sent && c->plain_ends[i] > c->plain_complete)
            c->plain_complete = c->plain_ends[i];
}

static inline uint8_t actor_byte(uint64_t n)
{
    return (uint8_t)(n * 2654435761U >> 13);
}

static inline void actor_read(struct actor *c, size_t size)
{
    static uint8_t buffer[1 << 15];
    ssize_t n;
    int r;

    if (c->fd < 0)
        return;
    n = recv(c->fd, buffer, min_size(size, sizeof(buffer)), MSG_DONTWAIT);
    if (n > 0)
        CHECK(BIO_write(SSL_get_rbio(c->ssl), buffer, (int)n) == n);
    ERR_clear_error();
    r = SSL_read(c->ssl, buffer, (int)min_size(size, sizeof(buffer)));
    for (int i = 0; i < r; i++)
        CHECK(buffer[i] == actor_byte(c->answers_read + (unsigned)i));
    c->answers_read += r > 0 ? (unsigned)r : 0;
    if (r <= 0) {
        int e = SSL_get_error(c->ssl, r);

        c->notified |= e == SSL_ERROR_ZERO_RETURN;
        c->failed |= e == SSL_ERROR_SSL;
    }
    CHECK(c->answers_read <= c->answers_made);
    CHECK(!c->notified || c->answers_read == c->answers_made);
    actor_collect(c);
}

static inline bool actor_can_write(const struct actor *c)
{
    return c->fd >= 0 && SSL_is_init_finished(c->ssl) && c->notify_position == 0 && !c->failed &&
           c->writes < ARRAY_SIZE(c->plain_ends) && c->wire_length < sizeof(c->wire) / 2;
}

static inline void actor_write(struct actor *c, size_t size)
{
    static uint8_t buffer[1 << 14];
    size_t n;

    if (!actor_can_write(c))
        return;
    size = min_size(size, sizeof(buffer));
    for (size_t i = 0; i < size; i++)
        buffer[i] = actor_byte(c->plain_made + i);
    ERR_clear_error();
    if (SSL_write_ex(c->ssl, buffer, size, &n) != 1)
        return;
    c->plain_made += n;
    actor_collect(c);
    c->plain_positions[c->writes] = c->wire_made;
    c->plain_ends[c->writes++] = c->plain_made;
}

static inline void actor_notify(struct actor *c)
{
    if (!actor_can_write(c))
        return;
    ERR_clear_error();
    (void)SSL_shutdown(c->ssl);
    actor_collect(c);
    c->notify_position = c->wire_made;
}

static inline void actor_close(struct actor *c, bool reset)
{
    const struct linger linger = {1, 0};
    int unread;
    char byte;

    if (c->fd < 0)
        return;
    unread = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0; /* then close(2) resets, too */
    c->reset |= reset || unread;
    if (reset)
        CHECK(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
    close_fd(&c->fd);
}

static inline bool actor_has_ended_well(const struct actor *c)
{
    return c->notify_position > 0 && c->wire_sent >= c->notify_position;
}

/* --- netd --- */

static inline struct actor *actors_find(struct actors *a, uint16_t port)
{
    for (unsigned i = 0; i < ACTORS; i++)
        if (a->at[i].port == port)
            return &a->at[i];
    return NULL;
}

/* Which client it is says the header. */
static inline void actors_identify(struct actors *a, struct session *s)
{
    struct actor *c;

    if (s->fd < 0)
        return;
    (void)session_read(s, 4096);
    CHECK(s->end == 0 || s->header.length > 0);
    if (s->header.length == 0)
        return;
    c = actors_find(a, s->header.source.port);
    CHECK(c && c->session.fd < 0 && !c->closed);
    c->session = *s;
    c->greeted = true;
    s->fd = -1;
}

static inline void actors_accept(struct actors *a)
{
    for (unsigned i = 0; i < ACTORS; i++) {
        if (a->waiting[i].fd < 0 && session_accept(a->world, &a->waiting[i]))
            session_greet(&a->waiting[i]);
        actors_identify(a, &a->waiting[i]);
    }
}

static inline void actor_check_received(struct actor *c)
{
    for (size_t i = 0; i < c->session.length; i++)
        CHECK(c->session.data[i] == actor_byte(c->received + i));
    c->received += c->session.length;
    c->session.length = 0;
    CHECK(c->received <= c->plain_made);
    if (c->session.end == 1)
        CHECK(actor_has_ended_well(c) && c->received == c->plain_made);
    else if (c->session.end != 0)
        CHECK(c->session.end == -ECONNRESET);
}

static inline void actor_receive(struct actor *c, size_t size)
{
    if (c->session.fd < 0)
        return;
    (void)session_read(&c->session, size);
    actor_check_received(c);
}

static inline void actor_answer(struct actor *c, size_t size)
{
    static uint8_t buffer[1 << 14];
    ssize_t n;

    if (c->session.fd < 0)
        return;
    size = min_size(size, sizeof(buffer));
    for (size_t i = 0; i < size; i++)
        buffer[i] = actor_byte(c->answers_made + i);
    n = send(c->session.fd, buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    c->answers_made += n > 0 ? (size_t)n : 0;
}

static inline void actor_hang_up(struct actor *c)
{
    if (c->session.fd < 0)
        return;
    session_close(&c->session);
    c->closed = true;
}

/* --- All of it --- */

static inline void actors_step(struct actors *a)
{
    CHECK(server_step(&a->world->server, 0) == 0);
}

static inline void actors_act(struct actors *a)
{
    const uint8_t what = actors_next(a);
    struct actor *c = &a->at[what % ACTORS];

    actor_open(a, c);
    switch (what / ACTORS % 16) {
    case 0:
    case 1:
        actor_write(c, actors_size(a));
        break;
    case 2:
        actor_send(c, actors_size(a));
        break;
    case 3:
        actor_send(c, SIZE_MAX);
        break;
    case 4:
        actor_read(c, actors_size(a));
        break;
    case 5:
        actor_receive(c, actors_size(a));
        break;
    case 6:
        actor_answer(c, actors_size(a));
        break;
    case 7:
        actor_notify(c);
        break;
    case 8:
        actor_close(c, false);
        break;
    case 9:
        actor_close(c, true);
        break;
    case 10:
        actor_hang_up(c);
        break;
    case 11:
        actors_accept(a);
        break;
    case 12: /* a whole handshake */
        for (unsigned i = 0; i < 3; i++) {
            actor_read(c, SIZE_MAX);
            actor_send(c, SIZE_MAX);
            actors_step(a);
        }
        break;
    default:
        actors_step(a);
        break;
    }
}

/* A client that can still hear sends the rest of an orderly end, and reads until close_notify; the
 * others close. netd reads everything, and hangs up. True when all is over. */
static inline bool actor_finish(struct actor *c)
{
    if (c->notify_position > 0 && !c->failed && !c->notified && c->fd >= 0) {
        actor_send(c, SIZE_MAX);
        actor_read(c, SIZE_MAX);
    } else {
        actor_close(c, false);
    }
    actor_receive(c, 1 << 20);
    if (c->session.end != 0)
        actor_hang_up(c);
    return c->fd < 0 && c->session.fd < 0;
}

static inline void actor_check_end(const struct actor *c, int end)
{
    if (end == 0 || c->closed)
        return;
    if (actor_has_ended_well(c) && !c->reset)
        CHECK(end == 1);
    if (!c->reset)
        CHECK(c->received >= c->plain_complete);
}

static inline bool actors_are_over(struct actors *a)
{
    bool over = true;

    actors_accept(a);
    for (unsigned i = 0; i < ACTORS; i++) {
        struct actor *c = &a->at[i];

        actor_receive(c, 1 << 20);
        actor_check_end(c, c->session.end);
        over &= actor_finish(c);
        over &= a->waiting[i].fd < 0;
    }
    return over && connections(a->world) == 0;
}

/* Acts as the LENGTH bytes of INPUT say, in WORLD, which has no connections before and after. */
static inline void actors_run(struct world *world, const uint8_t *input, size_t length)
{
    static struct actors a;

    a = (struct actors){.world = world, .input = input, .length = length};
    for (unsigned i = 0; i < ACTORS; i++)
        a.at[i].fd = a.at[i].session.fd = a.waiting[i].fd = -1;
    while (a.length > 0)
        actors_act(&a);
    UNTIL(world, actors_are_over(&a));
    for (unsigned i = 0; i < ACTORS; i++)
        SSL_free(a.at[i].ssl);
}
