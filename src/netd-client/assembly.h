/* SPDX-License-Identifier: MIT */
/*
 * What a client sent, put together from its session's data events in their order. Pure.
 *
 * After a crash netd logs again what it does not know to be logged, perhaps cut at other places.
 * NETD_RESENT in such an event is the offset of its first byte in what the client sent, see
 * netd.journal-fields(7); so the bytes before the position reached are a repeat.
 */
#pragma once

#include "netd-client/reader.h"

struct assembly {
    uint64_t position;       /* offset of the next byte in what the client sent */
    uint64_t records, bytes; /* of the events added, without repeats */
    uint64_t repeats;        /* events that were repeats, or began with one */
    bool continues;          /* the last piece did not end its record */
};

/*
 * Adds EVENT, a data event. What is new of its bytes goes to *DATA, what is new of the bytes that
 * ended the record to *ENDING; both are parts of EVENT, or of constants, and may be empty.
 */
void assembly_add(struct assembly *assembly, const struct event *event, struct value *data,
                  struct value *ending);
