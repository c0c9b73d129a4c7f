/* SPDX-License-Identifier: MIT */
#include "netd-client/tls.h"

#include "common/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_MAX 256

/* Microseconds for the handshake, unless there is a timeout: a listener without TLS may wait for
 * more of what it takes for a line. */
#define HANDSHAKE_TIMEOUT (30 * USEC_PER_SEC)

struct tls {
    SSL_CTX *context;
    SSL *ssl;
    bool wants_to_write;
    char error[ERROR_MAX];
};

/* The first error of OpenSSL's queue, which is the most specific, in words. */
static const char *tls_reason(void)
{
    unsigned long error = ERR_get_error();
    const char *reason = ERR_reason_error_string(error);

    if (ERR_SYSTEM_ERROR(error))
        reason = strerror(ERR_GET_REASON(error));
    return reason ? reason : "unknown error";
}

static int tls_fail(bool quiet, const char *what, const char *why)
{
    return quiet ? EXIT_UNAVAILABLE
                 : client_fail(EXIT_UNAVAILABLE, "no connection: %s: %s", what, why);
}

/* --- Settings --- */

/* Nobody could be asked: an encrypted key cannot be used. */
static int tls_no_password(char *buffer, int size, int writing, void *data)
{
    (void)buffer, (void)size, (void)writing, (void)data;
    return -1;
}

/* Returns -1 or an exit status. */
static int tls_load_files(SSL_CTX *context, const struct options *options, bool quiet)
{
    const char *key = options->key ? options->key : options->cert;

    SSL_CTX_set_default_passwd_cb(context, tls_no_password);
    if (!options->ca && SSL_CTX_set_default_verify_paths(context) != 1)
        return tls_fail(quiet, "certificates of the system", tls_reason());
    if (options->ca && SSL_CTX_load_verify_file(context, options->ca) != 1)
        return tls_fail(quiet, options->ca, tls_reason());
    if (!options->cert)
        return -1;
    if (SSL_CTX_use_certificate_chain_file(context, options->cert) != 1)
        return tls_fail(quiet, options->cert, tls_reason());
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        return tls_fail(quiet, key, tls_reason());
    return -1;
}

/* Whose certificate it must be: HOST may be in brackets, or have a scope. Returns false if out of
 * memory. */
static bool tls_set_host(SSL *ssl, const char *host)
{
    bool bracket = *host == '[';
    char name[HOST_MAX + 1];
    size_t length;
    uint8_t ip[16];

    snprintf(name, sizeof(name), "%s", host + bracket);
    name[strcspn(name, bracket ? "%]" : "%")] = '\0';
    if (inet_pton(AF_INET, name, ip) == 1 || inet_pton(AF_INET6, name, ip) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    length = strlen(name);
    if (length > 0 && name[length - 1] == '.')
        name[length - 1] = '\0'; /* of a fully qualified name; certificates do not have it */
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

/* Returns -1 or an exit status. */
static int tls_prepare(struct tls *t, const struct options *options, bool quiet, const char *host,
                       int fd)
{
    int r;

    t->context = SSL_CTX_new(TLS_client_method());
    if (!t->context || SSL_CTX_set_min_proto_version(t->context, TLS1_2_VERSION) != 1)
        return tls_fail(quiet, "TLS", tls_reason());
    SSL_CTX_set_options(t->context, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(t->context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(t->context, SSL_VERIFY_PEER, NULL);
    /* The file may have the certificate of the server, or of an intermediate authority. */
    if (options->ca)
        X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(t->context), X509_V_FLAG_PARTIAL_CHAIN);
    r = tls_load_files(t->context, options, quiet);
    if (r >= 0)
        return r;
    t->ssl = SSL_new(t->context);
    if (!t->ssl || !tls_set_host(t->ssl, host) || SSL_set_fd(t->ssl, fd) != 1)
        return tls_fail(quiet, "TLS", tls_reason());
    return -1;
}

/* --- The connection --- */

/* Describes the error of OpenSSL. Returns -EPROTO. */
static int tls_note_error(struct tls *t)
{
    int reason = ERR_GET_REASON(ERR_peek_error());
    long verified = SSL_get_verify_result(t->ssl);

    if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING || ERR_peek_error() == 0)
        snprintf(t->error, sizeof(t->error), "the TLS connection was cut off");
    else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK)
        snprintf(t->error, sizeof(t->error), "certificate verify failed: %s",
                 X509_verify_cert_error_string(verified));
    else
        snprintf(t->error, sizeof(t->error), "TLS: %s", tls_reason());
    return -EPROTO;
}

/* Forgets earlier errors, before a call. */
static void tls_begin(struct tls *t)
{
    ERR_clear_error();
    errno = 0;
    t->wants_to_write = false;
}

/* What the call that returned R comes to: -EAGAIN, 0 after close_notify, or another negative errno.
 */
static int tls_result(struct tls *t, int r)
{
    int error = errno;

    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_WANT_WRITE:
        t->wants_to_write = true;
        return -EAGAIN;
    case SSL_ERROR_WANT_READ:
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        return error > 0 ? -error : tls_note_error(t);
    default:
        return tls_note_error(t);
    }
}

/* Returns 0 or a negative errno, -ETIME after TIMEOUT. */
static int tls_handshake(struct tls *t, int fd, uint64_t timeout)
{
    uint64_t now, end = now_usec(CLOCK_MONOTONIC) + timeout;

    for (;;) {
        struct pollfd p = {.fd = fd};
        int r;

        tls_begin(t);
        r = SSL_connect(t->ssl);
        if (r == 1)
            return 0;
        r = tls_result(t, r);
        if (r != -EAGAIN)
            return r == 0 ? tls_note_error(t) : r;
        now = now_usec(CLOCK_MONOTONIC);
        if (now >= end)
            return -ETIME;
        p.events = t->wants_to_write ? POLLOUT : POLLIN;
        if (poll(&p, 1, (int)min_u64((end - now) / 1000 + 1, INT_MAX)) < 0 && errno != EINTR)
            return -errno;
    }
}

/* Returns -1 or an exit status. */
static int tls_connect(struct tls *t, const struct options *options, bool quiet, const char *host,
                       int fd)
{
    uint64_t timeout = options->timeout > 0 ? options->timeout : HANDSHAKE_TIMEOUT;
    int r = tls_handshake(t, fd, timeout);

    if (r == -ETIME)
        snprintf(t->error, sizeof(t->error),
                 "no TLS handshake within %" PRIu64 " s; is the listener for TLS?",
                 timeout / USEC_PER_SEC);
    else if (r < 0 && r != -EPROTO)
        snprintf(t->error, sizeof(t->error), "%s", strerror(-r));
    return r < 0 ? tls_fail(quiet, host, t->error) : -1;
}

int tls_open(struct tls **ret, const struct options *options, bool quiet, const char *host, int fd)
{
    struct tls *t = calloc(1, sizeof(*t));
    int r;

    if (!t)
        return tls_fail(quiet, "TLS", strerror(ENOMEM));
    ERR_clear_error();
    r = tls_prepare(t, options, quiet, host, fd);
    if (r < 0)
        r = tls_connect(t, options, quiet, host, fd);
    if (r >= 0) {
        tls_free(t);
        return r;
    }
    *ret = t;
    return -1;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    if (t->ssl && SSL_is_init_finished(t->ssl))
        (void)tls_finish(t);
    SSL_free(t->ssl);
    SSL_CTX_free(t->context);
    free(t);
}

ssize_t tls_read(struct tls *t, char *buffer, size_t size)
{
    int n;

    tls_begin(t);
    n = SSL_read(t->ssl, buffer, (int)min_size(size, INT_MAX));
    return n > 0 ? n : tls_result(t, n);
}

ssize_t tls_write(struct tls *t, const char *buffer, size_t size)
{
    int n;

    tls_begin(t);
    n = SSL_write(t->ssl, buffer, (int)min_size(size, INT_MAX));
    if (n > 0)
        return n;
    n = tls_result(t, n);
    return n == 0 ? -EPIPE : n;
}

int tls_finish(struct tls *t)
{
    int r;

    tls_begin(t);
    r = SSL_shutdown(t->ssl);
    return r >= 0 ? 0 : tls_result(t, r);
}

bool tls_wants_to_write(const struct tls *t)
{
    return t->wants_to_write;
}

const char *tls_error(const struct tls *t)
{
    return t->error;
}
