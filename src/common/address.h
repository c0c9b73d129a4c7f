/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses: resolving what a person wrote, and writing them the way the journal's fields
 * have them. No state; only address_resolve() (getaddrinfo(3)) and the interface names of
 * link-local addresses (if_indextoname(3)) talk to the outside.
 */
#pragma once

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* A peer's or local address as plain data, fit for a table that other processes map. */
struct endpoint {
    uint8_t ip[16];    /* network order; IPv4 takes the first four bytes */
    uint32_t scope_id; /* of a link-local IPv6 address, else 0 */
    uint16_t port;     /* host order */
    uint16_t family;   /* AF_INET, AF_INET6 or AF_UNIX */
};

/* Longest host text that is looked at: a DNS name has at most 253 characters (RFC 1035). */
#define HOST_MAX 255

/* Room for endpoint_address() and endpoint_format(), NUL included. */
#define ENDPOINT_ADDRESS_MAX 64
#define ENDPOINT_TEXT_MAX    80

/*
 * Takes SA over. An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) becomes the IPv4 address it stands
 * for. Any family but AF_INET and AF_INET6 gives AF_UNIX with everything else zero.
 */
void endpoint_from_sockaddr(struct endpoint *ret, const struct sockaddr_storage *sa,
                            socklen_t length);

/*
 * Writes the bare address: "192.0.2.1", "2001:db8::1", "fe80::1%eth0", or "unix". An interface that
 * this network namespace does not have stands there by its index: "fe80::1%2".
 */
void endpoint_address(const struct endpoint *e, char ret[static ENDPOINT_ADDRESS_MAX]);

/* Writes address and port: "192.0.2.1:4711", "[2001:db8::1]:4711", or "unix". */
void endpoint_format(const struct endpoint *e, char ret[static ENDPOINT_TEXT_MAX]);

/* True when both are the same host address; ports are not looked at, all AF_UNIX peers are the
 * same. */
bool endpoint_same_address(const struct endpoint *a, const struct endpoint *b);

/*
 * Resolves HOST, an IPv4 or IPv6 address (also in brackets), a name, or with PASSIVE "*" for every
 * address (then the one result is [::]; the caller clears IPV6_V6ONLY on it). Stream sockets only.
 * PASSIVE is for listening (AI_PASSIVE), else for connecting (AI_ADDRCONFIG is not used:
 * loopback-only machines have addresses too). Returns 0 with *RET to free with freeaddrinfo(3), or
 * an EAI_ code for gai_strerror(3).
 */
int address_resolve(const char *host, uint16_t port, bool passive, struct addrinfo **ret);
