/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses: resolving user input, and formatting addresses as in the journal fields. No
 * state. Only address_resolve() (getaddrinfo(3)) and the interface names of link-local addresses
 * (if_indextoname(3)) depend on the system.
 */
#pragma once

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* A peer or local address as plain data, suitable for memory shared with other processes. */
struct endpoint {
    uint8_t ip[16];    /* network order; IPv4 takes the first four bytes */
    uint32_t scope_id; /* of a link-local IPv6 address, else 0 */
    uint16_t port;     /* host order */
    uint16_t family;   /* AF_INET, AF_INET6 or AF_UNIX */
};

/* Maximum length of a host: a DNS name has at most 253 characters (RFC 1035). */
#define HOST_MAX 255

/* Buffer sizes for endpoint_address() and endpoint_format(), including NUL. */
#define ENDPOINT_ADDRESS_MAX 64
#define ENDPOINT_TEXT_MAX    80

/*
 * Converts SA. An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) becomes the IPv4 address. Any family
 * other than AF_INET and AF_INET6 becomes AF_UNIX with all other members zero.
 */
void endpoint_from_sockaddr(struct endpoint *ret, const struct sockaddr_storage *sa,
                            socklen_t length);

/*
 * Formats the address without the port: "192.0.2.1", "2001:db8::1", "fe80::1%eth0", or "unix". An
 * interface that does not exist in this network namespace is shown by index: "fe80::1%2".
 */
void endpoint_address(const struct endpoint *e, char ret[static ENDPOINT_ADDRESS_MAX]);

/* Formats address and port: "192.0.2.1:4711", "[2001:db8::1]:4711", or "unix". */
void endpoint_format(const struct endpoint *e, char ret[static ENDPOINT_TEXT_MAX]);

/* True if both have the same host address. Ports are ignored; all AF_UNIX peers are equal. */
bool endpoint_same_address(const struct endpoint *a, const struct endpoint *b);

/* Converts E, which is AF_INET or AF_INET6, to a socket address. Returns its length. */
socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *ret);

/*
 * Resolves HOST to stream socket addresses: an IPv4 or IPv6 address (optionally in brackets), a
 * name, or with AI_PASSIVE "*" for all addresses (the only result is then [::]; the caller clears
 * IPV6_V6ONLY). FLAGS are those of getaddrinfo(3): AI_PASSIVE for listening, AI_NUMERICHOST if
 * names must not be looked up. AI_ADDRCONFIG is not used, so that hosts with only a loopback
 * interface work. Returns 0 and *RET, to be freed with freeaddrinfo(3), or an EAI_ code for
 * gai_strerror(3).
 */
int address_resolve(const char *host, uint16_t port, int flags, struct addrinfo **ret);
