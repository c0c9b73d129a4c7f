/* SPDX-License-Identifier: MIT */
#include "netd/protocol/proxy.h"

#include "common/util.h"

#include "proxy.h"
#include "random.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct proxy_header untouched;

/* What the first LENGTH bytes give, which end where the memory ends, so that a sanitizer notices a
 * look behind them. */
static int try_prefix(const uint8_t *data, size_t length, struct proxy_header *ret,
                      const char **reason)
{
    uint8_t *copy = malloc(length > 0 ? length : 1);
    const char *said = NULL;
    int r;

    assert_non_null(copy);
    memcpy(copy, data, length);
    memset(ret, 0xaa, sizeof(*ret));
    r = proxy_parse(copy, length, ret, &said);
    free(copy);
    assert_true(r == 1 || r == 0 || r == -EBADMSG);
    assert_int_equal(r < 0, said != NULL);
    if (r != 1)
        assert_memory_equal(ret, &untouched, sizeof(*ret));
    if (reason)
        *reason = said;
    return r;
}

/* However many bytes have come: it takes more up to the header's last one, and then none. */
static void check_good(const uint8_t *data, size_t length, size_t header, struct proxy_header *ret)
{
    struct proxy_header first;

    for (size_t n = 0; n < header; n++)
        assert_int_equal(try_prefix(data, n, ret, NULL), 0);
    assert_int_equal(try_prefix(data, header, &first, NULL), 1);
    assert_int_equal(first.length, header);
    for (size_t n = header; n <= length; n++) {
        assert_int_equal(try_prefix(data, n, ret, NULL), 1);
        assert_memory_equal(&first, ret, sizeof(first));
    }
}

/* Refused from the byte at CERTAIN on, for REASON, and not before. */
static void check_bad(const uint8_t *data, size_t length, size_t certain, const char *reason)
{
    struct proxy_header header;
    const char *said;

    for (size_t n = 0; n <= length; n++) {
        int r = try_prefix(data, n, &header, &said);

        assert_int_equal(r, n > certain ? -EBADMSG : 0);
        if (r < 0)
            assert_string_equal(said, reason);
    }
}

static void check_endpoint(const struct endpoint *e, const char *expected)
{
    char text[ENDPOINT_TEXT_MAX];

    endpoint_format(e, text);
    assert_string_equal(text, expected);
}

static void check_text(const struct built *b, const struct proxy_text *text, const char *expected)
{
    assert_int_equal(text->length, strlen(expected));
    assert_true((size_t)text->offset + text->length <= b->length);
    assert_memory_equal(b->bytes + text->offset, expected, text->length);
}

#define LONGEST_IPV6 "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

static void lines_are_parsed(void **state)
{
    static const struct {
        const char *line, *source, *destination;
    } rows[] = {
        {"PROXY TCP4 192.0.2.1 198.51.100.2 4711 3000\r\n", "192.0.2.1:4711", "198.51.100.2:3000"},
        {"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", "255.255.255.255:65535", "0.0.0.0:0"},
        {"PROXY TCP6 2001:db8::1 2001:DB8::2 1 2\r\n", "[2001:db8::1]:1", "[2001:db8::2]:2"},
        {"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1:1", "[::1]:2"},
        {"PROXY TCP6 " LONGEST_IPV6 " " LONGEST_IPV6 " 65535 65535\r\n", "[" LONGEST_IPV6 "]:65535",
         "[" LONGEST_IPV6 "]:65535"},
        {"PROXY UNKNOWN\r\n", NULL, NULL},
        {"PROXY UNKNOWN \r\n", NULL, NULL},
        {"PROXY UNKNOWN anything  at\tall\r\n", NULL, NULL},
        {"PROXY UNKNOWN " LONGEST_IPV6 " " LONGEST_IPV6 " 65535 65535\r\n", NULL, NULL},
    };
    char text[PROXY_LINE_MAX + 16];
    struct proxy_header header;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        size_t length = strlen(rows[i].line);

        assert_in_range(length, 1, PROXY_LINE_MAX);
        strcpy(stpcpy(text, rows[i].line), "PROXY\r\n\xff");
        check_good((const uint8_t *)text, strlen(text), length, &header);
        assert_int_equal(header.version, 1);
        assert_false(header.local);
        assert_false(header.tls.present);
        assert_int_equal(header.forwarded, rows[i].source != NULL);
        if (!rows[i].source)
            continue;
        check_endpoint(&header.source, rows[i].source);
        check_endpoint(&header.destination, rows[i].destination);
    }
}

#define NOT_FOUND "not found at the start of the connection"
#define MALFORMED "malformed address or port"
#define AT_END    SIZE_MAX

static void lines_are_refused(void **state)
{
    static const struct {
        const char *line, *reason;
        size_t certain; /* the byte with which it is, AT_END: the last one */
    } rows[] = {
        {"GET / HTTP/1.1\r\n", NOT_FOUND, 0},
        {"<14>hello\n", NOT_FOUND, 0},
        {"\n", NOT_FOUND, 0},
        {"proxy TCP4 ", NOT_FOUND, 0},
        {"POST / HTTP/1.1\r\n", NOT_FOUND, 1},
        {"PROXYTCP4", NOT_FOUND, 5},
        {"PROXY  TCP4", NOT_FOUND, 6},
        {"PROXY TCP5 1", NOT_FOUND, 9},
        {"PROXY UDP4 1", NOT_FOUND, 7},
        {"PROXY UNKNOWNS\r\n", NOT_FOUND, 13},
        {"PROXY UNKNOWN\n", NOT_FOUND, 13},
        {"PROXY UNKNOWN\rx", NOT_FOUND, 14},
        {"PROXY TCP4\r\n", NOT_FOUND, 10},
        {"PROXY\r\n", NOT_FOUND, 5},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "line feed without a carriage return", AT_END},
        {"PROXY UNKNOWN x\nPROXY", "line feed without a carriage return", 15},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rx", "carriage return without a line feed", AT_END},
        {"PROXY UNKNOWN \r\r\n", "carriage return without a line feed", 15},
        {"PROXY TCP4 \r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", MALFORMED, AT_END},
        {"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1\t192.0.2.2 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 00\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 99999999999999999999\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2 0x1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 ::1 ::1 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP4 localhost localhost 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP6 ::1 192.0.2.2 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP6 [::1] [::1] 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP6 fe80::1%lo ::1 1 2\r\n", MALFORMED, AT_END},
        {"PROXY TCP6 ::1::2 ::1 1 2\r\n", MALFORMED, AT_END},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        size_t length = strlen(rows[i].line);
        size_t certain = rows[i].certain == AT_END ? length - 1 : rows[i].certain;

        check_bad((const uint8_t *)rows[i].line, length, certain, rows[i].reason);
    }
}

static void a_field_of_a_line_has_no_nul(void **state)
{
    static const char line[] = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\0\r\n";
    static const char address[] = "PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n";

    (void)state;
    check_bad((const uint8_t *)line, sizeof(line) - 1, sizeof(line) - 2, MALFORMED);
    check_bad((const uint8_t *)address, sizeof(address) - 1, sizeof(address) - 2, MALFORMED);
}

/* 107 bytes with the CRLF are the most, whatever stands in the line. */
static void a_line_has_a_longest(void **state)
{
    uint8_t data[PROXY_LINE_MAX + 8];
    struct proxy_header header;

    (void)state;
    memset(data, 'x', sizeof(data));
    memcpy(data, "PROXY UNKNOWN ", 14);
    check_bad(data, sizeof(data), PROXY_LINE_MAX - 2, "longer than 107 bytes");
    memcpy(data + PROXY_LINE_MAX - 2, "\r\n", 2);
    check_good(data, sizeof(data), PROXY_LINE_MAX, &header);
    memcpy(data + PROXY_LINE_MAX - 2, "x\r\n", 3);
    check_bad(data, sizeof(data), PROXY_LINE_MAX - 2, "longer than 107 bytes");
}

static void binary_headers_are_parsed(void **state)
{
    static const uint8_t ipv6[36] = {
        0x20, 0x01, 0x0d, 0xb8, [15] = 1, 0, 0, [26] = 0xff, 0xff, 192, 0, 2, 9, 1, 0, 0, 2,
    };
    static const uint8_t paths[216] = "/run/source";
    struct proxy_header header;
    struct built b;

    (void)state;
    built_begin_inet(&b);
    built_add(&b, "hello\n", 6);
    check_good(b.bytes, b.length, 28, &header);
    assert_int_equal(header.version, 2);
    assert_true(header.forwarded && !header.local && !header.tls.present);
    check_endpoint(&header.source, "192.0.2.1:4711");
    check_endpoint(&header.destination, "198.51.100.2:3000");

    built_begin(&b, 0x21, 0x21);
    built_add(&b, ipv6, sizeof(ipv6));
    built_finish(&b);
    check_good(b.bytes, b.length, 52, &header);
    assert_true(header.forwarded && !header.local);
    check_endpoint(&header.source, "[2001:db8::1]:256");
    check_endpoint(&header.destination, "192.0.2.9:2");

    built_begin(&b, 0x21, 0x31);
    built_add(&b, paths, sizeof(paths));
    built_finish(&b);
    check_good(b.bytes, b.length, 232, &header);
    assert_true(header.forwarded && !header.local);
    check_endpoint(&header.source, "unix");
    check_endpoint(&header.destination, "unix");
}

/* What the addresses are of is not known, or is no stream: those of the connection hold. */
static void addresses_may_be_missing(void **state)
{
    static const struct {
        uint8_t command, family;
        size_t length; /* of the block */
        bool local;
    } rows[] = {
        {0x20, 0x00, 0, true},   {0x20, 0x11, 12, true},   {0x20, 0x11, 3, true},
        {0x20, 0xff, 7, true},   {0x20, 0x00, 4080, true}, {0x21, 0x00, 0, false},
        {0x21, 0x01, 0, false},  {0x21, 0x02, 0, false},   {0x21, 0x10, 12, false},
        {0x21, 0x12, 12, false}, {0x21, 0x22, 36, false},  {0x21, 0x32, 216, false},
    };
    static const uint8_t ones[PROXY_HEADER_MAX] = {1, 1, 1};
    struct proxy_header header;
    struct built b;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        built_begin(&b, rows[i].command, rows[i].family);
        built_add(&b, ones, rows[i].length);
        built_finish(&b);
        built_add(&b, "x", 1);
        check_good(b.bytes, b.length, b.length - 1, &header);
        assert_int_equal(header.local, rows[i].local);
        assert_false(header.forwarded || header.tls.present);
    }
}

static void binary_headers_are_refused(void **state)
{
    static const struct {
        uint8_t command, family;
        uint16_t length;
        size_t certain;
        const char *reason;
    } rows[] = {
        {0x22, 0x11, 12, 12, "unknown version or command"},
        {0x2f, 0x11, 12, 12, "unknown version or command"},
        {0x11, 0x11, 12, 12, "unknown version or command"},
        {0x31, 0x11, 12, 12, "unknown version or command"},
        {0x01, 0x11, 12, 12, "unknown version or command"},
        {0x21, 0x41, 12, 13, "unknown address family or transport"},
        {0x21, 0xf1, 12, 13, "unknown address family or transport"},
        {0x21, 0x13, 12, 13, "unknown address family or transport"},
        {0x21, 0x1f, 12, 13, "unknown address family or transport"},
        {0x21, 0x11, 11, 15, "too short for its addresses"},
        {0x21, 0x12, 0, 15, "too short for its addresses"},
        {0x21, 0x21, 35, 15, "too short for its addresses"},
        {0x21, 0x31, 215, 15, "too short for its addresses"},
        {0x21, 0x11, 4081, 15, "longer than 4096 bytes"},
        {0x21, 0x11, 5000 - 16, 15, "longer than 4096 bytes"},
        {0x20, 0x00, 4081, 15, "longer than 4096 bytes"},
        {0x20, 0x00, 65535, 15, "longer than 4096 bytes"},
    };
    static const uint8_t zeros[5000];
    struct built b;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        built_begin(&b, rows[i].command, rows[i].family);
        b.bytes[14] = (uint8_t)(rows[i].length >> 8);
        b.bytes[15] = (uint8_t)rows[i].length;
        built_add(&b, zeros, min_size(rows[i].length, sizeof(zeros) - 16));
        check_bad(b.bytes, b.length, rows[i].certain, rows[i].reason);
    }
    for (size_t i = 0; i < 12; i++) {
        built_begin_inet(&b);
        b.bytes[i] ^= 0x20;
        check_bad(b.bytes, b.length, i, NOT_FOUND);
    }
}

/* The test vector of RFC 3720, B.4, and the checksum of a header. */
static void checksums_are_verified(void **state)
{
    static const uint8_t thirty_two_ones[32] = {[0 ... 31] = 0xff};
    struct proxy_header header;
    struct built b, flipped;

    (void)state;
    assert_int_equal(built_crc32c(thirty_two_ones, 32), 0x62a8ab43);
    assert_int_equal(built_crc32c((const uint8_t *)"123456789", 9), 0xe3069283);
    built_begin_inet(&b);
    built_tlv(&b, 0x04, "", 0);
    built_crc(&b);
    check_good(b.bytes, b.length, b.length, &header);
    for (size_t i = 16; i < b.length; i++) {
        if (i >= 28 && i < 34) /* the heads of both TLVs: others, or none, are found then */
            continue;
        flipped = b;
        flipped.bytes[i] ^= 1;
        check_bad(flipped.bytes, b.length, b.length - 1, "checksum mismatch");
    }

    /* Not at the end. */
    built_begin_inet(&b);
    built_crc(&b);
    flipped = b;
    built_tlv(&flipped, 0x05, "id", 2);
    check_bad(flipped.bytes, flipped.length, flipped.length - 1, "checksum mismatch");
    memset(flipped.bytes + 31, 0, 4);
    {
        uint32_t crc = built_crc32c(flipped.bytes, flipped.length);

        for (size_t i = 0; i < 4; i++)
            flipped.bytes[34 - i] = (uint8_t)(crc >> 8 * i);
    }
    check_good(flipped.bytes, flipped.length, flipped.length, &header);

    built_crc(&b);
    check_bad(b.bytes, b.length, b.length - 1, "duplicate checksum or TLS part");
    built_begin_inet(&b);
    built_tlv(&b, 0x03, "\0\0\0", 3);
    check_bad(b.bytes, b.length, b.length - 1, "checksum mismatch");
    built_begin_inet(&b);
    built_tlv(&b, 0x03, "\0\0\0\0\0", 5);
    check_bad(b.bytes, b.length, b.length - 1, "checksum mismatch");
}

/* As haproxy sends them with all of proxy-v2-options. */
static void tls_is_read(void **state)
{
    struct proxy_header header;
    struct built b, tls = {.length = 0};
    static uint8_t certificate[1500];

    (void)state;
    built_begin(&tls, 0x21, 0x00); /* for its length to be set somewhere */
    built_tlv(&tls, 0x21, "TLSv1.3", 7);
    built_tlv(&tls, 0x23, "TLS_AES_256_GCM_SHA384", 22);
    built_tlv(&tls, 0x22, "client\n\0x", 9);
    built_tlv(&tls, 0x24, "RSA-SHA256", 10);
    built_tlv(&tls, 0x25, "RSA2048", 7);
    built_tlv(&tls, 0x28, certificate, sizeof(certificate));
    built_begin_inet(&b);
    built_tlv(&b, 0x01, "h2", 2);
    built_tlv(&b, 0x02, "example.org", 11);
    built_tlv(&b, 0x05, "", 0);
    built_tlv(&b, 0xea, "vpce", 4);
    memcpy(tls.bytes + 11, "\x05\0\0\0\0", 5);
    built_tlv(&b, 0x20, tls.bytes + 11, tls.length - 11);
    built_tlv(&b, 0x30, "blue", 4);
    built_crc(&b);
    built_add(&b, "hello", 5);
    check_good(b.bytes, b.length, b.length - 5, &header);
    assert_true(header.forwarded && header.tls.present && header.tls.verified);
    check_text(&b, &header.tls.version, "TLSv1.3");
    check_text(&b, &header.tls.cipher, "TLS_AES_256_GCM_SHA384");
    check_text(&b, &header.tls.signature_algorithm, "RSA-SHA256");
    check_text(&b, &header.tls.key_algorithm, "RSA2048");
    assert_int_equal(header.tls.common_name.length, 9);
    assert_memory_equal(b.bytes + header.tls.common_name.offset, "client\n\0x", 9);
}

static void certificates_are_verified_or_not(void **state)
{
    static const struct {
        const char *part;
        bool present, verified;
    } rows[] = {
        {"\x01\0\0\0\0", true, false}, /* no certificate, and nothing wrong with it */
        {"\x03\0\0\0\0", true, true},    {"\x05\0\0\0\0", true, true},
        {"\x07\0\0\0\0", true, true},    {"\x07\0\0\0\x01", true, false},
        {"\x07\x01\0\0\0", true, false}, {"\x07\xff\xff\xff\xff", true, false},
        {"\x00\0\0\0\0", false, false},  {"\x06\0\0\0\0", false, false},
        {"\xf8\0\0\0\0", false, false},
    };
    struct proxy_header header;
    struct built b;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        built_begin_inet(&b);
        built_tlv(&b, 0x20, rows[i].part, 5);
        check_good(b.bytes, b.length, b.length, &header);
        assert_int_equal(header.tls.present, rows[i].present);
        assert_int_equal(header.tls.verified, rows[i].verified);
        assert_int_equal(header.tls.common_name.length, 0);
    }
}

static void tlvs_that_overrun_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *reason;
    } rows[] = {
        {"\x04", 1, "TLV overruns the header"},
        {"\x04\0", 2, "TLV overruns the header"},
        {"\x04\0\x01", 3, "TLV overruns the header"},
        {"\x04\xff\xff", 3, "TLV overruns the header"},
        {"\x04\0\0\x04", 4, "TLV overruns the header"},
        {"\x04\0\x02xyz", 6, "TLV overruns the header"},
        {"\x20\0\x05\x01\0\0\0", 7, "TLV overruns the header"},
        {"\x20\0\0", 3, "TLS part shorter than 5 bytes"},
        {"\x20\0\x04\x01\0\0\0", 7, "TLS part shorter than 5 bytes"},
        {"\x20\0\x06\x01\0\0\0\0\x21", 9, "TLV overruns the TLS part"},
        {"\x20\0\x08\x01\0\0\0\0\x21\0\x01\x04\0\0", 14, "TLV overruns the TLS part"},
        {"\x20\0\x08\x01\0\0\0\0\x21\xff\xff", 11, "TLV overruns the TLS part"},
        {"\x20\0\x05\x01\0\0\0\0\x20\0\x05\x01\0\0\0\0", 16, "duplicate checksum or TLS part"},
        {"\x20\0\x0b\x01\0\0\0\0\x22\0\0\x22\0\0", 14, "duplicate field in the TLS part"},
    };
    struct built b;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        built_begin_inet(&b);
        built_add(&b, rows[i].bytes, rows[i].length);
        built_finish(&b);
        check_bad(b.bytes, b.length, b.length - 1, rows[i].reason);
    }
}

static void the_longest_header_is_taken(void **state)
{
    static const uint8_t padding[PROXY_HEADER_MAX];
    struct proxy_header header;
    struct built b;

    (void)state;
    built_begin_inet(&b);
    built_tlv(&b, 0x04, padding, PROXY_HEADER_MAX - b.length - 3 - 7);
    built_crc(&b);
    assert_int_equal(b.length, PROXY_HEADER_MAX);
    assert_int_equal(try_prefix(b.bytes, PROXY_HEADER_MAX - 1, &header, NULL), 0);
    assert_int_equal(try_prefix(b.bytes, PROXY_HEADER_MAX, &header, NULL), 1);
    assert_int_equal(header.length, PROXY_HEADER_MAX);
}

static void check_within(const struct proxy_header *header, const struct proxy_text *text)
{
    assert_true(text->length == 0 || text->offset >= 16);
    assert_true((size_t)text->offset + text->length <= header->length);
}

/* Good headers with a few bytes changed: whatever comes out, it comes out of every cutting, and
 * what it says lies within the header. */
static void check_anything(const uint8_t *data, size_t length)
{
    int expected = 0;
    struct proxy_header first = {0}, header;

    for (size_t n = 0; n <= length; n++) {
        int r = try_prefix(data, n, &header, NULL);

        if (expected != 0) {
            assert_int_equal(r, expected);
            if (r > 0)
                assert_memory_equal(&header, &first, sizeof(first));
            continue;
        }
        expected = r;
        first = header;
        if (r <= 0)
            continue;
        assert_int_equal(header.length, n);
        check_within(&header, &header.tls.version);
        check_within(&header, &header.tls.cipher);
        check_within(&header, &header.tls.common_name);
        check_within(&header, &header.tls.signature_algorithm);
        check_within(&header, &header.tls.key_algorithm);
    }
}

static void any_bytes_are_survived(void **state)
{
    struct built b;

    (void)state;
    for (int i = random_rounds(3000); i > 0; i--) {
        if (random_below(3) == 0) {
            static const char line[] = "PROXY TCP4 192.0.2.1 198.51.100.2 4711 3000\r\n";

            b.length = 0;
            built_add(&b, line, sizeof(line) - 1);
        } else {
            built_begin_inet(&b);
            built_tlv(&b, 0x20, "\x01\0\0\0\0\x21\0\x01t\x22\0\x02cn", 14);
            built_tlv(&b, (uint8_t)random_below(0x30), "value", random_below(6));
            if (random_below(2))
                built_crc(&b);
        }
        built_add(&b, "rest", 4);
        for (size_t n = random_below(4); n > 0; n--)
            b.bytes[random_below(b.length)] = (uint8_t)random_next();
        check_anything(b.bytes, b.length);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_parsed),
        cmocka_unit_test(lines_are_refused),
        cmocka_unit_test(a_field_of_a_line_has_no_nul),
        cmocka_unit_test(a_line_has_a_longest),
        cmocka_unit_test(binary_headers_are_parsed),
        cmocka_unit_test(addresses_may_be_missing),
        cmocka_unit_test(binary_headers_are_refused),
        cmocka_unit_test(checksums_are_verified),
        cmocka_unit_test(tls_is_read),
        cmocka_unit_test(certificates_are_verified_or_not),
        cmocka_unit_test(tlvs_that_overrun_are_refused),
        cmocka_unit_test(the_longest_header_is_taken),
        cmocka_unit_test(any_bytes_are_survived),
    };

    random_begin();
    memset(&untouched, 0xaa, sizeof(untouched));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
