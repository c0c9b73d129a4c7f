/* SPDX-License-Identifier: MIT */
#include "common/access.h"

#include "common/escape.h"
#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BITS      128
#define BITS_IPV4 32

/* Nesting depth: one network of each prefix length from 0 to 128, and two implicit ones. */
#define DEPTH_MAX (BITS + 3)

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};
static const struct access_network all_ipv4 = {{[10] = 0xff, [11] = 0xff}, BITS - BITS_IPV4};

static void map_ipv4(uint8_t ret[static 16], const uint8_t ip[static 4])
{
    memcpy(ret, mapped_prefix, sizeof(mapped_prefix));
    memcpy(ret + sizeof(mapped_prefix), ip, 4);
}

/* NETWORK has no host bits set, so that a prefix shorter than 96 cannot have these bytes. */
static bool is_ipv4(const struct access_network *network)
{
    return memcmp(network->ip, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

/* The first address of NETWORK for VALUE 0, the last one for VALUE 0xff. */
static void fill_host_bits(const struct access_network *network, uint8_t value,
                           uint8_t ret[static 16])
{
    for (unsigned i = 0; i < 16; i++) {
        unsigned fixed = network->prefix < 8 * i ? 0 : network->prefix - 8 * i;
        uint8_t mask = (uint8_t)(fixed >= 8 ? 0 : 0xff >> fixed);

        ret[i] = (uint8_t)((network->ip[i] & ~mask) | (value & mask));
    }
}

/* --- Text --- */

void access_format(const struct access_network *network, char ret[static ACCESS_TEXT_MAX])
{
    unsigned skip = is_ipv4(network) ? all_ipv4.prefix : 0;
    size_t length;

    inet_ntop(skip ? AF_INET : AF_INET6, network->ip + skip / 8, ret, ACCESS_TEXT_MAX);
    length = strlen(ret);
    if (network->prefix < BITS)
        snprintf(ret + length, ACCESS_TEXT_MAX - length, "/%u", network->prefix - skip);
}

PRINTF(3, 4)
static int access_error(char error[static ACCESS_ERROR_MAX], const char *text, const char *format,
                        ...)
{
    char quoted[ACCESS_ERROR_MAX / 2], detail[ACCESS_ERROR_MAX / 2 - 4];
    va_list arguments;

    escape_copy(quoted, sizeof(quoted), text, strlen(text));
    va_start(arguments, format);
    vsnprintf(detail, sizeof(detail), format, arguments);
    va_end(arguments);
    snprintf(error, ACCESS_ERROR_MAX, "'%s' %s", quoted, detail);
    return -EINVAL;
}

/* Parses the LENGTH characters at TEXT; *BITS is the size of an address of that family. */
static int parse_address(const char *text, size_t length, uint8_t ret[static 16], unsigned *bits)
{
    char address[INET6_ADDRSTRLEN];
    uint8_t ipv4[4];

    if (length >= sizeof(address))
        return -EINVAL;
    memcpy(address, text, length);
    address[length] = '\0';
    if (inet_pton(AF_INET, address, ipv4) == 1) {
        map_ipv4(ret, ipv4);
        *bits = BITS_IPV4;
        return 0;
    }
    *bits = BITS;
    return inet_pton(AF_INET6, address, ret) == 1 ? 0 : -EINVAL;
}

int access_parse(const char *text, struct access_network *ret, char error[static ACCESS_ERROR_MAX])
{
    const char *slash = strchrnul(text, '/');
    struct access_network network, good;
    uint64_t prefix;
    unsigned bits;
    char said[ACCESS_TEXT_MAX];

    if (parse_address(text, (size_t)(slash - text), network.ip, &bits) < 0)
        return access_error(error, text, "is not an IP address or network");
    prefix = bits;
    if (*slash && parse_u64(slash + 1, bits, &prefix) < 0)
        return access_error(error, text, "has no prefix length between 0 and %u", bits);
    network.prefix = (uint8_t)(prefix + BITS - bits);
    good.prefix = network.prefix;
    fill_host_bits(&network, 0, good.ip);
    if (memcmp(good.ip, network.ip, sizeof(good.ip)) != 0) {
        access_format(&good, said);
        return access_error(error, text, "has host bits set; the network is %s", said);
    }
    *ret = network;
    return 0;
}

/* --- Compiling --- */

/* By first address; a network before those inside it. */
static int compare_rules(const void *a, const void *b)
{
    const struct access_network *x = &((const struct access_rule *)a)->network;
    const struct access_network *y = &((const struct access_rule *)b)->network;
    int r = memcmp(x->ip, y->ip, sizeof(x->ip));

    return r != 0 ? r : (int)x->prefix - (int)y->prefix;
}

static int find_tie(const struct access_rule *rules, size_t count,
                    char error[static ACCESS_ERROR_MAX])
{
    char text[ACCESS_TEXT_MAX];

    for (size_t i = 1; i < count; i++) {
        if (compare_rules(&rules[i - 1], &rules[i]) != 0 || rules[i - 1].allow == rules[i].allow)
            continue;
        access_format(&rules[i].network, text);
        return access_error(error, text, "is both allowed and denied");
    }
    return 0;
}

/* A walk through all addresses in order: the ranges so far, and the stack of networks that contain
 * the current address. */
struct walk {
    struct access_range *ranges;
    uint32_t count;
    struct {
        uint8_t last[16];
        bool allow;
    } open[DEPTH_MAX];
    unsigned depth;
};

/* From START on, the decision is ALLOW. */
static void walk_change(struct walk *w, const uint8_t start[static 16], bool allow)
{
    if (w->count > 0 && memcmp(w->ranges[w->count - 1].start, start, 16) == 0)
        w->count--;
    if (w->count > 0 && w->ranges[w->count - 1].allow == allow)
        return;
    memcpy(w->ranges[w->count].start, start, 16);
    w->ranges[w->count++].allow = allow;
}

static void walk_enter(struct walk *w, const struct access_network *network, bool allow)
{
    fill_host_bits(network, 0xff, w->open[w->depth].last);
    w->open[w->depth++].allow = allow;
    walk_change(w, network->ip, allow);
}

/* Leaves the innermost network: the one around it decides again. */
static void walk_leave(struct walk *w)
{
    uint8_t next[16];
    int i = 15;

    memcpy(next, w->open[--w->depth].last, sizeof(next));
    while (i >= 0 && ++next[i] == 0)
        i--;
    if (i >= 0) /* not past the last address of all */
        walk_change(w, next, w->open[w->depth - 1].allow);
}

/* Leaves the networks that end before NETWORK, then enters it. */
static void walk_to(struct walk *w, const struct access_network *network, bool allow)
{
    while (w->depth > 0 && memcmp(w->open[w->depth - 1].last, network->ip, 16) < 0)
        walk_leave(w);
    walk_enter(w, network, allow);
}

int access_build(struct access *ret, struct access_range *ranges, struct access_rule *rules,
                 size_t count, char error[static ACCESS_ERROR_MAX])
{
    static const struct access_network everything = {.prefix = 0};
    const struct access_rule ipv4 = {.network = all_ipv4};
    struct walk w = {.ranges = ranges};
    bool otherwise = true, ipv4_entered = false;

    if (count == 0) {
        *ret = (struct access){.otherwise = true};
        return 0;
    }
    qsort(rules, count, sizeof(*rules), compare_rules);
    if (find_tie(rules, count, error) < 0)
        return -EINVAL;
    for (size_t i = 0; i < count; i++)
        otherwise = otherwise && !rules[i].allow;
    walk_enter(&w, &everything, otherwise);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && compare_rules(&rules[i - 1], &rules[i]) == 0)
            continue;
        /* IPv4 lies within ::/0, but IPv6 networks do not apply to it. */
        if (!ipv4_entered && compare_rules(&rules[i], &ipv4) >= 0) {
            walk_to(&w, &all_ipv4, otherwise);
            ipv4_entered = true;
        }
        walk_to(&w, &rules[i].network, rules[i].allow);
    }
    if (!ipv4_entered)
        walk_to(&w, &all_ipv4, otherwise);
    while (w.depth > 1)
        walk_leave(&w);
    *ret = (struct access){.ranges = w.count, .otherwise = otherwise};
    return 0;
}

bool access_allows(const struct access *access, const struct access_range *ranges,
                   const struct endpoint *peer)
{
    size_t low = 0, high = access->ranges;
    uint8_t ip[16];

    if (high == 0 || (peer->family != AF_INET && peer->family != AF_INET6))
        return access->otherwise;
    if (peer->family == AF_INET)
        map_ipv4(ip, peer->ip);
    else
        memcpy(ip, peer->ip, sizeof(ip));
    /* The first range starts at the first address of all. */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (memcmp(ranges[middle].start, ip, sizeof(ip)) <= 0)
            low = middle;
        else
            high = middle;
    }
    return ranges[low].allow;
}
