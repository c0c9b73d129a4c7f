/* SPDX-License-Identifier: MIT */
/* Linked into a netd of its own with -Wl,--wrap= for each of these: a record crashes the worker. */
#include "netd/protocol/framing.h"

#include <stdlib.h>
#include <string.h>

static void poison_check(const struct framing_input *in)
{
    static const char poison[] = "POISON";

    if (in->length > strlen(poison) && memcmp(in->data, poison, strlen(poison)) == 0)
        abort();
}

#define WRAP(name)                                                   \
    int __real_##name(struct framing_input *in, struct record *ret); \
    int __wrap_##name(struct framing_input *in, struct record *ret); \
    int __wrap_##name(struct framing_input *in, struct record *ret)  \
    {                                                                \
        poison_check(in);                                            \
        return __real_##name(in, ret);                               \
    }

WRAP(framing_line_next)
WRAP(framing_nul_next)
WRAP(framing_octet_next)
