/* SPDX-License-Identifier: MIT */
#pragma once

/* What a record means. The order is part of the table's layout. */
enum format {
    FORMAT_PLAIN,  /* bytes */
    FORMAT_SYSLOG, /* RFC 5424 or RFC 3164; what is neither is plain */
    FORMATS,
};
