/* SPDX-License-Identifier: MIT */
/* Only what netd writes is accepted as a receipt: formatted again, it is the same. */
#include "netd-client/receipt.h"

#include "fuzz.h"

#include <errno.h>
#include <inttypes.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct receipt receipt, before;
    char again[2 * RECEIPT_MAX];
    char *text = malloc(size + 1);
    int r, n;

    MUST(text);
    memcpy(text, data, size); /* on the heap, so that reads past the end are detected */
    memset(&receipt, 0x55, sizeof(receipt));
    before = receipt;
    r = receipt_parse(&receipt, text, size);
    if (r < 0) {
        MUST(r == -EBADMSG);
        MUST(memcmp(&receipt, &before, sizeof(receipt)) == 0);
    } else {
        if (receipt.kind == RECEIPT_REFUSED)
            n = snprintf(again, sizeof(again), REFUSAL_FORMAT, receipt.reason);
        else
            n = snprintf(again, sizeof(again), RECEIPT_FORMAT, receipt.session, receipt.records,
                         receipt.bytes, receipt.reason);
        MUST((size_t)n == size && memcmp(again, text, size) == 0);
        MUST(receipt.kind == RECEIPT_REFUSED ||
             (strlen(receipt.session) == 32 && strspn(receipt.session, "0123456789abcdef") == 32));
        MUST(receipt.reason[0] &&
             !receipt.reason[strspn(receipt.reason, "abcdefghijklmnopqrstuvwxyz-")]);
    }
    free(text);
    return 0;
}
