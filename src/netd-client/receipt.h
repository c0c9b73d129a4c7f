/* SPDX-License-Identifier: MIT */
/*
 * What netd says to a client before it closes, see RECEIPT_FORMAT and REFUSAL_FORMAT. Pure and
 * strict: what netd would not have written is not a receipt.
 */
#pragma once

#include "common/names.h"

#include <stddef.h>
#include <stdint.h>

#define RECEIPT_REASON_MAX 32 /* bytes, NUL included */

enum receipt_kind { RECEIPT_LOGGED, RECEIPT_REFUSED };

struct receipt {
    enum receipt_kind kind;
    char reason[RECEIPT_REASON_MAX];  /* why the session ended, or why there was none */
    char session[SESSION_ID_HEX + 1]; /* this and the rest: RECEIPT_LOGGED only */
    uint64_t records, bytes;
};

/*
 * Reads the LENGTH bytes at TEXT, which are all that the peer sent. Returns 0, or -EBADMSG when
 * they are neither line; *RET is untouched then.
 */
int receipt_parse(struct receipt *ret, const char *text, size_t length);
