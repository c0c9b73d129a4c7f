/* SPDX-License-Identifier: MIT */
#include "netd-client/session.h"

#include "common/array.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-id128.h>

#define COMM_MAX 64 /* bytes of a process's name, LF and NUL included: more than proc(5) has */

static bool value_is_id(const struct value *value, sd_id128_t id)
{
    char text[SD_ID128_STRING_MAX];

    return value_is(value, sd_id128_to_string(id, text));
}

/* Of another boot, or where nothing says which, nobody has more to store. */
static bool event_is_of_this_boot(const struct event *event)
{
    sd_id128_t id;

    return sd_id128_get_boot(&id) >= 0 && value_is_id(&event->fields[EVENT_BOOT], id);
}

/* --- Finding one --- */

/* The ids that begin alike. */
struct candidates {
    char (*ids)[SESSION_ID_HEX + 1];
    size_t count, room;
};

static int candidates_add(void *userdata, const char *session)
{
    struct candidates *c = userdata;
    void *ids = array_grow(c->ids, &c->room, c->count + 1, sizeof(*c->ids));

    if (!ids)
        return -ENOMEM;
    c->ids = ids;
    memcpy(c->ids[c->count++], session, SESSION_ID_HEX + 1);
    return 0;
}

static void candidates_free(struct candidates *c)
{
    free(c->ids);
}

/* True when ID is a session's: a refused client has an id, too, and no session. */
static int session_exists(struct reader *reader, const char *id)
{
    struct event event;
    int r;

    r = reader_begin(reader, id, KIND_SESSION);
    return r < 0 ? r : reader_next(reader, &event);
}

/* Counts the sessions among C, and puts the last one's id in RET. */
static int candidates_count(struct reader *reader, const struct candidates *c, size_t *count,
                            char ret[static SESSION_ID_HEX + 1])
{
    *count = 0;
    for (size_t i = 0; i < c->count; i++) {
        int r = session_exists(reader, c->ids[i]);

        if (r < 0)
            return r;
        if (r == 0)
            continue;
        ++*count;
        memcpy(ret, c->ids[i], SESSION_ID_HEX + 1);
    }
    return 0;
}

/* PREFIX in lower case; false when no id begins like that. */
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

/* Whether the journal has all of the session ID that can be waited for: 1, 0, or a negative errno.
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

    while ((r = session_is_stored(reader, id, ended)) == 0 && (r = reader_wait_briefly(reader)) > 0)
        ;
    return r;
}

int session_find(struct reader *reader, const char *prefix, bool ended,
                 char ret[static SESSION_ID_HEX + 1])
{
    struct candidates candidates CLEANUP(candidates_free) = {0};
    char start[SESSION_ID_HEX + 1];
    size_t count = 0;
    int r = 0;

    if (session_normalize(prefix, start)) {
        if (strlen(start) < SESSION_ID_HEX)
            r = reader_each_session(reader, start, candidates_add, &candidates);
        else if ((r = session_wait(reader, start, ended)) >= 0)
            r = candidates_add(&candidates, start);
        if (r >= 0)
            r = candidates_count(reader, &candidates, &count, ret);
    }
    if (r < 0)
        return session_fail_journal(r);
    if (count == 0)
        return client_fail(EXIT_FAILED, "no session begins with '%s'", prefix);
    if (count > 1)
        return client_fail(EXIT_FAILED, "%zu sessions begin with '%s'", count, prefix);
    return -1;
}

int session_open(const struct options *options, const char *prefix, bool ended, struct reader **ret,
                 char id[static SESSION_ID_HEX + 1])
{
    int r = reader_open(options, ret);

    return r < 0 ? session_find(*ret, prefix, ended, id) : r;
}

/* --- What became of it --- */

/* Reads the symbolic link in which a service manager keeps the id of a unit's present start. */
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

/* netd is a service here. A scope, such as a login session, outlives what runs in it. */
static bool event_is_of_service(const struct event *event)
{
    const struct value *user_unit = &event->fields[EVENT_USER_UNIT];
    const struct value *unit = user_unit->text ? user_unit : &event->fields[EVENT_UNIT];
    const char *dot = unit->text ? strrchr(unit->text, '.') : NULL;

    return dot && strcmp(dot, ".service") == 0 && !strchr(unit->text, '/') &&
           event->fields[EVENT_INVOCATION].text;
}

/* Whether the process itself lives: its name guards against a number that was given out again. */
static enum life process_life(const struct event *event)
{
    const struct value *pid = &event->fields[EVENT_PID], *comm = &event->fields[EVENT_COMM];
    char path[sizeof("/proc//comm") + NUMBER_MAX], name[COMM_MAX] = "";
    FILE *f;

    if (!pid->text || !comm->text)
        return LIFE_UNKNOWN;
    snprintf(path, sizeof(path), "/proc/%ju/comm", (uintmax_t)value_number(pid));
    f = fopen(path, "re");
    if (!f)
        return LIFE_DIED;
    if (fgets(name, sizeof(name), f))
        name[strcspn(name, "\n")] = '\0';
    fclose(f);
    return value_is(comm, name) ? LIFE_OPEN : LIFE_DIED;
}

enum life session_life(const struct event *event)
{
    const struct value *boot = &event->fields[EVENT_BOOT];
    const struct value *machine = &event->fields[EVENT_MACHINE];
    char start[SD_ID128_STRING_MAX];
    sd_id128_t id;

    if (machine->text && sd_id128_get_machine(&id) >= 0 && !value_is_id(machine, id))
        return LIFE_UNKNOWN;
    if (!boot->text || sd_id128_get_boot(&id) < 0)
        return LIFE_UNKNOWN;
    if (!value_is_id(boot, id))
        return machine->text ? LIFE_DIED : LIFE_UNKNOWN;
    if (!event_is_of_service(event))
        return process_life(event);
    /* A worker may have been replaced since; what counts is that the service was not. */
    if (!unit_start(event, start, sizeof(start)))
        return LIFE_DIED;
    return value_is(&event->fields[EVENT_INVOCATION], start) ? LIFE_OPEN : LIFE_DIED;
}

const char *session_life_word(enum life life)
{
    static const char *const words[] = {
        [LIFE_OPEN] = "open", [LIFE_DIED] = "died", [LIFE_UNKNOWN] = "unknown"};

    return words[life];
}

int session_fail_journal(int error)
{
    return client_fail(EXIT_FAILED, "journal: %s", strerror(-error));
}
