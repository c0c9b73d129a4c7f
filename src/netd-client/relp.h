/* SPDX-License-Identifier: MIT */
/*
 * RELP, version 0, as a client speaks it: frames of commands, and the parser of the answers. Pure.
 *
 *     TXNR SP COMMAND SP DATALEN [SP DATA] LF
 *
 * The server answers each command with the same TXNR and the command "rsp", whose data begin with
 * a status such as "200 OK"; those of "open" continue with a line for each offer. TXNR 0 is a hint
 * of the server that wants no answer: "0 serverclose 0".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Maximum length of the data of a command; librelp takes no more. */
#define RELP_DATA_MAX 131072

/* Maximum length of a frame without its data: two numbers of nine digits, a command of 32
 * characters, three spaces and LF. */
#define RELP_FRAME_MAX 54

/* Longest answer accepted. Those of netd and librelp have at most 150 bytes. */
#define RELP_ANSWER_MAX 4096

#define RELP_TXNR_MAX 999999999

/* The transaction number after TXNR, from 1 to RELP_TXNR_MAX. */
uint32_t relp_next_txnr(uint32_t txnr);

/*
 * Writes the frame of COMMAND with LENGTH bytes of DATA, at most RELP_DATA_MAX, to BUFFER, which
 * has room for RELP_FRAME_MAX more than that. Returns the length of the frame.
 */
size_t relp_write(char *buffer, uint32_t txnr, const char *command, const char *data,
                  size_t length);

enum relp_kind { RELP_RSP, RELP_SERVERCLOSE };

struct relp_answer {
    enum relp_kind kind;
    uint32_t txnr;
    unsigned status;  /* of RELP_RSP: 200 to 999; 0: none, the answer is empty */
    const char *text; /* what stands behind the status up to LF; not terminated */
    size_t text_length;
    const char *offers; /* lines after the first */
    size_t offers_length;
};

/*
 * Parses the first answer in the SIZE bytes at TEXT. Returns its length and *RET, which points into
 * TEXT; 0 if the rest of it is missing; or -EBADMSG if it is not an answer.
 */
ssize_t relp_parse(struct relp_answer *ret, const char *text, size_t size);

/* Finds the offer NAME in ANSWER. Returns its value, not terminated, and its length, or NULL. */
const char *relp_offer(const struct relp_answer *answer, const char *name, size_t *ret_length);
