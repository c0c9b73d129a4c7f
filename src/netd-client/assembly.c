/* SPDX-License-Identifier: MIT */
#include "netd-client/assembly.h"

#include <string.h>

/* True if EVENT, of SIZE bytes, is marked; *OFFSET is then that of its first byte. A value that
 * netd does not write is ignored. */
static bool assembly_is_marked(const struct event *event, size_t size, uint64_t *offset)
{
    const struct value *mark = &event->fields[EVENT_RESENT];

    return mark->text && parse_u64(mark->text, UINT64_MAX - size, offset) == 0;
}

static struct value value_behind(struct value value, size_t length)
{
    return (struct value){.text = value.text + length, .length = value.length - length};
}

void assembly_add(struct assembly *a, const struct event *event, struct value *data,
                  struct value *ending)
{
    struct value payload = event_payload(event), end = {.text = event_ending(event)};
    size_t size, repeated = 0, in_payload;
    uint64_t offset = a->position;
    bool continues = value_is(&event->fields[EVENT_TERMINATOR], TERMINATOR_CONTINUED);
    bool whole = false;

    end.length = strlen(end.text);
    size = payload.length + end.length;
    /* If the offset is beyond the position, the bytes in between are not in the journal. */
    if (assembly_is_marked(event, size, &offset) && offset <= a->position) {
        repeated = (size_t)min_u64(a->position - offset, size);
        /* A repeat may still be the first to end its record: if the stream ended after a piece. */
        whole = repeated == size && (a->position > offset + size || continues || !a->continues);
    }
    in_payload = min_size(repeated, payload.length);
    *data = value_behind(payload, in_payload);
    *ending = value_behind(end, repeated - in_payload);

    a->repeats += whole || repeated > 0;
    if (whole)
        return;
    if (__builtin_add_overflow(offset, size, &a->position))
        a->position = UINT64_MAX; /* only after a forged NETD_RESENT */
    a->bytes += size - repeated;
    a->continues = continues;
    a->records += !a->continues;
}
