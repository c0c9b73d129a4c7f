/* SPDX-License-Identifier: MIT */
/*
 * What a configuration says about sessions and the service, apart from where to listen and from
 * where it was written. Plain data: it lives in the session table.
 */
#pragma once

#include "common/util.h"
#include "netd/output/output.h"
#include "netd/protocol/format.h"
#include "netd/protocol/framing.h"

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_LISTENERS_MAX 64

#define SESSIONS_MAX_HIGH  1000000
#define BUFFER_MEMORY_LOW  UINT64_C(65536)
#define BUFFER_MEMORY_HIGH (UINT64_C(1) << 40)
#define SECONDS_HIGH       31536000 /* a year, for every key in seconds */

#define LISTENER_NAME_MAX 63
#define IDENTIFIER_MAX    63        /* bytes of the template */
#define MAX_RATE_HIGH     INT32_MAX /* needs no suffix in a file */

/* What the sessions of one listener go by. */
struct listener_settings {
    char name[LISTENER_NAME_MAX + 1]; /* "" where the configuration has no list of listeners */
    enum framing framing;
    enum format format;
    bool trust_severity; /* of syslog records: 0 to 2 may be their PRIORITY */
    uint32_t max_record; /* bytes */
    int priority;        /* syslog level, LOG_NOTICE to LOG_DEBUG */
    bool receipt;
    bool proxy;             /* each connection begins with a PROXY header */
    bool tls;               /* clients speak TLS, with netd-tls */
    uint32_t flush_timeout; /* seconds; 0: never */
    uint32_t max_rate;      /* bytes a second that a session may send; 0: no limit */
    uint32_t sessions_max;
    uint32_t sessions_max_per_address; /* 0: no limit */
    uint32_t idle_timeout;             /* seconds; 0: never */
    /* SYSLOG_IDENTIFIER of the events: %a, %p, %s and %l are replaced, %% is a percent sign. */
    char identifier[IDENTIFIER_MAX + 1];
};

/* What holds for all listeners together. */
struct service_settings {
    enum output output;
    uint32_t sessions_max;
    uint32_t sessions_max_per_address; /* 0: no limit */
    uint32_t stop_timeout;             /* seconds */
    uint64_t buffer_memory;            /* bytes */
};

/* How many of LIMIT descriptors sessions may have beside that many listeners; of few, half. */
static inline uint64_t settings_descriptors(uint64_t limit, uint32_t listeners)
{
    return limit - min_u64(limit / 2, DESCRIPTORS_KEPT - 1 + (uint64_t)listeners);
}
