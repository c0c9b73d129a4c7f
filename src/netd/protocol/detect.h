/* SPDX-License-Identifier: MIT */
/*
 * Recognizes from a session's first bytes that a client speaks something that its listener is not
 * configured for, the most common mistake of a configuration. Only a warning depends on it.
 */
#pragma once

#include "netd/protocol/framing.h"

#include <stddef.h>
#include <stdint.h>

enum detected {
    DETECTED_NOTHING,
    DETECTED_TLS,   /* a ClientHello (RFC 8446, 4.1.2), at any listener */
    DETECTED_PROXY, /* a PROXY header, at any listener */
    DETECTED_RELP,  /* a RELP session's open command, at any listener */
    DETECTED_OCTET, /* syslog with octet counting (RFC 6587, 3.4.1), at a line listener */
    DETECTED_NUL,   /* syslog ended by NUL, as from Python's SysLogHandler, where lines are due */
};

/*
 * Classifies the LENGTH bytes at DATA, the first that a session received. It is called once: bytes
 * that arrive too late to be among them are not considered.
 */
enum detected detect_beginning(const uint8_t *data, size_t length);

/*
 * Completes "a client seems to send ": what it is, and what to do about it, a key of netd.conf(5)
 * where there is one. NULL where nothing needs to be done: for DETECTED_NOTHING, for octet counting
 * at a listener whose FRAMING is not "line", and for NUL at one that expects neither lines nor,
 * with lines among them, counted frames.
 */
const char *detect_advice(enum detected detected, enum framing framing);
