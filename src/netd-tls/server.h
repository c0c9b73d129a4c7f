/* SPDX-License-Identifier: MIT */
/*
 * The loop of netd-tls: listeners, connections by their state, deadlines, the parent's commands.
 */
#pragma once

#include "netd-tls/connection.h"

struct connection_list {
    struct connection *first, *last;
    uint32_t count;
};

struct server {
    const struct tls_settings *settings;
    struct tls_counters *counters;
    struct tls_listener listeners[TLS_LISTENERS_MAX]; /* in the order of the settings */
    int epoll, control;                               /* control is the parent's; -1: none */

    /* By state. In those that have a deadline the next one is the first's. */
    struct connection_list lists[CONNECTION_STATES];
    struct connection *first_ready, *last_ready;

    bool accepting;        /* the listeners are watched */
    uint64_t pause_usec;   /* out of descriptors or memory: until when none is accepted */
    uint64_t connect_usec; /* when connecting to netd is tried again */
    uint64_t stop_usec;    /* when the stop was asked for; 0: not */
    bool draining, ended;

    uint64_t refusals_usec; /* the second of which refusals_reported is the number */
    uint32_t refusals_reported, refusals_omitted;
    uint64_t warned_usec; /* when the last warning about netd was logged */
};

/*
 * Loads the certificates of SETTINGS, which must outlive the server. Returns 0, or with one line in
 * ERROR and the listener's id in *FAULTY (-1: none in particular) -EINVAL or another negative
 * errno. With CHECK a certificate that has expired is an error. The server may be deinitialised in
 * any case.
 */
int server_load(struct server *s, const struct tls_settings *settings, bool check,
                char error[static TLS_ERROR_MAX + 1], int *faulty);

/* Begins to accept. COUNTERS and CONTROL stay the caller's. Returns 0 or a negative errno. */
int server_start(struct server *s, struct tls_counters *counters, int control);

/* Waits up to TIMEOUT_MS (-1: no limit) for something to do, and does it. Returns 0, or a negative
 * errno. */
int server_step(struct server *s, int timeout_ms);

/* True when all is over that a command wants to be over. */
bool server_is_done(const struct server *s);

void server_deinit(struct server *s);
