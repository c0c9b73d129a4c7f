/* SPDX-License-Identifier: MIT */
#include "netd/output/batch.h"

void batch_push(struct batch *batch, const struct item *item, struct iovec *pieces, size_t count)
{
    uint32_t i = batch->end;

    batch->items[i] = *item;
    batch->messages[i] = (struct mmsghdr){
        .msg_hdr.msg_iov = pieces,
        .msg_hdr.msg_iovlen = count,
        .msg_len = NOT_TAKEN,
    };
    /* An entry is part of the batch only when all of it stands there. */
    __atomic_store_n(&batch->end, i + 1, __ATOMIC_RELEASE);
}

void batch_reset(struct batch *batch)
{
    /* END first: an interrupted reset leaves an empty batch (FIRST beyond END), never an old one.
     */
    __atomic_store_n(&batch->end, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&batch->first, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&batch->stream.loaded, 0, __ATOMIC_RELEASE);
}
