/* SPDX-License-Identifier: MIT */
/* How many open sessions each client address has: a hash table of the worker's own. */
#pragma once

#include "netd/session/table.h"

/* Allocates the counts of T, which are all zero, for its capacity. table_deinit() frees them.
 * Returns 0 or -ENOMEM. */
int address_count_init(struct table *t);

/* How many open sessions come from the address of E, at any listener. Counting in and out is by
 * session. */
uint32_t address_count_get(const struct table *t, const struct endpoint *e);
void address_count_add(struct table *t, struct session *s);
void address_count_remove(struct table *t, struct session *s);

/* True if E has as many sessions as it may have, at all listeners or at LISTENER. */
bool address_count_reached(const struct table *t, const struct endpoint *e, uint32_t listener);
