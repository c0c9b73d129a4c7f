/* SPDX-License-Identifier: MIT */
/* What access rules have to decide, said rule by rule. Shared by tests and fuzzers. */
#pragma once

#include "common/access.h"

#include <netinet/in.h>
#include <string.h>

static inline bool access_bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    for (unsigned i = 0; i < bits; i++)
        if ((a[i / 8] ^ b[i / 8]) & (0x80 >> i % 8))
            return false;
    return true;
}

/* Whether the address IP, IPv4-mapped where it is IPv4, may. */
static inline bool access_expect(const struct access_rule *rules, size_t count,
                                 const uint8_t ip[static 16])
{
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};
    bool ipv4 = access_bits_equal(ip, mapped, 96), otherwise = true;
    const struct access_rule *best = NULL;

    for (size_t i = 0; i < count; i++) {
        const struct access_network *n = &rules[i].network;

        otherwise = otherwise && !rules[i].allow;
        if ((ipv4 && n->prefix < 96) || !access_bits_equal(ip, n->ip, n->prefix))
            continue;
        if (!best || n->prefix > best->network.prefix)
            best = &rules[i];
    }
    return best ? best->allow : otherwise;
}

static inline struct endpoint access_endpoint(const uint8_t ip[static 16])
{
    struct sockaddr_storage sa = {.ss_family = AF_INET6};
    struct endpoint e;

    memcpy(&((struct sockaddr_in6 *)&sa)->sin6_addr, ip, 16);
    endpoint_from_sockaddr(&e, &sa, sizeof(sa));
    return e;
}

/* Whether ranges are as they are promised: sorted, disjoint, from the first address on, and no two
 * neighbours alike. */
static inline bool access_ranges_good(const struct access *access,
                                      const struct access_range *ranges, size_t rules)
{
    static const uint8_t zero[16];

    if (rules == 0)
        return access->ranges == 0;
    if (access->ranges == 0 || access->ranges > ACCESS_RANGES_MAX(rules) ||
        memcmp(ranges[0].start, zero, 16) != 0)
        return false;
    for (uint32_t i = 1; i < access->ranges; i++)
        if (memcmp(ranges[i - 1].start, ranges[i].start, 16) >= 0 ||
            ranges[i - 1].allow == ranges[i].allow)
            return false;
    return true;
}
