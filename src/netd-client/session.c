/* SPDX-License-Identifier: MIT */
#include "netd-client/session.h"

#include "common/array.h"
#include "common/escape.h"
#include "netd-client/output.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>

#define COMM_MAX   64 /* buffer for /proc/PID/comm, which has at most 16 bytes */
#define TIME_WIDTH 19 /* "2026-11-22 08:00:01" */

static bool value_is_id(const struct value *value, sd_id128_t id)
{
    char text[SD_ID128_STRING_MAX];

    return value_is(value, sd_id128_to_string(id, text));
}

/* Nothing is logged any more for an earlier boot. */
static bool event_is_of_this_boot(const struct event *event)
{
    sd_id128_t id;

    return sd_id128_get_boot(&id) >= 0 && value_is_id(&event->fields[EVENT_BOOT], id);
}

/* --- Finding a session --- */

struct candidate {
    char id[SESSION_ID_HEX + 1];
    char peer[ENDPOINT_TEXT_MAX]; /* a forged one is truncated */
    uint64_t begin;               /* microseconds since the epoch; 0: no connect event */
};

/* IDs with the same prefix. */
struct candidates {
    struct candidate *items;
    size_t count, room;
};

static int candidates_add(void *userdata, const char *session)
{
    struct candidates *c = userdata;
    void *items = array_grow(c->items, &c->room, c->count + 1, sizeof(*c->items));

    if (!items)
        return -ENOMEM;
    c->items = items;
    memcpy(c->items[c->count++].id, session, SESSION_ID_HEX + 1);
    return 0;
}

static void candidates_free(struct candidates *c)
{
    free(c->items);
}

/* Fills in C. Returns 1 if it is a session, not a refused client; 0, or a negative errno. */
static int candidate_read(struct reader *reader, struct candidate *c)
{
    const struct value *peer;
    struct event event;
    int r;

    r = reader_begin(reader, c->id, KIND_SESSION);
    if (r >= 0)
        r = reader_next(reader, &event);
    if (r <= 0)
        return r;
    peer = &event.fields[EVENT_PEER];
    snprintf(c->peer, sizeof(c->peer), "%s", peer->text ? peer->text : "");
    c->begin = event.kind == KIND_CONNECT ? event.time : 0;
    return 1;
}

/* Removes those that are no sessions. */
static int candidates_read(struct reader *reader, struct candidates *c)
{
    size_t sessions = 0;

    for (size_t i = 0; i < c->count; i++) {
        int r = candidate_read(reader, &c->items[i]);

        if (r < 0)
            return r;
        if (r > 0)
            c->items[sessions++] = c->items[i];
    }
    c->count = sessions;
    return 0;
}

static int candidate_compare(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return strcmp(x->id, y->id);
}

/* Lists the sessions. Returns EXIT_FAILED. */
static int candidates_fail(struct candidates *c, const char *prefix, const struct options *options)
{
    struct output output = {.utc = options->utc};
    const char *zone = options->utc ? " UTC" : "";

    qsort(c->items, c->count, sizeof(*c->items), candidate_compare);
    client_fail(EXIT_FAILED, "%zu sessions begin with '%s':", c->count, prefix);
    for (size_t i = 0; i < c->count; i++) {
        const struct candidate *item = &c->items[i];
        char begin[TIME_TEXT_MAX] = "-";

        if (item->begin > 0) {
            output_time(&output, item->begin, false, begin);
            strcat(begin, zone);
        }
        fprintf(stderr, "  %s  %-*s  ", item->id, (int)(TIME_WIDTH + strlen(zone)), begin);
        escape_write(stderr, item->peer, strlen(item->peer));
        fputc('\n', stderr);
    }
    return EXIT_FAILED;
}

/* Converts PREFIX to lower case. Returns false if it cannot be the prefix of an ID. */
static bool session_normalize(const char *prefix, char ret[static SESSION_ID_HEX + 1])
{
    size_t length = strlen(prefix);

    if (length == 0 || length > SESSION_ID_HEX)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!isxdigit((unsigned char)prefix[i]))
            return false;
        ret[i] = (char)tolower((unsigned char)prefix[i]);
    }
    ret[length] = '\0';
    return true;
}

/* Returns 0 if there is a session ID, or with ENDED its end, to wait for; 1, or a negative errno.
 */
static int session_is_stored(struct reader *reader, const char *id, bool ended)
{
    struct event event;
    int r;

    r = reader_filter(reader, id, KIND_ANY);
    if (r >= 0)
        r = reader_last(reader, &event);
    if (r <= 0)
        return r;
    return !ended || event.kind == KIND_DISCONNECT || event.kind == KIND_REFUSED ||
           !event_is_of_this_boot(&event);
}

static int session_wait(struct reader *reader, const char *id, bool ended)
{
    int r;

    while ((r = session_is_stored(reader, id, ended)) == 0 && (r = reader_wait_stored(reader)) > 0)
        ;
    return r;
}

int session_find(struct reader *reader, const struct options *options, const char *prefix,
                 bool ended, char ret[static SESSION_ID_HEX + 1])
{
    struct candidates candidates CLEANUP(candidates_free) = {0};
    char start[SESSION_ID_HEX + 1];
    int r = 0;

    if (session_normalize(prefix, start)) {
        if (strlen(start) < SESSION_ID_HEX)
            r = reader_each_session(reader, start, candidates_add, &candidates);
        else if ((r = session_wait(reader, start, ended)) >= 0)
            r = candidates_add(&candidates, start);
        if (r >= 0)
            r = candidates_read(reader, &candidates);
    }
    if (r < 0)
        return session_fail_journal(r);
    if (candidates.count == 0)
        return client_fail(EXIT_FAILED, "no session begins with '%s'", prefix);
    if (candidates.count > 1)
        return candidates_fail(&candidates, prefix, options);
    memcpy(ret, candidates.items[0].id, SESSION_ID_HEX + 1);
    return -1;
}

int session_open(const struct options *options, const char *prefix, bool ended, struct reader **ret,
                 char id[static SESSION_ID_HEX + 1])
{
    int r = reader_open(options, ret);

    return r < 0 ? session_find(*ret, options, prefix, ended, id) : r;
}

/* --- The state of a session --- */

/* Reads the invocation ID of the running unit, which the service manager keeps in a symlink. */
static bool unit_start(const struct event *event, char *ret, size_t size)
{
    const char *unit = event->fields[EVENT_UNIT].text;
    const char *user_unit = event->fields[EVENT_USER_UNIT].text;
    const char *owner = event->fields[EVENT_OWNER].text;
    char path[PATH_MAX];
    ssize_t n;

    if (user_unit && owner)
        snprintf(path, sizeof(path), "/run/user/%s/systemd/units/invocation:%s", owner, user_unit);
    else
        snprintf(path, sizeof(path), "/run/systemd/units/invocation:%s", unit);
    n = readlink(path, ret, size - 1);
    ret[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* A scope, such as a login session, outlives netd; a service does not. */
static bool event_is_of_service(const struct event *event)
{
    const struct value *user_unit = &event->fields[EVENT_USER_UNIT];
    const struct value *unit = user_unit->text ? user_unit : &event->fields[EVENT_UNIT];
    const char *dot = unit->text ? strrchr(unit->text, '.') : NULL;

    return dot && strcmp(dot, ".service") == 0 && !strchr(unit->text, '/') &&
           event->fields[EVENT_INVOCATION].text;
}

/* Whether the process still exists. Its name is compared because PIDs are reused. */
static enum session_state process_state(const struct event *event)
{
    const struct value *pid = &event->fields[EVENT_PID], *comm = &event->fields[EVENT_COMM];
    char path[sizeof("/proc//comm") + NUMBER_MAX], name[COMM_MAX] = "";
    FILE *f;

    if (!pid->text || !comm->text)
        return SESSION_UNKNOWN;
    snprintf(path, sizeof(path), "/proc/%ju/comm", (uintmax_t)value_number(pid));
    f = fopen(path, "re");
    if (!f)
        return SESSION_ABANDONED;
    if (fgets(name, sizeof(name), f))
        name[strcspn(name, "\n")] = '\0';
    fclose(f);
    return value_is(comm, name) ? SESSION_OPEN : SESSION_ABANDONED;
}

enum session_state session_state_of(const struct event *event)
{
    const struct value *boot = &event->fields[EVENT_BOOT];
    const struct value *machine = &event->fields[EVENT_MACHINE];
    char start[SD_ID128_STRING_MAX];
    sd_id128_t id;

    if (machine->text && sd_id128_get_machine(&id) >= 0 && !value_is_id(machine, id))
        return SESSION_UNKNOWN;
    if (!boot->text || sd_id128_get_boot(&id) < 0)
        return SESSION_UNKNOWN;
    if (!value_is_id(boot, id))
        return machine->text ? SESSION_ABANDONED : SESSION_UNKNOWN;
    if (!event_is_of_service(event))
        return process_state(event);
    /* The worker may have been restarted; the session survives as long as the service runs. */
    if (!unit_start(event, start, sizeof(start)))
        return SESSION_ABANDONED;
    return value_is(&event->fields[EVENT_INVOCATION], start) ? SESSION_OPEN : SESSION_ABANDONED;
}

const char *session_state_word(enum session_state state)
{
    static const char *const words[] = {
        [SESSION_OPEN] = "open", [SESSION_ABANDONED] = "abandoned", [SESSION_UNKNOWN] = "unknown"};

    return words[state];
}

int session_fail_journal(int error)
{
    return client_fail(EXIT_FAILED, "journal: %s", strerror(-error));
}
