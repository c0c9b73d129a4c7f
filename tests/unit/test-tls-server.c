/* SPDX-License-Identifier: MIT */
#include "netd-tls/server.h"

#include "tls-actors.h"
#include "tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "random.h"

static int setup(void **state)
{
    static struct world world;

    world_init(&world);
    *state = &world;
    return 0;
}

static int teardown(void **state)
{
    world_end(*state);
    return 0;
}

static uint64_t handshakes(struct world *w, enum tls_result result)
{
    return world_counters(w)->handshakes[result];
}

static void assert_text(const struct session *s, const char *text)
{
    assert_int_equal(s->length, strlen(text));
    assert_memory_equal(s->data, text, s->length);
}

/* Reads what the client gets until close_notify, and returns its length. */
static size_t read_all(struct world *w, const struct client *c, char *ret, size_t size)
{
    size_t length = 0;
    int n;

    for (;;) {
        UNTIL(w, (n = client_read(c, ret + length, size - length - 1)) != 0);
        if (n < 0)
            break;
        length += (size_t)n;
    }
    assert_int_equal(n, -1);
    ret[length] = '\0';
    return length;
}

/* --- A session --- */

static void session_with_receipt(void **state)
{
    struct world *w = *state;
    struct client c;
    struct session s;
    char text[64], byte;

    world_start(w);
    begin_session(w, w->client, &c, &s);
    assert_true(s.header.forwarded);
    assert_int_equal(s.header.source.family, AF_INET);
    assert_int_equal(s.header.destination.port, w->port);
    assert_true(s.header.tls.present);
    assert_false(s.header.tls.verified);
    assert_memory_equal(s.head + s.header.tls.version.offset, "TLSv1.3", 7);
    assert_true(s.header.tls.cipher.length > 0);
    assert_null(session_tlv(&s, TLS_TLV_SUBJECT));
    assert_null(session_tlv(&s, TLS_TLV_REFUSED));
    client_send(w, &c, "one\ntwo\n", 8);
    UNTIL(w, session_has(&s, 8));
    assert_text(&s, "one\ntwo\n");
    assert_int_equal(s.end, 0);

    assert_int_equal(SSL_shutdown(c.ssl), 0);
    UNTIL(w, session_read(&s, 100));
    assert_int_equal(s.end, 1);
    assert_int_equal(send(s.fd, "receipt\n", 8, 0), 8);
    session_close(&s);
    assert_int_equal(read_all(w, &c, text, sizeof(text)), 8);
    assert_string_equal(text, "receipt\n");
    UNTIL(w, recv(c.fd, &byte, 1, 0) == 0); /* FIN, no reset */
    assert_int_equal(connections(w), 1);
    client_close(&c);
    UNTIL(w, connections(w) == 0);
    assert_int_equal(handshakes(w, TLS_COMPLETE), 1);
    assert_int_equal(world_counters(w)->handshakes[TLS_FAILED], 0);
    assert_true(world_counters(w)->not_after > time(NULL) + 29 * DAY);
}

static void tls_1_2(void **state)
{
    struct world *w = *state;
    struct client c;
    struct session s;
    char text[64];

    world_start(w);
    SSL_CTX_set_max_proto_version(w->client, TLS1_2_VERSION);
    begin_session(w, w->client, &c, &s);
    assert_memory_equal(s.head + s.header.tls.version.offset, "TLSv1.2", 7);
    client_send(w, &c, "x", 1);
    assert_int_equal(SSL_shutdown(c.ssl), 0);
    UNTIL(w, session_read(&s, 100));
    assert_int_equal(s.end, 1);
    assert_text(&s, "x");
    assert_int_equal(send(s.fd, "receipt\n", 8, 0), 8);
    session_close(&s);
    assert_int_equal(read_all(w, &c, text, sizeof(text)), 8);
    client_close(&c);
}

/* --- Truncation --- */

/* The client's connection ends without close_notify, after ANSWERS of netd's. */
static void truncated(struct world *w, bool reset, unsigned answers)
{
    struct client c;
    struct session s;
    char text[64];

    begin_session(w, w->client, &c, &s);
    for (unsigned i = 0; i < answers; i++) {
        assert_int_equal(send(s.fd, "answer", 6, 0), 6);
        UNTIL(w, client_read(&c, text, sizeof(text)) == 6);
    }
    client_send(w, &c, "all of it", 9);
    if (reset)
        UNTIL(w, session_has(&s, 9)); /* a reset may destroy what was not read yet */
    (reset ? client_reset : client_close)(&c);
    UNTIL(w, session_read(&s, 100));
    assert_text(&s, "all of it");
    assert_int_equal(s.end, -ECONNRESET);
    session_close(&s);
    UNTIL(w, connections(w) == 0);
}

static void end_without_close_notify(void **state)
{
    struct world *w = *state;

    world_start(w);
    for (unsigned answers = 0; answers < 3; answers++) {
        truncated(w, false, answers);
        truncated(w, true, answers);
    }
}

/* FIN in the middle of a TLS record. */
static void end_within_a_record(void **state)
{
    struct world *w = *state;
    struct session s;
    struct client c;
    BIO *out = BIO_new(BIO_s_mem());
    char record[256];
    int n;

    world_start(w);
    begin_session(w, w->client, &c, &s);
    client_send(w, &c, "whole", 5);
    SSL_set0_wbio(c.ssl, out);
    assert_int_equal(SSL_write(c.ssl, "half", 4), 4);
    n = BIO_read(out, record, sizeof(record));
    assert_int_equal(send(c.fd, record, (size_t)n - 1, 0), n - 1);
    client_close(&c);
    UNTIL(w, session_read(&s, 100));
    assert_text(&s, "whole");
    assert_int_equal(s.end, -ECONNRESET);
    session_close(&s);
}

/* Has the client of C send COUNT requests for new keys, and TEXT. */
static void send_key_updates(struct world *w, const struct client *c, unsigned count,
                             const char *text)
{
    for (unsigned i = 0; i < count; i++) {
        ERR_clear_error();
        if (SSL_key_update(c->ssl, SSL_KEY_UPDATE_REQUESTED) != 1 || SSL_do_handshake(c->ssl) != 1)
            return; /* the connection has ended */
    }
    if (text)
        client_send(w, c, text, strlen(text));
}

/* They cost more to answer than to send. The last one may be the last of what has arrived. */
static void key_updates_without_data(void **state)
{
    struct world *w = *state;

    world_start(w);
    for (unsigned at_once = 1; at_once <= 33; at_once += 32) {
        struct session s;
        struct client c;

        begin_session(w, w->client, &c, &s);
        for (unsigned i = 0; i < 3; i++)
            send_key_updates(w, &c, 32, "x");
        UNTIL(w, session_has(&s, 3));
        assert_text(&s, "xxx");
        for (unsigned i = 0; i < 33; i += at_once) {
            send_key_updates(w, &c, at_once, NULL);
            assert_int_equal(server_step(&w->server, 1), 0);
        }
        UNTIL(w, session_read(&s, 100));
        assert_int_equal(s.end, -ECONNRESET);
        session_close(&s);
        UNTIL(w, connections(w) == 0);
        client_close(&c);
    }
}

/* netd is slow to accept: the end waits for its greeting, or netd would take it for a good one. */
static void truncated_before_the_greeting(void **state)
{
    struct world *w = *state;
    struct session s;
    struct client c;

    world_start(w);
    c = client_begin(w, w->client);
    UNTIL(w, client_handshake(&c) == 1);
    client_send(w, &c, "early", 5);
    UNTIL(w, session_accept(w, &s));
    client_close(&c);
    UNTIL(w, session_has(&s, 5));
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(server_step(&w->server, 1), 0);
    assert_false(session_read(&s, 100));
    session_greet(&s);
    UNTIL(w, session_read(&s, 100));
    assert_int_equal(s.end, -ECONNRESET);
    session_close(&s);
}

/* The process dies at any moment before the end is known to be a good one. */
static void own_death(void **state)
{
    struct world *w = *state;
    struct session s;
    struct client c;

    world_start(w);
    begin_session(w, w->client, &c, &s);
    client_send(w, &c, "read", 4);
    UNTIL(w, session_has(&s, 4));
    assert_int_equal(send(s.fd, "answer", 6, 0), 6);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(server_step(&w->server, 1), 0);
    server_deinit(&w->server);
    assert_true(session_read(&s, 100));
    assert_int_equal(s.end, -ECONNRESET);
    session_close(&s);
    client_close(&c);
}

/* --- Much, little, slowly --- */

static uint8_t byte_at(size_t n)
{
    return (uint8_t)(n * 2654435761U >> 13);
}

static size_t check_bytes(const uint8_t *data, size_t length, size_t offset)
{
    for (size_t i = 0; i < length; i++)
        CHECK(data[i] == byte_at(offset + i));
    return length;
}

static void fill_bytes(uint8_t *data, size_t length, size_t offset)
{
    for (size_t i = 0; i < length; i++)
        data[i] = byte_at(offset + i);
}

/* What is held for one connection never exceeds what connection.h says. */
static void check_bounds(const struct world *w)
{
    const struct connection *c = w->server.lists[CONNECTION_RELAY].first;

    for (; c; c = c->next)
        CHECK(c->pending_length <= CONNECTION_BUFFER);
}

static void much_to_a_slow_netd(void **state)
{
    const size_t total = (size_t)random_rounds(8 << 20);
    struct world *w = *state;
    static uint8_t piece[40000];
    size_t sent = 0, received = 0, length = 0, n = 1;
    bool waited = false;
    struct session s;
    struct client c;

    world_start(w);
    begin_session(w, w->client, &c, &s);
    while (received < total) {
        if (n > 0) /* a write that has to wait is repeated: SSL_write(3) */
            length = min_size(1 + random_below(sizeof(piece)), total - sent);
        fill_bytes(piece, length, sent);
        n = length > 0 ? client_write(&c, piece, length) : 0;
        sent += n;
        CHECK(server_step(&w->server, 0) == 0);
        check_bounds(w);
        waited |= n == 0 && sent < total;
        if (n > 0 && random_below(8) > 0)
            continue;
        CHECK(!session_read(&s, 1 + random_below(30000)));
        received += check_bytes(s.data, s.length, received);
        s.length = 0;
    }
    assert_true(waited || total < 1 << 20);
    session_close(&s);
    client_close(&c);
}

static void much_to_a_slow_client(void **state)
{
    const size_t total = (size_t)random_rounds(8 << 20);
    struct world *w = *state;
    static uint8_t piece[40000];
    size_t sent = 0, received = 0;
    bool waited = false;
    struct session s;
    struct client c;

    world_start(w);
    begin_session(w, w->client, &c, &s);
    while (received < total) {
        size_t length = min_size(1 + random_below(sizeof(piece)), total - sent);
        ssize_t n = 0;
        int got;

        fill_bytes(piece, length, sent);
        if (length > 0)
            n = send(s.fd, piece, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        CHECK(server_step(&w->server, 0) == 0);
        waited |= n < 0;
        if (n > 0 && random_below(8) > 0)
            continue;
        got = client_read(&c, piece, 1 + random_below(sizeof(piece)));
        CHECK(got >= 0);
        received += check_bytes(piece, (size_t)got, received);
    }
    assert_true(waited || total < 1 << 20);
    session_close(&s);
    client_close(&c);
}

/* Every byte a TLS record, and every byte on the wire a segment. */
static void one_byte_at_a_time(void **state)
{
    struct world *w = *state;
    BIO *out = BIO_new(BIO_s_mem()), *in = BIO_new(BIO_s_mem());
    struct client c = {-1, NULL};
    char text[4096];
    struct session s;
    int n;

    world_start(w);
    c = client_begin(w, w->client);
    SSL_set_bio(c.ssl, in, out);
    BIO_set_mem_eof_return(in, -1);
    while ((n = client_handshake(&c)) != 1 || BIO_pending(out) > 0) {
        char byte;

        CHECK(n >= 0);
        if (BIO_read(out, &byte, 1) == 1)
            assert_int_equal(send(c.fd, &byte, 1, 0), 1);
        CHECK(server_step(&w->server, 0) == 0);
        n = (int)recv(c.fd, text, 1, 0);
        if (n == 1)
            assert_int_equal(BIO_write(in, text, 1), 1);
    }
    UNTIL(w, session_accept(w, &s));
    session_greet(&s);
    for (unsigned i = 0; i < 300; i++) {
        const char byte = (char)byte_at(i);

        assert_int_equal(SSL_write(c.ssl, &byte, 1), 1);
        n = BIO_read(out, text, sizeof(text));
        for (int k = 0; k < n; k++) {
            assert_int_equal(send(c.fd, text + k, 1, 0), 1);
            CHECK(server_step(&w->server, 0) == 0);
        }
    }
    UNTIL(w, session_has(&s, 300));
    (void)check_bytes(s.data, s.length, 0);
    session_close(&s);
    client_close(&c);
}

/* --- What is refused --- */

/* The handshake with CTX fails, and netd gets REASON. The client gets no byte but an alert. */
static void refused(struct world *w, SSL_CTX *ctx, const char *reason)
{
    const uint64_t failed = handshakes(w, TLS_FAILED);
    struct client c = client_begin(w, ctx);
    struct session s;
    char byte;
    int n;

    UNTIL(w, (n = client_handshake(&c)) != 0);
    if (n == 1) /* TLS 1.3: the client has not heard yet */
        UNTIL(w, (n = client_read(&c, &byte, 1)) != 0);
    assert_true(n < 0);
    assert_int_equal(ERR_GET_LIB(ERR_peek_error()), ERR_LIB_SSL);
    UNTIL(w, session_accept(w, &s));
    UNTIL(w, session_read(&s, 4096));
    assert_int_equal(s.end, 1);
    assert_int_equal(s.length, 0);
    assert_false(s.header.tls.present);
    assert_string_equal(session_tlv(&s, TLS_TLV_REFUSED), reason);
    assert_int_equal(handshakes(w, TLS_FAILED), failed + 1);
    session_close(&s);
    client_close(&c);
    UNTIL(w, connections(w) == 0);
}

static void old_versions(void **state)
{
    struct world *w = *state;

    world_start(w);
    SSL_CTX_set_security_level(w->client, 0);
    SSL_CTX_set_min_proto_version(w->client, 0);
    SSL_CTX_set_max_proto_version(w->client, TLS1_1_VERSION);
    refused(w, w->client, "unsupported protocol");
}

static void minimum_version(void **state)
{
    struct world *w = *state;
    struct session s;
    struct client c;

    world_listener(w)->min_minor = 3;
    world_start(w);
    SSL_CTX_set_max_proto_version(w->client, TLS1_2_VERSION);
    refused(w, w->client, "unsupported protocol");
    SSL_CTX_set_max_proto_version(w->client, 0);
    begin_session(w, w->client, &c, &s);
    session_close(&s);
    client_close(&c);
}

static void renegotiation(void **state)
{
    struct world *w = *state;
    struct session s;
    struct client c;
    char byte;

    world_start(w);
    SSL_CTX_set_max_proto_version(w->client, TLS1_2_VERSION);
    begin_session(w, w->client, &c, &s);
    assert_int_equal(SSL_renegotiate(c.ssl), 1);
    for (unsigned i = 0; i < 20; i++) {
        (void)client_handshake(&c);
        (void)client_read(&c, &byte, 1);
        CHECK(server_step(&w->server, 1) == 0);
    }
    assert_int_equal(SSL_num_renegotiations(c.ssl), 1);
    assert_int_equal(SSL_get_state(c.ssl) == TLS_ST_OK, 0);
    session_close(&s);
    client_close(&c);
}

/* A client that sends and closes at once must not be written to before. */
static void no_tickets(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct world *w = *state;
    SSL_SESSION *ticket;
    struct session s;
    struct client c;
    char byte;

    world_start(w);
    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        SSL_CTX_set_min_proto_version(w->client, versions[i]);
        SSL_CTX_set_max_proto_version(w->client, versions[i]);
        begin_session(w, w->client, &c, &s);
        CHECK(server_step(&w->server, 1) == 0);
        assert_int_equal(recv(c.fd, &byte, 1, MSG_PEEK), -1);
        ticket = SSL_get1_session(c.ssl);
        assert_false(SSL_SESSION_has_ticket(ticket));
        (void)SSL_shutdown(c.ssl);
        UNTIL(w, session_read(&s, 100));
        session_close(&s);
        client_close(&c);

        c = client_begin(w, w->client);
        (void)SSL_set_session(c.ssl, ticket);
        UNTIL(w, client_handshake(&c) == 1);
        assert_false(SSL_session_reused(c.ssl));
        UNTIL(w, session_accept(w, &s));
        session_close(&s);
        client_close(&c);
        SSL_SESSION_free(ticket);
    }
}

static void no_tls(void **state)
{
    static const struct {
        const char *sent, *reason;
    } cases[] = {
        {"GET / HTTP/1.0\r\n\r\n", "http request"},
        {"<13>Nov 25 12:00:00 host tag: text\n", "wrong version number"},
    };
    struct world *w = *state;
    struct session s;
    char text[256];
    ssize_t n;
    int fd;

    world_start(w);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        fd = client_connect(w);
        assert_int_equal(send(fd, cases[i].sent, strlen(cases[i].sent), 0), strlen(cases[i].sent));
        UNTIL(w, session_accept(w, &s));
        UNTIL(w, session_read(&s, 4096));
        assert_string_equal(session_tlv(&s, TLS_TLV_REFUSED), cases[i].reason);
        session_close(&s);
        while ((n = recv(fd, text, sizeof(text), 0)) < 0)
            CHECK(server_step(&w->server, 1) == 0);
        assert_true(n <= 7); /* an alert */
        close(fd);
        UNTIL(w, connections(w) == 0);
    }
    assert_int_equal(handshakes(w, TLS_FAILED), 2);

    fd = client_connect(w); /* looks whether the port is open */
    UNTIL(w, connections(w) == 1);
    close(fd);
    UNTIL(w, connections(w) == 0);
    fd = client_connect(w);
    assert_int_equal(send(fd, "\x16\x03\x01", 3, 0), 3);
    UNTIL(w, connections(w) == 1);
    close(fd);
    UNTIL(w, session_accept(w, &s));
    UNTIL(w, session_read(&s, 4096));
    assert_string_equal(session_tlv(&s, TLS_TLV_REFUSED), "closed by the client");
    session_close(&s);
    UNTIL(w, connections(w) == 0);
    assert_int_equal(handshakes(w, TLS_CLOSED), 2);
    assert_false(session_accept(w, &s));
}

static void refusals_are_bounded(void **state)
{
    struct world *w = *state;
    uint64_t unreported;
    struct session s;
    int fd;

    w->settings.refusals_per_second = 1;
    world_start(w);
    for (unsigned reported = 0, i = 0; reported < 2; i++) { /* until a second is over */
        fd = client_connect(w);
        assert_int_equal(send(fd, "no TLS", 6, 0), 6);
        UNTIL(w, handshakes(w, TLS_FAILED) == i + 1);
        close(fd);
        unreported = world_counters(w)->refusals_unreported;
        if (!session_accept(w, &s))
            continue;
        assert_int_equal(unreported + 1, reported == 0 ? 1 : i);
        reported++;
        UNTIL(w, session_read(&s, 4096));
        if (reported == 2) {
            char text[64];

            snprintf(text, sizeof(text), "wrong version number (%u more were not reported)", i - 1);
            assert_string_equal(session_tlv(&s, TLS_TLV_REFUSED), text);
        }
        session_close(&s);
    }
}

/* --- Certificates of clients --- */

static void client_certificate(void **state)
{
    static const char *const names[] = {"other.example.com", "*.example.com"};
    struct world *w = *state;
    struct tls_listener_settings *l = world_listener(w);
    struct made other, old, stranger;
    SSL_CTX *contexts[4];
    struct session s;
    struct client c;

    other = make_certificate("ca", NULL, NULL, -DAY, DAY);
    stranger = make_certificate("stranger", "DNS:logs.example.com", &other, -DAY, DAY);
    old = make_certificate("old", "DNS:logs.example.com", &w->authority, -DAY, -1);
    l->client_ca = w->ca;
    l->client_names = names;
    l->n_client_names = 2;
    world_start(w);
    contexts[0] = client_context(w, &w->client_made);
    contexts[1] = client_context(w, &stranger);
    contexts[2] = client_context(w, &old);
    contexts[3] = client_context(w, &w->server_made); /* another name */

    begin_session(w, contexts[0], &c, &s);
    assert_true(s.header.tls.verified);
    assert_int_equal(s.header.tls.common_name.length, 6);
    assert_memory_equal(s.head + s.header.tls.common_name.offset, "client", 6);
    assert_string_equal(session_tlv(&s, TLS_TLV_SUBJECT), "CN=client,O=Example");
    assert_string_equal(session_tlv(&s, TLS_TLV_NAME), "logs.example.com");
    assert_int_equal(strlen(session_tlv(&s, TLS_TLV_FINGERPRINT)), 64);
    session_close(&s);
    client_close(&c);
    UNTIL(w, connections(w) == 0);

    refused(w, w->client, "peer did not return a certificate");
    refused(w, contexts[1], "certificate signature failure");
    refused(w, contexts[2], "certificate has expired");
    refused(w, contexts[3], "no name of the certificate is in client_names");
    SSL_CTX_set_max_proto_version(contexts[3], TLS1_2_VERSION);
    refused(w, contexts[3], "no name of the certificate is in client_names");
    for (size_t i = 0; i < ARRAY_SIZE(contexts); i++)
        SSL_CTX_free(contexts[i]);
    made_free(&other);
    made_free(&stranger);
    made_free(&old);
}

/* Without client_ca a fingerprint admits a certificate of any origin, and nothing else does. */
static void fingerprint(void **state)
{
    struct world *w = *state;
    struct made own = make_certificate("own", NULL, NULL, -DAY, DAY);
    struct tls_listener_settings *l = world_listener(w);
    uint8_t digests[2][TLS_FINGERPRINT_SIZE] = {0};
    SSL_CTX *good, *bad;
    unsigned length;
    struct session s;
    struct client c;

    assert_int_equal(X509_digest(own.certificate, EVP_sha256(), digests[1], &length), 1);
    l->client_fingerprints = (const uint8_t(*)[TLS_FINGERPRINT_SIZE])digests;
    l->n_client_fingerprints = 2;
    world_start(w);
    good = client_context(w, &own);
    bad = client_context(w, &w->client_made);
    begin_session(w, good, &c, &s);
    assert_true(s.header.tls.verified);
    assert_string_equal(session_tlv(&s, TLS_TLV_SUBJECT), "CN=own,O=Example");
    assert_null(session_tlv(&s, TLS_TLV_NAME));
    session_close(&s);
    client_close(&c);
    UNTIL(w, connections(w) == 0);
    refused(w, bad, "the certificate is not in client_fingerprints");
    refused(w, w->client, "peer did not return a certificate");
    SSL_CTX_free(good);
    SSL_CTX_free(bad);
    made_free(&own);
}

/* --- Limits --- */

static void half_open_handshakes(void **state)
{
    struct world *w = *state;
    int fds[40];
    struct session s;
    struct client c;

    w->settings.handshakes_max = 10;
    w->settings.refusals_per_second = 0;
    world_start(w);
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = client_connect(w);
        assert_int_equal(send(fds[i], "\x16", 1, 0), 1);
    }
    begin_session(w, w->client, &c, &s);
    assert_int_equal(handshakes(w, TLS_EVICTED), ARRAY_SIZE(fds) + 1 - 10);
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
    session_close(&s);
    client_close(&c);
    UNTIL(w, connections(w) == 0);
}

static void handshake_deadline(void **state)
{
    struct world *w = *state;
    struct session s;
    char byte;
    int fd;

    w->settings.handshake_timeout_ms = 1;
    world_start(w);
    fd = client_connect(w);
    UNTIL(w, recv(fd, &byte, 1, 0) == 0);
    assert_int_equal(handshakes(w, TLS_TIMEOUT), 1);
    UNTIL(w, session_accept(w, &s));
    UNTIL(w, session_read(&s, 4096));
    assert_string_equal(session_tlv(&s, TLS_TLV_REFUSED), "not complete in time");
    session_close(&s);
    close(fd);
}

/* More connections than may be: the next one waits until one has ended. */
static void connection_limit(void **state)
{
    struct world *w = *state;
    struct client c[3];
    struct session s[3];

    w->settings.connections_max = 2;
    world_start(w);
    begin_session(w, w->client, &c[0], &s[0]);
    begin_session(w, w->client, &c[1], &s[1]);
    c[2] = client_begin(w, w->client);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(client_handshake(&c[2]), 0);
        CHECK(server_step(&w->server, 1) == 0);
    }
    client_close(&c[0]);
    UNTIL(w, client_handshake(&c[2]) == 1);
    UNTIL(w, session_accept(w, &s[2]));
    for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
        session_close(&s[i]);
        client_close(&c[i]);
    }
}

static void linger_deadline(void **state)
{
    struct world *w = *state;
    struct session s;
    struct client c;

    w->settings.linger_timeout_ms = 1;
    world_start(w);
    begin_session(w, w->client, &c, &s);
    session_close(&s); /* netd ends it, and the client does not close */
    UNTIL(w, connections(w) == 0);
    client_close(&c);
}

/* --- netd ends it, or cannot be reached --- */

static void ended_by_netd(void **state)
{
    struct world *w = *state;
    static char much[100000];
    struct session s;
    struct client c;
    char text[64];

    world_start(w);
    begin_session(w, w->client, &c, &s);
    client_send(w, &c, "unread", 6);
    assert_int_equal(send(s.fd, "netd error=session-limit\n", 25, 0), 25);
    session_close(&s);
    assert_int_equal(read_all(w, &c, text, sizeof(text)), 25);
    assert_string_equal(text, "netd error=session-limit\n");
    client_send(w, &c, much, sizeof(much)); /* discarded: no reset */
    UNTIL(w, recv(c.fd, text, 1, 0) == 0);
    client_close(&c);
    UNTIL(w, connections(w) == 0);
}

/* The first write tells that the client is gone, when netd has hung up already. */
static void answers_for_a_client_that_is_gone(void **state)
{
    struct world *w = *state;
    struct session s;
    struct client c;

    world_start(w);
    begin_session(w, w->client, &c, &s);
    (void)SSL_shutdown(c.ssl);
    UNTIL(w, session_read(&s, 100));
    assert_int_equal(s.end, 1);
    client_reset(&c);
    assert_int_equal(send(s.fd, "receipt\n", 8, 0), 8);
    session_close(&s);
    UNTIL(w, connections(w) == 0);
}

/* netd is gone: the client learns it by the end, without close_notify. */
static void netd_cannot_be_reached(void **state)
{
    struct world *w = *state;
    struct client c;
    char byte;
    int n;

    world_start(w);
    close_fd(&w->internal);
    c = client_begin(w, w->client);
    UNTIL(w, client_handshake(&c) == 1);
    UNTIL(w, (n = client_read(&c, &byte, 1)) != 0);
    assert_int_equal(n, -2);
    client_close(&c);
    UNTIL(w, connections(w) == 0);
}

static void netd_is_slow_to_accept(void **state)
{
    struct world *w = *state;
    struct client c[4];
    struct session s;

    world_listen_internal(w, 1);
    world_start(w);
    for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
        c[i] = client_begin(w, w->client);
        UNTIL(w, client_handshake(&c[i]) == 1);
        client_send(w, &c[i], "x", 1);
    }
    UNTIL(w, w->server.lists[CONNECTION_CONNECT].count == 2);
    for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
        UNTIL(w, session_accept(w, &s));
        session_greet(&s);
        UNTIL(w, session_has(&s, 1));
        session_close(&s);
    }
    for (size_t i = 0; i < ARRAY_SIZE(c); i++)
        client_close(&c[i]);
    UNTIL(w, connections(w) == 0);
}

/* --- Commands --- */

static void command(const struct world *w, enum tls_command command)
{
    const char byte = (char)command;

    assert_int_equal(send(w->control, &byte, 1, 0), 1);
}

static void drain(void **state)
{
    struct world *w = *state;
    struct client c[2];
    struct session s;

    world_start(w);
    begin_session(w, w->client, &c[0], &s);
    session_close(&s);
    client_close(&c[0]);
    UNTIL(w, connections(w) == 0);
    c[0] = client_begin(w, w->client);
    (void)client_handshake(&c[0]);
    UNTIL(w, connections(w) == 1);
    command(w, TLS_DRAIN);
    UNTIL(w, w->server.draining);
    assert_int_equal(w->server.listeners[0].fd, -1);
    UNTIL(w, client_handshake(&c[0]) == 1); /* it was accepted before */
    UNTIL(w, session_accept(w, &s));
    session_greet(&s);
    client_send(w, &c[0], "x", 1);
    UNTIL(w, session_has(&s, 1));
    assert_false(server_is_done(&w->server));
    session_close(&s);
    client_close(&c[0]);
    UNTIL(w, server_is_done(&w->server));
}

static void stop_lets_sessions_end(void **state)
{
    struct world *w = *state;
    struct client c;
    struct session s;
    char text[64];
    int fd;

    world_start(w);
    begin_session(w, w->client, &c, &s);
    fd = client_connect(w);
    UNTIL(w, connections(w) == 2);
    command(w, TLS_STOP);
    UNTIL(w, connections(w) == 1);
    assert_int_equal(send(s.fd, "receipt\n", 8, 0), 8);
    session_close(&s);
    assert_int_equal(read_all(w, &c, text, sizeof(text)), 8);
    UNTIL(w, server_is_done(&w->server)); /* although the client does not close */
    close(fd);
    client_close(&c);
}

static void end_at_once(void **state)
{
    struct world *w = *state;
    struct session s;
    struct client c;

    world_start(w);
    begin_session(w, w->client, &c, &s);
    if (random_below(2))
        command(w, TLS_END);
    else
        close_fd(&w->control);
    UNTIL(w, server_is_done(&w->server));
    session_close(&s);
    client_close(&c);
}

/* --- Anything --- */

static void anything_in_any_order(void **state)
{
    struct world *w = *state;
    uint8_t input[600];

    w->settings.refusals_per_second = 0;
    world_start(w);
    for (int round = random_rounds(300); round > 0; round--) {
        size_t length = 1 + random_below(sizeof(input));

        for (size_t i = 0; i < length; i++)
            input[i] = (uint8_t)random_next();
        /* Most begin with a handshake. */
        for (size_t i = 0; i < min_size(length, ACTORS) && random_below(4) > 0; i++)
            input[i] = (uint8_t)(12 * ACTORS + i);
        actors_run(w, input, length);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(session_with_receipt),
        TEST(tls_1_2),
        TEST(end_without_close_notify),
        TEST(end_within_a_record),
        TEST(truncated_before_the_greeting),
        TEST(key_updates_without_data),
        TEST(own_death),
        TEST(much_to_a_slow_netd),
        TEST(much_to_a_slow_client),
        TEST(one_byte_at_a_time),
        TEST(old_versions),
        TEST(minimum_version),
        TEST(renegotiation),
        TEST(no_tickets),
        TEST(no_tls),
        TEST(refusals_are_bounded),
        TEST(client_certificate),
        TEST(fingerprint),
        TEST(half_open_handshakes),
        TEST(handshake_deadline),
        TEST(connection_limit),
        TEST(linger_deadline),
        TEST(ended_by_netd),
        TEST(answers_for_a_client_that_is_gone),
        TEST(netd_cannot_be_reached),
        TEST(netd_is_slow_to_accept),
        TEST(drain),
        TEST(stop_lets_sessions_end),
        TEST(end_at_once),
        TEST(anything_in_any_order),
    };

    random_begin();
    return cmocka_run_group_tests_name("tls-server", tests, NULL, NULL);
}
