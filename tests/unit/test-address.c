/* SPDX-License-Identifier: MIT */
#include "common/address.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

static struct endpoint endpoint_of(const char *ip, uint16_t port, uint32_t scope)
{
    struct sockaddr_storage sa = {0};
    struct sockaddr_in *sin = (struct sockaddr_in *)&sa;
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&sa;
    struct endpoint e, again;
    socklen_t length;

    if (inet_pton(AF_INET, ip, &sin->sin_addr) == 1) {
        sin->sin_family = AF_INET;
        sin->sin_port = htons(port);
        length = sizeof(*sin);
    } else {
        assert_int_equal(inet_pton(AF_INET6, ip, &sin6->sin6_addr), 1);
        sin6->sin6_family = AF_INET6;
        sin6->sin6_port = htons(port);
        sin6->sin6_scope_id = scope;
        length = sizeof(*sin6);
    }
    memset(&e, 0xaa, sizeof(e));
    endpoint_from_sockaddr(&e, &sa, length);
    /* And back. */
    length = endpoint_to_sockaddr(&e, &sa);
    memset(&again, 0x55, sizeof(again));
    endpoint_from_sockaddr(&again, &sa, length);
    assert_memory_equal(&again, &e, sizeof(e));
    return e;
}

static void addresses_are_written(void **state)
{
    static const struct {
        const char *ip;
        uint16_t port;
        uint32_t scope;
        const char *address;
        const char *text;
    } rows[] = {
        {"192.0.2.1", 4711, 0, "192.0.2.1", "192.0.2.1:4711"},
        {"0.0.0.0", 0, 0, "0.0.0.0", "0.0.0.0:0"},
        {"255.255.255.255", 65535, 0, "255.255.255.255", "255.255.255.255:65535"},
        {"2001:db8::1", 4711, 0, "2001:db8::1", "[2001:db8::1]:4711"},
        {"::", 0, 0, "::", "[::]:0"},
        {"::1", 3000, 0, "::1", "[::1]:3000"},
        /* The same peer is the same text, whichever kind of socket it came through. */
        {"::ffff:192.0.2.1", 4711, 0, "192.0.2.1", "192.0.2.1:4711"},
        {"::ffff:192.0.2.1", 4711, 7, "192.0.2.1", "192.0.2.1:4711"},
        {"::192.0.2.1", 1, 0, "::192.0.2.1", "[::192.0.2.1]:1"},
        /* No interface has this index. */
        {"fe80::1", 1, 4294967295, "fe80::1%4294967295", "[fe80::1%4294967295]:1"},
        {"fe80::1", 1, 0, "fe80::1", "[fe80::1]:1"},
        {"2001:db8::1", 1, 7, "2001:db8::1", "[2001:db8::1]:1"},
        {"2001:db8:1111:2222:3333:4444:5555:6666", 65535, 0,
         "2001:db8:1111:2222:3333:4444:5555:6666",
         "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct endpoint e = endpoint_of(rows[i].ip, rows[i].port, rows[i].scope);
        char address[ENDPOINT_ADDRESS_MAX];
        char text[ENDPOINT_TEXT_MAX];

        endpoint_address(&e, address);
        endpoint_format(&e, text);
        assert_string_equal(address, rows[i].address);
        assert_string_equal(text, rows[i].text);
        assert_int_equal(e.port, rows[i].port);
    }
}

static void scopes_have_interface_names(void **state)
{
    char name[IF_NAMESIZE];
    char expected[ENDPOINT_TEXT_MAX];
    char text[ENDPOINT_TEXT_MAX];
    struct endpoint e;

    (void)state;
    if (!if_indextoname(1, name))
        skip(); /* not even a loopback interface */
    e = endpoint_of("fe80::1", 80, 1);
    endpoint_format(&e, text);
    snprintf(expected, sizeof(expected), "[fe80::1%%%s]:80", name);
    assert_string_equal(text, expected);
}

static void longest_text_has_room(void **state)
{
    /* The longest address, and the longest name of an interface, cannot be had together. */
    const char longest[] = "[fe80:1111:2222:3333:4444:5555:255.255.255.255%123456789012345]:65535";

    (void)state;
    assert_true(sizeof(longest) <= ENDPOINT_TEXT_MAX);
    assert_true(INET6_ADDRSTRLEN + IF_NAMESIZE <= ENDPOINT_ADDRESS_MAX);
}

static void everything_else_is_unix(void **state)
{
    static const struct endpoint unix_peer = {.family = AF_UNIX};
    struct sockaddr_storage sa = {.ss_family = AF_UNIX};
    struct endpoint e;
    char text[ENDPOINT_TEXT_MAX];

    (void)state;
    /* What accept(2) gives for a client without a name. */
    endpoint_from_sockaddr(&e, &sa, sizeof(sa_family_t));
    assert_memory_equal(&e, &unix_peer, sizeof(e));
    endpoint_format(&e, text);
    assert_string_equal(text, "unix");
    endpoint_address(&e, text);
    assert_string_equal(text, "unix");

    memset(&sa, 0xff, sizeof(sa));
    sa.ss_family = AF_UNIX;
    endpoint_from_sockaddr(&e, &sa, sizeof(struct sockaddr_un));
    assert_memory_equal(&e, &unix_peer, sizeof(e));
    sa.ss_family = AF_NETLINK;
    endpoint_from_sockaddr(&e, &sa, sizeof(sa));
    assert_memory_equal(&e, &unix_peer, sizeof(e));
    /* A length that does not hold what the family promises. */
    sa.ss_family = AF_INET6;
    endpoint_from_sockaddr(&e, &sa, sizeof(struct sockaddr_in6) - 1);
    assert_memory_equal(&e, &unix_peer, sizeof(e));
    sa.ss_family = AF_INET;
    endpoint_from_sockaddr(&e, &sa, sizeof(struct sockaddr_in) - 1);
    assert_memory_equal(&e, &unix_peer, sizeof(e));
    endpoint_from_sockaddr(&e, &sa, 0);
    assert_memory_equal(&e, &unix_peer, sizeof(e));
}

static void same_addresses(void **state)
{
    static const struct {
        const char *a, *b;
        uint32_t scope_a, scope_b;
        bool same;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1", 0, 0, true},
        {"192.0.2.1", "192.0.2.2", 0, 0, false},
        {"192.0.2.1", "::ffff:192.0.2.1", 0, 0, true},
        {"2001:db8::1", "2001:db8::1", 0, 0, true},
        {"2001:db8::1", "2001:db8::2", 0, 0, false},
        {"1.2.3.4", "102:304::", 0, 0, false}, /* the same bytes */
        {"fe80::1", "fe80::1", 2, 2, true},
        {"fe80::1", "fe80::1", 2, 3, false},
    };
    struct endpoint first = {.family = AF_UNIX}, second = {.family = AF_UNIX};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct endpoint a = endpoint_of(rows[i].a, 1, rows[i].scope_a);
        struct endpoint b = endpoint_of(rows[i].b, 2, rows[i].scope_b);

        assert_int_equal(endpoint_same_address(&a, &b), rows[i].same);
        assert_int_equal(endpoint_same_address(&b, &a), rows[i].same);
    }
    assert_true(endpoint_same_address(&first, &second));
}

/* Asserts that HOST resolves to EXPECTED first, NULL: to nothing. */
static void check_resolve(const char *host, bool passive, const char *expected)
{
    struct addrinfo *list = NULL;
    struct sockaddr_storage sa = {0};
    struct endpoint e;
    char text[ENDPOINT_TEXT_MAX];
    int r = address_resolve(host, 4711, passive ? AI_PASSIVE : 0, &list);

    if (!expected) {
        if (r == 0)
            fail_msg("'%s' resolves", host);
        assert_null(list);
        assert_non_null(gai_strerror(r));
        return;
    }
    if (r != 0)
        fail_msg("'%s': %s", host, gai_strerror(r));
    for (const struct addrinfo *a = list; a; a = a->ai_next)
        assert_int_equal(a->ai_socktype, SOCK_STREAM);
    memcpy(&sa, list->ai_addr, list->ai_addrlen);
    endpoint_from_sockaddr(&e, &sa, list->ai_addrlen);
    freeaddrinfo(list);
    endpoint_format(&e, text);
    assert_string_equal(text, expected);
}

static void hosts_resolve(void **state)
{
    static const struct {
        const char *host;
        const char *expected;
    } rows[] = {
        {"127.0.0.1", "127.0.0.1:4711"},
        {"0.0.0.0", "0.0.0.0:4711"},
        {"::1", "[::1]:4711"},
        {"[::1]", "[::1]:4711"},
        {"[2001:db8::1]", "[2001:db8::1]:4711"},
        {"::ffff:192.0.2.1", "192.0.2.1:4711"},
        {"", NULL},
        {"[]", NULL},
        {"[", NULL},
        {"]", NULL},
        {"[::1", NULL},
        {"::1]", NULL},
        {"[[::1]]", NULL},
        {"[127.0.0.1]", NULL},
        {"[localhost]", NULL},
        {"[*]", NULL},
        {"**", NULL},
        {"::1::", NULL},
        {"127.0.0.1:80", NULL},
        {"no such.invalid", NULL},
    };
    char too_long[HOST_MAX + 2];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        check_resolve(rows[i].host, false, rows[i].expected);
        check_resolve(rows[i].host, true, rows[i].expected);
    }
    memset(too_long, '1', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    check_resolve(too_long, true, NULL);
    too_long[0] = '[';
    too_long[sizeof(too_long) - 2] = ']';
    check_resolve(too_long, true, NULL);
}

static void scopes_resolve(void **state)
{
    char name[IF_NAMESIZE];
    char host[64];
    char expected[ENDPOINT_TEXT_MAX];

    (void)state;
    if (!if_indextoname(1, name))
        skip();
    snprintf(expected, sizeof(expected), "[fe80::1%%%s]:4711", name);
    snprintf(host, sizeof(host), "fe80::1%%%s", name);
    check_resolve(host, false, expected);
    snprintf(host, sizeof(host), "[fe80::1%%%s]", name);
    check_resolve(host, false, expected);
    check_resolve("[fe80::1%1]", true, expected);
}

static void names_resolve(void **state)
{
    struct addrinfo *list;

    (void)state;
    if (address_resolve("localhost", 80, 0, &list) != 0)
        skip(); /* no /etc/hosts */
    freeaddrinfo(list);
    assert_int_equal(address_resolve("localhost", 80, AI_PASSIVE, &list), 0);
    freeaddrinfo(list);
}

static void star_is_every_address_for_listening_only(void **state)
{
    struct addrinfo *list;

    (void)state;
    check_resolve("*", true, "[::]:4711");
    check_resolve("*", false, NULL);
    assert_int_equal(address_resolve("*", 0, AI_PASSIVE, &list), 0);
    assert_null(list->ai_next);
    freeaddrinfo(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_written),
        cmocka_unit_test(scopes_have_interface_names),
        cmocka_unit_test(longest_text_has_room),
        cmocka_unit_test(everything_else_is_unix),
        cmocka_unit_test(same_addresses),
        cmocka_unit_test(hosts_resolve),
        cmocka_unit_test(scopes_resolve),
        cmocka_unit_test(names_resolve),
        cmocka_unit_test(star_is_every_address_for_listening_only),
    };

    return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
