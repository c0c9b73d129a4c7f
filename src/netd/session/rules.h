/* SPDX-License-Identifier: MIT */
/*
 * The access rules of listeners, compiled, in a memfd for each listener that has any: they outlive
 * the process that read them from the configuration, and the worker only reads them.
 */
#pragma once

#include "netd/session/table.h"

/* Compiles the COUNT RULES, of which none contradicts another. Returns 0 with *RET to be given to
 * rules_close(), or a negative errno. */
int rules_make(struct table_rules *ret, const struct access_rule *rules, size_t count);

/* Closes what rules_make() made, if anything, and forgets it. */
void rules_close(struct table_rules *rules);

/* For the worker: maps the rules of T's listeners, until table_deinit(). Returns 0, -EUCLEAN if
 * what the table says of them cannot be, or another negative errno. */
int rules_map(struct table *t);
void rules_unmap(struct table *t);

/* True if PEER may connect to LISTENER. */
bool rules_allow(const struct table *t, uint32_t listener, const struct endpoint *peer);
