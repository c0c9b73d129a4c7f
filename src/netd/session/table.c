/* SPDX-License-Identifier: MIT */
/* clang-format off */
/*
 * Why nothing is lost, repeated or guessed when a worker dies between any two instructions.
 *
 * Three kinds of things outlive it: this table; the descriptors, which the supervisor shares; and
 * what the kernel holds behind those. A death is harmless where one store separates "not done" from
 * "done", and one can be told from the other. A system call changes the kernel's side with no store
 * of ours in the same instant, so the calls that cannot be done twice are those by which the kernel
 * itself stores the result here before it returns: recvmmsg(2) and sendmmsg(2) fill in msg_len. A
 * process that is being killed still finishes that store; the memory is locked (table_attach()), so
 * that there is nothing to wait for.
 *
 *   what is done               the store that makes it true      the next worker otherwise
 *   -------------------------  --------------------------------  ---------------------------------
 *   connection accepted        state, when the slot is filled    finds a connection in no slot
 *                              in (table_publish())              (orphans.c), and admits it
 *   bytes received             receive.message.msg_len, by the   receives them, or applies msg_len:
 *                              kernel, while receive.session     window's end is base + msg_len
 *                              names the session
 *   error received             broken                            reads up to an end, and has no
 *                                                                peer there: a reset
 *   end of the stream seen     none                              sees it again
 *   rest moved to the front    window; the bytes before it, and  finds the rest where it was
 *                              they do not overlap
 *   entry put in the batch     batch.end, when all of it stands  frames the same bytes again:
 *                                                                counters have not moved
 *   entry taken by journald    messages[i].msg_len, by the       sends it
 *                              kernel
 *   what items[i] says is so   batch.first, behind it            applies it, perhaps once more: it
 *                                                                holds values, not differences
 *   batch emptied              batch.end, then batch.first       sees first beyond end: empty too
 *   session ended              reason, behind error and time     goes on: what ended it is still so
 *   receipt sent               answer.message.msg_len, by the    sends it
 *                              kernel
 *   connection closed          state, behind it                  finds that the number is not this
 *                                                                connection (SO_COOKIE): frees it
 *   slot freed                 state, before all else            cleans what is left in it
 *   listener given up          its fd is -1, then it is closed   closes what is in no table
 *
 * Standard output stores nothing here. batch.begun says which entry was being written, and that one
 * alone is in doubt: a record is written again, marked NETD_RESENT, and anything else is not.
 *
 * Where the order counts the stores have release semantics, against the compiler: the kernel and
 * the next worker see what this one's processor did. Lists, counts and what session_adopt() sets
 * are the worker's own, and made anew. tests/system/die.c kills the installed program behind each
 * change of the table and on both sides of each system call.
 */
/* clang-format on */
#include "netd/session/table.h"

#include "common/util.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <syslog.h>

#define NO_COUNT UINT32_MAX

/* How many sessions of one address there are; chained in a bucket by the address's hash. */
struct address_count {
    struct endpoint address;
    uint32_t count;
    uint32_t next;
};

static size_t page_align(size_t size)
{
    static size_t page;

    if (page == 0)
        page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) & ~(page - 1);
}

/* --- The memfds --- */

static size_t table_header_size(uint32_t capacity)
{
    return page_align(sizeof(struct table_header)) + page_align(capacity * sizeof(struct session));
}

static int table_map_header(struct table *t, uint32_t capacity)
{
    size_t size = table_header_size(capacity);
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, t->header_fd, 0);

    if (p == MAP_FAILED)
        return -errno;
    t->header = p;
    t->sessions = (struct session *)((uint8_t *)p + page_align(sizeof(struct table_header)));
    t->capacity = capacity;
    t->header_size = size;
    return 0;
}

static int table_resize(struct table *t, uint32_t capacity)
{
    if (ftruncate(t->header_fd, (off_t)table_header_size(capacity)) < 0 ||
        ftruncate(t->regions_fd, (off_t)(capacity * REGION_SIZE)) < 0)
        return -errno;
    return 0;
}

int table_create(struct table *ret, uint32_t capacity)
{
    struct table t = {.header_fd = -1, .regions_fd = -1};
    int r;

    /* Without close-on-exec: a reload executes the program again and hands them over. */
    t.header_fd = memfd_create("netd-table", 0);
    t.regions_fd = t.header_fd < 0 ? -1 : memfd_create("netd-regions", 0);
    r = t.regions_fd < 0 ? -errno : table_resize(&t, capacity);
    if (r == 0)
        r = table_map_header(&t, capacity);
    if (r < 0) {
        table_deinit(&t);
        return r;
    }
    t.header->magic = TABLE_MAGIC;
    t.header->layout = TABLE_LAYOUT;
    t.header->capacity = capacity;
    t.header->working = t.header->receive.session = t.header->answer.session = NO_SESSION;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        t.header->listeners[i].fd = -1;
    *ret = t;
    return 0;
}

int table_open(struct table *ret, int header_fd, int regions_fd)
{
    struct table t = {.header_fd = header_fd, .regions_fd = regions_fd};
    struct stat header, regions;
    uint32_t capacity;
    int r;

    if (fstat(header_fd, &header) < 0 || fstat(regions_fd, &regions) < 0)
        return -errno;
    if ((size_t)header.st_size < table_header_size(0))
        return -EPROTONOSUPPORT;
    r = table_map_header(&t, 0);
    if (r < 0)
        return r;
    capacity = t.header->capacity;
    if (t.header->magic != TABLE_MAGIC || t.header->layout != (uint32_t)TABLE_LAYOUT ||
        t.header->used > capacity || capacity == 0 ||
        capacity > SESSIONS_MAX_HIGH + TABLE_LINGERING || t.header->output > OUTPUT_EXPORT ||
        (size_t)header.st_size < table_header_size(capacity) || /* more: it could not be grown */
        (size_t)regions.st_size < capacity * REGION_SIZE)
        r = -EPROTONOSUPPORT;
    munmap(t.header, t.header_size);
    if (r == 0)
        r = table_map_header(&t, capacity);
    if (r < 0)
        return r;
    *ret = t;
    return 0;
}

int table_grow(struct table *t, uint32_t capacity)
{
    struct table_header *before = t->header;
    size_t before_size = t->header_size;
    int r;

    if (capacity <= t->header->capacity)
        return 0;
    r = table_resize(t, capacity);
    if (r < 0)
        return r;
    r = table_map_header(t, capacity);
    if (r < 0) {
        (void)table_resize(t, before->capacity); /* a table's size says its capacity */
        return r;
    }
    munmap(before, before_size);
    t->header->capacity = capacity;
    return 0;
}

void table_deinit(struct table *t)
{
    if (t->header)
        munmap(t->header, t->header_size);
    if (t->regions)
        munmap(t->regions, t->regions_size);
    free(t->addresses);
    free(t->buckets);
    close_fd(&t->header_fd);
    close_fd(&t->regions_fd);
    *t = (struct table){.header_fd = -1, .regions_fd = -1};
}

/* --- The worker's part --- */

static int table_attach_addresses(struct table *t)
{
    uint32_t capacity = t->header->capacity, buckets = 64;

    while (buckets < capacity)
        buckets *= 2;
    t->addresses = calloc(capacity, sizeof(*t->addresses));
    t->buckets = malloc(buckets * sizeof(*t->buckets));
    if (!t->addresses || !t->buckets)
        return -ENOMEM;
    memset(t->buckets, 0xff, buckets * sizeof(*t->buckets));
    t->bucket_mask = buckets - 1;
    return 0;
}

int table_attach(struct table *t)
{
    size_t size = t->header->capacity * REGION_SIZE;
    void *p;
    int r;

    r = table_attach_addresses(t);
    if (r < 0)
        return r;
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, t->regions_fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    /* What clients send has no place in a core file, nor have gigabytes of holes. */
    (void)madvise(p, size, MADV_DONTDUMP);
    t->regions = p;
    t->regions_size = size;
    for (size_t i = 0; i < LISTS; i++)
        t->lists[i] = (struct table_list){.first = NO_SESSION, .last = NO_SESSION};
    t->free = NO_SESSION;
    /* Best effort: where the kernel writes results must be there when a worker is killed just then,
     * and not have to be fetched from swap by a process that may not wait any more. */
    (void)mlock(t->header, offsetof(struct table_header, output));
    return 0;
}

void table_commit(struct table *t)
{
    struct batch *batch = &t->header->batch;

    while (batch_taken(batch)) {
        const struct item *item = &batch->items[batch->first];

        if (item->session < t->header->capacity)
            session_apply(&t->sessions[item->session], item);
        if (item->kind == ITEM_DATA)
            t->header->records_total += !item->continued;
        __atomic_store_n(&batch->first, batch->first + 1, __ATOMIC_RELEASE);
    }
}

/* The entry that was being written may be out in part or whole, where the output does not say. */
static void table_mark_resent(struct table *t)
{
    const struct batch *batch = &t->header->batch;
    const struct item *item = &batch->items[batch->first];
    struct session *s;

    if (batch->first >= batch->end || batch->begun != batch->first + 1 ||
        item->session >= t->header->capacity)
        return;
    s = &t->sessions[item->session];
    if (item->kind == ITEM_DATA)
        s->resent_end = item->end;
    else
        session_apply(s, item); /* only data may ever repeat */
}

/* A session that was being worked on when two workers in a row crashed is not given to a third. */
static void table_blame(struct table *t)
{
    uint32_t n = t->header->working;
    struct session *s;

    if (!t->header->crashed || n >= t->header->used)
        return;
    s = &t->sessions[n];
    if (s->state != SESSION_OPEN || ++s->crashes < 2)
        return;
    s->poisoned = true;
    session_end(s, REASON_ERROR, EBADMSG);
}

/* --- What cannot be --- */

static bool settings_can_be(const struct listener_config *c)
{
    uint8_t receipt;

    memcpy(&receipt, &c->receipt, sizeof(receipt)); /* as a bool it would have to be one */
    return c->max_record >= MAX_RECORD_LOW && c->max_record <= MAX_RECORD_HIGH &&
           (unsigned)c->framing <= FRAMING_RAW && c->priority >= LOG_NOTICE &&
           c->priority <= LOG_DEBUG && receipt <= 1;
}

static bool listener_can_be(const struct table_listener *l)
{
    int listening = 0;
    socklen_t length = sizeof(listening);
    const char *end = memchr(l->path, '\0', sizeof(l->path));

    for (const char *p = l->path; end && p < end; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return end && settings_can_be(&l->settings) &&
           getsockopt(l->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening;
}

/* Returns the number of a listener that is open, or -EUCLEAN where none is or one cannot be. */
static int table_check_listeners(const struct table *t)
{
    int r = -EUCLEAN;

    for (int i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &t->header->listeners[i];

        if (l->fd < 0)
            continue;
        if (!listener_can_be(l))
            return -EUCLEAN;
        r = i;
    }
    return r;
}

static bool reason_can_be(const struct session *s)
{
    if (s->state == SESSION_REFUSED)
        return s->reason == REASON_SESSION_LIMIT || s->reason == REASON_ADDRESS_LIMIT;
    return s->reason < REASON_SESSION_LIMIT;
}

/* What a live worker never leaves: looked at is only what another one would follow. */
static bool session_can_be(const struct table *t, const struct session *s, uint64_t now)
{
    bool ended = s->reason != REASON_NONE;

    return s->state <= SESSION_REFUSED && s->listener < LISTENERS_MAX &&
           settings_can_be(&t->header->listeners[s->listener].settings) && reason_can_be(s) &&
           (ended || (!s->end_taken && !s->poisoned)) && (s->end_taken || !s->answered) &&
           window_start(s->window) <= window_end(s->window) &&
           window_end(s->window) <= REGION_SIZE && s->broken < REASON_IDLE &&
           s->begin_usec <= s->active_usec && s->active_usec <= now &&
           (!ended || (s->begin_usec <= s->end_usec && s->end_usec <= now));
}

/* Ends S with what little can be said of it. */
static void session_condemn(struct session *s, uint32_t listener, uint64_t now)
{
    s->listener = listener;
    s->window = 0;
    s->poisoned = true;
    s->answered = false;
    s->begin_usec = min_u64(s->begin_usec, now);
    s->active_usec = s->begin_usec;
    s->reason = s->broken = REASON_NONE;
    session_end(s, REASON_ERROR, EUCLEAN);
    s->state = SESSION_OPEN;
}

/* Has numbers within their arrays. Returns whether the batch could not be. */
static bool table_clamp(struct table *t)
{
    struct table_header *h = t->header;
    bool impossible = h->batch.first > BATCH_MAX || h->batch.end > BATCH_MAX;

    h->capacity = t->capacity;
    if (h->used > h->capacity)
        h->used = h->capacity; /* what was never used is free */
    if (impossible)
        h->batch.first = h->batch.end = 0;
    return impossible;
}

/* --- Recovery --- */

static void table_recover_calls(struct table *t, bool resent)
{
    struct table_header *h = t->header;

    if (h->receive.session < h->used)
        session_apply_receive(&t->sessions[h->receive.session], &h->receive);
    __atomic_store_n(&h->receive.session, NO_SESSION, __ATOMIC_RELEASE);
    if (h->answer.session < h->used)
        session_apply_answer(&t->sessions[h->answer.session], &h->answer);
    __atomic_store_n(&h->answer.session, NO_SESSION, __ATOMIC_RELEASE);
    table_commit(t);
    if (resent)
        table_mark_resent(t);
    batch_reset(&h->batch);
    table_blame(t);
    h->working = NO_SESSION;
    h->crashed = false;
}

static void table_recover_session(struct table *t, struct session *s)
{
    if (s->state == SESSION_FREE) {
        *s = (struct session){.fd = -1};
        s->links[LIST_RUN].next = t->free;
        t->free = table_number(t, s);
    }
    session_adopt(s);
    s->address = NO_COUNT;
    s->listed = 0;
    /* The last worker may have touched any of its pages. */
    s->touched = REGION_SIZE;
    t->touched += s->touched;
    table_trim(t, s);
}

int table_recover(struct table *t, bool resent)
{
    bool batch_is_lost = table_clamp(t);
    int listener = table_check_listeners(t);
    uint64_t now;

    if (listener < 0)
        return listener;
    table_recover_calls(t, resent);
    now = now_usec(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < t->header->used; i++) {
        struct session *s = &t->sessions[i];

        if (s->state != SESSION_FREE && !session_can_be(t, s, now))
            session_condemn(s, (uint32_t)listener, now);
        if (batch_is_lost)
            s->resent_end = window_end(s->window);
        table_recover_session(t, s);
    }
    return 0;
}

bool table_has_room(const struct table *t)
{
    return t->free != NO_SESSION || t->header->used < t->header->capacity;
}

struct session *table_take(struct table *t)
{
    uint32_t n = t->free;
    struct session *s;

    if (n != NO_SESSION) {
        t->free = t->sessions[n].links[LIST_RUN].next;
    } else if (t->header->used < t->header->capacity) {
        n = t->header->used;
        /* A worker that crashed may have written here. */
        t->sessions[n] = (struct session){.fd = -1};
        __atomic_store_n(&t->header->used, n + 1, __ATOMIC_RELEASE);
    } else {
        return NULL;
    }
    s = &t->sessions[n];
    *s = (struct session){
        .fd = -1,
        .address = NO_COUNT,
        .touched = s->touched,
        .listed = s->listed,
        .links[LIST_WARM] = s->links[LIST_WARM],
    };
    session_adopt(s);
    return s;
}

void table_publish(struct session *s, enum session_state state)
{
    __atomic_store_n(&s->state, state, __ATOMIC_RELEASE);
}

void table_free(struct table *t, struct session *s)
{
    /* The next session, soon, is glad of its pages: to get them anew costs more than a record. */
    for (enum session_list i = 0; i < LISTS; i++)
        if (i != LIST_WARM)
            table_list_remove(t, i, s);
    __atomic_store_n(&s->state, SESSION_FREE, __ATOMIC_RELEASE);
    s->window = 0;
    s->links[LIST_RUN].next = t->free;
    t->free = table_number(t, s);
}

/* --- Lists --- */

bool table_list_has(const struct session *s, enum session_list list)
{
    return s->listed & 1u << list;
}

struct session *table_list_first(const struct table *t, enum session_list list)
{
    uint32_t n = t->lists[list].first;

    return n == NO_SESSION ? NULL : &t->sessions[n];
}

void table_list_append(struct table *t, enum session_list list, struct session *s)
{
    struct table_list *l = &t->lists[list];
    uint32_t n = table_number(t, s);

    if (l->last == n)
        return;
    table_list_remove(t, list, s);
    s->links[list] = (struct session_link){.previous = l->last, .next = NO_SESSION};
    if (l->last == NO_SESSION)
        l->first = n;
    else
        t->sessions[l->last].links[list].next = n;
    l->last = n;
    l->count++;
    s->listed |= (uint8_t)(1u << list);
}

void table_list_remove(struct table *t, enum session_list list, struct session *s)
{
    struct table_list *l = &t->lists[list];
    struct session_link *link = &s->links[list];

    if (!table_list_has(s, list))
        return;
    if (link->previous == NO_SESSION)
        l->first = link->next;
    else
        t->sessions[link->previous].links[list].next = link->next;
    if (link->next == NO_SESSION)
        l->last = link->previous;
    else
        t->sessions[link->next].links[list].previous = link->previous;
    l->count--;
    s->listed &= (uint8_t) ~(1u << list);
}

/* --- Memory --- */

/* LIST_WARM: whoever has pages, in the order in which they were touched or trimmed. */
static void table_warm(struct table *t, struct session *s)
{
    if (s->touched > 0)
        table_list_append(t, LIST_WARM, s);
    else
        table_list_remove(t, LIST_WARM, s);
}

void table_touch(struct table *t, struct session *s)
{
    uint32_t pages = (uint32_t)page_align(window_end(s->window));

    if (pages > s->touched) {
        t->touched += pages - s->touched;
        s->touched = pages;
    }
    table_warm(t, s);
}

void table_trim(struct table *t, struct session *s)
{
    size_t keep = page_align(session_pending(s) > 0 ? window_end(s->window) : 0);

    if (s->touched > keep) {
        /* tmpfs(5) gives the pages back; where it cannot they are merely kept. */
        (void)madvise(table_region(t, s) + keep, s->touched - keep, MADV_REMOVE);
        t->touched -= s->touched - keep;
        s->touched = (uint32_t)keep;
    }
    table_warm(t, s);
}

struct session *table_largest(const struct table *t)
{
    struct session *largest = NULL;
    uint32_t most = 0;

    for (uint32_t i = 0; i < t->header->used; i++) {
        struct session *s = &t->sessions[i];

        if (s->state == SESSION_OPEN && session_is_framed(s) && session_pending(s) > most) {
            most = session_pending(s);
            largest = s;
        }
    }
    return largest;
}

/* --- Sessions of one address --- */

/* FNV-1a. A peer that picks colliding addresses must own them; chains are bounded by the table. */
static uint32_t address_hash(const struct endpoint *e)
{
    uint32_t hash = 2166136261u ^ e->family;

    for (size_t i = 0; i < sizeof(e->ip); i++)
        hash = (hash ^ e->ip[i]) * 16777619u;
    return hash ^ hash >> 15;
}

static uint32_t address_find(const struct table *t, const struct endpoint *e)
{
    uint32_t n = t->buckets[address_hash(e) & t->bucket_mask];

    while (n != NO_COUNT && !endpoint_same_address(&t->addresses[n].address, e))
        n = t->addresses[n].next;
    return n;
}

uint32_t table_address_count(const struct table *t, const struct endpoint *e)
{
    uint32_t n = address_find(t, e);

    return n == NO_COUNT ? 0 : t->addresses[n].count;
}

void table_address_add(struct table *t, struct session *s)
{
    uint32_t n = address_find(t, &s->peer);
    uint32_t *bucket = &t->buckets[address_hash(&s->peer) & t->bucket_mask];

    if (n == NO_COUNT) {
        /* As many counts as sessions: the first session of an address lends its own number's. */
        n = table_number(t, s);
        while (t->addresses[n].count > 0)
            n = n + 1 == t->header->capacity ? 0 : n + 1;
        t->addresses[n] = (struct address_count){.address = s->peer, .next = *bucket};
        *bucket = n;
    }
    t->addresses[n].count++;
    s->address = n;
}

void table_address_remove(struct table *t, struct session *s)
{
    uint32_t *link = &t->buckets[address_hash(&s->peer) & t->bucket_mask];
    struct address_count *a;

    if (s->address == NO_COUNT)
        return;
    a = &t->addresses[s->address];
    if (--a->count == 0) {
        while (*link != s->address)
            link = &t->addresses[*link].next;
        *link = a->next;
    }
    s->address = NO_COUNT;
}
