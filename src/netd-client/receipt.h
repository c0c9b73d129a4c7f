/* SPDX-License-Identifier: MIT */
/*
 * Parser of the line that netd sends before it closes a connection, see RECEIPT_FORMAT and
 * REFUSAL_FORMAT. Pure and strict: accepts only what netd writes.
 */
#pragma once

#include "common/names.h"

#include <stddef.h>
#include <stdint.h>

#define RECEIPT_REASON_MAX 32 /* bytes, including NUL */

enum receipt_kind { RECEIPT_LOGGED, RECEIPT_REFUSED };

struct receipt {
    enum receipt_kind kind;
    char reason[RECEIPT_REASON_MAX];  /* why the session ended, or the client was refused */
    char session[SESSION_ID_HEX + 1]; /* this and the following: RECEIPT_LOGGED only */
    uint64_t records, bytes;
};

/* Parses the LENGTH bytes at TEXT. Returns 0, or -EBADMSG if they are neither line, with *RET
 * unchanged. */
int receipt_parse(struct receipt *ret, const char *text, size_t length);
