/* SPDX-License-Identifier: MIT */
/*
 * Names that netd writes and netd-client reads: events, fields, message IDs, the receipt. They are
 * a stable interface, see netd.journal-fields(7).
 */
#pragma once

#define NETD_VERSION "0.2.0"

#define DEFAULT_HOST "127.0.0.1"
#define DEFAULT_PORT 3000
/* May be set with make SYSCONFDIR=DIR. */
#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc"
#endif
#define DEFAULT_CONF SYSCONFDIR "/netd/netd.conf"

/* The metrics: a file in the runtime directory of netd.service, written by netd. */
#define METRICS_FILE "metrics.prom"
#define METRICS_PATH "/run/netd/" METRICS_FILE

/* MESSAGE_ID of each event. Each has an entry in systemd/netd.catalog. */
#define ID_CONNECT    "cf8a2f824a45483794fc0d893bd9b33c"
#define ID_DATA       "780dde514a934f698d9360e2b7999b2c"
#define ID_DISCONNECT "9484e171ebb44f1daf42690b105b5810"
#define ID_REFUSED    "883b11a4ab9f46f6b046f5ac05c2b62e"

/* Values of NETD_EVENT. */
#define EVENT_CONNECT    "connect"
#define EVENT_DATA       "data"
#define EVENT_DISCONNECT "disconnect"
#define EVENT_REFUSED    "refused"

#define FIELD_EVENT         "NETD_EVENT"
#define FIELD_SESSION_ID    "NETD_SESSION_ID"
#define FIELD_PEER          "NETD_PEER"
#define FIELD_PEER_ADDRESS  "NETD_PEER_ADDRESS"
#define FIELD_PEER_PORT     "NETD_PEER_PORT"
#define FIELD_PEER_PID      "NETD_PEER_PID"
#define FIELD_PEER_UID      "NETD_PEER_UID"
#define FIELD_PEER_GID      "NETD_PEER_GID"
#define FIELD_LOCAL         "NETD_LOCAL"
#define FIELD_LISTENER      "NETD_LISTENER"
#define FIELD_PROXY         "NETD_PROXY"
#define FIELD_TLS_VERSION   "NETD_TLS_VERSION"
#define FIELD_TLS_CIPHER    "NETD_TLS_CIPHER"
#define FIELD_TLS_NAME      "NETD_TLS_NAME"
#define FIELD_TLS_SUBJECT   "NETD_TLS_SUBJECT"
#define FIELD_TLS_PRINT     "NETD_TLS_FINGERPRINT"
#define FIELD_REASON        "NETD_REASON"
#define FIELD_RECORDS       "NETD_RECORDS"
#define FIELD_BYTES         "NETD_BYTES"
#define FIELD_DURATION_USEC "NETD_DURATION_USEC"
#define FIELD_DATA          "NETD_DATA"
#define FIELD_FRAME_LENGTH  "NETD_FRAME_LENGTH"
#define FIELD_FRAMING       "NETD_FRAMING"
#define FIELD_TERMINATOR    "NETD_TERMINATOR"
#define FIELD_RESENT        "NETD_RESENT"
#define FIELD_FORMAT        "NETD_FORMAT"
#define FIELD_SEVERITY      "NETD_SEVERITY"
#define FIELD_HOSTNAME      "NETD_HOSTNAME"

/* Fields of a record in syslog format that journald gives to syslog messages, too, and those that
 * systemd-netlogd gives to messages of RFC 5424. */
#define FIELD_PRIORITY        "PRIORITY"
#define FIELD_FACILITY        "SYSLOG_FACILITY"
#define FIELD_IDENTIFIER      "SYSLOG_IDENTIFIER"
#define FIELD_PID             "SYSLOG_PID"
#define FIELD_TIMESTAMP       "SYSLOG_TIMESTAMP"
#define FIELD_MSGID           "SYSLOG_MSGID"
#define FIELD_STRUCTURED_DATA "SYSLOG_STRUCTURED_DATA"

/* Values of NETD_TERMINATOR; absent means LF. */
#define TERMINATOR_CRLF      "crlf"
#define TERMINATOR_NONE      "none"
#define TERMINATOR_CONTINUED "continued"
#define TERMINATOR_NUL       "nul"
#define TERMINATOR_OCTET     "octet"
#define TERMINATOR_RELP      "relp"

/* Value of NETD_FRAMING. */
#define FRAMING_NAME_RELP "relp"

/* Highest NETD_FRAME_LENGTH: nine digits. */
#define FRAME_LENGTH_HIGH 999999999

/* Length of a session ID in bytes, and in hex digits without the terminating NUL. */
#define SESSION_ID_SIZE 16
#define SESSION_ID_HEX  32

/*
 * The line sent to a client when its session ends, and the one sent to a refused client.
 * RECEIPT_MAX is the buffer size for either, including LF and NUL.
 */
#define RECEIPT_FORMAT "netd session=%s records=%" PRIu64 " bytes=%" PRIu64 " end=%s\n"
#define REFUSAL_FORMAT "netd error=%s\n"
#define RECEIPT_MAX    160

/* File descriptors that sessions never get: supervisor and worker share one table, and need some
 * for sd_notify(3), to start another worker, for a listener and for the journal. */
#define DESCRIPTORS_KEPT 64
