/* SPDX-License-Identifier: MIT */
/*
 * netd-tls as the supervisor sees it: which settings it has, start, replacement at a reload,
 * restart (netd-tls/interface.h). What outlives the supervisor's program is in the table: a reload
 * keeps every netd-tls that still has sessions.
 *
 * A listener with TLS has two sockets in the table: clients connect to tls_fd, which only netd-tls
 * accepts from, and netd-tls connects to fd, an abstract unix socket, for each of them. So for the
 * worker a client with TLS is one whose connection begins with a PROXY header.
 */
#pragma once

#include "netd-tls/interface.h"
#include "netd/config/config.h"
#include "netd/session/table.h"

struct tls {
    uint64_t restart_usec; /* when the next one is due; 0: none is */
    unsigned crash_streak; /* that ended soon after their start */
    uint64_t since_usec;   /* of the last start */

    /* Of one that did not become ready: the exit status that netd would have for it, until the
     * caller sets it to 0, and why. */
    int failed;
    char failure[TLS_ERROR_MAX + 1];
};

/*
 * Has netd-tls load the certificates and keys of CONFIG, in a child; it may take seconds. Returns
 * 0, -EINVAL if one is not right, or another negative errno, with one line in ERROR.
 */
int tls_check(const struct config *config, char error[static CONFIG_ERROR_MAX]);

/* Makes the settings of the table's listeners, configured from CONFIG, those of the next netd-tls.
 * Returns 0 or a negative errno. */
int tls_configure(struct table *t, const struct config *config);

/* Starts a netd-tls, if a listener needs one. When it is ready the earlier ones accept no more. If
 * it cannot be started or does not become ready in time, tls->failed says so; another one is
 * started later unless an earlier one still accepts. */
void tls_start(struct tls *tls, struct table *t);

/* Takes notice of those that have become ready, ends one that has not in time, and starts one that
 * is due at NOW (microseconds, CLOCK_MONOTONIC). */
void tls_update(struct tls *tls, struct table *t, uint64_t now);

/* True while one is about to become ready. */
bool tls_is_starting(const struct table *t);

/* True if PID was a netd-tls, which ended with STATUS (waitpid(2)). */
bool tls_ended(struct tls *tls, struct table *t, pid_t pid, int status);

/* Has all of them accept no more and end with their last session; tls_is_running() then tells. */
void tls_stop(struct tls *tls, struct table *t);
bool tls_is_running(const struct table *t);

/* Ends those that still run. */
void tls_kill(struct table *t);
