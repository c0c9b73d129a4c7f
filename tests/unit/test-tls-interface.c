/* SPDX-License-Identifier: MIT */
#include "netd-tls/interface.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

static const char *const names[] = {"*.example.com", "192.0.2.1"};
static const uint8_t fingerprints[2][TLS_FINGERPRINT_SIZE] = {{1, 2, 3}, {4, 5, 6}};

static struct tls_settings example(void)
{
    return (struct tls_settings){
        .connections_max = 1,
        .handshakes_max = 2,
        .handshake_timeout_ms = 3,
        .linger_timeout_ms = 4,
        .refusals_per_second = 5,
        .n_listeners = 2,
        .listeners = {{.id = 7,
                       .counters = 127,
                       .fd = TLS_FD_FIRST,
                       .min_minor = 3,
                       .internal = {AF_UNIX, "/run/netd/tls"},
                       .internal_length = 16,
                       .certificate = "/c.pem",
                       .key = "/k.pem",
                       .client_ca = "/ca.pem",
                       .client_names = names,
                       .n_client_names = 2,
                       .client_fingerprints = fingerprints,
                       .n_client_fingerprints = 2},
                      {.id = 63, .fd = -1, .min_minor = 2, .certificate = "/c", .key = "/k"}},
    };
}

static void round_trip(void **state)
{
    const struct tls_settings in = example();
    CLEANUP(close_fd) int fd = tls_settings_create(&in);
    struct tls_settings *out = NULL;
    const struct tls_listener_settings *l;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(tls_settings_load(&out, fd), 0);
    assert_int_equal(out->connections_max, 1);
    assert_int_equal(out->handshakes_max, 2);
    assert_int_equal(out->handshake_timeout_ms, 3);
    assert_int_equal(out->linger_timeout_ms, 4);
    assert_int_equal(out->refusals_per_second, 5);
    assert_int_equal(out->n_listeners, 2);
    l = &out->listeners[0];
    assert_int_equal(l->id, 7);
    assert_int_equal(l->counters, 127);
    assert_int_equal(l->fd, TLS_FD_FIRST);
    assert_int_equal(l->min_minor, 3);
    assert_int_equal(l->internal_length, 16);
    assert_string_equal(l->internal.sun_path, "/run/netd/tls");
    assert_string_equal(l->certificate, "/c.pem");
    assert_string_equal(l->key, "/k.pem");
    assert_string_equal(l->client_ca, "/ca.pem");
    assert_int_equal(l->n_client_names, 2);
    assert_string_equal(l->client_names[0], names[0]);
    assert_string_equal(l->client_names[1], names[1]);
    assert_int_equal(l->n_client_fingerprints, 2);
    assert_memory_equal(l->client_fingerprints, fingerprints, sizeof(fingerprints));
    l = &out->listeners[1];
    assert_int_equal(l->id, 63);
    assert_int_equal(l->fd, -1);
    assert_null(l->client_ca);
    assert_int_equal(l->n_client_names, 0);
    assert_int_equal(l->n_client_fingerprints, 0);
    free(out);
}

static void sealed(void **state)
{
    const struct tls_settings in = example();
    CLEANUP(close_fd) int fd = tls_settings_create(&in);

    (void)state;
    assert_int_equal(pwrite(fd, "", 1, 0), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void rejected_when_written(void **state)
{
    static char text[5000];
    const char *const long_names[] = {text};
    struct tls_settings in;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    in = example();
    in.n_listeners = TLS_LISTENERS_MAX + 1;
    assert_int_equal(tls_settings_create(&in), -EINVAL);
    in = example();
    in.listeners[0].id = TLS_LISTENERS_MAX;
    assert_int_equal(tls_settings_create(&in), -EINVAL);
    in = example();
    in.listeners[0].counters = TLS_COUNTERS_MAX;
    assert_int_equal(tls_settings_create(&in), -EINVAL);
    in = example();
    in.listeners[0].key = text;
    assert_int_equal(tls_settings_create(&in), -EINVAL);
    in = example();
    in.listeners[0].certificate = NULL;
    assert_int_equal(tls_settings_create(&in), -EINVAL);
    in = example();
    in.listeners[0].client_names = long_names;
    in.listeners[0].n_client_names = 1;
    assert_int_equal(tls_settings_create(&in), -EINVAL);
    in = example();
    in.listeners[0].n_client_names = TLS_NAMES_MAX + 1;
    assert_int_equal(tls_settings_create(&in), -EINVAL);
    in = example();
    in.listeners[0].n_client_fingerprints = TLS_FINGERPRINTS_MAX + 1;
    assert_int_equal(tls_settings_create(&in), -EINVAL);
}

/* Returns what tls_settings_load() makes of LENGTH bytes at DATA. */
static int load(const void *data, size_t length, struct tls_settings **ret)
{
    CLEANUP(close_fd) int fd = memfd_create("test", 0);

    assert_int_equal(write(fd, data, length), (ssize_t)length);
    return tls_settings_load(ret, fd);
}

/* Reads every byte that the settings point to: a sanitizer or valgrind sees one out of bounds. */
static uint32_t touch(const struct tls_settings *s)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < s->n_listeners; i++) {
        const struct tls_listener_settings *l = &s->listeners[i];

        sum += (uint32_t)(strlen(l->certificate) + strlen(l->key));
        sum += l->client_ca ? (uint32_t)strlen(l->client_ca) : 0;
        for (uint32_t n = 0; n < l->n_client_names; n++)
            sum += (uint32_t)strlen(l->client_names[n]);
        for (uint32_t n = 0; n < l->n_client_fingerprints; n++)
            sum += l->client_fingerprints[n][TLS_FINGERPRINT_SIZE - 1];
    }
    return sum;
}

/* Every length, and every byte another: accepted with all in bounds, or refused. */
static void malformed(void **state)
{
    const struct tls_settings in = example();
    CLEANUP(close_fd) int fd = tls_settings_create(&in);
    static const uint8_t flips[] = {1, 0x80, 0xff};
    struct tls_settings *out;
    uint8_t data[4096];
    struct stat st;
    size_t length;

    (void)state;
    assert_int_equal(fstat(fd, &st), 0);
    length = (size_t)st.st_size;
    assert_true(length < sizeof(data));
    assert_int_equal(pread(fd, data, length, 0), (ssize_t)length);
    for (size_t n = 0; n < length; n++)
        assert_int_equal(load(data, n, &out), -EBADMSG);
    data[length] = 0;
    assert_int_equal(load(data, length + 1, &out), -EBADMSG);
    for (size_t n = 0; n < length; n++)
        for (size_t i = 0; i < ARRAY_SIZE(flips); i++) {
            data[n] ^= flips[i];
            if (load(data, length, &out) == 0) {
                (void)touch(out);
                free(out);
            }
            data[n] ^= flips[i];
        }
    data[8] ^= 1; /* the version */
    assert_int_equal(load(data, length, &out), -EPROTONOSUPPORT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(sealed),
        cmocka_unit_test(rejected_when_written),
        cmocka_unit_test(malformed),
    };

    return cmocka_run_group_tests_name("tls-interface", tests, NULL, NULL);
}
