/* SPDX-License-Identifier: MIT */
#include "netd/protocol/framing.h"

const struct framing_ops framing_table[] = {
    [FRAMING_LINE] = {.next = framing_line_next, .flush = framing_line_flush},
    [FRAMING_RAW] = {.next = framing_raw_next, .read_is_record = true},
    [FRAMING_NUL] = {.next = framing_nul_next, .flush = framing_nul_flush},
    [FRAMING_OCTET] = {.next = framing_octet_next, .flush = framing_octet_flush},
    [FRAMING_RELP] = {.next = framing_relp_next, .flush = framing_relp_flush, .acknowledges = true},
};
