/* SPDX-License-Identifier: MIT */
#include "common/address.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static void from_ipv4(struct endpoint *ret, const struct sockaddr_in *sin)
{
    ret->family = AF_INET;
    ret->port = ntohs(sin->sin_port);
    memcpy(ret->ip, &sin->sin_addr, sizeof(sin->sin_addr));
}

static void from_ipv6(struct endpoint *ret, const struct sockaddr_in6 *sin6)
{
    const struct in6_addr *ip = &sin6->sin6_addr;

    ret->port = ntohs(sin6->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(ip)) {
        ret->family = AF_INET;
        memcpy(ret->ip, ip->s6_addr + 12, 4);
        return;
    }
    ret->family = AF_INET6;
    ret->scope_id = IN6_IS_ADDR_LINKLOCAL(ip) ? sin6->sin6_scope_id : 0;
    memcpy(ret->ip, ip, sizeof(*ip));
}

void endpoint_from_sockaddr(struct endpoint *ret, const struct sockaddr_storage *sa,
                            socklen_t length)
{
    *ret = (struct endpoint){.family = AF_UNIX};
    if (sa->ss_family == AF_INET && length >= sizeof(struct sockaddr_in))
        from_ipv4(ret, (const struct sockaddr_in *)sa);
    else if (sa->ss_family == AF_INET6 && length >= sizeof(struct sockaddr_in6))
        from_ipv6(ret, (const struct sockaddr_in6 *)sa);
}

socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *ret)
{
    struct sockaddr_in *in = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

    *ret = (struct sockaddr_storage){.ss_family = e->family};
    if (e->family == AF_INET) {
        in->sin_port = htons(e->port);
        memcpy(&in->sin_addr, e->ip, sizeof(in->sin_addr));
        return sizeof(*in);
    }
    in6->sin6_port = htons(e->port);
    in6->sin6_scope_id = e->scope_id;
    memcpy(&in6->sin6_addr, e->ip, sizeof(in6->sin6_addr));
    return sizeof(*in6);
}

/* Like inet_ntop(3), but without sprintf(3): every event contains at least one address. */
static char *put_ipv4(char *at, const uint8_t ip[static 4])
{
    for (size_t i = 0; i < 4; i++) {
        at = put_number(at, ip[i]);
        *at++ = '.';
    }
    return at - 1;
}

void endpoint_address(const struct endpoint *e, char ret[static ENDPOINT_ADDRESS_MAX])
{
    char interface[IF_NAMESIZE];
    size_t length;

    if (e->family == AF_INET) {
        *put_ipv4(ret, e->ip) = '\0';
        return;
    }
    if (e->family != AF_INET6) {
        snprintf(ret, ENDPOINT_ADDRESS_MAX, "unix");
        return;
    }
    inet_ntop(e->family, e->ip, ret, ENDPOINT_ADDRESS_MAX);
    if (e->scope_id == 0)
        return;
    length = strlen(ret);
    /* With PrivateNetwork=yes the interfaces of passed sockets are not visible by name. */
    if (if_indextoname(e->scope_id, interface))
        snprintf(ret + length, ENDPOINT_ADDRESS_MAX - length, "%%%s", interface);
    else
        snprintf(ret + length, ENDPOINT_ADDRESS_MAX - length, "%%%" PRIu32, e->scope_id);
}

void endpoint_format(const struct endpoint *e, char ret[static ENDPOINT_TEXT_MAX])
{
    char address[ENDPOINT_ADDRESS_MAX], *end;

    endpoint_address(e, address);
    if (e->family != AF_INET && e->family != AF_INET6) {
        strcpy(ret, address);
        return;
    }
    end = stpcpy(ret, e->family == AF_INET6 ? "[" : "");
    end = stpcpy(end, address);
    end = stpcpy(end, e->family == AF_INET6 ? "]:" : ":");
    *put_number(end, e->port) = '\0';
}

bool endpoint_same_address(const struct endpoint *a, const struct endpoint *b)
{
    return a->family == b->family && a->scope_id == b->scope_id &&
           memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

/* Removes brackets around HOST; a bracketed host must be an IPv6 address. */
static int strip_brackets(const char *host, struct addrinfo *hints, char ret[static HOST_MAX + 1])
{
    size_t length = strlen(host);

    if (length > HOST_MAX)
        return EAI_NONAME;
    memcpy(ret, host, length + 1);
    if (host[0] != '[')
        return 0;
    if (host[length - 1] != ']')
        return EAI_NONAME;
    ret[length - 1] = '\0';
    memmove(ret, ret + 1, length - 1);
    hints->ai_family = AF_INET6;
    hints->ai_flags |= AI_NUMERICHOST;
    return 0;
}

int address_resolve(const char *host, uint16_t port, int flags, struct addrinfo **ret)
{
    struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV | flags,
    };
    char node[HOST_MAX + 1];
    char service[sizeof("65535")];
    bool any = (flags & AI_PASSIVE) && strcmp(host, "*") == 0;
    int r;

    r = strip_brackets(host, &hints, node);
    if (r != 0)
        return r;
    if (any)
        hints.ai_family = AF_INET6;
    else if (strcmp(node, "*") == 0) /* glibc treats "*" as a null node, i.e. this host */
        return EAI_NONAME;
    snprintf(service, sizeof(service), "%" PRIu16, port);
    return getaddrinfo(any ? NULL : node, service, &hints, ret);
}
