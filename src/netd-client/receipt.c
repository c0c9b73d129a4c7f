/* SPDX-License-Identifier: MIT */
#include "netd-client/receipt.h"

#include "common/util.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* Skips WORD at the start of *TEXT. */
static bool receipt_skip(const char **text, const char *word)
{
    size_t n = strlen(word);

    if (strncmp(*text, word, n) != 0)
        return false;
    *text += n;
    return true;
}

/* Moves the leading bytes of *TEXT that are in ALLOWED to RET, a buffer of SIZE bytes. */
static bool receipt_take(const char **text, const char *allowed, char *ret, size_t size)
{
    size_t n = strspn(*text, allowed);

    if (n == 0 || n >= size)
        return false;
    memcpy(ret, *text, n);
    ret[n] = '\0';
    *text += n;
    return true;
}

static bool receipt_session(const char **text, char ret[static SESSION_ID_HEX + 1])
{
    return receipt_take(text, "0123456789abcdef", ret, SESSION_ID_HEX + 1) &&
           strlen(ret) == SESSION_ID_HEX;
}

static bool receipt_number(const char **text, uint64_t *ret)
{
    char digits[NUMBER_MAX + 1];

    return receipt_take(text, "0123456789", digits, sizeof(digits)) &&
           parse_u64(digits, UINT64_MAX, ret) == 0;
}

/* The reason is the last word of the line. */
static bool receipt_reason(const char **text, char ret[static RECEIPT_REASON_MAX])
{
    return receipt_take(text, "abcdefghijklmnopqrstuvwxyz-", ret, RECEIPT_REASON_MAX) &&
           strcmp(*text, "\n") == 0;
}

int receipt_parse(struct receipt *ret, const char *text, size_t length)
{
    struct receipt receipt = {.kind = RECEIPT_LOGGED};
    char line[RECEIPT_MAX];
    const char *p = line;
    bool valid;

    if (length >= sizeof(line) || memchr(text, '\0', length))
        return -EBADMSG;
    memcpy(line, text, length);
    line[length] = '\0';

    if (!receipt_skip(&p, "netd "))
        return -EBADMSG;
    if (receipt_skip(&p, "error=")) {
        receipt.kind = RECEIPT_REFUSED;
        valid = receipt_reason(&p, receipt.reason);
    } else {
        valid = receipt_skip(&p, "session=") && receipt_session(&p, receipt.session) &&
                receipt_skip(&p, " records=") && receipt_number(&p, &receipt.records) &&
                receipt_skip(&p, " bytes=") && receipt_number(&p, &receipt.bytes) &&
                receipt_skip(&p, " end=") && receipt_reason(&p, receipt.reason);
    }
    if (!valid)
        return -EBADMSG;
    *ret = receipt;
    return 0;
}
