/* SPDX-License-Identifier: MIT */
/*
 * A record to the fields of a syslog message: RFC 5424, and RFC 3164 as it is really sent. Pure: no
 * allocation, no copy, no state; no record is rejected.
 *
 * What a local program may send to /dev/log, [<PRI>][TIMESTAMP][TAG[PID]:] TEXT, gives the fields
 * that journald stores (journald-syslog.c of systemd), with these exceptions:
 *   - A NUL does not end the message, unless nothing but NULs and blanks follows.
 *   - A PRI above 191 is read as <14>. journald takes facility and severity from its bits.
 *   - A record without PRI, timestamp and tag is plain: the message is the whole record, with the
 *     blanks around it. So is JSON without PRI and timestamp.
 *
 * Other forms, which only arrive over a network: a HOSTNAME, recognised between a timestamp and a
 * tag only; other timestamps; sequence numbers and %FACILITY-SEVERITY-MNEMONIC of Cisco devices.
 */
#pragma once

#include "common/syslog.h"

#include <stdbool.h>

struct syslog {
    struct syslog_fields fields; /* texts point into the record */
    int priority;                /* for PRIORITY */
    bool exact;                  /* syslog_rebuild() returns the record's bytes */
    bool clean;                  /* all texts but the message are printable ASCII */
};

/*
 * Parses the LENGTH bytes at DATA. Severities 0 to 2 become priority 3 unless TRUST_SEVERITY:
 * journald writes its files to disk at once for each entry of such a priority.
 *
 * Only bytes of MESSAGE, and of the other texts if not CLEAN, may need escaping. The entry needs
 * NETD_DATA if one of them does, or if the record is not EXACT. The texts do not overlap, so
 * together they are not longer than the record.
 */
void syslog_parse(struct syslog *ret, const uint8_t *data, size_t length, bool trust_severity);

/* Makes a plain record of the bytes, whatever they are. */
void syslog_plain(struct syslog *ret, const uint8_t *data, size_t length);
