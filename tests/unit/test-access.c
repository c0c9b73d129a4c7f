/* SPDX-License-Identifier: MIT */
#include "common/access.h"

#include "common/util.h"

#include "access.h"
#include "random.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define RULES_MAX 10000

static struct access_rule rules[RULES_MAX];
static struct access_range ranges[ACCESS_RANGES_MAX(RULES_MAX)];

static void networks_are_parsed(void **state)
{
    static const struct {
        const char *text, *again; /* NULL: the same */
    } rows[] = {
        {"127.0.0.1", NULL},
        {"192.0.2.0/24", NULL},
        {"0.0.0.0/0", NULL},
        {"0.0.0.0", NULL},
        {"255.255.255.255", NULL},
        {"192.0.2.128/25", NULL},
        {"192.0.2.1/32", "192.0.2.1"},
        {"2001:db8::/32", NULL},
        {"2001:db8::1", NULL},
        {"2001:DB8:0::1/128", "2001:db8::1"},
        {"::/0", NULL},
        {"::", NULL},
        {"fe80::/10", NULL},
        {"8000::/1", NULL},
        {"::ffff:192.0.2.0/120", "192.0.2.0/24"},
        {"::ffff:192.0.2.1", "192.0.2.1"},
        {"::ffff:c000:201/128", "192.0.2.1"},
        {"::ffff:0:0/96", "0.0.0.0/0"},
        {"::fffe:0:0/95", NULL},
        {"::192.0.2.0/120", NULL},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char error[ACCESS_ERROR_MAX] = "", text[ACCESS_TEXT_MAX];
        struct access_network network, again;

        assert_int_equal(access_parse(rows[i].text, &network, error), 0);
        assert_string_equal(error, "");
        access_format(&network, text);
        assert_string_equal(text, rows[i].again ? rows[i].again : rows[i].text);
        assert_int_equal(access_parse(text, &again, error), 0);
        assert_memory_equal(&network, &again, sizeof(network));
    }
}

#define NO_NETWORK "is not an IP address or network"

static void networks_are_refused(void **state)
{
    static const struct {
        const char *text, *said;
    } rows[] = {
        {"", NO_NETWORK},
        {"/24", NO_NETWORK},
        {"localhost", NO_NETWORK},
        {"*", NO_NETWORK},
        {"192.0.2", NO_NETWORK},
        {"192.0.2.0.0/24", NO_NETWORK},
        {"192.0.2.01", NO_NETWORK},
        {"192.0.2.256/24", NO_NETWORK},
        {" 192.0.2.0/24", NO_NETWORK},
        {"192.0.2.0 /24", NO_NETWORK},
        {"[2001:db8::]/32", NO_NETWORK},
        {"fe80::1%lo", NO_NETWORK},
        {"2001:db8::/32/32", "has no prefix length between 0 and 128"},
        {"192.0.2.0/", "has no prefix length between 0 and 32"},
        {"192.0.2.0/33", "has no prefix length between 0 and 32"},
        {"192.0.2.0/024", "has no prefix length between 0 and 32"},
        {"192.0.2.0/-1", "has no prefix length between 0 and 32"},
        {"192.0.2.0/+24", "has no prefix length between 0 and 32"},
        {"192.0.2.0/24 ", "has no prefix length between 0 and 32"},
        {"192.0.2.0/255.255.255.0", "has no prefix length between 0 and 32"},
        {"192.0.2.0/18446744073709551640", "has no prefix length between 0 and 32"},
        {"2001:db8::/129", "has no prefix length between 0 and 128"},
        {"::ffff:192.0.2.0/129", "has no prefix length between 0 and 128"},
        {"192.0.2.1/24", "has host bits set; the network is 192.0.2.0/24"},
        {"192.0.2.129/25", "has host bits set; the network is 192.0.2.128/25"},
        {"0.0.0.1/0", "has host bits set; the network is 0.0.0.0/0"},
        {"2001:db8::1/32", "has host bits set; the network is 2001:db8::/32"},
        {"::ffff:192.0.2.1/120", "has host bits set; the network is 192.0.2.0/24"},
        {"::ffff:192.0.2.0/95", "has host bits set; the network is ::fffe:0:0/95"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NO_NETWORK},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        char error[ACCESS_ERROR_MAX], expected[ACCESS_ERROR_MAX];
        struct access_network network, untouched;

        memset(&network, 0xaa, sizeof(network));
        untouched = network;
        assert_int_equal(access_parse(rows[i].text, &network, error), -EINVAL);
        snprintf(expected, sizeof(expected), "'%s' %s", rows[i].text, rows[i].said);
        assert_string_equal(error, expected);
        assert_memory_equal(&network, &untouched, sizeof(network));
    }
}

static void errors_are_one_safe_line(void **state)
{
    char text[1000], error[ACCESS_ERROR_MAX];
    struct access_network network;

    (void)state;
    assert_int_equal(access_parse("\x1b[31m\n", &network, error), -EINVAL);
    assert_string_equal(error, "'\\x1b[31m\\x0a' " NO_NETWORK);
    memset(text, '\n', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(access_parse(text, &network, error), -EINVAL);
    assert_true(strlen(error) < sizeof(error) && strstr(error, "' " NO_NETWORK));
}

/* Rules in a text: "+" allows, "-" denies. Returns how many; text is cut up. */
static size_t rules_of(const char *text)
{
    char copy[512], error[ACCESS_ERROR_MAX], *next, *word;
    size_t count = 0;

    strcpy(copy, text);
    for (word = strtok_r(copy, " ", &next); word; word = strtok_r(NULL, " ", &next)) {
        assert_int_equal(access_parse(word + 1, &rules[count].network, error), 0);
        rules[count++].allow = *word == '+';
    }
    return count;
}

static struct access build(size_t count)
{
    char error[ACCESS_ERROR_MAX];
    struct access access;

    assert_int_equal(access_build(&access, ranges, rules, count, error), 0);
    assert_true(access_ranges_good(&access, ranges, count));
    return access;
}

/* The address TEXT, as it comes through an IPv4 socket, and in IPv6 form. */
static bool allows(const struct access *access, const char *text)
{
    char error[ACCESS_ERROR_MAX];
    struct access_network network;
    struct endpoint e;

    assert_int_equal(access_parse(text, &network, error), 0);
    assert_int_equal(network.prefix, 128);
    e = access_endpoint(network.ip);
    return access_allows(access, ranges, &e);
}

static void longest_match_decides(void **state)
{
    static const struct {
        const char *rules, *allowed[4], *denied[4];
    } rows[] = {
        {"", {"192.0.2.1", "::1", "255.255.255.255"}, {NULL}},
        {"+192.0.2.0/24", {"192.0.2.0", "192.0.2.255"}, {"192.0.1.255", "192.0.3.0", "::1"}},
        {"-192.0.2.0/24", {"192.0.1.255", "192.0.3.0", "::1"}, {"192.0.2.0", "192.0.2.255"}},
        {"+127.0.0.1", {"127.0.0.1", "::ffff:127.0.0.1"}, {"127.0.0.0", "127.0.0.2", "::1"}},
        {"+::ffff:192.0.2.0/120", {"192.0.2.7"}, {"192.0.3.7", "::c000:207"}},
        {"+10.0.0.0/8 -10.1.0.0/16 +10.1.2.0/24 -10.1.2.3",
         {"10.0.0.0", "10.1.2.2", "10.1.2.4", "10.255.255.255"},
         {"10.1.1.255", "10.1.2.3", "10.1.3.0", "11.0.0.0"}},
        {"-10.1.2.3 +10.1.2.0/24 -10.1.0.0/16 +10.0.0.0/8",
         {"10.0.0.0", "10.1.2.2", "10.1.2.4", "10.255.255.255"},
         {"10.1.1.255", "10.1.2.3", "10.1.3.0", "11.0.0.0"}},
        {"+0.0.0.0/0", {"0.0.0.0", "255.255.255.255"}, {"::", "::1", "::fffe:ffff:ffff"}},
        {"+::/0", {"::", "::1", "ffff::", "::1:0:0:0"}, {"0.0.0.0", "192.0.2.1"}},
        {"-::/0", {"0.0.0.0", "192.0.2.1"}, {"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
        {"+::/64 +192.0.2.1", {"::1", "192.0.2.1", "::1:0:0:0"}, {"192.0.2.2", "0:0:0:1::"}},
        {"+::/0 -0.0.0.0/0", {"::1"}, {"192.0.2.1"}},
        {"+::/0 +0.0.0.0/0", {"::1", "192.0.2.1"}, {NULL}},
        {"+192.0.2.1 +192.0.2.1", {"192.0.2.1"}, {"192.0.2.2"}},
        {"+255.255.255.255", {"255.255.255.255"}, {"0.0.0.0", "::1:0:0:0"}},
        {"+ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
         {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
         {"::", "255.255.255.255"}},
        {"-192.0.2.0/25 -192.0.2.128/25",
         {"192.0.1.255", "192.0.3.0"},
         {"192.0.2.127", "192.0.2.128"}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct access access = build(rules_of(rows[i].rules));

        for (size_t k = 0; k < 4 && rows[i].allowed[k]; k++)
            assert_true(allows(&access, rows[i].allowed[k]));
        for (size_t k = 0; k < 4 && rows[i].denied[k]; k++)
            assert_false(allows(&access, rows[i].denied[k]));
    }
}

static void a_unix_peer_matches_no_rule(void **state)
{
    static const struct endpoint peer = {.family = AF_UNIX};
    struct access access = build(0);

    (void)state;
    assert_true(access_allows(&access, ranges, &peer));
    access = build(rules_of("-::/0 -0.0.0.0/0"));
    assert_true(access_allows(&access, ranges, &peer));
    access = build(rules_of("+::/0 +0.0.0.0/0"));
    assert_false(access_allows(&access, ranges, &peer));
}

static void a_tie_is_refused(void **state)
{
    static const struct {
        const char *rules, *error;
    } rows[] = {
        {"+192.0.2.0/24 -192.0.2.0/24", "'192.0.2.0/24' is both allowed and denied"},
        {"-192.0.2.1 +10.0.0.0/8 +::ffff:192.0.2.1/128", "'192.0.2.1' is both allowed and denied"},
        {"+2001:db8::/32 +2001:db8::/32 -2001:db8::/32",
         "'2001:db8::/32' is both allowed and denied"},
        {"+::/0 -::/0", "'::/0' is both allowed and denied"},
        {"-0.0.0.0/0 +0.0.0.0/0", "'0.0.0.0/0' is both allowed and denied"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct access access = {.ranges = 77}, untouched = access;
        char error[ACCESS_ERROR_MAX];

        assert_int_equal(access_build(&access, ranges, rules, rules_of(rows[i].rules), error),
                         -EINVAL);
        assert_string_equal(error, rows[i].error);
        assert_memory_equal(&access, &untouched, sizeof(access));
    }
}

/* Each prefix length once, all within each other, around an IPv4 address. */
static void networks_nest_to_the_last_bit(void **state)
{
    static const uint8_t ip[16] = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1};
    struct access access;

    (void)state;
    for (unsigned prefix = 0; prefix <= 128; prefix++) {
        struct access_network *n = &rules[128 - prefix].network;

        memset(n, 0, sizeof(*n));
        n->prefix = (uint8_t)prefix;
        for (unsigned i = 0; i < prefix; i++)
            n->ip[i / 8] = (uint8_t)(n->ip[i / 8] | (ip[i / 8] & 0x80 >> i % 8));
        rules[128 - prefix].allow = prefix % 2;
    }
    access = build(129);
    for (unsigned bit = 0; bit <= 128; bit++) {
        uint8_t other[16];
        struct endpoint e;

        memcpy(other, ip, sizeof(other));
        if (bit < 128) /* matches the first BIT bits, and no more */
            other[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
        e = access_endpoint(other);
        assert_int_equal(access_allows(&access, ranges, &e), bit % 2);
    }
}

/* A network in a small part of all addresses, so that many of them meet. */
static void random_network(struct access_network *ret)
{
    static const unsigned lows[] = {0, 8, 88, 96, 120};

    memset(ret, 0, sizeof(*ret));
    if (random_below(4) > 0)
        ret->ip[10] = ret->ip[11] = 0xff;
    ret->ip[0] = (uint8_t)(random_below(8) ? 0 : random_next());
    ret->ip[12] = (uint8_t)(random_below(2) ? 10 : random_next());
    ret->ip[15] = (uint8_t)random_next();
    ret->prefix = (uint8_t)(lows[random_below(5)] + random_below(9));
    for (unsigned i = ret->prefix; i < 128; i++)
        ret->ip[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
}

/* The address AT places from where the network begins, or its last one is. */
static void check_around(const struct access *access, size_t count, const struct access_network *n,
                         bool last, int at)
{
    uint8_t ip[16];
    struct endpoint e;

    memcpy(ip, n->ip, sizeof(ip));
    for (unsigned i = n->prefix; last && i < 128; i++)
        ip[i / 8] |= (uint8_t)(0x80 >> i % 8);
    for (int i = 15; at != 0 && i >= 0; i--) {
        ip[i] = (uint8_t)(ip[i] + at);
        if (ip[i] != (at > 0 ? 0 : 0xff))
            break;
    }
    e = access_endpoint(ip);
    assert_int_equal(access_allows(access, ranges, &e), access_expect(rules, count, ip));
}

static void any_rules_decide_as_said(void **state)
{
    char error[ACCESS_ERROR_MAX];

    (void)state;
    for (int i = random_rounds(3000); i > 0; i--) {
        size_t count = random_below(random_below(8) ? 12 : 200);
        struct access access;

        for (size_t k = 0; k < count; k++) {
            random_network(&rules[k].network);
            rules[k].allow = rules[k].network.prefix & 1 ? random_next() >> 32 & 1 : k & 1;
        }
        if (access_build(&access, ranges, rules, count, error) < 0)
            continue; /* a tie */
        assert_true(access_ranges_good(&access, ranges, count));
        for (size_t k = 0; k < count; k++)
            for (int at = -1; at <= 1; at++) {
                check_around(&access, count, &rules[k].network, false, at);
                check_around(&access, count, &rules[k].network, true, at);
            }
    }
}

static void ten_thousand_rules(void **state)
{
    struct access access;

    (void)state;
    for (unsigned i = 0; i < RULES_MAX; i++) {
        uint8_t *ip = rules[i].network.ip;

        memset(&rules[i], 0, sizeof(rules[i]));
        ip[10] = ip[11] = 0xff;
        ip[12] = 10;
        ip[13] = (uint8_t)(i >> 7);
        ip[14] = (uint8_t)(i << 1);
        rules[i].network.prefix = 120;
        rules[i].allow = true;
    }
    access = build(RULES_MAX);
    assert_int_equal(access.ranges, 2 * RULES_MAX + 1);
    for (unsigned i = 0; i < 2 * RULES_MAX; i++) {
        struct endpoint e = {.family = AF_INET, .ip = {10, (uint8_t)(i >> 8), (uint8_t)i, 77}};

        assert_int_equal(access_allows(&access, ranges, &e), i % 2 == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_are_parsed),
        cmocka_unit_test(networks_are_refused),
        cmocka_unit_test(errors_are_one_safe_line),
        cmocka_unit_test(longest_match_decides),
        cmocka_unit_test(a_unix_peer_matches_no_rule),
        cmocka_unit_test(a_tie_is_refused),
        cmocka_unit_test(networks_nest_to_the_last_bit),
        cmocka_unit_test(any_rules_decide_as_said),
        cmocka_unit_test(ten_thousand_rules),
    };

    random_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
