/* SPDX-License-Identifier: MIT */
/*
 * TLS over a connected socket, with OpenSSL. The server's certificate must be valid and name the
 * host. The caller ignores SIGPIPE.
 */
#pragma once

#include "netd-client/client.h"

#include <sys/types.h>

struct tls;

/*
 * Makes the handshake with HOST over FD, a non-blocking socket that the caller keeps. Returns -1
 * and *RET, to be freed with tls_free(); or an exit status after printing one line on standard
 * error, without the line if QUIET.
 */
int tls_open(struct tls **ret, const struct options *options, bool quiet, const char *host, int fd);

/* Sends close_notify if the connection takes it, and frees T, which may be NULL. */
void tls_free(struct tls *t);

/* As the functions of connection.h. After -EPROTO, tls_error() says why; the end of the stream
 * without close_notify is such an error. */
ssize_t tls_read(struct tls *t, char *buffer, size_t size);
ssize_t tls_write(struct tls *t, const char *buffer, size_t size);

/* Sends close_notify. */
int tls_finish(struct tls *t);

/* True if the last tls_read() waits until something can be written. */
bool tls_wants_to_write(const struct tls *t);

const char *tls_error(const struct tls *t);
