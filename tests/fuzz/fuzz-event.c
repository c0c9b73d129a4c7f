/* SPDX-License-Identifier: MIT */
/*
 * Any record becomes an entry with the fields of the contract and no others, and comes back from it
 * byte for byte; as text it is one line.
 */
#include "daemon/event.h"

#include "common/util.h"

#include "../unit/entry.h"
#include "fuzz.h"

#include <syslog.h>

#define COMMON "MESSAGE_ID,PRIORITY,SYSLOG_IDENTIFIER,NETD_EVENT,NETD_SESSION_ID,NETD_PEER,MESSAGE"

static void check_fields(const uint8_t *entry, size_t size, enum output output,
                         const struct record *record, bool resent)
{
    const struct field *value;
    struct fields f;
    char names[512];

    MUST(entry_parse(&f, entry, size, output == OUTPUT_EXPORT) == size);
    MUST(data_event_is_sound(&f, &value));
    MUST(value->length == record->length);
    MUST(memcmp(value->value, record->data, record->length) == 0);
    snprintf(names, sizeof(names), "%s" COMMON "%s%s%s",
             output == OUTPUT_EXPORT ? "__REALTIME_TIMESTAMP,__MONOTONIC_TIMESTAMP,_BOOT_ID," : "",
             record->terminator != TERM_LF ? ",NETD_TERMINATOR" : "", resent ? ",NETD_RESENT" : "",
             value->binary ? ",NETD_DATA" : "");
    MUST(fields_are_named(&f, names));
    MUST(fields_are(&f, "PRIORITY", "6"));
    MUST(fields_are(&f, "NETD_EVENT", "data"));
}

static void check_text(const uint8_t *entry, size_t size)
{
    MUST(size > 0 && entry[size - 1] == '\n');
    MUST(event_clean_length(entry, size - 1) == size - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t memory[EVENT_ARENA_SIZE];
    static const struct endpoint peer = {.family = AF_INET, .ip = {192, 0, 2, 1}, .port = 4711};
    struct arena arena = {.base = memory, .size = sizeof(memory)};
    struct input in = {data, size};
    uint32_t settings = input_number(&in, 1);
    struct event_source source = {
        .id = "00112233445566778899aabbccddeeff",
        .peer = &peer,
        .local = &peer,
        .priority = LOG_INFO,
        .output = (enum output)(OUTPUT_JOURNAL + settings % 3),
    };
    bool resent = settings & 0x40;
    struct record record = {
        .data = in.data,
        .length = min_size(in.size, MAX_RECORD_HIGH),
        .terminator = (enum terminator)(settings / 4 % 4),
    };
    struct event_prefix prefix;
    struct entry entry;
    uint8_t *bytes;
    size_t n = 0;

    MUST(event_data_prefix(&prefix, &arena, &source) == 0);
    MUST(event_data(&entry, &arena, &prefix, &record, resent) == 0);
    bytes = malloc(entry.size);
    MUST(bytes);
    for (size_t i = 0; i < entry.count; i++) {
        if (entry.pieces[i].iov_len > 0)
            memcpy(bytes + n, entry.pieces[i].iov_base, entry.pieces[i].iov_len);
        n += entry.pieces[i].iov_len;
    }
    MUST(n == entry.size);
    if (source.output == OUTPUT_TEXT)
        check_text(bytes, n);
    else
        check_fields(bytes, n, source.output, &record, resent);
    free(bytes);
    return 0;
}
