/* SPDX-License-Identifier: MIT */
/* The sessions in a journal, from their connect and disconnect events alone. */
#pragma once

#include "common/address.h"
#include "netd-client/session.h"

/* Bytes that are kept of a text, NUL included. netd writes none that is longer. */
#define LISTED_MAX 128

struct session {
    char id[SESSION_ID_HEX + 1];
    bool begun;           /* there is a connect event */
    bool ended;           /* there is a disconnect event */
    enum life life;       /* when not ended */
    uint64_t begin;       /* microseconds since the epoch; 0: not known */
    uint64_t end;         /* likewise, when ended */
    struct totals totals; /* when ended */
    char peer[LISTED_MAX], local[LISTED_MAX], reason[LISTED_MAX];
};

struct list {
    struct session **sessions; /* by their begin, newest last */
    size_t count, room;
    void *tree; /* tsearch(3): all that were seen, by id */
};

/* Collects the sessions that OPTIONS ask for. Returns 0 or a negative errno. */
int list_collect(struct list *ret, struct reader *reader, const struct options *options);
void list_free(struct list *list);
