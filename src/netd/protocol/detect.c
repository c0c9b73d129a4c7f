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

/* Bytes that are examined at most. */
#define BEGINNING_MAX 2048

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

/* What begins with a number, which has no leading zero. */
static enum detected detect_counted(const uint8_t *data, size_t length)
{
    size_t n = count_digits(data, length, NUMBER_DIGITS_MAX);

    if (begins_with(data + n, length - n, " open ", 6))
        return DETECTED_RELP;
    if (n < length && data[n] == ' ' && begins_with_priority(data + n + 1, length - n - 1))
        return DETECTED_OCTET;
    return DETECTED_NOTHING;
}

/* With an LF before the NUL it is a line that happens to contain a NUL. */
static bool is_nul(const uint8_t *data, size_t length)
{
    const uint8_t *lf;

    if (!begins_with_priority(data, length))
        return false;
    lf = memchr(data, '\n', length);
    return memchr(data, '\0', lf ? (size_t)(lf - data) : length) != NULL;
}

/* The first byte decides which of them to try: most sessions end here. */
enum detected detect_beginning(const uint8_t *data, size_t length)
{
    if (length == 0)
        return DETECTED_NOTHING;
    length = min_size(length, BEGINNING_MAX);
    switch (data[0]) {
    case TLS_HANDSHAKE:
        return is_tls(data, length) ? DETECTED_TLS : DETECTED_NOTHING;
    case 'P':
    case '\r':
        return is_proxy(data, length) ? DETECTED_PROXY : DETECTED_NOTHING;
    case '1' ... '9':
        return detect_counted(data, length);
    case '<':
        return is_nul(data, length) ? DETECTED_NUL : DETECTED_NOTHING;
    default:
        return DETECTED_NOTHING;
    }
}

const char *detect_advice(enum detected detected, enum framing framing)
{
    static const char *const texts[] = {
        [DETECTED_TLS] = "TLS; use a listener with tls",
        [DETECTED_PROXY] = "a PROXY header; use a listener with proxy = true",
        [DETECTED_RELP] = "RELP; set framing = \"relp\"",
        [DETECTED_OCTET] =
            "syslog with octet counting; set format = \"syslog\" or framing = \"octet\"",
        [DETECTED_NUL] = "syslog messages that end with NUL; set framing = \"nul\"",
    };

    if (detected == DETECTED_RELP && framing == FRAMING_RELP)
        return NULL;
    if (detected == DETECTED_OCTET && framing != FRAMING_LINE)
        return NULL;
    if (detected == DETECTED_NUL && framing != FRAMING_LINE && framing != FRAMING_OCTET)
        return NULL;
    return (size_t)detected < ARRAY_SIZE(texts) ? texts[detected] : NULL;
}
