/* SPDX-License-Identifier: MIT */
/*
 * The PROXY header, versions 1 and 2, with which a connection from a proxy begins: who the proxy's
 * client is (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections by number
 * below). Pure: bytes in, values out, no state.
 */
#pragma once

#include "common/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest header, and the longest of version 1 with its CRLF (2.1). */
#define PROXY_HEADER_MAX 4096
#define PROXY_LINE_MAX   107

/* A range of the header's bytes; a length of 0 means that the header does not have it. */
struct proxy_text {
    uint16_t offset, length;
};

/*
 * What the proxy says of its client's TLS session (2.2.6). Nothing of it is checked here: the
 * texts may contain any byte, control characters and NUL included, so escape them before they
 * become a field. The proxy vouches for version and cipher; the common name is what the issuer of
 * the certificate put there.
 */
struct proxy_tls {
    bool present;                  /* the client connected to the proxy over TLS */
    bool verified;                 /* it presented a certificate, and the proxy verified it */
    struct proxy_text version;     /* "TLSv1.3" */
    struct proxy_text cipher;      /* "TLS_AES_256_GCM_SHA384" */
    struct proxy_text common_name; /* of the certificate's subject, verified or not */
    struct proxy_text signature_algorithm; /* "RSA-SHA256", of the proxy's own certificate */
    struct proxy_text key_algorithm;       /* "RSA2048", likewise */
};

/* TLVs with which netd-tls says more (netd-tls/interface.h). Other proxies may use the same types
 * for anything. The last one of a type counts. */
struct proxy_own {
    struct proxy_text subject, name, fingerprint, refused;
};

struct proxy_header {
    uint16_t length; /* bytes of the header; the client's own follow */
    uint8_t version; /* 1 or 2 */
    bool local;      /* LOCAL: the proxy's own connection, a health check */
    bool forwarded;  /* source and destination are set; otherwise the connection's own apply */
    struct endpoint source, destination;
    struct proxy_tls tls;
    struct proxy_own own;
};

/*
 * Parses the header at the front of the LENGTH bytes at DATA, all that the connection has sent so
 * far. Returns 1 with *RET filled in, 0 when more bytes are needed, or -EBADMSG when the bytes
 * cannot become a valid header, with *REASON set to a constant text that completes "PROXY header:
 * ". *RET and *REASON are otherwise untouched.
 *
 * Errors are reported as soon as they are certain, with two exceptions: the fields of a version 1
 * line are parsed when its CRLF has arrived, the addresses and TLVs of version 2 when all of the
 * header has. Only the bytes of a version 1 line, at most 107, are scanned again by each call.
 *
 * DGRAM, UNSPEC and UNKNOWN are accepted with the addresses of the connection, as 2.2 specifies for
 * combinations that a receiver does not support. What follows the fixed part of a LOCAL header is
 * skipped unread. A duplicate CRC32C, TLS part or field of the TLS part is an error, because
 * implementations differ on which one counts.
 */
int proxy_parse(const uint8_t *data, size_t length, struct proxy_header *ret, const char **reason);
