/* SPDX-License-Identifier: MIT */
/* The sessions in the journal, according to their connect and disconnect events. */
#pragma once

#include "common/address.h"
#include "netd-client/session.h"

/* Buffer size of a text, including NUL. netd writes no longer ones; forged ones are truncated. */
#define LISTED_MAX      128
#define LISTED_NAME_MAX 65

struct session {
    char id[SESSION_ID_HEX + 1];
    bool has_connect;         /* has a connect event */
    bool ended;               /* has a disconnect event */
    enum session_state state; /* if not ended */
    uint64_t begin;           /* microseconds since the epoch; 0: unknown */
    uint64_t end;             /* likewise, if ended */
    struct totals totals;     /* if ended */
    char peer[LISTED_MAX], local[LISTED_MAX], reason[LISTED_MAX];
    char listener[LISTED_NAME_MAX]; /* "" if it has no name */
    char host[LISTED_NAME_MAX];     /* where netd runs; "": unknown */
};

struct list {
    struct session **sessions; /* by begin, newest last */
    size_t count, room;
    void *tree;     /* tsearch(3): all sessions seen, by ID */
    void *selected; /* those with a record that the options select, if they do that */
};

/* Collects the sessions selected by OPTIONS. Returns 0 or a negative errno. */
int list_collect(struct list *ret, struct reader *reader, const struct options *options);
void list_free(struct list *list);
