/* SPDX-License-Identifier: MIT */
#include "netd-client/assembly.h"

#include <stdio.h>
#include <string.h>

/* True if EVENT, of SIZE bytes, is marked; *OFFSET is then that of its first byte. A value that
 * netd does not write is ignored. */
static bool assembly_is_marked(const struct event *event, size_t size, uint64_t *offset)
{
    const struct value *mark = &event->fields[EVENT_RESENT];

    return mark->text && parse_u64(mark->text, UINT64_MAX - size, offset) == 0;
}

/*
 * The head of the counted frame that EVENT begins, or nothing. The first piece says the announced
 * length; one that is all of the frame need not, because it has that length itself. One that may be
 * a repeat does in any case, because nothing else tells whether a piece went before it.
 */
static struct value assembly_head(struct assembly *a, const struct event *event)
{
    const struct value *said = &event->fields[EVENT_FRAME_LENGTH];
    uint64_t length = 0;

    if (value_is(&event->fields[EVENT_FRAMING], FRAMING_NAME_RELP))
        length = 0; /* only records are counted */
    else if (said->text)
        (void)parse_u64(said->text, FRAME_LENGTH_HIGH, &length);
    else if (!event->fields[EVENT_RESENT].text && !a->continues &&
             value_is(&event->fields[EVENT_TERMINATOR], TERMINATOR_OCTET))
        length = event_payload(event).length;
    a->head[0] = '\0';
    if (length > 0)
        snprintf(a->head, sizeof(a->head), "%u ", (unsigned)length);
    return (struct value){.text = a->head, .length = strlen(a->head)};
}

/* Takes LENGTH bytes off the front of PARTS. */
static void parts_skip(struct value parts[static EVENT_PARTS], size_t length)
{
    for (size_t i = 0; i < EVENT_PARTS; i++) {
        size_t n = min_size(length, parts[i].length);

        parts[i].text += n;
        parts[i].length -= n;
        length -= n;
    }
}

void assembly_add(struct assembly *a, const struct event *event,
                  struct value parts[static EVENT_PARTS])
{
    uint64_t offset = a->position;
    size_t size = 0, repeated = 0;
    bool continues = value_is(&event->fields[EVENT_TERMINATOR], TERMINATOR_CONTINUED);
    bool whole = false;

    parts[0] = assembly_head(a, event);
    parts[1] = event_payload(event);
    parts[2] = event_ending(event);
    for (size_t i = 0; i < EVENT_PARTS; i++)
        size += parts[i].length;
    /* If the offset is beyond the position, the bytes in between are not in the journal. */
    if (assembly_is_marked(event, size, &offset) && offset <= a->position) {
        repeated = (size_t)min_u64(a->position - offset, size);
        /* A repeat may still be the first to end its record: if the stream ended after a piece. */
        whole = repeated == size && (a->position > offset + size || continues || !a->continues);
    }
    parts_skip(parts, repeated);

    a->repeats += whole || repeated > 0;
    if (whole)
        return;
    if (__builtin_add_overflow(offset, size, &a->position))
        a->position = UINT64_MAX; /* only after a forged NETD_RESENT */
    a->bytes += size - repeated;
    a->continues = continues;
    a->records += !a->continues;
}
