/* SPDX-License-Identifier: MIT */
/* Linked into a netd of its own with -Wl,--wrap=framing_line_next: a record crashes the worker. */
#include "netd/protocol/framing.h"

#include <stdlib.h>
#include <string.h>

#define POISON "POISON\n"

int __real_framing_line_next(struct framing_input *in, struct record *ret);
int __wrap_framing_line_next(struct framing_input *in, struct record *ret);

int __wrap_framing_line_next(struct framing_input *in, struct record *ret)
{
    if (in->length >= strlen(POISON) && memcmp(in->data, POISON, strlen(POISON)) == 0)
        abort();
    return __real_framing_line_next(in, ret);
}
