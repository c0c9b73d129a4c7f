/* SPDX-License-Identifier: MIT */
/* PROXY headers of version 2, built piece by piece. Shared by tests and fuzzers. */
#pragma once

#include "netd/protocol/proxy.h"

#include <stdlib.h>
#include <string.h>

#define PROXY_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

struct built {
    uint8_t bytes[2 * PROXY_HEADER_MAX];
    size_t length;
};

static inline void built_add(struct built *b, const void *bytes, size_t length)
{
    if (length > sizeof(b->bytes) - b->length)
        abort();
    memcpy(b->bytes + b->length, bytes, length);
    b->length += length;
}

/* Sets the length of what stands behind the fixed part. */
static inline void built_finish(struct built *b)
{
    b->bytes[14] = (uint8_t)((b->length - 16) >> 8);
    b->bytes[15] = (uint8_t)(b->length - 16);
}

static inline void built_begin(struct built *b, uint8_t command, uint8_t family)
{
    const uint8_t rest[] = {command, family, 0, 0};

    b->length = 0;
    built_add(b, PROXY_SIGNATURE, 12);
    built_add(b, rest, sizeof(rest));
}

/* 192.0.2.1:4711 to 198.51.100.2:3000. */
static inline void built_begin_inet(struct built *b)
{
    built_begin(b, 0x21, 0x11);
    built_add(b, "\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x67\x0b\xb8", 12);
    built_finish(b);
}

static inline void built_tlv(struct built *b, uint8_t type, const void *value, size_t length)
{
    const uint8_t head[] = {type, (uint8_t)(length >> 8), (uint8_t)length};

    built_add(b, head, sizeof(head));
    built_add(b, value, length);
    built_finish(b);
}

/* CRC32C by another road than the parser's: the remainder of polynomials over GF(2), shifted in
 * from the other end. */
static inline uint32_t built_crc32c(const uint8_t *data, size_t length)
{
    uint32_t crc = UINT32_MAX, reflected = 0;

    for (size_t i = 0; i < length * 8; i++) {
        uint32_t bit = (uint32_t)data[i / 8] >> (i % 8) & 1;

        crc = crc << 1 ^ (crc >> 31 != bit ? UINT32_C(0x1edc6f41) : 0);
    }
    for (int i = 0; i < 32; i++)
        reflected |= (crc >> i & 1) << (31 - i);
    return ~reflected;
}

/* Adds the checksum of all that is there and of itself; comes last. */
static inline void built_crc(struct built *b)
{
    uint32_t crc;

    built_tlv(b, 0x03, "\0\0\0\0", 4);
    crc = built_crc32c(b->bytes, b->length);
    for (int i = 0; i < 4; i++)
        b->bytes[b->length - 1 - (size_t)i] = (uint8_t)(crc >> 8 * i);
}
