/* SPDX-License-Identifier: MIT */
/*
 * Any record becomes an entry with the documented fields and no others, from which it can be
 * rebuilt byte for byte. In format "syslog", too, where a record has a choice of fields: none of it
 * reaches another one. The same for connect, disconnect and refused with any addresses and numbers.
 * As text, each is one line.
 */
#include "netd/output/event.h"

#include "common/util.h"

#include "../unit/syslog-entry.h"
#include "fuzz.h"

#include <netinet/in.h>
#include <syslog.h>

#define IDENTIFIER "192.0.2.1 192.0.2.1:4711 00112233 %"

/* Checks the fields that depend on the format, and sets RET to the names from the first of them to
 * MESSAGE. */
static void check_format(const struct fields *f, const struct event_source *source,
                         const struct record *record, char ret[static 256])
{
    const struct field *value;
    struct syslog s;

    if (source->format == FORMAT_PLAIN) {
        MUST(data_event_is_sound(f, &value));
        MUST(value->length == record->length);
        MUST(memcmp(value->value, record->data, record->length) == 0);
        MUST(fields_are(f, "PRIORITY", "6"));
        MUST(fields_are(f, "SYSLOG_IDENTIFIER", IDENTIFIER));
        strcpy(ret, "MESSAGE");
        return;
    }
    if (record->continues)
        syslog_plain(&s, record->data, record->length);
    else
        syslog_parse(&s, record->data, record->length, source->trust_severity);
    MUST(syslog_entry_is_sound(f, &s, record->data, record->length, IDENTIFIER));
    syslog_entry_names(&s, ret);
}

static void check_fields(const uint8_t *entry, size_t size, const struct event_source *source,
                         const struct record *record, uint64_t resent)
{
    bool syslog = source->format == FORMAT_SYSLOG;
    enum output output = source->output;
    struct fields f;
    char names[512], format[256];

    MUST(entry_parse(&f, entry, size, output == OUTPUT_EXPORT) == size);
    check_format(&f, source, record, format);
    snprintf(names, sizeof(names), "%sMESSAGE_ID%s,NETD_EVENT,NETD_SESSION_ID,NETD_PEER,%s%s%s%s%s",
             output == OUTPUT_EXPORT ? "__REALTIME_TIMESTAMP,__MONOTONIC_TIMESTAMP,_BOOT_ID," : "",
             syslog ? "" : ",PRIORITY,SYSLOG_IDENTIFIER", format,
             record->terminator != TERM_LF ? ",NETD_TERMINATOR" : "",
             resent != NOT_RESENT ? ",NETD_RESENT" : "",
             record->frame_length > 0 && (record->terminator != TERM_OCTET || resent != NOT_RESENT)
                 ? ",NETD_FRAME_LENGTH"
                 : "",
             fields_find(&f, "NETD_DATA") ? ",NETD_DATA" : "");
    MUST(fields_are_named(&f, names));
    MUST(fields_are(&f, "MESSAGE_ID", "780dde514a934f698d9360e2b7999b2c"));
    MUST(fields_are(&f, "NETD_EVENT", "data"));
    MUST(fields_are(&f, "NETD_SESSION_ID", source->id));
    MUST(fields_are(&f, "NETD_PEER", "192.0.2.1:4711"));
}

static void check_text(const uint8_t *entry, size_t size)
{
    MUST(size > 0 && entry[size - 1] == '\n');
    MUST(event_clean_length(entry, size - 1) == size - 1);
}

/* Returns the bytes of ENTRY in one buffer, for free(3). */
static uint8_t *joined(const struct entry *entry)
{
    uint8_t *bytes = malloc(entry->size);
    size_t n = 0;

    MUST(bytes);
    for (size_t i = 0; i < entry->count; i++) {
        if (entry->pieces[i].iov_len > 0)
            memcpy(bytes + n, entry->pieces[i].iov_base, entry->pieces[i].iov_len);
        n += entry->pieces[i].iov_len;
    }
    MUST(n == entry->size);
    return bytes;
}

/* --- Data --- */

enum { SYSLOG = 1, TRUST = 2, CONTINUES = 4 };

static void try_data(struct input in, uint32_t settings, struct arena *arena,
                     struct event_source *source)
{
    uint64_t resent = settings & 0x40 ? settings : NOT_RESENT;
    uint32_t format = input_number(&in, 1);
    struct record record = {
        .data = in.data,
        .length = min_size(in.size, MAX_RECORD_HIGH),
        .terminator = (enum terminator)(settings / 4 % (TERM_OCTET + 1)),
        .frame_length = settings & 0x20 ? (uint32_t)in.size + settings : 0,
        .continues = format & CONTINUES,
    };
    struct event_prefix prefix;
    struct entry entry;
    uint8_t *bytes;

    source->format = format & SYSLOG ? FORMAT_SYSLOG : FORMAT_PLAIN;
    source->trust_severity = format & TRUST;
    MUST(event_data_prefix(&prefix, arena, source) == 0);
    MUST(event_data(&entry, arena, &prefix, &record, resent) >= 0);
    bytes = joined(&entry);
    if (source->output == OUTPUT_TEXT)
        check_text(bytes, entry.size);
    else
        check_fields(bytes, entry.size, source, &record, resent);
    free(bytes);
}

/* --- The other events --- */

enum kind { CONNECT, DISCONNECT, REFUSED, KINDS };

static void input_endpoint(struct input *in, struct endpoint *ret)
{
    struct sockaddr_storage sa = {0};
    socklen_t length = (socklen_t)min_size(in->size, sizeof(struct sockaddr_in6));

    memcpy(&sa, in->data, length);
    in->data += length;
    in->size -= length;
    endpoint_from_sockaddr(ret, &sa, length);
}

/* As from listener.c: without control characters. */
static void input_path(struct input *in, char ret[static 108])
{
    size_t n = min_size(in->size, 107);

    memcpy(ret, in->data, n);
    ret[n] = '\0';
    for (char *p = ret; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

static bool number_is(const struct fields *f, const char *name, uint64_t value)
{
    char digits[32];

    snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
    return fields_are(f, name, digits);
}

static void check_lifecycle(const uint8_t *entry, size_t size, enum kind kind,
                            const struct event_source *source, const struct event_totals *totals)
{
    static const char *const events[KINDS] = {"connect", "disconnect", "refused"};
    bool port = source->peer->family != AF_UNIX, end = kind == DISCONNECT;
    char names[512], peer[ENDPOINT_TEXT_MAX], address[ENDPOINT_ADDRESS_MAX],
        local[ENDPOINT_TEXT_MAX];
    const struct field *value;
    struct fields f;

    MUST(entry_parse(&f, entry, size, source->output == OUTPUT_EXPORT) == size);
    MUST(data_event_is_sound(&f, &value));
    snprintf(names, sizeof(names),
             "%sMESSAGE_ID,PRIORITY,SYSLOG_IDENTIFIER,NETD_EVENT,NETD_SESSION_ID,NETD_PEER,"
             "NETD_PEER_ADDRESS%s,NETD_LOCAL%s%s%s,MESSAGE",
             source->output == OUTPUT_EXPORT
                 ? "__REALTIME_TIMESTAMP,__MONOTONIC_TIMESTAMP,_BOOT_ID,"
                 : "",
             port ? ",NETD_PEER_PORT" : "", kind != CONNECT ? ",NETD_REASON" : "",
             end ? ",NETD_RECORDS,NETD_BYTES,NETD_DURATION_USEC" : "",
             end && totals->error > 0 ? ",ERRNO" : "");
    MUST(fields_are_named(&f, names));
    endpoint_format(source->peer, peer);
    endpoint_address(source->peer, address);
    endpoint_format(source->local, local);
    snprintf(names, sizeof(names), "%s %s 00112233 %%", address, peer);
    MUST(fields_are(&f, "PRIORITY", "6") && fields_are(&f, "SYSLOG_IDENTIFIER", names));
    MUST(fields_are(&f, "NETD_EVENT", events[kind]));
    MUST(fields_are(&f, "NETD_SESSION_ID", source->id));
    MUST(fields_are(&f, "NETD_PEER", peer) && fields_are(&f, "NETD_PEER_ADDRESS", address));
    MUST(!port || number_is(&f, "NETD_PEER_PORT", source->peer->port));
    MUST(fields_are(&f, "NETD_LOCAL", source->local_path ? source->local_path : local));
    MUST(kind == CONNECT || fields_are(&f, "NETD_REASON", totals->reason));
    MUST(!end || (number_is(&f, "NETD_RECORDS", totals->records) &&
                  number_is(&f, "NETD_BYTES", totals->bytes) &&
                  number_is(&f, "NETD_DURATION_USEC", totals->duration_usec)));
    MUST(!end || totals->error <= 0 || number_is(&f, "ERRNO", (uint64_t)totals->error));
}

static void try_lifecycle(struct input in, uint32_t settings, struct arena *arena,
                          struct event_source *source)
{
    enum kind kind = (enum kind)(settings / 4 % KINDS);
    struct event_totals totals = {
        .reason = kind == REFUSED ? "session-limit" : "error",
        .error = (int)input_number(&in, 4),
        .records = (uint64_t)input_number(&in, 4) << 32 | input_number(&in, 4),
        .bytes = (uint64_t)input_number(&in, 4) << 32 | input_number(&in, 4),
        .duration_usec = (uint64_t)input_number(&in, 4) << 32 | input_number(&in, 4),
    };
    struct endpoint peer, local;
    struct entry entry;
    char path[108];
    uint8_t *bytes;
    int r;

    input_endpoint(&in, &peer);
    input_endpoint(&in, &local);
    input_path(&in, path);
    source->peer = &peer;
    source->local = &local;
    source->local_path = settings & 0x40 ? path : NULL;
    r = kind == CONNECT      ? event_connect(&entry, arena, source)
        : kind == DISCONNECT ? event_disconnect(&entry, arena, source, &totals)
                             : event_refused(&entry, arena, source, totals.reason);
    MUST(r == 0);
    bytes = joined(&entry);
    if (source->output == OUTPUT_TEXT)
        check_text(bytes, entry.size);
    else
        check_lifecycle(bytes, entry.size, kind, source, &totals);
    free(bytes);
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
        .identifier = "%a %p %s %%",
        .output = (enum output)(OUTPUT_JOURNAL + settings % 3),
    };

    if (settings & 0x80)
        try_lifecycle(in, settings, &arena, &source);
    else
        try_data(in, settings, &arena, &source);
    return 0;
}
