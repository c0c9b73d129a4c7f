/* SPDX-License-Identifier: MIT */
/* Linked into a netd of its own with -Wl,--wrap=framer_next: a record that crashes the worker. */
#include "netd/protocol/framing.h"

#include <stdlib.h>
#include <string.h>

#define POISON "POISON\n"

int __real_framer_next(const struct framer *framer, const uint8_t *data, size_t length, bool at_end,
                       bool mid_record, size_t *scanned, struct record *ret);
int __wrap_framer_next(const struct framer *framer, const uint8_t *data, size_t length, bool at_end,
                       bool mid_record, size_t *scanned, struct record *ret);

int __wrap_framer_next(const struct framer *framer, const uint8_t *data, size_t length, bool at_end,
                       bool mid_record, size_t *scanned, struct record *ret)
{
    if (length >= strlen(POISON) && memcmp(data, POISON, strlen(POISON)) == 0)
        abort();
    return __real_framer_next(framer, data, length, at_end, mid_record, scanned, ret);
}
