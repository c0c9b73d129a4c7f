/* SPDX-License-Identifier: MIT */
/*
 * The journal is read backwards, which can stop early: after --lines sessions, or at an entry
 * before
 * --since.
 */
#include "netd-client/list.h"

#include "common/array.h"
#include "netd-client/record.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

static int list_compare_ids(const void *a, const void *b)
{
    return strcmp(((const struct session *)a)->id, ((const struct session *)b)->id);
}

static int list_compare_begins(const void *a, const void *b)
{
    const struct session *x = *(const struct session *const *)a;
    const struct session *y = *(const struct session *const *)b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return strcmp(x->id, y->id);
}

/* --- Filters --- */

static bool list_wants(const struct list *list, const struct session *s,
                       const struct options *options)
{
    if (options->selects && !tfind(s, &list->selected, list_compare_ids))
        return false;
    if (options->open && (s->ended || s->state != SESSION_OPEN))
        return false;
    if (*options->peer && !peer_has_address(s->peer, options->peer))
        return false;
    if (options->listener && strcmp(s->listener, options->listener) != 0)
        return false;
    if (options->reason && strcmp(s->reason, options->reason) != 0)
        return false;
    return s->begin >= options->since && s->begin <= options->until;
}

/* --- Events --- */

/* Returns the session with ID in TREE, adding it if necessary, or NULL if out of memory. */
static struct session *list_get(void **tree, const char *id)
{
    struct session *s = calloc(1, sizeof(*s));
    struct session **found;

    if (!s)
        return NULL;
    memcpy(s->id, id, SESSION_ID_HEX + 1);
    found = tsearch(s, tree, list_compare_ids);
    if (!found || *found != s)
        free(s);
    return found ? *found : NULL;
}

static void copy_value(char *ret, size_t size, const struct value *value)
{
    size_t n = value->text ? min_size(value->length, size - 1) : 0;

    if (n > 0)
        memcpy(ret, value->text, n);
    ret[n] = '\0';
}

static void session_take_common(struct session *s, const struct event *event)
{
    copy_value(s->peer, sizeof(s->peer), &event->fields[EVENT_PEER]);
    copy_value(s->local, sizeof(s->local), &event->fields[EVENT_LOCAL]);
    copy_value(s->listener, sizeof(s->listener), &event->fields[EVENT_LISTENER]);
    copy_value(s->host, sizeof(s->host), &event->fields[EVENT_HOST]);
}

static void session_take_disconnect(struct session *s, const struct event *event)
{
    session_take_common(s, event);
    copy_value(s->reason, sizeof(s->reason), &event->fields[EVENT_REASON]);
    s->totals = event_totals(event);
    s->ended = true;
    s->end = event->time;
    /* Used if there is no connect event. */
    s->begin = s->totals.duration < s->end ? s->end - s->totals.duration : 0;
}

static void session_take_connect(struct session *s, const struct event *event)
{
    session_take_common(s, event);
    s->has_connect = true;
    s->begin = event->time;
    if (!s->ended)
        s->state = session_state_of(event);
}

static int list_append(struct list *list, struct session *s)
{
    void *sessions =
        array_grow(list->sessions, &list->room, list->count + 1, sizeof(struct session *));

    if (!sessions)
        return -ENOMEM;
    list->sessions = sessions;
    list->sessions[list->count++] = s;
    return 0;
}

/* Adds EVENT. Returns 1 if a session was added to the list, 0 if not, or a negative errno. */
static int list_take(struct list *list, const struct event *event, const struct options *options)
{
    struct session *s = list_get(&list->tree, event->fields[EVENT_SESSION].text);
    int r;

    if (!s)
        return -ENOMEM;
    if (event->kind == KIND_DISCONNECT) {
        session_take_disconnect(s, event);
        return 0;
    }
    if (s->has_connect)
        return 0;
    session_take_connect(s, event);
    if (!list_wants(list, s, options))
        return 0;
    r = list_append(list, s);
    return r < 0 ? r : 1;
}

/* Notes the sessions that have a record which OPTIONS select. Returns 0 or a negative errno. */
static int list_select(struct list *list, struct reader *reader, const struct options *options)
{
    struct event event;
    int r = reader_begin(reader, NULL, KIND_DATA);

    while (r >= 0 && (r = reader_next(reader, &event)) > 0)
        if (record_is_selected(&event, options) &&
            !list_get(&list->selected, event.fields[EVENT_SESSION].text))
            return -ENOMEM;
    return r;
}

/* Returns 1 if the whole journal was read, 0 if it stopped early, or a negative errno. */
static int list_walk(struct list *list, struct reader *reader, const struct options *options)
{
    struct event event;
    int r;

    r = reader_filter(reader, NULL, KIND_CONNECT | KIND_DISCONNECT);
    if (r >= 0)
        r = reader_seek_tail(reader);
    if (r < 0)
        return r;
    while ((r = reader_previous(reader, &event)) > 0) {
        if (event.time < options->since)
            return 0;
        r = list_take(list, &event, options);
        if (r < 0)
            return r;
        if (list->count >= options->lines)
            return 0;
    }
    return r < 0 ? r : 1;
}

/* --- Sessions whose connect event is not in the journal --- */

struct data_only {
    struct list *list;
    struct list found; /* IDs without connect and disconnect events; no tree */
};

static int data_only_note(void *userdata, const char *id)
{
    struct data_only *d = userdata;
    struct session key, *s;

    memcpy(key.id, id, sizeof(key.id));
    if (tfind(&key, &d->list->tree, list_compare_ids))
        return 0;
    s = list_get(&d->list->tree, id);
    return s ? list_append(&d->found, s) : -ENOMEM;
}

/* Fills in S, which has only data events, if any. Returns 1 if it is a session. */
static int data_only_read(struct session *s, struct reader *reader)
{
    struct event event;
    int r;

    r = reader_filter(reader, s->id, KIND_ANY);
    if (r >= 0)
        r = reader_last(reader, &event);
    if (r <= 0 || event.kind != KIND_DATA)
        return r < 0 ? r : 0; /* refused clients have IDs, too */
    session_take_common(s, &event);
    s->state = session_state_of(&event);
    return 1;
}

static int list_add_data_only(struct list *list, struct reader *reader,
                              const struct options *options)
{
    struct data_only d = {.list = list};
    int r;

    r = reader_each_session(reader, "", data_only_note, &d);
    for (size_t i = 0; r >= 0 && i < d.found.count; i++) {
        r = data_only_read(d.found.sessions[i], reader);
        if (r > 0 && list_wants(list, d.found.sessions[i], options))
            r = list_append(list, d.found.sessions[i]);
    }
    free(d.found.sessions);
    return r;
}

/* Closure of twalk_r(3). */
struct missing_connect {
    struct list *list;
    const struct options *options;
    int result;
};

static void missing_connect_visit(const void *node, VISIT which, void *closure)
{
    struct session *s = *(struct session *const *)node;
    struct missing_connect *m = closure;

    if ((which != postorder && which != leaf) || s->has_connect || m->result < 0)
        return;
    if (list_wants(m->list, s, m->options))
        m->result = list_append(m->list, s);
}

static int list_add_missing_connect(struct list *list, const struct options *options)
{
    struct missing_connect m = {.list = list, .options = options};

    twalk_r(list->tree, missing_connect_visit, &m);
    return m.result;
}

/* --- The list --- */

/* Removes all but the last MAXIMUM sessions. */
static void list_trim(struct list *list, uint64_t maximum)
{
    size_t surplus;

    if (list->count <= maximum)
        return;
    surplus = list->count - (size_t)maximum;
    list->count = (size_t)maximum;
    memmove(list->sessions, list->sessions + surplus, list->count * sizeof(*list->sessions));
}

int list_collect(struct list *ret, struct reader *reader, const struct options *options)
{
    struct list list CLEANUP(list_free) = {0};
    int r = 0;

    if (options->selects)
        r = list_select(&list, reader, options);
    if (r >= 0)
        r = list_walk(&list, reader, options);
    if (r > 0) {
        r = list_add_missing_connect(&list, options);
        if (r >= 0)
            r = list_add_data_only(&list, reader, options);
    }
    if (r < 0)
        return r;
    if (list.count > 0)
        qsort(list.sessions, list.count, sizeof(*list.sessions), list_compare_begins);
    list_trim(&list, options->lines);
    *ret = list;
    list = (struct list){0};
    return 0;
}

void list_free(struct list *list)
{
    free(list->sessions);
    tdestroy(list->tree, free);
    tdestroy(list->selected, free);
    *list = (struct list){0};
}
