/* SPDX-License-Identifier: MIT */
#include "netd/protocol/proxy.h"

#include "common/util.h"
#include "netd-tls/interface.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define SIGNATURE        "\r\n\r\n\0\r\nQUIT\n"
#define SIGNATURE_LENGTH (sizeof(SIGNATURE) - 1)

/* Version 2: signature, version and command, family and transport, length of what follows. */
#define FIXED_LENGTH   16
#define UNIX_PATH_SIZE 108

enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21 };
enum { FAMILY_UNSPEC, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, FAMILIES };
enum { TRANSPORT_UNSPEC, TRANSPORT_STREAM, TRANSPORT_DGRAM, TRANSPORTS };

/* Type and length of a TLV, the checksum, and the TLS part before its own TLVs. */
#define TLV_HEAD   3
#define CRC_LENGTH 4
#define TLS_HEAD   5

enum {
    TLV_CRC32C = 0x03,
    TLV_TLS = 0x20,
    TLV_TLS_VERSION,
    TLV_TLS_COMMON_NAME,
    TLV_TLS_CIPHER,
    TLV_TLS_SIGNATURE_ALGORITHM,
    TLV_TLS_KEY_ALGORITHM,
};

/* Bits of the TLS part's first byte. */
enum { CLIENT_TLS = 1, CLIENT_CERTIFICATE_CONNECTION = 2, CLIENT_CERTIFICATE_SESSION = 4 };

static int proxy_error(const char **reason, const char *text)
{
    *reason = text;
    return -EBADMSG;
}

static uint16_t get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)get_u16(at) << 16 | get_u16(at + 2);
}

/* True if TEXT begins with the LENGTH bytes at DATA, or they with it. */
static bool agrees(const uint8_t *data, size_t length, const char *text, size_t text_length)
{
    return memcmp(data, text, min_size(length, text_length)) == 0;
}

/* IP in network order, PORT in host order. */
static struct endpoint proxy_endpoint(int family, const void *ip, uint16_t port)
{
    struct sockaddr_storage sa = {.ss_family = (sa_family_t)family};
    struct endpoint e;

    if (family == AF_INET) {
        struct sockaddr_in *sin = (struct sockaddr_in *)&sa;

        memcpy(&sin->sin_addr, ip, sizeof(sin->sin_addr));
        sin->sin_port = htons(port);
    } else if (family == AF_INET6) {
        struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&sa;

        memcpy(&sin6->sin6_addr, ip, sizeof(sin6->sin6_addr));
        sin6->sin6_port = htons(port);
    }
    endpoint_from_sockaddr(&e, &sa, sizeof(sa));
    return e;
}

/* --- Version 1 --- */

/* Splits TEXT, LENGTH bytes and a NUL, at each blank into exactly COUNT fields. Returns false if it
 * has more or fewer, or contains a NUL. */
static bool line_split(char *text, size_t length, char **ret, size_t count)
{
    if (strlen(text) != length)
        return false;
    for (size_t i = 0; i < count; i++)
        ret[i] = strsep(&text, " ");
    return ret[count - 1] && !text;
}

/* Source address, destination address, source port, destination port. inet_pton(3) takes neither
 * leading zeros in IPv4 nor a zone in IPv6. */
static int line_addresses(int family, char *text, size_t length, struct proxy_header *ret)
{
    uint8_t source[sizeof(struct in6_addr)], destination[sizeof(struct in6_addr)];
    uint64_t source_port, destination_port;
    char *fields[4];

    if (!line_split(text, length, fields, ARRAY_SIZE(fields)) ||
        inet_pton(family, fields[0], source) != 1 ||
        inet_pton(family, fields[1], destination) != 1 ||
        parse_u64(fields[2], UINT16_MAX, &source_port) < 0 ||
        parse_u64(fields[3], UINT16_MAX, &destination_port) < 0)
        return -EBADMSG;
    ret->forwarded = true;
    ret->source = proxy_endpoint(family, source, (uint16_t)source_port);
    ret->destination = proxy_endpoint(family, destination, (uint16_t)destination_port);
    return 0;
}

/* Returns the family that the LENGTH bytes at DATA name, or may name once more bytes arrive, with
 * *HEAD the offset of its addresses; -1 if they cannot name any. */
static int line_family(const uint8_t *data, size_t length, size_t *head)
{
    static const struct {
        const char *text;
        int family;
    } heads[] = {{"PROXY TCP4 ", AF_INET},
                 {"PROXY TCP6 ", AF_INET6},
                 {"PROXY UNKNOWN ", AF_UNSPEC},
                 {"PROXY UNKNOWN\r\n", AF_UNSPEC}};
    int family = -1;

    for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
        size_t n = strlen(heads[i].text);

        if (!agrees(data, length, heads[i].text, n))
            continue;
        *head = n;
        family = heads[i].family;
    }
    return family;
}

static int parse_line(const uint8_t *data, size_t length, struct proxy_header *ret,
                      const char **reason)
{
    const uint8_t *cr = memchr(data, '\r', min_size(length, PROXY_LINE_MAX));
    size_t head = 0, line = cr ? (size_t)(cr - data) : min_size(length, PROXY_LINE_MAX);
    struct proxy_header header = {.version = 1};
    int family = line_family(data, length, &head);
    char text[PROXY_LINE_MAX + 1];

    if (family < 0)
        return proxy_error(reason, "not found at the start of the connection");
    if (memchr(data, '\n', line))
        return proxy_error(reason, "line feed without a carriage return");
    if (line + 2 > PROXY_LINE_MAX)
        return proxy_error(reason, "longer than 107 bytes");
    if (!cr || line + 1 == length)
        return 0;
    if (data[line + 1] != '\n')
        return proxy_error(reason, "carriage return without a line feed");
    header.length = (uint16_t)(line + 2);
    if (family != AF_UNSPEC) {
        memcpy(text, data + head, line - head);
        text[line - head] = '\0';
        if (line_addresses(family, text, line - head, &header) < 0)
            return proxy_error(reason, "malformed address or port");
    }
    *ret = header;
    return 1;
}

/* --- Version 2 --- */

/* CRC32C (RFC 4960, appendix B) of the LENGTH bytes at DATA, with zeros in place of the checksum
 * itself at offset SKIP. Without a table: a typical header has 100 to 200 bytes. */
static uint32_t proxy_crc32c(const uint8_t *data, size_t length, size_t skip)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < length; i++) {
        crc ^= i - skip < CRC_LENGTH ? 0 : data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return ~crc;
}

/* Where a TLV is in the header. */
struct tlv {
    uint8_t type;
    size_t offset, length; /* bytes, of the value */
};

/* Reads the TLV at *AT and advances *AT behind it. Returns 1, 0 at END, or -EBADMSG if the TLV
 * overruns END. */
static int tlv_next(const uint8_t *data, size_t *at, size_t end, struct tlv *ret)
{
    if (*at == end)
        return 0;
    if (end - *at < TLV_HEAD)
        return -EBADMSG;
    *ret = (struct tlv){data[*at], *at + TLV_HEAD, get_u16(data + *at + 1)};
    if (ret->length > end - ret->offset)
        return -EBADMSG;
    *at = ret->offset + ret->length;
    return 1;
}

/* Where a TLV of the TLS part is stored, or NULL for one that is skipped. */
static struct proxy_text *tls_text(struct proxy_tls *tls, uint8_t type)
{
    switch (type) {
    case TLV_TLS_VERSION:
        return &tls->version;
    case TLV_TLS_COMMON_NAME:
        return &tls->common_name;
    case TLV_TLS_CIPHER:
        return &tls->cipher;
    case TLV_TLS_SIGNATURE_ALGORITHM:
        return &tls->signature_algorithm;
    case TLV_TLS_KEY_ALGORITHM:
        return &tls->key_algorithm;
    default:
        return NULL;
    }
}

static int parse_tls(const uint8_t *data, const struct tlv *part, struct proxy_tls *ret,
                     const char **reason)
{
    const uint8_t certificate = CLIENT_CERTIFICATE_CONNECTION | CLIENT_CERTIFICATE_SESSION;
    size_t at = part->offset + TLS_HEAD, end = part->offset + part->length;
    struct tlv tlv;
    int r;

    if (part->length < TLS_HEAD)
        return proxy_error(reason, "TLS part shorter than 5 bytes");
    ret->present = data[part->offset] & CLIENT_TLS;
    ret->verified =
        ret->present && (data[part->offset] & certificate) && get_u32(data + part->offset + 1) == 0;
    while ((r = tlv_next(data, &at, end, &tlv)) > 0) {
        struct proxy_text *text = tls_text(ret, tlv.type);

        if (!text)
            continue;
        if (text->offset)
            return proxy_error(reason, "duplicate field in the TLS part");
        *text = (struct proxy_text){(uint16_t)tlv.offset, (uint16_t)tlv.length};
    }
    return r < 0 ? proxy_error(reason, "TLV overruns the TLS part") : 0;
}

static void note_own(const struct tlv *tlv, struct proxy_own *ret)
{
    struct proxy_text *text = tlv->type == TLS_TLV_SUBJECT       ? &ret->subject
                              : tlv->type == TLS_TLV_NAME        ? &ret->name
                              : tlv->type == TLS_TLV_FINGERPRINT ? &ret->fingerprint
                              : tlv->type == TLS_TLV_REFUSED     ? &ret->refused
                                                                 : NULL;

    if (text)
        *text = (struct proxy_text){(uint16_t)tlv->offset, (uint16_t)tlv->length};
}

/* The TLVs from AT up to END, the end of the header. */
static int parse_tlvs(const uint8_t *data, size_t at, size_t end, struct proxy_header *ret,
                      const char **reason)
{
    struct tlv tlv, crc = {0}, tls = {0};
    int r;

    while ((r = tlv_next(data, &at, end, &tlv)) > 0) {
        struct tlv *seen = tlv.type == TLV_CRC32C ? &crc : tlv.type == TLV_TLS ? &tls : NULL;

        note_own(&tlv, &ret->own);
        if (!seen)
            continue;
        if (seen->offset)
            return proxy_error(reason, "duplicate checksum or TLS part");
        *seen = tlv;
    }
    if (r < 0)
        return proxy_error(reason, "TLV overruns the header");
    if (crc.offset && (crc.length != CRC_LENGTH ||
                       get_u32(data + crc.offset) != proxy_crc32c(data, end, crc.offset)))
        return proxy_error(reason, "checksum mismatch");
    return tls.offset ? parse_tls(data, &tls, &ret->tls, reason) : 0;
}

/* Size of the address block, ports included. */
static size_t addresses_length(unsigned family)
{
    static const uint8_t lengths[FAMILIES] = {
        [FAMILY_INET] = 2 * (4 + 2),
        [FAMILY_INET6] = 2 * (16 + 2),
        [FAMILY_UNIX] = 2 * UNIX_PATH_SIZE,
    };

    return family < FAMILIES ? lengths[family] : 0;
}

/* The address block and the TLVs. */
static int parse_block(const uint8_t *data, struct proxy_header *header, const char **reason)
{
    static const uint8_t ip_lengths[FAMILIES] = {[FAMILY_INET] = 4, [FAMILY_INET6] = 16};
    static const int families[FAMILIES] = {AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX};
    unsigned family = data[13] >> 4;
    const uint8_t *source = data + FIXED_LENGTH, *destination = source + ip_lengths[family];
    const uint8_t *ports = destination + ip_lengths[family];

    if (family != FAMILY_UNSPEC && (data[13] & 15) == TRANSPORT_STREAM) {
        bool has_port = family != FAMILY_UNIX;

        header->forwarded = true;
        header->source = proxy_endpoint(families[family], source, has_port ? get_u16(ports) : 0);
        header->destination =
            proxy_endpoint(families[family], destination, has_port ? get_u16(ports + 2) : 0);
    }
    return parse_tlvs(data, FIXED_LENGTH + addresses_length(family), header->length, header,
                      reason);
}

/* Checks what has arrived of the four bytes that follow the signature. */
static int check_fixed(const uint8_t *data, size_t length, const char **reason)
{
    bool local = length > 12 && data[12] == COMMAND_LOCAL;

    if (length > 12 && !local && data[12] != COMMAND_PROXY)
        return proxy_error(reason, "unknown version or command");
    if (length > 13 && !local && (data[13] >> 4 >= FAMILIES || (data[13] & 15) >= TRANSPORTS))
        return proxy_error(reason, "unknown address family or transport");
    if (length < FIXED_LENGTH)
        return 0;
    if (get_u16(data + 14) > PROXY_HEADER_MAX - FIXED_LENGTH)
        return proxy_error(reason, "longer than 4096 bytes");
    if (!local && get_u16(data + 14) < addresses_length(data[13] >> 4))
        return proxy_error(reason, "too short for its addresses");
    return 0;
}

static int parse_binary(const uint8_t *data, size_t length, struct proxy_header *ret,
                        const char **reason)
{
    struct proxy_header header = {.version = 2};
    int r;

    if (!agrees(data, length, SIGNATURE, SIGNATURE_LENGTH))
        return proxy_error(reason, "not found at the start of the connection");
    r = check_fixed(data, length, reason);
    if (r < 0 || length < FIXED_LENGTH)
        return r;
    header.length = (uint16_t)(FIXED_LENGTH + get_u16(data + 14));
    if (length < header.length)
        return 0;
    header.local = data[12] == COMMAND_LOCAL;
    r = header.local ? 0 : parse_block(data, &header, reason);
    if (r < 0)
        return r;
    *ret = header;
    return 1;
}

int proxy_parse(const uint8_t *data, size_t length, struct proxy_header *ret, const char **reason)
{
    if (length == 0)
        return 0;
    return data[0] == 'P' ? parse_line(data, length, ret, reason)
                          : parse_binary(data, length, ret, reason);
}
