/* SPDX-License-Identifier: MIT */
/*
 * The session table: all sessions, the state around them, and the regions with their bytes, in two
 * memfds. Plain data, fixed size, numbers instead of pointers: a process that maps the table knows
 * everything about every session. That makes crash recovery, reload and upgrade the same code,
 * recovery_run().
 *
 * The first memfd holds struct table_header and the sessions, the second their regions. Unused
 * pages take no memory. Nothing is allocated after table_attach().
 */
#pragma once

#include "common/access.h"
#include "netd-tls/interface.h"
#include "netd/session/counters.h"
#include "netd/session/session.h"

#include <stdbool.h>
#include <stdint.h>

#define TABLE_MAGIC                                                               \
    UINT64_C(0x4c42415444545445) /* "ETDTABL" backwards, with room for the layout \
                                  */

/* Those of the configuration, and as many that it gave up but sessions still name. */
#define LISTENERS_MAX 128
_Static_assert(LISTENERS_MAX == 2 * CONFIG_LISTENERS_MAX, "listeners have no room");
#define NO_LISTENER UINT32_MAX

/* Ended and refused sessions whose clients still have their answer to read, above sessions.max. */
#define TABLE_LINGERING 256

/* What the supervisor tells the worker to do. */
enum table_command {
    COMMAND_RUN,
    COMMAND_YIELD, /* finish the batch and exit; another one goes on */
    COMMAND_STOP,  /* end all sessions and exit */
};

/* Which file the path of a unix socket is, to tell it from another one there. */
struct unix_socket_file {
    uint64_t device, inode;
};

/* Compiled access rules. */
struct table_rules {
    struct access access;
    int32_t fd; /* memfd with the ranges, if there are any */
};

/* Connections that a listener refused, see refusals.h. */
struct table_refusals {
    uint64_t arrival_usec; /* of those that were logged, see ratelimit.h */
    uint64_t suppressed;   /* others that no warning has counted yet */
    uint64_t report_usec;  /* when one is to count them */
};

/* A listening socket. Its number stays as long as a session names it. */
struct table_listener {
    int32_t fd;       /* -1: closed, or never used; with TLS the internal one, see tls.h */
    int32_t tls_fd;   /* with TLS the one that clients connect to; else 0 */
    uint32_t closing; /* the worker drains and closes it */
    uint32_t passed;  /* by systemd: not ours to open, close or compare with the settings */
    struct endpoint requested; /* as configured; port 0 asks for a free one */
    struct endpoint bound;     /* as the kernel has it */
    char path[108]; /* of an AF_UNIX socket, "@" in front of an abstract name, else empty */
    struct unix_socket_file file;            /* of a path that is ours */
    char passed_name[LISTENER_NAME_MAX + 1]; /* that systemd gave a passed socket */
    struct table_rules rules;
    struct table_refusals refusals;
    struct listener_settings settings;
    uint32_t counters; /* number of those of its name */
};

/* The call of accept4(2) in progress. The kernel stores the peer's address here before it makes the
 * descriptor, so that a connection that was accepted just before the worker died can be told from
 * all other sockets of the process. */
struct table_accept {
    uint32_t listener; /* NO_LISTENER: all accepted connections are in a session */
    socklen_t length;
    struct sockaddr_storage peer;
};

/* A netd-tls, see tls.h. */
enum tls_state {
    TLS_STARTING, /* has not said yet whether it is ready */
    TLS_SERVING,
    TLS_DRAINING, /* a later one is ready: it ends with its last session */
};

struct tls_process {
    int32_t pid; /* 0: none */
    int32_t control;
    uint32_t state; /* enum tls_state */
};

/* Those that may serve at the same time: each reload adds one. */
#define TLS_PROCESSES_MAX 32

struct table_tls {
    int32_t settings_fd; /* memfds, 0: none */
    int32_t counters_fd; /* struct tls_counters, by the number of struct counters */
    struct tls_process processes[TLS_PROCESSES_MAX];
};

struct table_header {
    uint64_t magic;
    uint32_t layout;
    uint32_t capacity; /* sessions in the table */
    uint32_t used;     /* numbers from here on were never used */

    /* Between supervisor and worker. */
    uint32_t command;   /* enum table_command */
    uint32_t ready;     /* the worker has adopted everything */
    uint32_t crashed;   /* the last worker ended by its own fault */
    uint64_t ping;      /* incremented when the supervisor asks whether the worker's loop runs */
    uint64_t heartbeat; /* the last one that was answered */

    /* For STATUS=. While the supervisor is idle, the first change of it is to wake it. */
    uint32_t supervisor_idle;
    uint32_t open;         /* sessions going on */
    int32_t blocked_errno; /* 0, or the errno why the journal takes nothing */
    uint64_t activity;     /* changes with every counter */

    /* What the worker is doing, for the next one. */
    uint32_t working; /* the session being worked on, or NO_SESSION */
    struct transfer receive, answer, greeting;
    struct table_accept accept;
    struct batch batch;
    struct retirement retirement;
    struct totals retired[COUNTERS_MAX]; /* what slots that are free now have counted */

    struct table_tls tls;
    uint32_t output;                  /* enum output, decided */
    struct service_settings settings; /* in force */
    struct table_listener listeners[LISTENERS_MAX];

    /* For metrics. */
    struct counters counters[COUNTERS_MAX];
    uint64_t started_usec; /* CLOCK_REALTIME: since when everything is counted */
    uint64_t worker_starts;
    uint64_t buffer_bytes; /* that regions take */
    uint64_t wait_clock;   /* see counters_waited() */
};

/* The numbers of pages, of the smallest size, that a window may have: from 0. */
#define RESIDENT_PAGE   ((size_t)4096)
#define RESIDENT_COUNTS (WINDOW_SIZE / RESIDENT_PAGE + 1)

struct table_list {
    uint32_t first, last, count;
};

struct address_count;

struct mapped_rules {
    const struct access_range *ranges; /* NULL: no rules */
    struct access access;
};

struct table {
    int header_fd, regions_fd;
    struct table_header *header;
    struct session *sessions;
    uint32_t capacity;  /* sessions mapped: the header may say anything */
    size_t header_size; /* bytes mapped */

    /* The worker's own. */
    uint8_t *regions;
    size_t regions_size; /* bytes mapped */
    struct table_list lists[LISTS];
    uint32_t free; /* first of the free numbers below header->used, chained by LIST_RUN's link */
    uint64_t resident_bytes;               /* bytes of all regions that have pages */
    uint32_t resident[RESIDENT_COUNTS];    /* first session with that many pages, free or not */
    uint32_t listener_open[LISTENERS_MAX]; /* open sessions of each listener */
    struct mapped_rules rules[LISTENERS_MAX];
    struct address_count *addresses;
    uint32_t *buckets;
    uint32_t bucket_mask;
};

/*
 * A number that differs between programs with different definitions of the structs and enumerations
 * above, or of what they consist of (layout.awk). A program uses only tables of its own layout. A
 * member whose meaning changes gets another name.
 */
int32_t table_layout(void);

/* Makes an empty table for CAPACITY sessions in new memfds. Returns 0 or a negative errno. */
int table_create(struct table *ret, uint32_t capacity);

/*
 * Opens the table in HEADER_FD and REGIONS_FD, which it owns on success. Returns 0,
 * -EPROTONOSUPPORT if it has another layout or is not a table at all, or another negative errno.
 */
int table_open(struct table *ret, int header_fd, int regions_fd);

/* Makes room for CAPACITY sessions; a table never shrinks. Returns 0 or a negative errno. */
int table_grow(struct table *t, uint32_t capacity);

/* Unmaps and closes; NULL-safe for what was not made. */
void table_deinit(struct table *t);

/*
 * Locks the part of the table to which the kernel writes results: a process that is being killed
 * cannot wait for a page from swap. For the calling process only, see mlock(2). Returns 0 or a
 * negative errno.
 */
int table_lock(const struct table *t);

/* Maps the regions and allocates the worker's own part. Returns 0 or a negative errno. */
int table_attach(struct table *t);

/* A session's number, and its region. */
static inline uint32_t table_number(const struct table *t, const struct session *s)
{
    return (uint32_t)(s - t->sessions);
}

static inline uint8_t *table_region(const struct table *t, const struct session *s)
{
    return t->regions + (size_t)table_number(t, s) * REGION_SIZE;
}

/* True when there is a free session. */
bool table_has_room(const struct table *t);

/* Allocates a free session: zeroed, not published yet, with the pages that its region still has.
 * Returns NULL if there is none. */
struct session *table_take(struct table *t);

/* Makes a session that the caller has filled in visible to other processes. */
void table_publish(struct session *s, enum session_state state);

/* Frees the session and its list memberships but for LIST_TRIM: pages of its region stay until they
 * are trimmed, or the next session reuses them. Its descriptor is the caller's. */
void table_free(struct table *t, struct session *s);

/* Lists: appending a member moves it to the end; removing one that is not a member does nothing. */
void table_list_append(struct table *t, enum session_list list, struct session *s);
void table_list_remove(struct table *t, enum session_list list, struct session *s);
bool table_list_has(const struct session *s, enum session_list list);
struct session *table_list_first(const struct table *t, enum session_list list);

/* Counts the pages that the window reaches to; call it after each receive. */
void table_note_resident(struct table *t, struct session *s);

/* Counts all pages of the window, because a dead worker may have used any. S is in no list yet. */
void table_assume_resident(struct table *t, struct session *s);

/* Releases the pages that the session does not need for its unfinished record. */
void table_trim(struct table *t, struct session *s);

/* Releases the page of the PROXY header that S keeps. Such pages are not counted: each session has
 * at most one. */
void table_release_header(struct table *t, const struct session *s);

/* The open session with the most pages that has an unfinished record and no whole one waiting for
 * its turn, or NULL. Only sessions with at least as many pages are examined. */
struct session *table_largest(const struct table *t);

/* Accounts for the entries of the batch that were taken. */
void table_commit(struct table *t);
