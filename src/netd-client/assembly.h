/* SPDX-License-Identifier: MIT */
/*
 * Reassembly of a client's byte stream from the data events of its session, in journal order. Pure.
 *
 * After a crash netd logs again everything that it does not know to be logged, possibly split at
 * other places. NETD_RESENT marks such an event with the offset of its first byte in the stream,
 * see netd.journal-fields(7). Bytes of a marked event before the current position are repeats.
 */
#pragma once

#include "netd-client/reader.h"

struct assembly {
    uint64_t position;       /* offset of the next byte in the stream */
    uint64_t records, bytes; /* of the added events, without repeats */
    uint64_t repeats;        /* events that were repeats, entirely or in part */
    bool continues;          /* the last piece did not end its record */
    char head[16];           /* of the last event's counted frame */
};

/* What an event stands for: the head of a counted frame, the record, and what ended it. */
#define EVENT_PARTS 3

/*
 * Adds EVENT, a data event. PARTS are set to the bytes of its parts that are not repeats. They
 * point into EVENT, the assembly or constants, and may be empty.
 */
void assembly_add(struct assembly *assembly, const struct event *event,
                  struct value parts[static EVENT_PARTS]);
