/* SPDX-License-Identifier: MIT */
/*
 * Listening sockets, bound from the configuration or passed by systemd, and accept(2). They are in
 * the table, so that they outlive the process that opened them.
 */
#pragma once

#include "netd/config/config.h"
#include "netd/session/table.h"

/* Size of an error line about a listener. */
#define LISTENER_ERROR_MAX (PATH_MAX + 512)

/* Addresses that one name may have; further ones are ignored. */
#define ENDPOINTS_MAX 16

/* The resolved address of one listener of the configuration. */
struct listener_endpoints {
    uint32_t count;
    struct endpoint at[ENDPOINTS_MAX]; /* AF_INET or AF_INET6 */
};

/*
 * Resolves the address of CONFIG, which may take minutes; a path has no endpoints. With NUMERIC
 * names are not resolved, and have no endpoints. Returns 0, or with one line in ERROR -EINVAL if
 * the name does not exist, or -EAGAIN if it cannot be resolved for the moment.
 */
int listener_resolve(const struct listener_config *config, bool numeric,
                     struct listener_endpoints *ret, char error[static LISTENER_ERROR_MAX]);

/*
 * Makes the listeners of the COUNT CONFIGS, each at its ENDPOINTS or its path and with its RULES,
 * and then marks the other ones as closing; one whose address stays keeps its socket and gets the
 * new settings. A passed socket has the settings of the listener that has its name, else of the
 * first, whose address is then not used. Of several endpoints of a listener at least one must be
 * bound. There must be no worker. Returns 0, or a negative errno with one line in ERROR and nothing
 * changed.
 */
int listeners_configure(struct table *t, const struct listener_config *configs,
                        const struct access_rule *rules, const struct listener_endpoints *endpoints,
                        uint32_t count, char error[static LISTENER_ERROR_MAX]);

/*
 * Adopts COUNT sockets from descriptor FIRST on that the service manager passed under NAMES (NULL
 * if there are none); listeners_configure() gives them settings. Returns 0, or a negative errno
 * with one line in ERROR if one of them is not a listening TCP or unix stream socket.
 */
int listeners_adopt(struct table *t, int first, int count, char *const *names,
                    char error[static LISTENER_ERROR_MAX]);

/* The one of the COUNT CONFIGS whose settings the passed socket L has. */
const struct listener_config *listener_config_of(const struct table_listener *l,
                                                 const struct listener_config *configs,
                                                 uint32_t count);

/* Removes the files of our own unix sockets, when netd stops. */
void listeners_remove_files(const struct table *t);

/* True if L has the path of CONFIG, or one of ENDPOINTS, its addresses. */
bool listener_matches(const struct table_listener *l, const struct listener_config *config,
                      const struct listener_endpoints *endpoints);

/* Formats the address of L. */
void listener_format(const struct table_listener *l, char ret[static 128]);

/*
 * Has the kernel ignore connections that begin from now on at L, a TCP socket that is to be closed,
 * while those that it has answered still complete and can be accepted; so that close() resets none
 * that was established. It is done with the least time to live of packets to the listening socket
 * itself (IP_MINTTL, ip(7)): a packet has 255 at the start at most, and one that completes a
 * connection is not asked for it. A filter would do the same and is for root. A client that is
 * ignored asks again after a second (RFC 6298), by when L may be closed.
 */
void listener_drop_new(const struct table_listener *l);

/*
 * Accepts one connection, non-blocking and without close-on-exec (a reload hands it over). CALL is
 * where the kernel writes the peer's address, for unclaimed_collect(). Returns its descriptor, or
 *   -EAGAIN        none is waiting
 *   -ECONNABORTED  one was there and went away, or the network under it did: try the next
 *   -EMFILE        out of descriptors or memory: the listener stays readable, so wait a while
 * or another negative errno: an error of our own.
 */
int listener_accept(const struct table_listener *l, struct table_accept *call,
                    struct endpoint *peer);
