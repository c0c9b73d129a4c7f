/* SPDX-License-Identifier: MIT */
/*
 * All clients of a worker: who is admitted, whose turn it is, when the batch is sent, whose memory
 * is taken back, who ends. It knows the table, the journal and one epoll descriptor, and nothing of
 * the event loop around it: the loop calls a clients_ function when something is due, then looks at
 * what is asked for here (is_held, retry, accepting) and waits for that.
 */
#pragma once

#include "netd/worker/unclaimed.h"

#include <stdbool.h>
#include <stdint.h>

struct clients {
    struct table *table;
    struct journal journal;
    int epoll;                /* of all connections */
    uint32_t sessions;        /* of any state but free */
    uint32_t descriptors_max; /* that clients may take */
    int failed;               /* the output is gone for good: a positive errno */
    bool stopping;            /* no new clients; the others end when what they had sent is read */
};

/* Prepares *C over TABLE, which is attached and recovered. Returns 0 or a negative errno. */
int clients_init(struct clients *c, struct table *table, enum output output,
                 const char *journal_path);
void clients_deinit(struct clients *c);

/* Goes on with the sessions in the table, and admits ORPHANS. */
void clients_adopt(struct clients *c, const struct orphans *orphans);

/* True while the journal has no room: then nobody is read and nobody accepted. */
bool clients_is_held(const struct clients *c);

/* True when sessions wait for a turn: clients_run() is due. */
bool clients_have_work(const struct clients *c);

/* Puts who is ready, a bounded number, at the end of the queue for a turn. */
void clients_find_ready(struct clients *c);

/*
 * A turn for each of the first in the queue, a bounded number. There is one queue for all, in which
 * who had a turn, who is new and who has become ready stand at the end: so nobody waits for more
 * than a turn of each of the others, also when the journal is full after every few of them.
 */
void clients_run(struct clients *c);

/* Tries to send the batch again. */
void clients_retry(struct clients *c);

/*
 * Accepts up to MOST connections of listener number LISTENER, who wait for a turn then. Returns 0,
 * or -EMFILE when descriptors (but for those that netd needs itself) or memory ran out and the loop
 * should leave the listener alone for a while.
 */
int clients_accept(struct clients *c, uint32_t listener, unsigned most);

/* Ends idle and lingering sessions and gives back memory, as of NOW (microseconds,
 * CLOCK_MONOTONIC). */
void clients_tick(struct clients *c, uint64_t now);

/* Begins to end all sessions, each as soon as what its client had sent by now is read. */
void clients_stop(struct clients *c);

/* Resets the sessions that could not be logged in time, so that nobody takes them for logged.
 * Returns how many they were. */
uint32_t clients_abandon(struct clients *c);
