/* SPDX-License-Identifier: MIT */
/*
 * netd-tls in this process, with a client and with netd's side, for unit tests and the fuzzer.
 * Everything runs in one thread: while one side waits, UNTIL() has the server take its turns.
 */
#pragma once

#include "common/util.h"
#include "netd-tls/server.h"
#include "netd/protocol/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            ERR_print_errors_fp(stderr);                                            \
            abort();                                                                \
        }                                                                           \
    } while (0)

#define UNTIL(world, condition)                           \
    do {                                                  \
        for (unsigned turn_ = 0; !(condition); turn_++) { \
            CHECK(turn_ < 20000);                         \
            CHECK(server_step(&(world)->server, 1) == 0); \
        }                                                 \
    } while (0)

/* --- Certificates --- */

#define DAY 86400

struct made {
    X509 *certificate;
    EVP_PKEY *key;
};

static inline void made_free(struct made *m)
{
    X509_free(m->certificate);
    EVP_PKEY_free(m->key);
}

static inline void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    CHECK(extension && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/* NAMES is a subjectAltName, or NULL; without an ISSUER it is a CA. FROM and TO are seconds. */
static inline struct made make_certificate(const char *name, const char *names,
                                           const struct made *issuer, long from, long to)
{
    struct made m = {X509_new(), EVP_EC_gen("P-256")};
    X509_NAME *subject = X509_get_subject_name(m.certificate);

    CHECK(m.certificate && m.key);
    X509_set_version(m.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(m.certificate), (long)random());
    X509_gmtime_adj(X509_getm_notBefore(m.certificate), from);
    X509_gmtime_adj(X509_getm_notAfter(m.certificate), to);
    X509_set_pubkey(m.certificate, m.key);
    X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8, (const unsigned char *)"Example", -1,
                               -1, 0);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1,
                               0);
    X509_set_issuer_name(m.certificate,
                         issuer ? X509_get_subject_name(issuer->certificate) : subject);
    if (!issuer)
        add_extension(m.certificate, NID_basic_constraints, "critical,CA:TRUE");
    if (names)
        add_extension(m.certificate, NID_subject_alt_name, names);
    CHECK(X509_sign(m.certificate, issuer ? issuer->key : m.key, EVP_sha256()) > 0);
    return m;
}

/* The path is DIRECTORY/NAME.pem, in a buffer of its own for eight calls. */
static inline const char *path_of(const char *directory, const char *name)
{
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % ARRAY_SIZE(paths)];

    snprintf(path, sizeof(paths[0]), "%s/%s.pem", directory, name);
    return path;
}

static inline void write_certificate(const char *directory, const char *name, const struct made *m)
{
    FILE *f = fopen(path_of(directory, name), "w");

    CHECK(f && PEM_write_X509(f, m->certificate) == 1 && fclose(f) == 0);
}

static inline void write_key(const char *directory, const char *name, const struct made *m,
                             const char *passphrase)
{
    FILE *f = fopen(path_of(directory, name), "w");

    CHECK(f &&
          PEM_write_PrivateKey(f, m->key, passphrase ? EVP_aes_128_cbc() : NULL,
                               (const unsigned char *)passphrase,
                               passphrase ? (int)strlen(passphrase) : 0, NULL, NULL) == 1 &&
          fclose(f) == 0);
}

static inline void make_directory(char *directory)
{
    CHECK(mkdtemp(directory));
}

static inline void remove_directory(const char *directory)
{
    char command[512];

    snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    CHECK(system(command) == 0); /* NOLINT(cert-env33-c) */
}

/* --- The world --- */

struct world {
    char directory[32];
    char certificate[64], key[64], ca[64]; /* paths */
    struct made authority, server_made, client_made;
    struct tls_settings settings;
    struct tls_counters counters;
    struct server server;
    int control;  /* the parent's end */
    int internal; /* netd's listener */
    uint16_t port;
    SSL_CTX *client; /* without a certificate */
};

static inline struct tls_listener_settings *world_listener(struct world *w)
{
    return &w->settings.listeners[0];
}

static inline struct tls_listener_counters *world_counters(struct world *w)
{
    return &w->counters.listeners[3];
}

static inline void world_make_files(struct world *w)
{
    strcpy(w->directory, "/tmp/test-tls-XXXXXX");
    make_directory(w->directory);
    w->authority = make_certificate("ca", NULL, NULL, -DAY, 30 * DAY);
    w->server_made = make_certificate("server", "IP:127.0.0.1", &w->authority, -DAY, 30 * DAY);
    w->client_made = make_certificate("client", "email:a@b,DNS:logs.example.com,IP:192.0.2.7",
                                      &w->authority, -DAY, 30 * DAY);
    write_certificate(w->directory, "server", &w->server_made);
    write_key(w->directory, "key", &w->server_made, NULL);
    write_certificate(w->directory, "ca", &w->authority);
    strcpy(w->certificate, path_of(w->directory, "server"));
    strcpy(w->key, path_of(w->directory, "key"));
    strcpy(w->ca, path_of(w->directory, "ca"));
}

/* A world with usual settings, which the test may change before world_start(). */
static inline void world_init(struct world *w)
{
    *w = (struct world){.control = -1, .internal = -1};
    (void)signal(SIGPIPE, SIG_IGN);
    world_make_files(w);
    w->settings = (struct tls_settings){
        .connections_max = 100,
        .handshakes_max = 50,
        .handshake_timeout_ms = 60000,
        .linger_timeout_ms = 60000,
        .refusals_per_second = 1000,
        .n_listeners = 1,
    };
    *world_listener(w) = (struct tls_listener_settings){
        .counters = 3, .min_minor = 2, .certificate = w->certificate, .key = w->key};
}

static inline void world_listen_internal(struct world *w, int backlog)
{
    struct tls_listener_settings *l = world_listener(w);
    struct sockaddr_un name = {.sun_family = AF_UNIX};

    w->internal = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(bind(w->internal, (struct sockaddr *)&name, sizeof(sa_family_t)) == 0);
    CHECK(listen(w->internal, backlog) == 0);
    l->internal_length = sizeof(l->internal);
    CHECK(getsockname(w->internal, (struct sockaddr *)&l->internal, &l->internal_length) == 0);
}

static inline void world_listen(struct world *w)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 && listen(fd, 1024) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&sin, &length) == 0);
    w->port = ntohs(sin.sin_port);
    world_listener(w)->fd = fd;
}

static inline SSL_CTX *client_context(const struct world *w, const struct made *certificate)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    CHECK(ctx);
    CHECK(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), w->authority.certificate) == 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (certificate) {
        CHECK(SSL_CTX_use_certificate(ctx, certificate->certificate) == 1);
        CHECK(SSL_CTX_use_PrivateKey(ctx, certificate->key) == 1);
    }
    return ctx;
}

static inline void world_start(struct world *w)
{
    char error[TLS_ERROR_MAX + 1];
    int controls[2], faulty;

    world_listen(w);
    if (w->internal < 0)
        world_listen_internal(w, 100);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, controls) == 0);
    w->control = controls[0];
    CHECK(server_load(&w->server, &w->settings, false, error, &faulty) == 0);
    CHECK(server_start(&w->server, &w->counters, controls[1]) == 0);
    w->client = client_context(w, NULL);
}

static inline void world_end(struct world *w)
{
    int control = w->server.control;

    server_deinit(&w->server);
    close_fd(&control);
    close_fd(&w->control);
    close_fd(&w->internal);
    SSL_CTX_free(w->client);
    made_free(&w->authority);
    made_free(&w->server_made);
    made_free(&w->client_made);
    remove_directory(w->directory);
}

/* --- A client --- */

struct client {
    int fd;
    SSL *ssl;
};

static inline int client_connect(const struct world *w)
{
    struct sockaddr_in sin = {.sin_family = AF_INET,
                              .sin_port = htons(w->port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0);
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) == 0);
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    return fd;
}

static inline struct client client_begin(const struct world *w, SSL_CTX *ctx)
{
    struct client c = {client_connect(w), SSL_new(ctx)};

    CHECK(c.ssl && SSL_set_fd(c.ssl, c.fd) == 1);
    SSL_set_connect_state(c.ssl);
    return c;
}

/* Returns 1, 0 if it has to wait, or -1. */
static inline int client_result(const struct client *c, int r)
{
    int e = r > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, r);

    return r > 0 ? 1 : e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static inline int client_handshake(const struct client *c)
{
    ERR_clear_error();
    return client_result(c, SSL_do_handshake(c->ssl));
}

/* Returns the bytes written, 0 if it has to wait. */
static inline size_t client_write(const struct client *c, const void *data, size_t length)
{
    size_t n = 0;

    ERR_clear_error();
    CHECK(client_result(c, SSL_write_ex(c->ssl, data, length, &n)) >= 0);
    return n;
}

/* Returns the bytes read, 0 if it has to wait, -1 at close_notify, -2 at any other end. */
static inline int client_read(const struct client *c, void *data, size_t length)
{
    int n;

    ERR_clear_error();
    n = SSL_read(c->ssl, data, (int)length);
    if (n > 0)
        return n;
    switch (SSL_get_error(c->ssl, n)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return -1;
    default:
        return -2;
    }
}

static inline void client_close(struct client *c)
{
    SSL_free(c->ssl);
    c->ssl = NULL;
    close_fd(&c->fd);
}

static inline void client_reset(struct client *c)
{
    const struct linger linger = {1, 0};

    CHECK(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
    client_close(c);
}

/* --- netd's side --- */

struct session {
    int fd;
    uint8_t *data; /* what came behind the header */
    size_t length, room;
    struct proxy_header header;
    uint8_t head[TLS_HEADER_MAX]; /* the header's bytes */
    int end;                      /* 0: open; 1: end of file; or the negative errno */
};

/* Accepts; true if there was one. */
static inline bool session_accept(const struct world *w, struct session *s)
{
    int fd = accept4(w->internal, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return false;
    *s = (struct session){.fd = fd};
    return true;
}

static inline void session_greet(const struct session *s)
{
    CHECK(send(s->fd, "!", 1, MSG_NOSIGNAL) == 1);
}

static inline void session_parse(struct session *s)
{
    const char *reason = NULL;
    int r = proxy_parse(s->data, s->length, &s->header, &reason);

    CHECK(r >= 0);
    if (r == 0)
        return;
    memcpy(s->head, s->data, s->header.length);
    s->length -= s->header.length;
    memmove(s->data, s->data + s->header.length, s->length);
}

/* Reads once, at most SIZE bytes. True if the end has come. */
static inline bool session_read(struct session *s, size_t size)
{
    ssize_t n;

    if (s->end != 0)
        return true;
    if (s->room - s->length < size) {
        s->room = 2 * s->room + size;
        s->data = realloc(s->data, s->room);
        CHECK(s->data);
    }
    n = recv(s->fd, s->data + s->length, size, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return false;
    s->end = n == 0 ? 1 : n < 0 ? -errno : 0;
    s->length += n > 0 ? (size_t)n : 0;
    if (s->header.length == 0 && s->length > 0)
        session_parse(s);
    return s->end != 0;
}

static inline bool session_has(struct session *s, size_t length)
{
    (void)session_read(s, 65536);
    return s->header.length > 0 && s->length >= length;
}

static inline void session_close(struct session *s)
{
    close_fd(&s->fd);
    free(s->data);
    *s = (struct session){.fd = -1};
}

/* Finds TLV TYPE of the header; returns its text, in a buffer of its own, or NULL. */
static inline const char *session_tlv(const struct session *s, uint8_t type)
{
    static char text[TLS_HEADER_MAX];
    size_t at = 16 + 12;

    while (at + 3 <= s->header.length) {
        size_t length = (size_t)(s->head[at + 1] << 8 | s->head[at + 2]);

        if (s->head[at] == type) {
            memcpy(text, s->head + at + 3, length);
            text[length] = '\0';
            return text;
        }
        at += 3 + length;
    }
    return NULL;
}

/* A client and netd's side of it, after the handshake and the greeting. */
static inline void begin_session(struct world *w, SSL_CTX *ctx, struct client *c, struct session *s)
{
    *c = client_begin(w, ctx);
    UNTIL(w, client_handshake(c) == 1);
    UNTIL(w, session_accept(w, s));
    session_greet(s);
    UNTIL(w, session_has(s, 0));
}

static inline void client_send(struct world *w, const struct client *c, const void *data,
                               size_t length)
{
    size_t done = 0;

    UNTIL(w, (done += client_write(c, (const char *)data + done, length - done)) == length);
}

static inline uint32_t connections(const struct world *w)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < CONNECTION_STATES; i++)
        n += w->server.lists[i].count;
    return n;
}
