/* SPDX-License-Identifier: MIT */
/*
 * Schedules the sessions of a worker: which one has a turn, when the batch is sent, which memory is
 * reclaimed, and when a session times out. It knows the table, the sink and one epoll descriptor,
 * and nothing of the event loop around it. The loop calls a scheduler_ function when something is
 * due, then waits for what scheduler_is_blocked(), scheduler_has_work() and scheduler_next_due()
 * ask for.
 */
#pragma once

#include "netd/session/table.h"
#include "netd/worker/deadlines.h"
#include "netd/worker/hint.h"

#include <stdbool.h>
#include <stdint.h>

/* Which epoll has a session's connection. */
enum watch { WATCH_NONE, WATCH_READ, WATCH_URGENT };

struct scheduler {
    struct table *table;
    struct sink sink;
    struct deadlines deadlines; /* of timeouts; see scheduler_arm() */
    uint64_t trimmed_usec;      /* when memory was trimmed last */
    bool trim_again;            /* the batch's text may need less memory by the next time */
    int epoll;                  /* of connections that are read */
    int urgent;               /* of those served also while the journal takes nothing: see below */
    uint32_t sessions;        /* of any state but free */
    uint32_t descriptors_max; /* that clients may take */
    int failed;               /* positive errno: the output has failed for good */
    bool stopping;            /* no new sessions; the others end once what had arrived is read */
    struct hints hints;
    uint64_t refusals_due; /* when refusals_report() has something to do, or UINT64_MAX */
};

/* Prepares *SCHED over TABLE, which is attached. Returns 0 or a negative errno. */
int scheduler_init(struct scheduler *sched, struct table *table, enum output output,
                   const char *journal_path);
void scheduler_deinit(struct scheduler *sched);

/* Finishes what the last worker left half written, before the table is recovered. Returns true when
 * all of it is out. */
bool scheduler_resume(struct scheduler *sched);

/* True while the journal has no room: then no client is read, and no connection accepted. */
bool scheduler_is_blocked(const struct scheduler *sched);

/*
 * Serves sessions that do not wait for the journal: RELP clients that have not opened their session
 * yet, because they give up when their open command gets no response, and those that have room for
 * answers again. Call it when scheduler.urgent is readable.
 */
void scheduler_serve_urgent(struct scheduler *sched);

/* Sends S what is due, if it goes on: for a RELP session of an earlier worker. */
void scheduler_continue_answers(struct scheduler *sched, struct session *s);

/* True when sessions wait for a turn: scheduler_run() is due. */
bool scheduler_has_work(const struct scheduler *sched);

/* Puts a bounded number of sessions that are ready at the end of the queue for a turn. */
void scheduler_find_ready(struct scheduler *sched);

/*
 * Gives a turn to each of a bounded number of sessions at the head of the queue. There is a single
 * queue: a session that had a turn, a new one, and one that has become ready are appended to it. So
 * none waits for more than one turn of each of the others, even when the journal is full after
 * every few turns.
 */
void scheduler_run(struct scheduler *sched);

/* Tries to send the batch again. */
void scheduler_retry(struct scheduler *sched);

/* Has epoll(7) watch the connection of S. Returns 0 or a negative errno. */
int scheduler_watch(struct scheduler *sched, struct session *s);

/* Closes the connection of S and frees its slot. */
void scheduler_close(struct scheduler *sched, struct session *s);

/* Finishes S, whose events are all logged: sends the receipt, then closes the connection, or lets
 * it linger until the client has read the receipt. */
void scheduler_finish(struct scheduler *sched, struct session *s);

/* Counts the refusal of S. One that is not to be logged has its end taken at once, as if the
 * journal had: S is ready for scheduler_finish(). */
void scheduler_limit_refusals(struct scheduler *sched, struct session *s);

/* Ends a round: sends the batch, and reclaims memory when it is short. */
void scheduler_finish_round(struct scheduler *sched);

/* While netd stops: limits S to what has arrived by now, or ends it when nothing has. */
void scheduler_begin_drain(struct session *s);

/* Schedules the next timeout of S. */
void scheduler_arm(struct scheduler *sched, const struct session *s);

/* Ends idle and lingering sessions, logs records that have been unfinished for too long, and gives
 * back memory, as of NOW (microseconds, CLOCK_MONOTONIC): a bounded number of sessions. */
void scheduler_tick(struct scheduler *sched, uint64_t now);

/* When scheduler_tick() has something to do next (microseconds, CLOCK_MONOTONIC), or UINT64_MAX. */
uint64_t scheduler_next_due(const struct scheduler *sched);

/* Starts ending all sessions, each as soon as everything that has arrived by now is read. */
void scheduler_stop(struct scheduler *sched);

/* Resets the sessions that could not be logged in time, so that no client takes them for logged.
 * Returns their number. */
uint32_t scheduler_abandon(struct scheduler *sched);
