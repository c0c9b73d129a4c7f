/* SPDX-License-Identifier: MIT */
#include "netd/output/event.h"

#include "common/names.h"
#include "common/util.h"
#include "netd/protocol/syslog.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Longest text of a lifecycle event or a prefix: fixed names, a few addresses and what a proxy says
 * of TLS. */
#define EVENT_TEXT_MAX 4096
#define TEXT_KEPT      1024 /* of that, bytes left free by what a proxy says */

/* Bytes of a text from a proxy that become a field, each up to four characters; the rest is cut.
 * A common name has at most 64 characters (RFC 5280, ub-common-name). */
#define EVENT_TLS_MAX     64
#define EVENT_NAME_MAX    256
#define EVENT_SUBJECT_MAX 512

/* Longest text of the fields of a syslog record, but for the values that it contains. */
#define EVENT_SYSLOG_MAX 512

_Static_assert(EVENT_SYSLOG_MAX >= 7 * (24 + 2) + 3 * NUMBER_MAX + EVENT_IDENTIFIER_MAX,
               "the fields of a syslog record may not fit");
_Static_assert(EVENT_ARENA_SIZE >=
                   EVENT_ESCAPED_MAX + EVENT_SYSLOG_MAX + (size_t)4 * EVENT_TEXT_MAX,
               "an entry may not fit");

/* --- What may stand in MESSAGE --- */

/* Bytes that are checked at once. */
#define PLAIN_WORD  sizeof(uint64_t)
#define PLAIN_BLOCK (4 * PLAIN_WORD)

/* True if the SIZE bytes at TEXT, a multiple of a word, are all printable ASCII. */
static inline bool event_is_plain(const uint8_t *text, size_t size)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t word, odd = 0;

    /* The top bit of a byte that is not ASCII, is below space, or is DEL. Borrows and carries may
     * set more of them, but only beside a true one. */
    for (size_t i = 0; i < size; i += sizeof(word)) {
        memcpy(&word, text + i, sizeof(word));
        odd |= word | (word - ones * 0x20) | (word + ones);
    }
    return (odd & ones * 0x80) == 0;
}

static bool event_is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* C1 controls and bidirectional formatting characters. */
static bool event_is_forbidden(uint32_t c)
{
    return (c >= 0x80 && c <= 0x9f) || is_bidi_control(c);
}

/* Length of the valid, allowed character of more than one byte at TEXT, or 0. */
static size_t event_multibyte(const uint8_t *text, size_t length)
{
    uint8_t lead = text[0];
    size_t n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    uint32_t c;

    if (lead < 0xc2 || lead > 0xf4 || length < n)
        return 0;
    c = lead & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (!event_is_continuation(text[i]))
            return 0;
        c = c << 6 | (text[i] & 0x3f);
    }
    if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)))
        return 0; /* overlong, or beyond Unicode */
    if ((c >= 0xd800 && c <= 0xdfff) || event_is_forbidden(c))
        return 0;
    return n;
}

/* Length of the allowed character at TEXT, or 0. */
static size_t event_character(const uint8_t *text, size_t length)
{
    if (text[0] >= 0x80)
        return event_multibyte(text, length);
    return (text[0] >= 0x20 && text[0] != 0x7f) || text[0] == '\t';
}

size_t event_clean_length(const uint8_t *text, size_t length)
{
    size_t i = 0;

    while (i < length) {
        if (length - i >= PLAIN_BLOCK && event_is_plain(text + i, PLAIN_BLOCK)) {
            i += PLAIN_BLOCK;
            continue;
        }
        if (length - i >= PLAIN_WORD && event_is_plain(text + i, PLAIN_WORD)) {
            i += PLAIN_WORD;
            continue;
        }
        for (size_t n, end = min_size(i + PLAIN_WORD, length); i < end; i += n) {
            n = event_character(text + i, length - i);
            if (n == 0)
                return i;
        }
    }
    return i;
}

size_t event_escape(uint8_t *ret, const uint8_t *text, size_t length)
{
    char *out = (char *)ret;

    for (size_t i = 0; i < length;) {
        size_t clean = event_clean_length(text + i, length - i);

        memcpy(out, text + i, clean);
        out += clean;
        i += clean;
        if (i < length)
            out = put_escape(out, text[i++]);
    }
    return (size_t)(out - (char *)ret);
}

/* --- Text in an arena --- */

static uint8_t *arena_take(struct arena *arena, size_t size)
{
    uint8_t *p = arena->base + arena->used;

    if (arena->size - arena->used < size)
        return NULL;
    arena->used += size;
    return p;
}

/* A text under construction at the arena's end; nothing is taken before text_finish(). */
struct text {
    char *at;
    size_t length;
};

static int text_begin(struct text *text, const struct arena *arena)
{
    if (arena->size - arena->used < EVENT_TEXT_MAX)
        return -ENOBUFS;
    *text = (struct text){.at = (char *)arena->base + arena->used};
    return 0;
}

static void text_add(struct text *text, const char *format, ...) PRINTF(2, 3);
static void text_add(struct text *text, const char *format, ...)
{
    size_t room = EVENT_TEXT_MAX - text->length;
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(text->at + text->length, room, format, arguments);
    va_end(arguments);
    text->length += min_size((size_t)n, room - 1);
}

/* Without the cost of printf(3): for what is in every entry. */
static inline void text_put(struct text *text, const char *string)
{
    size_t length = min_size(strlen(string), EVENT_TEXT_MAX - text->length);

    memcpy(text->at + text->length, string, length);
    text->length += length;
}

static inline void text_field(struct text *text, const char *name, const char *value)
{
    text_put(text, name);
    text_put(text, "=");
    text_put(text, value);
    text_put(text, "\n");
}

static void text_number(struct text *text, const char *name, uint64_t value)
{
    char digits[NUMBER_MAX + 1];

    *put_number(digits, value) = '\0';
    text_field(text, name, digits);
}

/* "1 record", "2 records". */
static void text_count(struct text *text, uint64_t n, const char *what)
{
    char digits[NUMBER_MAX + 1];

    *put_number(digits, n) = '\0';
    text_put(text, digits);
    text_put(text, what);
    if (n != 1)
        text_put(text, "s");
}

/* Seconds with three decimals. */
static void text_seconds(struct text *text, uint64_t usec)
{
    char digits[NUMBER_MAX + 1];

    *put_number(digits, usec / USEC_PER_SEC) = '\0';
    text_put(text, digits);
    *put_number(digits, 1000 + usec % USEC_PER_SEC / USEC_PER_MSEC) = '\0';
    digits[0] = '.';
    text_put(text, digits);
    text_put(text, " s");
}

/* Adds at most MOST bytes of VALUE, whatever they are, between BEFORE and BEHIND; nothing if VALUE
 * is empty or has no room. */
static void text_escaped(struct text *text, const char *before, const struct event_text *value,
                         size_t most, const char *behind)
{
    size_t length = min_size(value->length, most);

    if (length == 0 ||
        text->length + strlen(before) + length * 4 + strlen(behind) > EVENT_TEXT_MAX - TEXT_KEPT)
        return;
    text_put(text, before);
    text->length += event_escape((uint8_t *)text->at + text->length, value->bytes, length);
    text_put(text, behind);
}

static struct iovec text_finish(const struct text *text, struct arena *arena)
{
    return (struct iovec){.iov_base = arena_take(arena, text->length), .iov_len = text->length};
}

static void entry_add(struct entry *entry, const void *base, size_t length)
{
    /* writev(2) and sendmsg(2) only read; struct iovec has no const. */
    entry->pieces[entry->count++] =
        (struct iovec){.iov_base = (void *)(uintptr_t)base, .iov_len = length};
    entry->size += length;
}

/* --- The parts that entries share --- */

/* Hex digits of a boot id: random(4), sd-id128(3). */
#define BOOT_ID_HEX 32

static const char *event_boot_id(void)
{
    static char id[BOOT_ID_HEX + 1];
    char text[64] = "";
    size_t n = 0;
    FILE *f;

    if (id[0])
        return id;
    f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f) {
        if (!fgets(text, sizeof(text), f))
            text[0] = '\0';
        fclose(f);
    }
    for (const char *p = text; *p && n < BOOT_ID_HEX; p++)
        if (*p != '-' && *p != '\n')
            id[n++] = *p;
    return id;
}

/* "2026-11-22T13:14:15.123456+01:00 " (RFC 3339), for a person. */
static void event_add_time(struct text *text)
{
    uint64_t now = now_usec(CLOCK_REALTIME);
    time_t seconds = (time_t)(now / USEC_PER_SEC);
    char date[32] = "", zone[8] = "";
    struct tm tm;

    if (localtime_r(&seconds, &tm)) {
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
        strftime(zone, sizeof(zone), "%z", &tm);
    }
    text_add(text, "%s.%06u%.3s:%s ", date, (unsigned)(now % USEC_PER_SEC), zone,
             zone[0] ? zone + 3 : "");
}

/* What KEY stands for in an identifier; ADDRESS is memory for it. */
static const char *event_identifier_part(char key, const struct event_source *source,
                                         const char *peer,
                                         char address[static ENDPOINT_ADDRESS_MAX])
{
    switch (key) {
    case 'a':
        endpoint_address(source->peer, address);
        return address;
    case 'p':
        return peer;
    case 's':
        snprintf(address, ENDPOINT_ADDRESS_MAX, "%.8s", source->id);
        return address;
    case 'l':
        return source->listener ? source->listener : "";
    case '%':
        return "%";
    default:
        return "";
    }
}

static void event_add_identifier(struct text *text, const struct event_source *source,
                                 const char *peer)
{
    char identifier[EVENT_IDENTIFIER_MAX + 1], address[ENDPOINT_ADDRESS_MAX];
    size_t length = 0;

    if (!strchr(source->identifier, '%')) {
        text_field(text, "SYSLOG_IDENTIFIER", source->identifier);
        return;
    }
    for (const char *p = source->identifier; *p;) {
        const char *part = p;
        size_t n = strcspn(p, "%");

        if (n > 0) {
            p += n;
        } else {
            part = event_identifier_part(p[1], source, peer, address);
            n = strlen(part);
            p += p[1] ? 2 : 1;
        }
        n = min_size(n, EVENT_IDENTIFIER_MAX - length);
        memcpy(identifier + length, part, n);
        length += n;
    }
    identifier[length] = '\0';
    text_field(text, "SYSLOG_IDENTIFIER", identifier);
}

/* PRIORITY and SYSLOG_IDENTIFIER, which a syslog record may have itself. */
static void event_add_sender(struct text *text, const struct event_source *source, const char *peer)
{
    text_number(text, FIELD_PRIORITY, (uint64_t)source->priority);
    event_add_identifier(text, source, peer);
}

/* The fields that all entries begin with. */
static void event_add_common(struct text *text, const struct event_source *source, const char *peer,
                             const char *event, const char *message_id, bool with_sender)
{
    if (source->output == OUTPUT_TEXT) {
        event_add_time(text);
        text_add(text, "%s %s ", source->id, event);
        return;
    }
    if (source->output == OUTPUT_EXPORT) {
        text_add(text, "__REALTIME_TIMESTAMP=%" PRIu64 "\n__MONOTONIC_TIMESTAMP=%" PRIu64 "\n",
                 now_usec(CLOCK_REALTIME), now_usec(CLOCK_MONOTONIC));
        /* Where /proc has nothing but processes (ProcSubset=) it is not known; an empty one makes
         * systemd-journal-remote refuse the entry. */
        if (event_boot_id()[0])
            text_field(text, "_BOOT_ID", event_boot_id());
    }
    text_field(text, "MESSAGE_ID", message_id);
    if (with_sender)
        event_add_sender(text, source, peer);
    text_field(text, FIELD_EVENT, event);
    text_field(text, FIELD_SESSION_ID, source->id);
    text_field(text, FIELD_PEER, peer);
    if (source->listener && source->listener[0])
        text_field(text, FIELD_LISTENER, source->listener);
}

/* Begins an event, whose peer it also writes to PEER. Returns 0 or -ENOBUFS. */
static int event_begin(struct text *text, const struct arena *arena,
                       const struct event_source *source, char peer[static ENDPOINT_TEXT_MAX],
                       const char *event, const char *message_id, bool with_sender)
{
    int r;

    r = text_begin(text, arena);
    if (r < 0)
        return r;
    endpoint_format(source->peer, peer);
    event_add_common(text, source, peer, event, message_id, with_sender);
    return 0;
}

/* The addresses of connect, disconnect and refused. */
static void event_add_addresses(struct text *text, const struct event_source *source)
{
    char address[ENDPOINT_ADDRESS_MAX], local[ENDPOINT_TEXT_MAX];

    endpoint_address(source->peer, address);
    endpoint_format(source->local, local);
    text_field(text, FIELD_PEER_ADDRESS, address);
    if (source->peer->family != AF_UNIX)
        text_number(text, FIELD_PEER_PORT, source->peer->port);
    text_field(text, FIELD_LOCAL, source->local_path ? source->local_path : local);
    if (source->proxy) {
        endpoint_format(source->proxy, local);
        text_field(text, FIELD_PROXY, local);
    }
    if (source->tls) {
        text_escaped(text, FIELD_TLS_VERSION "=", &source->tls->version, EVENT_TLS_MAX, "\n");
        text_escaped(text, FIELD_TLS_CIPHER "=", &source->tls->cipher, EVENT_TLS_MAX, "\n");
        text_escaped(text, FIELD_TLS_NAME "=", &source->tls->name, EVENT_NAME_MAX, "\n");
        text_escaped(text, FIELD_TLS_PRINT "=", &source->tls->fingerprint, EVENT_TLS_MAX, "\n");
        text_escaped(text, FIELD_TLS_SUBJECT "=", &source->tls->subject, EVENT_SUBJECT_MAX, "\n");
    }
}

static void event_finish(struct entry *ret, struct arena *arena, struct text *text,
                         const struct event_source *source)
{
    struct iovec piece;

    if (source->output == OUTPUT_EXPORT)
        text_add(text, "\n"); /* an empty line ends an entry */
    piece = text_finish(text, arena);
    *ret = (struct entry){0};
    entry_add(ret, piece.iov_base, piece.iov_len);
}

/* --- The events --- */

int event_connect(struct entry *ret, struct arena *arena, const struct event_source *source)
{
    char peer[ENDPOINT_TEXT_MAX];
    struct text text;
    int r;

    r = event_begin(&text, arena, source, peer, EVENT_CONNECT, ID_CONNECT, true);
    if (r < 0)
        return r;
    if (source->output == OUTPUT_TEXT) {
        text_add(&text, "%s\n", peer);
    } else {
        event_add_addresses(&text, source);
        if (source->credentials) {
            text_number(&text, FIELD_PEER_PID, (uint64_t)source->credentials->pid);
            text_number(&text, FIELD_PEER_UID, source->credentials->uid);
            text_number(&text, FIELD_PEER_GID, source->credentials->gid);
        }
        text_put(&text, "MESSAGE=");
        text_put(&text, peer);
        text_put(&text, " connected\n");
    }
    event_finish(ret, arena, &text, source);
    return 0;
}

int event_disconnect(struct entry *ret, struct arena *arena, const struct event_source *source,
                     const struct event_totals *totals)
{
    char peer[ENDPOINT_TEXT_MAX], error[128] = "";
    struct text text;
    int r;

    r = event_begin(&text, arena, source, peer, EVENT_DISCONNECT, ID_DISCONNECT, true);
    if (r < 0)
        return r;
    if (totals->error > 0)
        snprintf(error, sizeof(error), " (%s)", strerror(totals->error));
    if (source->output != OUTPUT_TEXT) {
        event_add_addresses(&text, source);
        text_field(&text, FIELD_REASON, totals->reason);
        text_number(&text, FIELD_RECORDS, totals->records);
        text_number(&text, FIELD_BYTES, totals->bytes);
        text_number(&text, FIELD_DURATION_USEC, totals->duration_usec);
        if (totals->error > 0)
            text_number(&text, "ERRNO", (uint64_t)totals->error);
        text_put(&text, "MESSAGE=");
    }
    text_put(&text, peer);
    text_put(&text, " disconnected: ");
    text_put(&text, totals->reason);
    text_put(&text, error);
    text_put(&text, ", ");
    text_count(&text, totals->records, " record");
    text_put(&text, ", ");
    text_count(&text, totals->bytes, " byte");
    text_put(&text, " in ");
    text_seconds(&text, totals->duration_usec);
    text_put(&text, "\n");
    event_finish(ret, arena, &text, source);
    return 0;
}

int event_refused(struct entry *ret, struct arena *arena, const struct event_source *source,
                  const char *reason)
{
    char peer[ENDPOINT_TEXT_MAX];
    struct text text;
    int r;

    r = event_begin(&text, arena, source, peer, EVENT_REFUSED, ID_REFUSED, true);
    if (r < 0)
        return r;
    if (source->output != OUTPUT_TEXT) {
        event_add_addresses(&text, source);
        text_add(&text, FIELD_REASON "=%s\nMESSAGE=", reason);
    }
    text_add(&text, "%s refused: %s", peer, reason);
    if (source->tls)
        text_escaped(&text, ": ", &source->tls->refused, EVENT_NAME_MAX, "");
    text_put(&text, "\n");
    event_finish(ret, arena, &text, source);
    return 0;
}

int event_data_prefix(struct event_prefix *ret, struct arena *arena,
                      const struct event_source *source)
{
    bool syslog = source->format == FORMAT_SYSLOG && source->output != OUTPUT_TEXT;
    struct event_prefix prefix = {.output = source->output};
    char peer[ENDPOINT_TEXT_MAX];
    size_t used = arena->used;
    struct text text;
    int r;

    r = event_begin(&text, arena, source, peer, EVENT_DATA, ID_DATA, !syslog);
    if (r < 0)
        return r;
    if (source->output != OUTPUT_TEXT && !syslog)
        text_put(&text, "MESSAGE=");
    prefix.text = text_finish(&text, arena);
    if (syslog) {
        prefix.format = FORMAT_SYSLOG;
        prefix.trust_severity = source->trust_severity;
        r = text_begin(&text, arena);
        if (r < 0) {
            arena->used = used;
            return r;
        }
        event_add_identifier(&text, source, peer);
        prefix.identifier = text_finish(&text, arena);
    }
    *ret = prefix;
    return 0;
}

static const char *event_terminator_field(enum terminator terminator)
{
    switch (terminator) {
    case TERM_CRLF:
        return "\n" FIELD_TERMINATOR "=" TERMINATOR_CRLF "\n";
    case TERM_NONE:
        return "\n" FIELD_TERMINATOR "=" TERMINATOR_NONE "\n";
    case TERM_CONTINUED:
        return "\n" FIELD_TERMINATOR "=" TERMINATOR_CONTINUED "\n";
    case TERM_NUL:
        return "\n" FIELD_TERMINATOR "=" TERMINATOR_NUL "\n";
    case TERM_OCTET:
        return "\n" FIELD_TERMINATOR "=" TERMINATOR_OCTET "\n";
    case TERM_RELP:
        return "\n" FIELD_TERMINATOR "=" TERMINATOR_RELP "\n";
    case TERM_LF:
        break;
    }
    return "\n";
}

/* NETD_DATA in the length-prefixed form behind TEXT, but for the LF at its end: name, LF, 64 bit
 * little-endian length, bytes. */
static void event_add_binary(struct entry *ret, struct arena *arena, struct text *text,
                             const struct record *record)
{
    uint64_t length = htole64(record->length);
    struct iovec piece;

    text_put(text, FIELD_DATA "\n");
    memcpy(text->at + text->length, &length, sizeof(length));
    text->length += sizeof(length);
    piece = text_finish(text, arena);
    entry_add(ret, piece.iov_base, piece.iov_len);
    entry_add(ret, record->data, record->length);
}

/* The LENGTH bytes at DATA, escaped. Returns 1 or -ENOBUFS. */
static int event_add_escaped(struct entry *ret, struct arena *arena, const uint8_t *data,
                             size_t length)
{
    uint8_t *escaped = arena_take(arena, length * 4);
    size_t n;

    if (!escaped)
        return -ENOBUFS;
    n = event_escape(escaped, data, length);
    arena->used -= length * 4 - n;
    entry_add(ret, escaped, n);
    return 1;
}

/* MESSAGE's value, the LENGTH bytes at DATA; 1 when it had to be escaped. */
static inline int event_add_message(struct entry *ret, struct arena *arena, const uint8_t *data,
                                    size_t length)
{
    if (event_clean_length(data, length) < length)
        return event_add_escaped(ret, arena, data, length);
    entry_add(ret, data, length);
    return 0;
}

/* --- Syslog records --- */

/* "NAME=N": NAME has the equals sign. */
static inline char *put_digit(char *at, const char *name, int n)
{
    at = stpcpy(at, name);
    *at++ = (char)('0' + n);
    *at++ = '\n';
    return at;
}

/* The field with VALUE, if the record has it. Sets *ESCAPED if VALUE had to be escaped, which it
 * does not have to be if it is CLEAN. */
static inline char *put_value(char *at, const char *name, const struct syslog_text *value,
                              bool clean, bool *escaped)
{
    size_t length = value->length;

    if (!value->data)
        return at;
    at = stpcpy(at, name);
    if (clean)
        memcpy(at, value->data, length);
    else
        length = event_escape((uint8_t *)at, value->data, length);
    *escaped |= length != value->length;
    at += length;
    *at++ = '\n';
    return at;
}

static char *put_facility(char *at, int facility)
{
    if (facility == 0) /* as journald */
        return at;
    at = put_number(stpcpy(at, FIELD_FACILITY "="), (uint64_t)facility);
    *at++ = '\n';
    return at;
}

/* Bytes that put_syslog() writes at most, for a record of LENGTH bytes. */
static size_t event_syslog_size(const struct syslog *s, size_t length)
{
    return EVENT_SYSLOG_MAX + (length - s->fields.message.length) * (s->clean ? 1 : 4);
}

/* All fields that come before MESSAGE's value. */
static char *put_syslog(char *at, const struct syslog *s, const struct event_prefix *prefix,
                        bool *escaped)
{
    static const char *const formats[] = SYSLOG_FORMAT_NAMES;
    const struct syslog_fields *f = &s->fields;

    at = put_digit(at, FIELD_PRIORITY "=", s->priority);
    if (s->priority != f->severity)
        at = put_digit(at, FIELD_SEVERITY "=", f->severity);
    at = put_facility(at, f->facility);
    if (f->format == SYSLOG_PLAIN) {
        memcpy(at, prefix->identifier.iov_base, prefix->identifier.iov_len);
        at += prefix->identifier.iov_len;
    }
    at = put_value(at, FIELD_IDENTIFIER "=", &f->identifier, s->clean, escaped);
    at = put_value(at, FIELD_PID "=", &f->pid, s->clean, escaped);
    at = put_value(at, FIELD_TIMESTAMP "=", &f->timestamp, s->clean, escaped);
    at = put_value(at, FIELD_HOSTNAME "=", &f->hostname, s->clean, escaped);
    at = put_value(at, FIELD_MSGID "=", &f->msgid, s->clean, escaped);
    at = put_value(at, FIELD_STRUCTURED_DATA "=", &f->structured_data, s->clean, escaped);
    at = stpcpy(stpcpy(at, FIELD_FORMAT "="), formats[f->format]);
    return stpcpy(at, "\nMESSAGE=");
}

/* The fields of RECORD, MESSAGE's value last; 1 if they do not give back its bytes. Sets *UNPARSED
 * to 1 if it is not syslog. */
static int event_add_syslog(struct entry *ret, struct arena *arena,
                            const struct event_prefix *prefix, const struct record *record,
                            int *unparsed)
{
    struct syslog s;
    bool escaped = false;
    size_t size;
    char *at, *end;
    int r;

    if (record->continues)
        syslog_plain(&s, record->data, record->length);
    else
        syslog_parse(&s, record->data, record->length, prefix->trust_severity);
    size = event_syslog_size(&s, record->length);
    at = (char *)arena_take(arena, size);
    if (!at)
        return -ENOBUFS;
    end = put_syslog(at, &s, prefix, &escaped);
    arena->used -= size - (size_t)(end - at);
    entry_add(ret, at, (size_t)(end - at));
    *unparsed = !record->continues && s.fields.format == SYSLOG_PLAIN;
    r = event_add_message(ret, arena, s.fields.message.data, s.fields.message.length);
    return r < 0 ? r : r > 0 || escaped || !s.exact;
}

/* --- The end of an entry --- */

/* What follows MESSAGE's value: a newline, the other fields, the end of the entry. WITH_DATA adds
 * NETD_DATA. */
static int event_add_tail(struct entry *ret, struct arena *arena, enum output output,
                          const struct record *record, bool with_data, uint64_t resent)
{
    const char *field = output == OUTPUT_TEXT ? "" : event_terminator_field(record->terminator);
    bool binary = with_data && output != OUTPUT_TEXT;
    bool framed =
        record->frame_length > 0 && (record->terminator != TERM_OCTET || resent != NOT_RESENT);
    struct text text;
    int r;

    if (!binary && !framed && resent == NOT_RESENT && output == OUTPUT_JOURNAL) {
        entry_add(ret, field, strlen(field)); /* nearly every record */
        return 0;
    }

    r = text_begin(&text, arena);
    if (r < 0)
        return r;
    text_add(&text, "%s", field);
    if (resent != NOT_RESENT && output == OUTPUT_TEXT)
        text_put(&text, " (resent)");
    else if (resent != NOT_RESENT)
        text_number(&text, FIELD_RESENT, resent);
    if (framed && output != OUTPUT_TEXT)
        text_number(&text, FIELD_FRAME_LENGTH, record->frame_length);
    if (framed && record->relp && output != OUTPUT_TEXT)
        text_field(&text, FIELD_FRAMING, FRAMING_NAME_RELP);
    if (binary) {
        event_add_binary(ret, arena, &text, record);
        r = text_begin(&text, arena);
        if (r < 0)
            return r;
    }
    if (binary || output == OUTPUT_TEXT)
        text_add(&text, "\n");
    if (output == OUTPUT_EXPORT)
        text_add(&text, "\n");
    if (text.length > 0) {
        struct iovec piece = text_finish(&text, arena);

        entry_add(ret, piece.iov_base, piece.iov_len);
    }
    return 0;
}

int event_data(struct entry *ret, struct arena *arena, const struct event_prefix *prefix,
               const struct record *record, uint64_t resent)
{
    size_t used = arena->used;
    struct entry entry = {0};
    int r, unparsed = 0;

    entry_add(&entry, prefix->text.iov_base, prefix->text.iov_len);
    if (prefix->format == FORMAT_SYSLOG)
        r = event_add_syslog(&entry, arena, prefix, record, &unparsed);
    else
        r = event_add_message(&entry, arena, record->data, record->length);
    if (r >= 0)
        r = event_add_tail(&entry, arena, prefix->output, record, r > 0, resent);
    if (r < 0) {
        arena->used = used;
        return r;
    }
    *ret = entry;
    return unparsed;
}
