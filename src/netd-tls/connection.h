/* SPDX-License-Identifier: MIT */
/*
 * One client: the handshake, then its bytes to netd and netd's answers back, then the end. All that
 * it holds in memory is at most one read of each direction that the other side did not take yet
 * (CONNECTION_BUFFER, and OpenSSL's own record): the rest stays in the kernel, so that a side that
 * is slow makes the other one wait.
 *
 * The descriptors are watched edge-triggered. connection_drive() therefore goes on until nothing
 * more can be done, or a turn is used up.
 */
#pragma once

#include "common/address.h"
#include "netd-tls/context.h"
#include "netd-tls/interface.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Set in the pointer that epoll returns for the internal descriptor. */
#define CONNECTION_TAG_INTERNAL 1

/* Bytes carried at once: the plain text of one TLS record. */
#define CONNECTION_BUFFER 16384

struct tls_listener {
    const struct tls_listener_settings *settings;
    struct context context;
    int fd; /* -1: closed */
};

enum connection_state {
    CONNECTION_HANDSHAKE,
    CONNECTION_CONNECT, /* the queue of netd's internal listener is full: to be tried again */
    CONNECTION_RELAY,
    CONNECTION_LINGER, /* the last bytes to the client are out, or nearly; its end is awaited */
    CONNECTION_ENDED,  /* all descriptors are closed */
    CONNECTION_STATES,
};

/* How far the client's stream has been read. */
enum connection_input {
    INPUT_OPEN,
    INPUT_FINISHED,  /* close_notify has come */
    INPUT_TRUNCATED, /* it ended without */
};

struct connection {
    struct connection *previous, *next; /* in the server's list of the state */
    struct connection *next_ready;
    bool is_ready; /* in the server's queue of those to be driven */

    const struct tls_listener *listener;
    struct endpoint peer, local;
    enum connection_state state;
    uint64_t deadline_usec; /* of the state, CLOCK_MONOTONIC */
    int client, internal;   /* -1: closed */
    SSL *ssl;

    enum tls_result result; /* of the handshake */
    const char *refusal;    /* why it failed, for the event; NULL: not worth one */
    int connect_errno;      /* why netd could not be reached, or 0 */

    enum connection_input input;
    uint32_t key_updates;  /* KeyUpdate messages since the last data */
    bool client_is_deaf;   /* nothing more can be written to the client */
    bool internal_is_deaf; /* nothing more can be written to netd */
    bool internal_hung_up; /* netd writes no more; to be set from EPOLLRDHUP */
    bool wants_room;       /* the internal descriptor is watched for room to write */
    bool answers_ready;    /* netd may have written; to be set from events of its descriptor */
    bool greeted;          /* netd's greeting has arrived */
    bool answers_are_over; /* netd has hung up, and the client has all that it can get */
    bool end_is_told;      /* netd has read, or can read, the end of file */
    bool notified;         /* close_notify is out */

    /* Bytes at the front of netd's answers that the client has already. One of them stays unread
     * until the end of its stream is known to be a true one. The first of all is the greeting. */
    uint16_t forwarded;

    uint8_t *pending; /* bytes that netd does not take yet, on the heap, or NULL */
    uint32_t pending_length, pending_sent;
};

/*
 * Takes over CLIENT, an accepted connection, and watches it in EPOLL. Returns the connection, on
 * the heap, or NULL if out of memory or buffers, with CLIENT closed.
 */
struct connection *connection_new(const struct tls_listener *listener, int epoll, int client,
                                  const struct endpoint *peer);

/*
 * Does all that can be done now. The state may be another one afterwards. Returns true if there is
 * more to do at once, and it is only the others' turn.
 */
bool connection_drive(struct connection *c, int epoll);

/* Ends C at once. If its handshake was not complete, RESULT and REFUSAL say why. */
void connection_abort(struct connection *c, enum tls_result result, const char *refusal);

/* True if C has nothing left to send or receive: it need not linger when netd stops. */
bool connection_is_quiet(const struct connection *c);

/* Frees C, and closes what is open. */
void connection_free(struct connection *c);

/* Makes a non-blocking connection to the internal listener. Returns its descriptor, or a negative
 * errno; -EAGAIN: its queue is full. */
int connection_open_internal(const struct tls_listener_settings *listener);
