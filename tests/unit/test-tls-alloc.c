/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of OpenSSL's in a session of netd-tls fails once. Whatever comes of the session,
 * netd never takes a part of it for all, nothing is left of it, and others are served.
 */
#include "tls.h"

#include <openssl/crypto.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "random.h"

static bool in_server;
static size_t allocations, failing; /* of the server, since 0; the one that fails */

static bool fails(void)
{
    return in_server && allocations++ == failing;
}

static void *openssl_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails() ? NULL : malloc(size);
}

static void *openssl_realloc(void *p, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails() ? NULL : realloc(p, size);
}

static void openssl_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

static void step(struct world *w)
{
    in_server = true;
    CHECK(server_step(&w->server, 0) == 0);
    in_server = false;
}

/* One session, as far as it comes. Returns true if it came to a good end. */
static bool run_session(struct world *w, SSL_CTX *ctx)
{
    struct client c = client_begin(w, ctx);
    struct session s = {.fd = -1};
    bool sent = false, ended_well;

    for (unsigned turn = 0; turn < 40 && s.end == 0; turn++) {
        if (!sent && client_handshake(&c) == 1 && SSL_write(c.ssl, "complete\n", 9) == 9) {
            (void)SSL_shutdown(c.ssl);
            sent = true;
        }
        step(w);
        if (s.fd < 0 && session_accept(w, &s))
            session_greet(&s);
        if (s.fd >= 0)
            (void)session_read(&s, 4096);
    }
    ended_well = s.end == 1 && !session_tlv(&s, TLS_TLV_REFUSED);
    if (ended_well)
        CHECK(s.length == 9 && memcmp(s.data, "complete\n", 9) == 0);
    if (s.fd >= 0)
        session_close(&s);
    client_close(&c);
    return ended_well;
}

static void every_allocation_fails(void **state)
{
    size_t total = 0, stride = 1, good = 0;
    static struct world w;
    SSL_CTX *ctx;
    (void)state;

    world_init(&w);
    world_listener(&w)->client_ca = w.ca;
    w.settings.refusals_per_second = 0;
    world_start(&w);
    ctx = client_context(&w, &w.client_made);
    failing = SIZE_MAX;
    CHECK(run_session(&w, ctx));
    allocations = 0;
    CHECK(run_session(&w, ctx));
    total = allocations;
    assert_true(total > 100);
    stride = 1 + total / (size_t)random_rounds(1000);
    for (failing = random_below(stride); failing < total; failing += stride) {
        struct session s;

        allocations = 0;
        good += run_session(&w, ctx);
        while (session_accept(&w, &s))
            session_close(&s);
        UNTIL(&w, connections(&w) == 0);
    }
    print_message("%zu allocations, %zu sessions complete nevertheless\n", total, good);
    assert_true(good < total); /* some are needed */
    failing = SIZE_MAX;
    CHECK(run_session(&w, ctx));
    SSL_CTX_free(ctx);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_fails)};

    if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1)
        return EXIT_FAILURE;
    random_begin();
    return cmocka_run_group_tests_name("tls-alloc", tests, NULL, NULL);
}
