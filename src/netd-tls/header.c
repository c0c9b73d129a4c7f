/* SPDX-License-Identifier: MIT */
#include "netd-tls/header.h"

#include "common/util.h"

#include <string.h>

#define SIGNATURE    "\r\n\r\n\0\r\nQUIT\n" /* 2.2 */
#define FIXED_LENGTH 16
#define TLV_HEAD     3

enum { COMMAND_PROXY = 0x21 };
enum { FAMILY_UNSPEC = 0x00, FAMILY_TCP4 = 0x11, FAMILY_TCP6 = 0x21 };
/* 2.2.6 */
enum { TLV_TLS = 0x20, TLV_TLS_VERSION, TLV_TLS_COMMON_NAME, TLV_TLS_CIPHER };
enum { CLIENT_TLS = 1, CLIENT_CERTIFICATE_CONNECTION = 2, CLIENT_CERTIFICATE_SESSION = 4 };

#define VERSION_MAX    32
#define CIPHER_MAX     64
#define TLS_FIXED_SIZE 5
#define ADDRESSES_MAX  (2 * (16 + 2))
#define TLVS_MAX       8 /* beside the TLS part */

_Static_assert(FIXED_LENGTH + ADDRESSES_MAX + TLS_FIXED_SIZE + VERSION_MAX + CIPHER_MAX +
                       IDENTITY_COMMON_NAME_MAX + TLS_SUBJECT_MAX + TLS_NAME_MAX + TLS_REFUSED_MAX +
                       2 * TLS_FINGERPRINT_SIZE + TLVS_MAX * TLV_HEAD <=
                   TLS_HEADER_MAX,
               "a header may be too long");

static uint8_t *put_u16(uint8_t *at, size_t value)
{
    *at++ = (uint8_t)(value >> 8);
    *at++ = (uint8_t)value;
    return at;
}

static uint8_t *put_bytes(uint8_t *at, const void *data, size_t length)
{
    memcpy(at, data, length);
    return at + length;
}

static uint8_t *put_tlv(uint8_t *at, uint8_t type, const void *data, size_t length)
{
    *at++ = type;
    return put_bytes(put_u16(at, length), data, length);
}

/* Writes nothing if TEXT is NULL or empty. */
static uint8_t *put_text(uint8_t *at, uint8_t type, const char *text, size_t limit)
{
    return text && *text ? put_tlv(at, type, text, strnlen(text, limit)) : at;
}

static uint8_t *put_addresses(uint8_t *at, const struct header *h)
{
    size_t length = h->peer.family == AF_INET ? 4 : 16;

    at = put_bytes(at, h->peer.ip, length);
    at = put_bytes(at, h->local.ip, length);
    at = put_u16(at, h->peer.port);
    return put_u16(at, h->local.port);
}

/* Only a certificate that was accepted is in a header: the result of its verification is 0. */
static uint8_t *put_tls(uint8_t *at, const struct header *h)
{
    uint8_t *length = at + 1;

    *at++ = TLV_TLS;
    at = put_u16(at, 0);
    *at++ = h->identity ? CLIENT_TLS | CLIENT_CERTIFICATE_CONNECTION | CLIENT_CERTIFICATE_SESSION
                        : CLIENT_TLS;
    at = put_bytes(at, "\0\0\0\0", 4);
    at = put_text(at, TLV_TLS_VERSION, h->version, VERSION_MAX);
    at = put_text(at, TLV_TLS_CIPHER, h->cipher, CIPHER_MAX);
    if (h->identity)
        at = put_text(at, TLV_TLS_COMMON_NAME, h->identity->common_name, IDENTITY_COMMON_NAME_MAX);
    (void)put_u16(length, (size_t)(at - length) - 2);
    return at;
}

static uint8_t *put_identity(uint8_t *at, const struct identity *i)
{
    at = put_text(at, TLS_TLV_SUBJECT, i->subject, TLS_SUBJECT_MAX);
    at = put_text(at, TLS_TLV_NAME, i->name, TLS_NAME_MAX);
    return put_text(at, TLS_TLV_FINGERPRINT, i->fingerprint, sizeof(i->fingerprint) - 1);
}

static uint8_t header_family(const struct header *h)
{
    if (h->peer.family != h->local.family)
        return FAMILY_UNSPEC;
    return h->peer.family == AF_INET    ? FAMILY_TCP4
           : h->peer.family == AF_INET6 ? FAMILY_TCP6
                                        : FAMILY_UNSPEC;
}

size_t header_write(const struct header *header, uint8_t ret[static TLS_HEADER_MAX])
{
    const uint8_t id[4] = {(uint8_t)(header->listener >> 24), (uint8_t)(header->listener >> 16),
                           (uint8_t)(header->listener >> 8), (uint8_t)header->listener};
    uint8_t *at = put_bytes(ret, SIGNATURE, sizeof(SIGNATURE) - 1), *length;

    *at++ = COMMAND_PROXY;
    *at++ = header_family(header);
    length = at;
    at = put_u16(at, 0);
    if (header_family(header) != FAMILY_UNSPEC)
        at = put_addresses(at, header);
    if (header->version)
        at = put_tls(at, header);
    at = put_tlv(at, TLS_TLV_LISTENER, id, sizeof(id));
    if (header->identity)
        at = put_identity(at, header->identity);
    at = put_text(at, TLS_TLV_REFUSED, header->refused, TLS_REFUSED_MAX);
    (void)put_u16(length, (size_t)(at - ret) - FIXED_LENGTH);
    return (size_t)(at - ret);
}
