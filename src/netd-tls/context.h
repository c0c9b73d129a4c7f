/* SPDX-License-Identifier: MIT */
/*
 * What a TLS listener goes by, as OpenSSL wants it: versions, certificate, key, who may connect.
 */
#pragma once

#include "netd-tls/interface.h"

#include <openssl/ssl.h>
#include <stdbool.h>

struct context {
    SSL_CTX *ssl;
    int64_t not_after; /* when the certificate ends, seconds since 1970 */
    bool expired;
};

/*
 * Loads the files of LISTENER, which must outlive the context. Returns 0, or with one line in ERROR
 * that names the file, without control characters, -EINVAL if a file is missing or not right, or
 * -ENOMEM. The certificate having expired is no error. *RET is untouched on failure.
 */
int context_init(struct context *ret, const struct tls_listener_settings *listener,
                 char error[static TLS_ERROR_MAX + 1]);

/* Writes that the certificate has expired, and when, to ERROR. */
void context_explain_expired(const struct context *context,
                             const struct tls_listener_settings *listener,
                             char error[static TLS_ERROR_MAX + 1]);

void context_deinit(struct context *context);

/* Why the handshake of SSL failed, in words of OpenSSL or ours, from its error queue. */
const char *context_refusal(const SSL *ssl);
