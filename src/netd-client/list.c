/* SPDX-License-Identifier: MIT */
/*
 * The walk goes backwards, so that it can end early: once --lines sessions have been met, or an
 * entry from before --since, nothing older can belong to the list.
 */
#include "netd-client/list.h"

#include "common/array.h"

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

/* True when PEER, "192.0.2.1:4711" or "[fe80::1%eth0]:4711" or "unix", is at ADDRESS. Without a
 * scope in ADDRESS, any will do. */
static bool peer_is_at(const char *peer, const char *address)
{
    bool bracket = *peer == '[';
    size_t length = strlen(address);
    const char *rest = peer + bracket + length;

    if (strncmp(peer + bracket, address, length) != 0)
        return false;
    return bracket ? *rest == ']' || *rest == '%' : *rest == ':' || *rest == '\0';
}

static bool list_wants(const struct session *s, const struct options *options)
{
    if (options->open && (s->ended || s->life != LIFE_OPEN))
        return false;
    if (*options->peer && !peer_is_at(s->peer, options->peer))
        return false;
    return s->begin >= options->since && s->begin <= options->until;
}

/* --- Events --- */

/* The session with ID, a new one where it was not met before; NULL without memory. */
static struct session *list_get(struct list *list, const char *id)
{
    struct session *s = calloc(1, sizeof(*s));
    struct session **found;

    if (!s)
        return NULL;
    memcpy(s->id, id, SESSION_ID_HEX + 1);
    found = tsearch(s, &list->tree, list_compare_ids);
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

static void session_take_addresses(struct session *s, const struct event *event)
{
    copy_value(s->peer, sizeof(s->peer), &event->fields[EVENT_PEER]);
    copy_value(s->local, sizeof(s->local), &event->fields[EVENT_LOCAL]);
}

static void session_take_disconnect(struct session *s, const struct event *event)
{
    session_take_addresses(s, event);
    copy_value(s->reason, sizeof(s->reason), &event->fields[EVENT_REASON]);
    s->totals = event_totals(event);
    s->ended = true;
    s->end = event->time;
    /* Until the connect event says it better, or when there is none. */
    s->begin = s->totals.duration < s->end ? s->end - s->totals.duration : 0;
}

static void session_take_connect(struct session *s, const struct event *event)
{
    session_take_addresses(s, event);
    s->begun = true;
    s->begin = event->time;
    if (!s->ended)
        s->life = session_life(event);
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

/* Takes one event in. Returns 1 when a session was added to the list. */
static int list_take(struct list *list, const struct event *event, const struct options *options)
{
    struct session *s = list_get(list, event->fields[EVENT_SESSION].text);
    int r;

    if (!s)
        return -ENOMEM;
    if (event->kind == KIND_DISCONNECT) {
        session_take_disconnect(s, event);
        return 0;
    }
    if (s->begun)
        return 0;
    session_take_connect(s, event);
    if (!list_wants(s, options))
        return 0;
    r = list_append(list, s);
    return r < 0 ? r : 1;
}

/* Returns 1 when all of the journal was seen, 0 when there was enough before. */
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

/* --- Sessions whose beginning is not in the journal --- */

struct headless {
    struct list *list;
    struct list found; /* ids with neither connect nor disconnect event; no tree */
};

static int headless_note(void *userdata, const char *id)
{
    struct headless *h = userdata;
    struct session key, *s;

    memcpy(key.id, id, sizeof(key.id));
    if (tfind(&key, &h->list->tree, list_compare_ids))
        return 0;
    s = list_get(h->list, id);
    return s ? list_append(&h->found, s) : -ENOMEM;
}

/* Fills in S, of which there are data events at the most. Returns 1 when it is a session. */
static int headless_read(struct session *s, struct reader *reader)
{
    struct event event;
    int r;

    r = reader_filter(reader, s->id, KIND_ANY);
    if (r >= 0)
        r = reader_last(reader, &event);
    if (r <= 0 || event.kind != KIND_DATA)
        return r < 0 ? r : 0; /* refused clients have ids, too */
    session_take_addresses(s, &event);
    s->life = session_life(&event);
    return 1;
}

static int list_add_headless(struct list *list, struct reader *reader,
                             const struct options *options)
{
    struct headless h = {.list = list};
    int r;

    r = reader_each_session(reader, "", headless_note, &h);
    for (size_t i = 0; r >= 0 && i < h.found.count; i++) {
        r = headless_read(h.found.sessions[i], reader);
        if (r > 0 && list_wants(h.found.sessions[i], options))
            r = list_append(list, h.found.sessions[i]);
    }
    free(h.found.sessions);
    return r;
}

/* twalk_r(3)'s closure. */
struct unbegun {
    struct list *list;
    const struct options *options;
    int result;
};

static void unbegun_visit(const void *node, VISIT which, void *closure)
{
    struct session *s = *(struct session *const *)node;
    struct unbegun *u = closure;

    if ((which != postorder && which != leaf) || s->begun || u->result < 0)
        return;
    if (list_wants(s, u->options))
        u->result = list_append(u->list, s);
}

static int list_add_unbegun(struct list *list, const struct options *options)
{
    struct unbegun u = {.list = list, .options = options};

    twalk_r(list->tree, unbegun_visit, &u);
    return u.result;
}

/* --- The list --- */

/* Leaves the last MAXIMUM sessions. */
static void list_cut(struct list *list, uint64_t maximum)
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
    int r;

    r = list_walk(&list, reader, options);
    if (r > 0) {
        r = list_add_unbegun(&list, options);
        if (r >= 0)
            r = list_add_headless(&list, reader, options);
    }
    if (r < 0)
        return r;
    if (list.count > 0)
        qsort(list.sessions, list.count, sizeof(*list.sessions), list_compare_begins);
    list_cut(&list, options->lines);
    *ret = list;
    list = (struct list){0};
    return 0;
}

void list_free(struct list *list)
{
    free(list->sessions);
    tdestroy(list->tree, free);
    *list = (struct list){0};
}
