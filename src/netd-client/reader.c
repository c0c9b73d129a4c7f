/* SPDX-License-Identifier: MIT */
#include "netd-client/reader.h"

#include "common/array.h"
#include "netd-client/record.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-journal.h>
#include <systemd/sd-messages.h>

/* While events are followed, the journal is read at least so often. */
#define POLL_MSEC 1000

struct reader {
    sd_journal *journal;
    char *text; /* values of the current event, NUL-terminated */
    size_t size, used;
    bool watched;      /* inotify(7) watches exist */
    uint64_t deadline; /* of reader_wait_stored(), CLOCK_MONOTONIC; 0: not started */
};

#define FIELD(name)            \
    {                          \
        name, sizeof(name) - 1 \
    }

static const struct {
    const char *name;
    size_t length;
} fields[EVENT_FIELDS] = {
    [EVENT_NAME] = FIELD(FIELD_EVENT),
    [EVENT_SESSION] = FIELD(FIELD_SESSION_ID),
    [EVENT_PEER] = FIELD(FIELD_PEER),
    [EVENT_LOCAL] = FIELD(FIELD_LOCAL),
    [EVENT_LISTENER] = FIELD(FIELD_LISTENER),
    [EVENT_REASON] = FIELD(FIELD_REASON),
    [EVENT_RECORDS] = FIELD(FIELD_RECORDS),
    [EVENT_BYTES] = FIELD(FIELD_BYTES),
    [EVENT_DURATION] = FIELD(FIELD_DURATION_USEC),
    [EVENT_ERRNO] = FIELD("ERRNO"),
    [EVENT_TERMINATOR] = FIELD(FIELD_TERMINATOR),
    [EVENT_RESENT] = FIELD(FIELD_RESENT),
    [EVENT_FRAME_LENGTH] = FIELD(FIELD_FRAME_LENGTH),
    [EVENT_FRAMING] = FIELD(FIELD_FRAMING),
    [EVENT_MESSAGE] = FIELD("MESSAGE"),
    [EVENT_DATA_BYTES] = FIELD(FIELD_DATA),
    [EVENT_FORMAT] = FIELD(FIELD_FORMAT),
    [EVENT_PRIORITY] = FIELD(FIELD_PRIORITY),
    [EVENT_SEVERITY] = FIELD(FIELD_SEVERITY),
    [EVENT_FACILITY] = FIELD(FIELD_FACILITY),
    [EVENT_IDENTIFIER] = FIELD(FIELD_IDENTIFIER),
    [EVENT_SYSLOG_PID] = FIELD(FIELD_PID),
    [EVENT_TIMESTAMP] = FIELD(FIELD_TIMESTAMP),
    [EVENT_HOSTNAME] = FIELD(FIELD_HOSTNAME),
    [EVENT_MSGID] = FIELD(FIELD_MSGID),
    [EVENT_STRUCTURED_DATA] = FIELD(FIELD_STRUCTURED_DATA),
    [EVENT_HOST] = FIELD("_HOSTNAME"),
    [EVENT_MACHINE] = FIELD("_MACHINE_ID"),
    [EVENT_BOOT] = FIELD("_BOOT_ID"),
    [EVENT_INVOCATION] = FIELD("_SYSTEMD_INVOCATION_ID"),
    [EVENT_UNIT] = FIELD("_SYSTEMD_UNIT"),
    [EVENT_USER_UNIT] = FIELD("_SYSTEMD_USER_UNIT"),
    [EVENT_OWNER] = FIELD("_SYSTEMD_OWNER_UID"),
    [EVENT_PID] = FIELD("_PID"),
    [EVENT_COMM] = FIELD("_COMM"),
};

static const struct {
    enum event_kind kind;
    const char *name, *match;
} kinds_known[] = {
    {KIND_CONNECT, EVENT_CONNECT, "MESSAGE_ID=" ID_CONNECT},
    {KIND_DATA, EVENT_DATA, "MESSAGE_ID=" ID_DATA},
    {KIND_DISCONNECT, EVENT_DISCONNECT, "MESSAGE_ID=" ID_DISCONNECT},
    {KIND_REFUSED, EVENT_REFUSED, "MESSAGE_ID=" ID_REFUSED},
};

/* --- Opening --- */

/* True if a file that matches PATTERN exists and cannot be read. */
static bool reader_matches_unreadable(const char *pattern)
{
    bool forbidden = false;
    glob_t found = {0};

    if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && !forbidden; i++)
            forbidden = access(found.gl_pathv[i], R_OK) < 0 && errno == EACCES;
    globfree(&found);
    return forbidden;
}

/* libsystemd silently skips files that it has no permission to read. */
static bool reader_has_unreadable_files(const char *directory)
{
    static const char *const usual[] = {
        "/var/log/journal/*",
        "/var/log/journal/*/system*.journal",
        "/run/log/journal/*",
        "/run/log/journal/*/system*.journal",
    };
    char pattern[PATH_MAX];

    for (size_t i = 0; !directory && i < ARRAY_SIZE(usual); i++)
        if (reader_matches_unreadable(usual[i]))
            return true;
    if (!directory)
        return false;
    snprintf(pattern, sizeof(pattern), "%s/.", directory); /* ENOTDIR if it is a file */
    if (access(pattern, R_OK) < 0 && errno == EACCES)
        return true;
    snprintf(pattern, sizeof(pattern), "%s/*.journal", directory);
    if (reader_matches_unreadable(pattern))
        return true;
    snprintf(pattern, sizeof(pattern), "%s/*/*.journal", directory);
    return reader_matches_unreadable(pattern);
}

static int reader_open_journal(sd_journal **ret, const struct options *options)
{
    const char *space = options->name_space;
    int flags = SD_JOURNAL_LOCAL_ONLY;

    if (options->directory)
        return sd_journal_open_directory(ret, options->directory, 0);
    if (!space || !*space)
        return sd_journal_open(ret, flags);
    if (strcmp(space, "*") == 0)
        return sd_journal_open_namespace(ret, NULL, flags | SD_JOURNAL_ALL_NAMESPACES);
    if (*space == '+')
        return sd_journal_open_namespace(ret, space + 1,
                                         flags | SD_JOURNAL_INCLUDE_DEFAULT_NAMESPACE);
    return sd_journal_open_namespace(ret, space, flags);
}

static int reader_fail_open(const struct options *options, int error)
{
    const char *directory = options->directory;

    if (reader_has_unreadable_files(directory))
        return client_fail(EXIT_UNAVAILABLE,
                           "no permission to read the journal: members of the groups "
                           "systemd-journal and adm have it");
    if (error < 0)
        return client_fail(EXIT_UNAVAILABLE, "%s: %s", directory ? directory : "journal",
                           strerror(-error));
    if (directory)
        return client_fail(EXIT_UNAVAILABLE, "%s: no journal to read", directory);
    if (options->name_space)
        return client_fail(EXIT_UNAVAILABLE, "no journal to read in namespace '%s'",
                           options->name_space);
    return client_fail(EXIT_UNAVAILABLE, "no journal to read");
}

int reader_open(const struct options *options, struct reader **ret)
{
    struct reader *reader CLEANUP(reader_freep) = calloc(1, sizeof(*reader));
    int r;

    if (!reader)
        return client_fail(EXIT_FAILED, "%s", strerror(ENOMEM));
    r = reader_open_journal(&reader->journal, options);
    if (r >= 0)
        r = sd_journal_set_data_threshold(reader->journal, 0);
    if (r >= 0)
        r = sd_journal_seek_head(reader->journal);
    if (r >= 0)
        r = sd_journal_next(reader->journal);
    if (r <= 0)
        return reader_fail_open(options, r);
    if (!options->quiet && reader_has_unreadable_files(options->directory))
        client_fail(0, "no permission to read the whole journal: members of the groups "
                       "systemd-journal and adm have it");
    *ret = reader;
    reader = NULL;
    return -1;
}

struct reader *reader_free(struct reader *reader)
{
    if (reader) {
        sd_journal_close(reader->journal);
        free(reader->text);
        free(reader);
    }
    return NULL;
}

void reader_freep(struct reader **reader)
{
    *reader = reader_free(*reader);
}

/* --- Matches --- */

static int reader_match(struct reader *reader, const char *field, const char *value)
{
    char *match CLEANUP(free_pointer) = NULL;

    if (asprintf(&match, "%s=%s", field, value) < 0) {
        match = NULL;
        return -ENOMEM;
    }
    return sd_journal_add_match(reader->journal, match, 0);
}

static int reader_match_session(struct reader *reader, const char *session)
{
    char match[sizeof(FIELD_SESSION_ID "=") + SESSION_ID_HEX];

    snprintf(match, sizeof(match), FIELD_SESSION_ID "=%s", session);
    return sd_journal_add_match(reader->journal, match, 0);
}

int reader_filter(struct reader *reader, const char *session, unsigned kinds)
{
    int r = 0;

    sd_journal_flush_matches(reader->journal);
    if (session)
        r = reader_match_session(reader, session);
    for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(kinds_known); i++)
        if (kinds & kinds_known[i].kind)
            r = sd_journal_add_match(reader->journal, kinds_known[i].match, 0);
    return r < 0 ? r : 0;
}

int reader_filter_listener(struct reader *reader, const char *listener)
{
    int r = reader_match(reader, FIELD_LISTENER, listener);

    return r < 0 ? r : 0;
}

int reader_seek_head(struct reader *reader)
{
    return sd_journal_seek_head(reader->journal);
}

int reader_seek_tail(struct reader *reader)
{
    return sd_journal_seek_tail(reader->journal);
}

int reader_begin(struct reader *reader, const char *session, unsigned kinds)
{
    int r = reader_filter(reader, session, kinds);

    return r < 0 ? r : reader_seek_head(reader);
}

/* --- Events --- */

/* Returns the index of the field in DATA, "NAME=value", or EVENT_FIELDS. */
static size_t reader_which_field(const char *data, size_t length)
{
    size_t i;

    for (i = 0; i < EVENT_FIELDS; i++)
        if (length > fields[i].length && data[fields[i].length] == '=' &&
            memcmp(data, fields[i].name, fields[i].length) == 0)
            break;
    return i;
}

/* Makes room for LENGTH bytes after those that are used. Returns 0 or -ENOMEM. */
static int reader_reserve(struct reader *reader, size_t length)
{
    char *copies = array_grow(reader->text, &reader->size, reader->used + length, 1);

    if (!copies)
        return -ENOMEM;
    reader->text = copies;
    return 0;
}

/* Copies the value: data returned by libsystemd is only valid until the next call. */
static int reader_keep(struct reader *reader, struct value *value, const char *text, size_t length)
{
    int r = reader_reserve(reader, length + 1);

    if (r < 0)
        return r;
    memcpy(reader->text + reader->used, text, length);
    reader->text[reader->used + length] = '\0';
    reader->used += length + 1;
    value->length = length;
    return 0;
}

/* Copies the known fields of the current entry, and sets their OFFSETS, SIZE_MAX of one that it
 * does not have: the copies may move with the next one. */
static int reader_copy_fields(struct reader *reader, struct event *event,
                              size_t offsets[static EVENT_FIELDS])
{
    const void *data;
    size_t length;
    int r;

    reader->used = 0;
    for (size_t i = 0; i < EVENT_FIELDS; i++)
        offsets[i] = SIZE_MAX;
    sd_journal_restart_data(reader->journal);
    while ((r = sd_journal_enumerate_available_data(reader->journal, &data, &length)) > 0) {
        size_t i = reader_which_field(data, length);

        if (i == EVENT_FIELDS || offsets[i] != SIZE_MAX)
            continue;
        offsets[i] = reader->used;
        r = reader_keep(reader, &event->fields[i], (const char *)data + fields[i].length + 1,
                        length - fields[i].length - 1);
        if (r < 0)
            return r;
    }
    return r;
}

static void reader_set_fields(const struct reader *reader, struct event *event,
                              const size_t offsets[static EVENT_FIELDS])
{
    for (size_t i = 0; i < EVENT_FIELDS; i++)
        if (offsets[i] != SIZE_MAX)
            event->fields[i].text = reader->text + offsets[i];
}

/* Restores the record of EVENT behind the copies of its fields. */
static int reader_rebuild(struct reader *reader, struct event *event,
                          const size_t offsets[static EVENT_FIELDS])
{
    size_t length;
    int r;

    if (!record_needs_rebuild(event))
        return 0;
    length = record_rebuild(event, NULL, 0);
    r = reader_reserve(reader, length);
    if (r < 0)
        return r;
    reader_set_fields(reader, event, offsets);
    event->rebuilt = (struct value){.text = reader->text + reader->used, .length = length};
    record_rebuild(event, reader->text + reader->used, length);
    return 0;
}

static bool event_has_id(const struct event *event)
{
    const struct value *id = &event->fields[EVENT_SESSION];

    return id->length == SESSION_ID_HEX && strspn(id->text, "0123456789abcdef") == SESSION_ID_HEX;
}

/* Reads the current entry. Returns 1, 0 if it is not an event of netd, or a negative errno. */
static int reader_load(struct reader *reader, struct event *ret)
{
    size_t offsets[EVENT_FIELDS];
    struct event event = {0};
    int r;

    r = sd_journal_get_realtime_usec(reader->journal, &event.time);
    if (r >= 0)
        r = reader_copy_fields(reader, &event, offsets);
    if (r == -EBADMSG)
        return 0; /* corrupted; verify reports the missing event */
    if (r < 0)
        return r;
    reader_set_fields(reader, &event, offsets);
    for (size_t i = 0; i < ARRAY_SIZE(kinds_known); i++)
        if (value_is(&event.fields[EVENT_NAME], kinds_known[i].name))
            event.kind = kinds_known[i].kind;
    if (!event.kind || !event_has_id(&event))
        return 0;
    r = reader_rebuild(reader, &event, offsets);
    if (r < 0)
        return r;
    *ret = event;
    return 1;
}

static int reader_move(struct reader *reader, struct event *ret, int (*move)(sd_journal *))
{
    int r;

    do {
        r = move(reader->journal);
        if (r <= 0)
            return r;
        r = reader_load(reader, ret);
    } while (r == 0);
    return r;
}

int reader_next(struct reader *reader, struct event *ret)
{
    return reader_move(reader, ret, sd_journal_next);
}

int reader_previous(struct reader *reader, struct event *ret)
{
    return reader_move(reader, ret, sd_journal_previous);
}

int reader_last(struct reader *reader, struct event *ret)
{
    int r = reader_seek_tail(reader);

    return r < 0 ? r : reader_previous(reader, ret);
}

int reader_seek_last(struct reader *reader, uint64_t count)
{
    int r = sd_journal_seek_tail(reader->journal);

    if (r >= 0)
        r = sd_journal_previous_skip(reader->journal, count + 1);
    if (r < 0)
        return r;
    return (uint64_t)r <= count ? sd_journal_seek_head(reader->journal) : 0;
}

/* Timeout for poll(2): on network file systems libsystemd polls for changes. journald may append an
 * entry without a notification. */
static int reader_timeout(struct reader *reader)
{
    uint64_t until = UINT64_MAX, now = now_usec(CLOCK_MONOTONIC);

    if (sd_journal_get_timeout(reader->journal, &until) < 0 || until == UINT64_MAX)
        return POLL_MSEC;
    return until <= now ? 0 : (int)min_u64((until - now) / USEC_PER_MSEC + 1, POLL_MSEC);
}

int reader_wait(struct reader *reader, int output)
{
    struct pollfd fds[] = {{.events = POLLIN}, {.fd = output}};
    int r;

    if (!reader->watched) {
        /* Adds the watches and returns immediately: entries may have been added before. */
        reader->watched = true;
        r = sd_journal_wait(reader->journal, 0);
        return r < 0 ? r : 0;
    }
    fds[0].fd = sd_journal_get_fd(reader->journal);
    if (fds[0].fd < 0)
        return fds[0].fd;
    if (poll(fds, ARRAY_SIZE(fds), reader_timeout(reader)) < 0 && errno != EINTR)
        return -errno;
    if (fds[1].revents)
        return 1;
    /* For NOP, APPEND and INVALIDATE alike, the caller reads on: libsystemd has opened new files
     * and kept the position. */
    r = sd_journal_process(reader->journal);
    return r < 0 ? r : 0;
}

int reader_wait_stored(struct reader *reader)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC);
    int r;

    if (reader->deadline == 0)
        reader->deadline = now + STORE_TIMEOUT_USEC;
    if (now >= reader->deadline)
        return 0;
    /* The first call adds the watches and returns immediately: see sd_journal_wait(3). */
    r = sd_journal_wait(reader->journal, reader->deadline - now);
    return r < 0 ? r : 1;
}

int reader_each_session(struct reader *reader, const char *prefix,
                        int (*each)(void *userdata, const char *session), void *userdata)
{
    const size_t name = sizeof(FIELD_SESSION_ID); /* including '=' */
    size_t length, prefix_length = strlen(prefix);
    char id[SESSION_ID_HEX + 1] = "";
    const void *data;
    int r;

    r = sd_journal_query_unique(reader->journal, FIELD_SESSION_ID);
    if (r < 0)
        return r;
    while ((r = sd_journal_enumerate_available_unique(reader->journal, &data, &length)) > 0) {
        if (length != name + SESSION_ID_HEX ||
            memcmp((const char *)data + name, prefix, min_size(prefix_length, SESSION_ID_HEX)) != 0)
            continue;
        memcpy(id, (const char *)data + name, SESSION_ID_HEX);
        r = each(userdata, id);
        if (r != 0)
            return r;
    }
    return r;
}

int reader_has_several_hosts(struct reader *reader)
{
    const void *data;
    size_t length;
    int r;

    r = sd_journal_query_unique(reader->journal, fields[EVENT_HOST].name);
    for (int hosts = 0; r >= 0 && hosts < 2; hosts++) {
        r = sd_journal_enumerate_available_unique(reader->journal, &data, &length);
        if (r == 0)
            return 0;
    }
    return r;
}

/* --- What journald and systemd say about a unit --- */

/* The value of FIELD of the current entry as a number, or 0. */
static uint64_t reader_number(struct reader *reader, const char *field)
{
    size_t length, head = strlen(field) + 1;
    char text[NUMBER_MAX + 1] = "";
    const char *data;
    uint64_t number = 0;

    if (sd_journal_get_data(reader->journal, field, (const void **)&data, &length) >= 0 &&
        length > head && length - head < sizeof(text)) {
        memcpy(text, data + head, length - head);
        (void)parse_u64(text, UINT64_MAX, &number);
    }
    return number;
}

int reader_count_dropped(struct reader *reader, const char *unit, uint64_t since, uint64_t *ret)
{
    uint64_t sum = 0, time;
    int r;

    sd_journal_flush_matches(reader->journal);
    r = reader_match(reader, "MESSAGE_ID", SD_MESSAGE_JOURNAL_DROPPED_STR);
    if (r >= 0)
        r = reader_match(reader, "OBJECT_SYSTEMD_UNIT", unit);
    if (r >= 0)
        r = sd_journal_seek_tail(reader->journal);
    while (r >= 0 && (r = sd_journal_previous(reader->journal)) > 0) {
        r = sd_journal_get_realtime_usec(reader->journal, &time);
        if (r >= 0 && time < since)
            break;
        sum += reader_number(reader, "N_DROPPED");
    }
    if (r < 0)
        return r;
    *ret = sum;
    return 0;
}

int reader_last_error(struct reader *reader, const char *unit, char *ret, size_t size)
{
    const size_t head = sizeof("MESSAGE");
    const char *data;
    size_t length;
    int r;

    sd_journal_flush_matches(reader->journal);
    r = reader_match(reader, "_SYSTEMD_UNIT", unit);
    if (r >= 0)
        r = reader_match(reader, "_TRANSPORT", "stdout");
    for (char level[] = "0"; r >= 0 && *level <= '3'; (*level)++)
        r = reader_match(reader, FIELD_PRIORITY, level);
    if (r >= 0)
        r = sd_journal_seek_tail(reader->journal);
    if (r >= 0)
        r = sd_journal_previous(reader->journal);
    if (r <= 0)
        return r;
    r = sd_journal_get_data(reader->journal, "MESSAGE", (const void **)&data, &length);
    if (r < 0)
        return r;
    snprintf(ret, size, "%.*s", (int)min_size(length - head, size), data + head);
    return 1;
}

int reader_usage(struct reader *reader, uint64_t *ret)
{
    return sd_journal_get_usage(reader->journal, ret);
}

/* --- Values --- */

uint64_t value_number(const struct value *value)
{
    uint64_t number = 0;

    if (value->text)
        (void)parse_u64(value->text, UINT64_MAX, &number);
    return number;
}

bool value_is(const struct value *value, const char *text)
{
    return value->text && strcmp(value->text, text) == 0;
}

bool peer_has_address(const char *peer, const char *address)
{
    bool bracket = *peer == '[';
    size_t length = strlen(address);
    const char *rest = peer + bracket + length;

    if (strncmp(peer + bracket, address, length) != 0)
        return false;
    return bracket ? *rest == ']' || *rest == '%' : *rest == ':' || *rest == '\0';
}

struct totals event_totals(const struct event *event)
{
    return (struct totals){
        .records = value_number(&event->fields[EVENT_RECORDS]),
        .bytes = value_number(&event->fields[EVENT_BYTES]),
        .duration = value_number(&event->fields[EVENT_DURATION]),
    };
}

struct value event_payload(const struct event *event)
{
    const struct value *data = &event->fields[EVENT_DATA_BYTES];
    const struct value *message = &event->fields[EVENT_MESSAGE];

    if (data->text)
        return *data;
    if (event->rebuilt.text)
        return event->rebuilt;
    return message->text ? *message : (struct value){.text = ""};
}

struct value event_ending(const struct event *event)
{
    const struct value *terminator = &event->fields[EVENT_TERMINATOR];

    if (!terminator->text)
        return (struct value){.text = "\n", .length = 1};
    if (value_is(terminator, TERMINATOR_CRLF))
        return (struct value){.text = "\r\n", .length = 2};
    return (struct value){.text = "", .length = value_is(terminator, TERMINATOR_NUL)};
}
