/* SPDX-License-Identifier: MIT */
/*
 * The sessions of a worker: whose turn it is, when the batch is sent, whose memory is taken back,
 * who ends. It knows the table, the journal and one epoll descriptor, and nothing of the event loop
 * around it: the loop calls a scheduler_ function when something is due, then looks at what is
 * asked for here (is_blocked, has_work) and waits for that.
 */
#pragma once

#include "netd/session/table.h"
#include "netd/worker/deadlines.h"

#include <stdbool.h>
#include <stdint.h>

struct scheduler {
    struct table *table;
    struct sink sink;
    struct deadlines deadlines; /* no earlier than when the session's timeouts are; see
                                   scheduler_arm() */
    uint64_t trimmed_usec;      /* when memory was trimmed last */
    bool trim_again;            /* the batch's text may need less memory by the next time */
    int epoll;                  /* of all connections */
    uint32_t sessions;          /* of any state but free */
    uint32_t descriptors_max;   /* that clients may take */
    int failed;                 /* the output is gone for good: a positive errno */
    bool stopping;              /* no new clients; the others end when what they had sent is read */
};

/* Prepares *SCHED over TABLE, which is attached. Returns 0 or a negative errno. */
int scheduler_init(struct scheduler *sched, struct table *table, enum output output,
                   const char *journal_path);
void scheduler_deinit(struct scheduler *sched);

/* Finishes what the last worker left half written, before the table is recovered. Returns true when
 * all of it is out. */
bool scheduler_resume(struct scheduler *sched);

/* True while the journal has no room: then nobody is read and nobody accepted. */
bool scheduler_is_blocked(const struct scheduler *sched);

/* True when sessions wait for a turn: scheduler_run() is due. */
bool scheduler_has_work(const struct scheduler *sched);

/* Puts who is ready, a bounded number, at the end of the queue for a turn. */
void scheduler_find_ready(struct scheduler *sched);

/*
 * A turn for each of the first in the queue, a bounded number. There is one queue for all, in which
 * who had a turn, who is new and who has become ready stand at the end: so nobody waits for more
 * than a turn of each of the others, also when the journal is full after every few of them.
 */
void scheduler_run(struct scheduler *sched);

/* Tries to send the batch again. */
void scheduler_retry(struct scheduler *sched);

/* Has the scheduler's epoll watch the connection of S. Returns 0 or a negative errno. */
int scheduler_watch(struct scheduler *sched, struct session *s);

/* Closes the connection of S and frees its slot. */
void scheduler_close(struct scheduler *sched, struct session *s);

/* Ends S for good: all its events are logged, so the client gets its receipt. S is closed, or
 * lingers until the client has read that. */
void scheduler_finish(struct scheduler *sched, struct session *s);

/* What every round ends with: sends the batch, and takes memory back where it is short. */
void scheduler_finish_round(struct scheduler *sched);

/* While netd stops: limits S to what its client has sent by now, or ends it where that is nothing.
 */
void scheduler_begin_drain(struct session *s);

/* Has S looked at when its timeouts are due. */
void scheduler_arm(struct scheduler *sched, const struct session *s);

/* Ends idle and lingering sessions, logs records that have been unfinished for too long, and gives
 * back memory, as of NOW (microseconds, CLOCK_MONOTONIC): a bounded number of sessions. */
void scheduler_tick(struct scheduler *sched, uint64_t now);

/* When scheduler_tick() has something to do next (microseconds, CLOCK_MONOTONIC), or UINT64_MAX. */
uint64_t scheduler_next_due(const struct scheduler *sched);

/* Begins to end all sessions, each as soon as what its client had sent by now is read. */
void scheduler_stop(struct scheduler *sched);

/* Resets the sessions that could not be logged in time, so that nobody takes them for logged.
 * Returns how many they were. */
uint32_t scheduler_abandon(struct scheduler *sched);
