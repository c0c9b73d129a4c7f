/* SPDX-License-Identifier: MIT */
/*
 * The connection to netd, plain or with TLS. All functions return at once: -EAGAIN means to wait
 * until the descriptor is ready for connection_events().
 */
#pragma once

#include "netd-client/client.h"

#include <sys/types.h>

struct connection {
    int fd;          /* -1: closed */
    struct tls *tls; /* NULL: plain */
};

/*
 * Connects to the address given by OPTIONS and the environment. Returns -1 and *RET, to be closed
 * with connection_close(); or an exit status after printing one line on standard error, without the
 * line if QUIET.
 */
int connection_open(struct connection *ret, const struct options *options, bool quiet);

/* Closes C, which may be closed already. With TLS, close_notify is sent before, if it was not. */
void connection_close(struct connection *c);

/* Like recv(2): the number of bytes, 0 at the end of what the peer sends, or a negative errno. */
ssize_t connection_read(struct connection *c, char *buffer, size_t size);

/* Like send(2). After -EAGAIN the next call begins with the same bytes. */
ssize_t connection_write(struct connection *c, const char *buffer, size_t size);

/* Tells the peer that nothing more follows; connection_read() goes on. Returns 0 or a negative
 * errno. */
int connection_finish(struct connection *c);

/* Events of poll(2) to wait for: those of reading, and with WRITING of writing. */
short connection_events(const struct connection *c, bool writing);

/* ERROR, a negative errno that a function above returned, in words. */
const char *connection_error(const struct connection *c, int error);
