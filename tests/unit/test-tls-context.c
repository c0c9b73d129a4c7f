/* SPDX-License-Identifier: MIT */
#include "netd-tls/context.h"

#include "tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "netd-tls/identity.h"

struct files {
    char directory[32];
    struct made authority, server, other;
};

static int setup(void **state)
{
    static struct files f;

    strcpy(f.directory, "/tmp/test-tls-XXXXXX");
    make_directory(f.directory);
    f.authority = make_certificate("ca", NULL, NULL, -DAY, DAY);
    f.server = make_certificate("server", "DNS:localhost", &f.authority, -DAY, DAY);
    f.other = make_certificate("other", NULL, &f.authority, -DAY, DAY);
    write_certificate(f.directory, "server", &f.server);
    write_certificate(f.directory, "ca", &f.authority);
    write_key(f.directory, "key", &f.server, NULL);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct files *f = *state;

    made_free(&f->authority);
    made_free(&f->server);
    made_free(&f->other);
    remove_directory(f->directory);
    return 0;
}

static void write_text(const struct files *f, const char *name, const char *text)
{
    FILE *file = fopen(path_of(f->directory, name), "w");

    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

/* Appends the file FROM to TO. */
static void append(const struct files *f, const char *to, const char *from)
{
    char command[512];

    snprintf(command, sizeof(command), "cat %s >>%s", path_of(f->directory, from),
             path_of(f->directory, to));
    CHECK(system(command) == 0); /* NOLINT(cert-env33-c) */
}

/* Loads the files of these names (CA may be NULL). Returns the error, without the directory; ""
 * if there is none. */
static const char *load(const struct files *f, const char *certificate, const char *key,
                        const char *ca)
{
    static char error[TLS_ERROR_MAX + 1];
    const struct tls_listener_settings l = {
        .min_minor = 2,
        .certificate = path_of(f->directory, certificate),
        .key = path_of(f->directory, key),
        .client_ca = ca ? path_of(f->directory, ca) : NULL,
    };
    struct context context = {0};
    int r = context_init(&context, &l, error);

    if (r == 0) {
        context_deinit(&context);
        return "";
    }
    assert_int_equal(r, -EINVAL);
    assert_null(context.ssl);
    assert_int_equal(ERR_peek_error(), 0);
    assert_memory_equal(error, f->directory, strlen(f->directory));
    return error + strlen(f->directory) + 1;
}

static void good_files(void **state)
{
    const struct files *f = *state;

    assert_string_equal(load(f, "server", "key", NULL), "");
    assert_string_equal(load(f, "server", "key", "ca"), "");
    write_text(f, "all", "text before is skipped\n");
    append(f, "all", "key");
    append(f, "all", "server");
    append(f, "all", "ca");
    assert_string_equal(load(f, "all", "all", "all"), "");
}

static void missing_files(void **state)
{
    const struct files *f = *state;

    assert_string_equal(load(f, "none", "key", NULL), "none.pem: No such file or directory");
    assert_string_equal(load(f, "server", "none", NULL), "none.pem: No such file or directory");
    assert_string_equal(load(f, "server", "key", "none"), "none.pem: No such file or directory");
    assert_string_equal(load(f, "server", "key", "no\nne"),
                        "no\\x0ane.pem: No such file or directory");
    CHECK(mkdir(path_of(f->directory, "folder"), 0700) == 0);
    assert_string_equal(load(f, "folder", "key", NULL), "folder.pem: Is a directory");
    CHECK(symlink("loop.pem", path_of(f->directory, "loop")) == 0);
    assert_string_equal(load(f, "loop", "key", NULL),
                        "loop.pem: Too many levels of symbolic links");
}

static void not_pem(void **state)
{
    const struct files *f = *state;

    write_text(f, "empty", "");
    write_text(f, "text", "no PEM\n");
    write_text(f, "cut", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    write_text(f, "bad", "-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n");
    write_text(f, "badkey", "-----BEGIN PRIVATE KEY-----\nMIIBAAAA\n-----END PRIVATE KEY-----\n");
    for (unsigned i = 0; i < 2; i++) {
        const char *name = i ? "text" : "empty";
        char expected[128];

        snprintf(expected, sizeof(expected),
                 "%s.pem: no certificate in PEM format (OpenSSL: no start line)", name);
        assert_string_equal(load(f, name, "key", NULL), expected);
        assert_string_equal(load(f, "server", "key", name), expected);
        snprintf(expected, sizeof(expected), "%s.pem: no key in PEM format (OpenSSL: ", name);
        assert_memory_equal(load(f, "server", name, NULL), expected, strlen(expected));
    }
    assert_memory_equal(load(f, "cut", "key", NULL), "cut.pem: cannot read the certificate: ", 38);
    assert_memory_equal(load(f, "bad", "key", NULL), "bad.pem: cannot read the certificate: ", 38);
    assert_memory_equal(load(f, "server", "badkey", NULL), "badkey.pem: ", 12);
    assert_memory_equal(load(f, "server", "key", "bad"),
                        "bad.pem: cannot read a certificate: ", 36);
    assert_memory_equal(load(f, "key", "key", NULL), "key.pem: no certificate in PEM format", 37);
    assert_memory_equal(load(f, "server", "server", NULL), "server.pem: no key in PEM format", 32);
    append(f, "ca", "cut");
    assert_memory_equal(load(f, "server", "key", "ca"), "ca.pem: cannot read a certificate: ", 35);
    write_certificate(f->directory, "ca", &f->authority);
    write_certificate(f->directory, "chain", &f->server);
    append(f, "chain", "bad");
    assert_memory_equal(load(f, "chain", "key", NULL),
                        "chain.pem: cannot read a certificate of the chain: ", 51);
}

static void wrong_key(void **state)
{
    const struct files *f = *state;
    char expected[256];

    write_key(f->directory, "other", &f->other, NULL);
    snprintf(expected, sizeof(expected),
             "other.pem: not the key of the certificate %s (OpenSSL: key values mismatch)",
             path_of(f->directory, "server"));
    assert_string_equal(load(f, "server", "other", NULL), expected);
}

/* Nobody is asked for a passphrase: there may be a terminal. */
static void encrypted_key(void **state)
{
    const struct files *f = *state;
    const char *expected =
        "locked.pem: the key is encrypted, and netd has no passphrase (OpenSSL: ";

    write_key(f->directory, "locked", &f->server, "secret");
    assert_memory_equal(load(f, "server", "locked", NULL), expected, strlen(expected));
}

static void expired(void **state)
{
    const struct files *f = *state;
    struct made old = make_certificate("old", NULL, &f->authority, -2 * DAY, -DAY);
    struct tls_listener_settings l = {.min_minor = 2};
    char error[TLS_ERROR_MAX + 1] = "";
    struct context context;

    write_certificate(f->directory, "old", &old);
    write_key(f->directory, "oldkey", &old, NULL);
    l.certificate = path_of(f->directory, "old");
    l.key = path_of(f->directory, "oldkey");
    assert_int_equal(context_init(&context, &l, error), 0);
    assert_true(context.expired);
    assert_in_range(time(NULL) - context.not_after, DAY - 60, DAY + 60);
    context_explain_expired(&context, &l, error);
    assert_non_null(strstr(error, "old.pem: the certificate expired at 20"));
    context_deinit(&context);
    made_free(&old);
}

static void dns_names(void **state)
{
    static const struct {
        const char *wanted, *name;
        bool matches;
    } cases[] = {
        {"a.example.com", "a.example.com", true},
        {"a.example.com", "A.Example.COM", true},
        {"a.example.com.", "a.example.com", true},
        {"a.example.com", "b.example.com", false},
        {"a.example.com", "a.example.co", false},
        {"a.example.com", "a.example.comx", false},
        {"*.example.com", "a.example.com", true},
        {"*.example.com", "*.example.com", true},
        {"*.example.com", "a.b.example.com", false},
        {"*.example.com", "example.com", false},
        {"*.example.com", ".example.com", false},
        {"a.example.com", "*.example.com", true},
        {"a.b.example.com", "*.example.com", false},
        {"a.example.com", "a*.example.com", false},
        {"a.example.com", "*", false},
        {"*", "a", false},
        {"localhost", "localhost", true},
        {"localhost", "*.localhost", false},
        {"a", "", false},
        {"", "", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (identity_dns_matches(cases[i].wanted, cases[i].name, strlen(cases[i].name)) !=
            cases[i].matches)
            fail_msg("%s and %s", cases[i].wanted, cases[i].name);
    assert_false(identity_dns_matches("a.example.com", "a.example.com\0.evil", 19));
}

/* Returns what identity_check() says of a certificate with NAMES where NAME is admitted. */
static int check_name(const struct files *f, const char *names, const char *name)
{
    struct made m = make_certificate("name", names, &f->authority, -DAY, DAY);
    const struct tls_listener_settings l = {.client_names = &name, .n_client_names = 1};
    int result = identity_check(m.certificate, &l);

    made_free(&m);
    return result;
}

static void names_of_certificates(void **state)
{
    const struct files *f = *state;

    assert_int_equal(check_name(f, "DNS:a,DNS:b.example.com", "b.example.com"), X509_V_OK);
    assert_int_equal(check_name(f, "IP:192.0.2.7", "192.0.2.7"), X509_V_OK);
    assert_int_equal(check_name(f, "IP:2001:db8::7", "2001:DB8:0::7"), X509_V_OK);
    assert_int_equal(check_name(f, "IP:192.0.2.7", "192.0.2.8"), X509_V_ERR_HOSTNAME_MISMATCH);
    assert_int_equal(check_name(f, "DNS:192.0.2.7", "192.0.2.8"), X509_V_ERR_HOSTNAME_MISMATCH);
    assert_int_equal(
        check_name(f, "email:a@b.example.com,URI:https://b.example.com/", "b.example.com"),
        X509_V_ERR_HOSTNAME_MISMATCH);
    /* The subject's common name is not a name. */
    assert_int_equal(check_name(f, NULL, "name"), X509_V_ERR_HOSTNAME_MISMATCH);
}

/* Whatever stands in a certificate, the texts are printable ASCII. */
static void hostile_texts(void **state)
{
    static const char *const names[] = {"a\nb", "\xc3\xbc,=+\"", "x\x1b[31m", "\xe2\x80\xae"};
    const struct tls_listener_settings l = {0};
    const struct files *f = *state;
    struct identity identity;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct made m = make_certificate(names[i], NULL, &f->authority, -DAY, DAY);
        const char *const texts[] = {identity.subject, identity.common_name};

        identity_describe(m.certificate, &l, &identity);
        for (size_t t = 0; t < ARRAY_SIZE(texts); t++) {
            assert_true(texts[t][0] != '\0');
            for (const char *p = texts[t]; *p; p++)
                assert_in_range(*p, 0x20, 0x7e);
        }
        assert_string_equal(identity.name, "");
        made_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files),    cmocka_unit_test(missing_files),
        cmocka_unit_test(not_pem),       cmocka_unit_test(wrong_key),
        cmocka_unit_test(encrypted_key), cmocka_unit_test(expired),
        cmocka_unit_test(dns_names),     cmocka_unit_test(names_of_certificates),
        cmocka_unit_test(hostile_texts),
    };

    return cmocka_run_group_tests_name("tls-context", tests, setup, teardown);
}
