/* SPDX-License-Identifier: MIT */
#include "netd/protocol/detect.h"

#include "common/util.h"

#include <stdbool.h>
#include <string.h>

/* A TLS record's type, version and length, and the first byte of what it holds (RFC 8446, 5.1). */
#define TLS_HEAD      5
#define TLS_HANDSHAKE 22
#define CLIENT_HELLO  1

/* Digits of a RELP transaction number, and of a frame's length. */
#define NUMBER_DIGITS_MAX 9

/* "<191>": a priority. */
#define PRIORITY_DIGITS_MAX 3

static bool begins_with(const uint8_t *data, size_t length, const char *text, size_t text_length)
{
    return length >= text_length && memcmp(data, text, text_length) == 0;
}

/* Digits at the front, at most MAX. */
static size_t count_digits(const uint8_t *data, size_t length, size_t max)
{
    size_t n = 0;

    while (n < length && n < max && data[n] >= '0' && data[n] <= '9')
        n++;
    return n;
}

static bool begins_with_priority(const uint8_t *data, size_t length)
{
    size_t n;

    if (length == 0 || data[0] != '<')
        return false;
    n = count_digits(data + 1, length - 1, PRIORITY_DIGITS_MAX);
    return n > 0 && n + 1 < length && data[n + 1] == '>';
}

/* A handshake record of some version that holds a ClientHello. */
static bool is_tls(const uint8_t *data, size_t length)
{
    return length > TLS_HEAD && data[0] == TLS_HANDSHAKE && data[1] == 3 && data[2] <= 4 &&
           data[TLS_HEAD] == CLIENT_HELLO;
}

static bool is_proxy(const uint8_t *data, size_t length)
{
    return begins_with(data, length, "PROXY TCP", 9) ||
           begins_with(data, length, "PROXY UNKNOWN", 13) ||
           begins_with(data, length, "\r\n\r\n\0\r\nQUIT\n", 12);
}

static bool is_relp(const uint8_t *data, size_t length)
{
    size_t n = count_digits(data, length, NUMBER_DIGITS_MAX);

    return n > 0 && begins_with(data + n, length - n, " open ", 6);
}

static bool is_octet(const uint8_t *data, size_t length)
{
    size_t n = count_digits(data, length, NUMBER_DIGITS_MAX);

    return n > 0 && data[0] != '0' && n < length && data[n] == ' ' &&
           begins_with_priority(data + n + 1, length - n - 1);
}

/* With an LF before the NUL it is a line that happens to contain a NUL. */
static bool is_nul(const uint8_t *data, size_t length)
{
    const uint8_t *nul = memchr(data, '\0', length);

    return nul && begins_with_priority(data, length) && !memchr(data, '\n', (size_t)(nul - data));
}

enum detected detect_beginning(const uint8_t *data, size_t length)
{
    if (length == 0)
        return DETECTED_NOTHING;
    if (is_tls(data, length))
        return DETECTED_TLS;
    if (is_proxy(data, length))
        return DETECTED_PROXY;
    if (is_relp(data, length))
        return DETECTED_RELP;
    if (is_octet(data, length))
        return DETECTED_OCTET;
    if (is_nul(data, length))
        return DETECTED_NUL;
    return DETECTED_NOTHING;
}

const char *detect_advice(enum detected detected)
{
    static const char *const texts[] = {
        [DETECTED_TLS] = "TLS; set tls",
        [DETECTED_PROXY] = "a PROXY header; set proxy = true",
        [DETECTED_RELP] = "RELP; set framing = \"relp\"",
        [DETECTED_OCTET] = "syslog with octet counting; set framing = \"octet\"",
        [DETECTED_NUL] = "syslog messages ended by NUL; set framing = \"nul\"",
    };

    return (size_t)detected < ARRAY_SIZE(texts) ? texts[detected] : NULL;
}
