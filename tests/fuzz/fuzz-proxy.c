/* SPDX-License-Identifier: MIT */
/*
 * Any beginning of a connection in any cutting: the header is the same, no byte behind it matters,
 * and what is said of it lies within it.
 */
#include "netd/protocol/proxy.h"

#include "../unit/proxy.h"
#include "fuzz.h"

#include <errno.h>

/* A copy that ends where the bytes end, so that a sanitizer notices a look behind them. */
static int parse_prefix(const uint8_t *data, size_t length, struct proxy_header *ret)
{
    uint8_t *copy = malloc(length > 0 ? length : 1);
    const char *reason = NULL;
    int r;

    MUST(copy);
    if (length > 0)
        memcpy(copy, data, length);
    r = proxy_parse(copy, length, ret, &reason);
    free(copy);
    MUST(r == 1 || r == 0 || r == -EBADMSG);
    MUST((r < 0) == (reason != NULL));
    return r;
}

static void check_text(const struct proxy_header *header, const struct proxy_text *text)
{
    MUST(text->length == 0 || text->offset >= 16);
    MUST((size_t)text->offset + text->length <= header->length);
}

static void check_header(const struct proxy_header *header, size_t length)
{
    MUST(header->length >= 15 && header->length <= length);
    MUST(header->length <= (header->version == 1 ? PROXY_LINE_MAX : PROXY_HEADER_MAX));
    MUST(!header->local || (!header->forwarded && !header->tls.present));
    MUST(!header->tls.verified || header->tls.present);
    check_text(header, &header->tls.version);
    check_text(header, &header->tls.cipher);
    check_text(header, &header->tls.common_name);
    check_text(header, &header->tls.signature_algorithm);
    check_text(header, &header->tls.key_algorithm);
}

/* Each cut up to the header's end, or some of a long one. */
static void check(const uint8_t *data, size_t size)
{
    struct proxy_header header = {0}, again = {0};
    int r = parse_prefix(data, size, &header);
    size_t end = r > 0 ? header.length : size;

    if (r > 0)
        check_header(&header, size);
    for (size_t n = 0; n < end; n += 1 + n / 64) {
        int early = parse_prefix(data, n, &again);

        MUST(early == 0 || (early < 0 && r < 0));
    }
    if (r > 0) {
        MUST(parse_prefix(data, end, &again) == 1);
        MUST(memcmp(&header, &again, sizeof(header)) == 0);
    }
}

/* The fixed part, the length and the checksum made right around what the input has. */
static void check_built(struct input in)
{
    struct built b;
    uint32_t command = input_number(&in, 1), family = input_number(&in, 1);
    bool crc = input_number(&in, 1) & 1;

    built_begin(&b, (uint8_t)command, (uint8_t)family);
    built_add(&b, in.data, in.size < 4200 ? in.size : 4200);
    built_finish(&b);
    if (crc)
        built_crc(&b);
    check(b.bytes, b.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    if (input_number(&in, 1) & 1)
        check_built(in);
    else
        check(in.data, in.size);
    return 0;
}
