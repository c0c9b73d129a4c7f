/* SPDX-License-Identifier: MIT */
/*
 * RELP, version 0, as a server: the heads of frames, and the text of responses. Pure.
 *
 * A frame is TXNR SP COMMAND SP DATALEN [SP DATA] LF. A session's frames are numbered from 1, and
 * 999999999 is followed by 1. The first is "open", then come "syslog" with one record each, and
 * "close" may be the last. So the number of a frame follows from how many records came before it,
 * and nothing else has to be remembered of them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Digits of TXNR and of DATALEN. */
#define RELP_DIGITS_MAX 9
#define RELP_TXNR_MAX   999999999

/* Longest head that is taken, bytes: numbers, the longest command, blanks. */
#define RELP_HEAD_MAX (RELP_DIGITS_MAX + 1 + 6 + 1 + RELP_DIGITS_MAX + 1)

/* Maximum data of a command that has no record, bytes: what clients offer takes some 100. */
#define RELP_OFFERS_MAX 2048

/* All that may stand in front of a record's data: an open command, and the head. */
#define RELP_PREFIX_MAX (RELP_HEAD_MAX + RELP_OFFERS_MAX + 1 + RELP_HEAD_MAX)

/* Room for a response and a NUL, bytes. */
#define RELP_RESPONSE_MAX 128

/* What a stop sends; nothing is a response to it. */
#define RELP_SERVERCLOSE "0 serverclose 0\n"

enum relp_command { RELP_OPEN, RELP_SYSLOG, RELP_CLOSE };

struct relp_head {
    uint32_t txnr;
    enum relp_command command;
    uint32_t length; /* DATALEN */
    size_t size;     /* bytes in front of the data, or of the LF where there are no data */
};

/* Parses the head of the frame at DATA. Returns 1 with *RET filled in, 0 when more bytes are
 * needed, or -EPROTO when these are no beginning of a frame. */
int relp_parse_head(const uint8_t *data, size_t length, struct relp_head *ret);

/* The TXNR of a session's frame NUMBER, counted from 0. */
uint32_t relp_txnr(uint64_t number);

/* Looks for the open command that a session begins with. Returns 1 with its bytes in *SIZE when it
 * is there, 0 when more bytes are needed, or -EPROTO when something else is. */
int relp_parse_open(const uint8_t *data, size_t length, size_t *size);

/* Write the response to the open command, which offers the session's ID SESSION, 32 hexadecimal
 * digits; that to the frame of a record; and that to a close command. They return its length. */
size_t relp_put_opened(char ret[static RELP_RESPONSE_MAX], const char *session);
size_t relp_put_logged(char ret[static RELP_RESPONSE_MAX], uint64_t number);
size_t relp_put_closed(char ret[static RELP_RESPONSE_MAX], uint64_t number);
