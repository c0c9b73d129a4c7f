/* SPDX-License-Identifier: MIT */
/*
 * The fields of a syslog record, which netd stores, and from which netd-client restores the record.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum syslog_format {
    SYSLOG_PLAIN, /* not syslog: the message is the record */
    SYSLOG_RFC3164,
    SYSLOG_RFC5424,
};

/* Values of NETD_FORMAT, by enum syslog_format. */
#define SYSLOG_FORMAT_NAMES           \
    {                                 \
        "plain", "rfc3164", "rfc5424" \
    }

/* DATA is NULL if the record does not have the field; LENGTH may be 0 if it has. */
struct syslog_text {
    const uint8_t *data;
    size_t length; /* bytes */
};

struct syslog_fields {
    enum syslog_format format;
    int facility; /* 0 to 23 */
    int severity; /* 0 to 7, as sent: NETD_SEVERITY if the entry has one, else PRIORITY */
    struct syslog_text timestamp;
    struct syslog_text hostname;
    struct syslog_text identifier;             /* TAG or APP-NAME */
    struct syslog_text pid;                    /* PROCID, or what stands in the tag's brackets */
    struct syslog_text msgid, structured_data; /* RFC 5424 only */
    struct syslog_text message;
};

/*
 * Writes the record that has FIELDS to RET, but not more than SIZE bytes, and returns its length.
 * RET may be NULL if SIZE is 0. The forms are, with optional parts in brackets,
 *
 *   plain    MESSAGE
 *   rfc3164  <PRI>[TIMESTAMP ][HOSTNAME ][IDENTIFIER[\[PID\]]: ]MESSAGE
 *   rfc5424  <PRI>1 TIMESTAMP HOSTNAME IDENTIFIER PID MSGID STRUCTURED-DATA MESSAGE
 *
 * PRI has no leading zeros; no blank precedes an empty message; a timestamp that ends in a blank,
 * as journald stores it, gets no second one; "-" stands for a field of RFC 5424 that is absent.
 */
size_t syslog_rebuild(uint8_t *ret, size_t size, const struct syslog_fields *fields);
