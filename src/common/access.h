/* SPDX-License-Identifier: MIT */
/*
 * Access rules: which addresses may connect. The allowed and denied networks are compiled once into
 * sorted, disjoint ranges of addresses, so that a lookup is one binary search however many rules
 * there are. The ranges are plain data without pointers, fit for a table that other processes map.
 *
 * IPv4 addresses are stored as IPv4-mapped ones (::ffff:0:0/96; RFC 4291, 2.5.5.2). An IPv6 network
 * never matches them: ::/0 is all of IPv6 and none of IPv4.
 */
#pragma once

#include "common/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct access_network {
    uint8_t ip[16]; /* IPv6, or IPv4-mapped */
    uint8_t prefix; /* bits of IP that are fixed, of 128 */
};

/* One element of a listener's allow or deny. */
struct access_rule {
    struct access_network network;
    bool allow;
};

/* The addresses from START up to the next range's START. */
struct access_range {
    uint8_t start[16];
    uint8_t allow;
};

/* The most ranges that COUNT rules compile into. */
#define ACCESS_RANGES_MAX(count) (2 * (size_t)(count) + 3)

/* Compiled rules of a listener; the ranges themselves are stored elsewhere. */
struct access {
    uint32_t ranges;
    bool otherwise; /* the decision for an address that no rule matches */
};

/* Sizes of access_format()'s text and of error messages, NUL included. */
#define ACCESS_TEXT_MAX  64
#define ACCESS_ERROR_MAX 256

/*
 * Parses TEXT, an address or a network: "192.0.2.1", "192.0.2.0/24", "2001:db8::/32". An
 * IPv4-mapped IPv6 network is the IPv4 network that it maps. Returns 0, or -EINVAL with one line in
 * ERROR that quotes TEXT and is safe on a terminal; *RET is then untouched.
 */
int access_parse(const char *text, struct access_network *ret, char error[static ACCESS_ERROR_MAX]);

/* Writes NETWORK in the syntax of access_parse(), a single address without a prefix length. */
void access_format(const struct access_network *network, char ret[static ACCESS_TEXT_MAX]);

/*
 * Compiles the COUNT elements of RULES, which it sorts in place, into RANGES, which must have room
 * for ACCESS_RANGES_MAX(COUNT). The matching rule with the longest prefix decides; an address
 * without a match is denied if any rule allows, else allowed. No rules make no ranges and allow
 * everybody. Returns 0 with *RET filled in, or -EINVAL with one line in ERROR if a network is both
 * allowed and denied. A network listed twice in the same list is not an error.
 */
int access_build(struct access *ret, struct access_range *ranges, struct access_rule *rules,
                 size_t count, char error[static ACCESS_ERROR_MAX]);

/*
 * True if PEER may connect. A unix peer has no address, so that no rule matches it: the
 * configuration rejects rules on a unix listener, and on a passed unix socket an allow list denies
 * everybody.
 */
bool access_allows(const struct access *access, const struct access_range *ranges,
                   const struct endpoint *peer);
