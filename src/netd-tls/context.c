/* SPDX-License-Identifier: MIT */
#include "netd-tls/context.h"

#include "common/escape.h"
#include "common/util.h"
#include "netd-tls/identity.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The size of the buffer that OpenSSL reads into: small records of a busy client then cost less
 * than one read(2) each. */
#define READ_BUFFER_SIZE 16384

static int context_fail(char error[static TLS_ERROR_MAX + 1], const char *file, const char *format,
                        ...) PRINTF(3, 4);

/* Writes "FILE: " and what follows; FILE is escaped. */
static int context_fail(char error[static TLS_ERROR_MAX + 1], const char *file, const char *format,
                        ...)
{
    size_t length = escape_copy(error, TLS_ERROR_MAX - 256, file, strlen(file));
    va_list arguments;

    length += (size_t)snprintf(error + length, 3, ": ");
    va_start(arguments, format);
    (void)vsnprintf(error + length, TLS_ERROR_MAX + 1 - length, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* What OpenSSL says of its first error; a system call's is strerror(3)'s. */
static const char *openssl_reason(void)
{
    unsigned long e = ERR_peek_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;

    if (e && ERR_SYSTEM_ERROR(e))
        return strerror(ERR_GET_REASON(e));
    return reason ? reason : "unknown error";
}

static bool openssl_error_is(int library, int reason)
{
    unsigned long e = ERR_peek_last_error();

    return ERR_GET_LIB(e) == library && ERR_GET_REASON(e) == reason;
}

static bool openssl_out_of_memory(void)
{
    return ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE;
}

static int fail_with_openssl(char error[static TLS_ERROR_MAX + 1], const char *file,
                             const char *what)
{
    if (openssl_out_of_memory()) {
        (void)context_fail(error, file, "out of memory");
        return -ENOMEM;
    }
    return context_fail(error, file, "%s: %s", what, openssl_reason());
}

/* Opens FILE and checks what OpenSSL would describe less well. */
static int open_file(BIO **ret, const char *file, char error[static TLS_ERROR_MAX + 1])
{
    struct stat st;
    BIO *bio;

    if (stat(file, &st) < 0)
        return context_fail(error, file, "%s", strerror(errno));
    if (S_ISDIR(st.st_mode))
        return context_fail(error, file, "%s", strerror(EISDIR));
    bio = BIO_new_file(file, "r");
    if (!bio)
        return context_fail(error, file, "%s", openssl_reason());
    *ret = bio;
    return 0;
}

/* True if PEM_read_bio_*() found nothing that begins as PEM does. */
static bool nothing_found(void)
{
    return openssl_error_is(ERR_LIB_PEM, PEM_R_NO_START_LINE);
}

/* --- Certificate and key --- */

static int load_chain(SSL_CTX *ssl, BIO *bio, const char *file,
                      char error[static TLS_ERROR_MAX + 1])
{
    X509 *certificate = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
    int good;

    if (!certificate)
        return nothing_found()
                   ? context_fail(error, file, "no certificate in PEM format (OpenSSL: %s)",
                                  openssl_reason())
                   : fail_with_openssl(error, file, "cannot read the certificate");
    good = SSL_CTX_use_certificate(ssl, certificate);
    X509_free(certificate);
    if (good != 1)
        return fail_with_openssl(error, file, "cannot use the certificate");
    while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
        if (SSL_CTX_add0_chain_cert(ssl, certificate) != 1) {
            X509_free(certificate);
            return fail_with_openssl(error, file, "cannot use a certificate of the chain");
        }
    if (!nothing_found())
        return fail_with_openssl(error, file, "cannot read a certificate of the chain");
    ERR_clear_error();
    return 0;
}

/* A passphrase is never asked for; that it was needed is noted. */
static int passphrase_is_missing(char *buffer, int size, int write, void *noted)
{
    (void)buffer;
    (void)size;
    (void)write;
    *(bool *)noted = true;
    return -1;
}

static int load_key(SSL_CTX *ssl, BIO *bio, const struct tls_listener_settings *l,
                    char error[static TLS_ERROR_MAX + 1])
{
    bool encrypted = false;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, passphrase_is_missing, &encrypted);
    int good;

    if (encrypted) {
        EVP_PKEY_free(key);
        return context_fail(error, l->key,
                            "the key is encrypted, and netd has no passphrase (OpenSSL: %s)",
                            openssl_reason());
    }
    if (!key)
        return nothing_found() || openssl_error_is(ERR_LIB_OSSL_DECODER, ERR_R_UNSUPPORTED)
                   ? context_fail(error, l->key, "no key in PEM format (OpenSSL: %s)",
                                  openssl_reason())
                   : fail_with_openssl(error, l->key, "cannot read the key");
    good = X509_check_private_key(SSL_CTX_get0_certificate(ssl), key) == 1 &&
           SSL_CTX_use_PrivateKey(ssl, key) == 1;
    EVP_PKEY_free(key);
    if (good)
        return 0;
    if (openssl_out_of_memory())
        return fail_with_openssl(error, l->key, "cannot use the key");
    return context_fail(error, l->key, "not the key of the certificate %.2048s (OpenSSL: %s)",
                        l->certificate, openssl_reason());
}

/* --- CA --- */

/* Every certificate of the file is trusted to sign those of clients, and named to clients. */
static int load_ca(SSL_CTX *ssl, BIO *bio, const char *file, char error[static TLS_ERROR_MAX + 1])
{
    unsigned count = 0;
    X509 *ca;

    while ((ca = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL))) {
        int good = X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), ca) == 1 &&
                   SSL_CTX_add_client_CA(ssl, ca) == 1;

        X509_free(ca);
        if (!good)
            return fail_with_openssl(error, file, "cannot use a certificate");
        count++;
    }
    if (!nothing_found())
        return fail_with_openssl(error, file, "cannot read a certificate");
    if (count == 0)
        return context_fail(error, file, "no certificate in PEM format (OpenSSL: %s)",
                            openssl_reason());
    ERR_clear_error();
    return 0;
}

/*
 * Called in the handshake: a certificate that is not admitted ends it with an alert. Without a CA
 * the fingerprint alone vouches for it, so that it may be self-signed; it is then no chain.
 */
static int verify_client(X509_STORE_CTX *store, void *listener)
{
    const struct tls_listener_settings *l = listener;
    X509 *certificate = X509_STORE_CTX_get0_cert(store);
    int result;

    if (l->client_ca && X509_verify_cert(store) != 1)
        return 0; /* it has set the error */
    result = certificate ? identity_check(certificate, l) : X509_V_ERR_UNSPECIFIED;
    X509_STORE_CTX_set_error(store, result);
    return result == X509_V_OK;
}

/* --- All of it --- */

/*
 * Tickets would make the server write when the handshake is complete: a client that sends and
 * closes would get a reset for it, and its last bytes would be lost. Without resumption every
 * session is authenticated anew. A truncated stream stays an error (SSL_OP_IGNORE_UNEXPECTED_EOF is
 * off). Ciphers are those of the system.
 */
static bool set_protocol(SSL_CTX *ssl, const struct tls_listener_settings *l)
{
    const int minimum = l->min_minor == 3 ? TLS1_3_VERSION : TLS1_2_VERSION;

    if (SSL_CTX_get_min_proto_version(ssl) < minimum &&
        SSL_CTX_set_min_proto_version(ssl, minimum) != 1)
        return false;
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_clear_options(ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ssl, 1);
    SSL_CTX_set_default_read_buffer_len(ssl, READ_BUFFER_SIZE);
    return SSL_CTX_set_num_tickets(ssl, 0) == 1;
}

static int load_file(SSL_CTX *ssl, const struct tls_listener_settings *l, const char *file,
                     char error[static TLS_ERROR_MAX + 1])
{
    BIO *bio = NULL;
    int r = open_file(&bio, file, error);

    if (r < 0)
        return r;
    r = file == l->certificate ? load_chain(ssl, bio, file, error)
        : file == l->key       ? load_key(ssl, bio, l, error)
                               : load_ca(ssl, bio, file, error);
    BIO_free(bio);
    return r;
}

static int load_files(SSL_CTX *ssl, const struct tls_listener_settings *l,
                      char error[static TLS_ERROR_MAX + 1])
{
    int r = load_file(ssl, l, l->certificate, error);

    if (r == 0)
        r = load_file(ssl, l, l->key, error);
    if (r == 0 && l->client_ca)
        r = load_file(ssl, l, l->client_ca, error);
    return r;
}

static int context_load(SSL_CTX *ssl, const struct tls_listener_settings *l,
                        char error[static TLS_ERROR_MAX + 1])
{
    const bool has_clients = l->client_ca || l->n_client_fingerprints > 0;
    int r;

    if (!set_protocol(ssl, l))
        return fail_with_openssl(error, l->certificate, "cannot set TLS up");
    r = load_files(ssl, l, error);
    if (r < 0 || !has_clients)
        return r;
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(ssl, verify_client, (void *)(uintptr_t)l);
    return 0;
}

static int64_t certificate_end(const X509 *certificate)
{
    struct tm tm = {0};

    return ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

int context_init(struct context *ret, const struct tls_listener_settings *listener,
                 char error[static TLS_ERROR_MAX + 1])
{
    SSL_CTX *ssl = SSL_CTX_new(TLS_server_method());
    const X509 *certificate;
    int r;

    ERR_clear_error();
    if (!ssl) {
        (void)context_fail(error, listener->certificate, "out of memory");
        return -ENOMEM;
    }
    r = context_load(ssl, listener, error);
    if (r < 0) {
        SSL_CTX_free(ssl);
        ERR_clear_error();
        return r;
    }
    certificate = SSL_CTX_get0_certificate(ssl);
    *ret = (struct context){
        .ssl = ssl,
        .not_after = certificate_end(certificate),
        .expired = X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0,
    };
    return 0;
}

void context_explain_expired(const struct context *context,
                             const struct tls_listener_settings *listener,
                             char error[static TLS_ERROR_MAX + 1])
{
    const time_t when = (time_t)context->not_after;
    struct tm tm = {0};
    char text[64];

    (void)gmtime_r(&when, &tm);
    (void)strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm);
    (void)context_fail(error, listener->certificate, "the certificate expired at %s", text);
}

void context_deinit(struct context *context)
{
    SSL_CTX_free(context->ssl);
    *context = (struct context){0};
}

const char *context_refusal(const SSL *ssl)
{
    long result = SSL_get_verify_result(ssl);

    if (result == X509_V_ERR_HOSTNAME_MISMATCH)
        return "no name of the certificate is in client_names";
    if (result == X509_V_ERR_APPLICATION_VERIFICATION)
        return "the certificate is not in client_fingerprints";
    if (result != X509_V_OK)
        return X509_verify_cert_error_string(result);
    return ERR_peek_error() ? openssl_reason() : "the handshake failed";
}
