/* SPDX-License-Identifier: MIT */
#include "netd/session/table.h"

#include "common/util.h"
#include "netd/session/address-count.h"
#include "netd/session/rules.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static size_t page_align(size_t size)
{
    static size_t page;

    if (page == 0)
        page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) & ~(page - 1);
}

int32_t table_layout(void)
{
    const size_t sizes = sizeof(struct table_header) + sizeof(struct session) + REGION_SIZE;

    return (int32_t)((TABLE_TEXT + sizes) & INT32_MAX); /* TABLE_TEXT: see Makefile */
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

    /* Without close-on-exec: a reload hands them over to the program that it executes. */
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
    t.header->layout = (uint32_t)table_layout();
    t.header->capacity = capacity;
    t.header->working = t.header->receive.session = NO_SESSION;
    t.header->answer.session = t.header->greeting.session = NO_SESSION;
    t.header->retirement.session = NO_SESSION;
    t.header->started_usec = now_usec(CLOCK_REALTIME);
    t.header->accept.listener = NO_LISTENER;
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
    if (t.header->magic != TABLE_MAGIC || t.header->layout != (uint32_t)table_layout() ||
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
    rules_unmap(t);
    free(t->addresses);
    free(t->buckets);
    close_fd(&t->header_fd);
    close_fd(&t->regions_fd);
    *t = (struct table){.header_fd = -1, .regions_fd = -1};
}

/* --- The worker's part --- */

int table_lock(const struct table *t)
{
    return mlock(t->header, offsetof(struct table_header, output)) < 0 ? -errno : 0;
}

int table_attach(struct table *t)
{
    size_t size = t->header->capacity * REGION_SIZE;
    void *p;
    int r;

    r = address_count_init(t);
    if (r < 0)
        return r;
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, t->regions_fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    /* Neither clients' bytes nor gigabytes of holes belong in a core file. */
    (void)madvise(p, size, MADV_DONTDUMP);
    t->regions = p;
    t->regions_size = size;
    for (size_t i = 0; i < LISTS; i++)
        t->lists[i] = (struct table_list){.first = NO_SESSION, .last = NO_SESSION};
    memset(t->resident, 0xff, sizeof(t->resident)); /* NO_SESSION */
    t->free = NO_SESSION;
    (void)table_lock(t); /* the supervisor warns if it fails */
    return 0;
}

/* Accounts for the entries of session NUMBER that come next, the first of which was taken. */
static void table_commit_session(struct table *t, uint32_t number)
{
    struct batch *batch = &t->header->batch;
    struct session *s = &t->sessions[number];
    const struct counted before = counters_of(s);

    do {
        const struct item *item = &batch->items[batch->first];

        if (item->resent | item->unparsed)
            counters_add_marks(t, s, item);
        session_apply(s, item);
        __atomic_store_n(&batch->first, batch->first + 1, __ATOMIC_RELEASE);
    } while (batch_taken(batch) && batch->items[batch->first].session == number);
    counters_add(t, s, &before);
}

void table_commit(struct table *t)
{
    struct batch *batch = &t->header->batch;

    while (batch_taken(batch)) {
        uint32_t n = batch->items[batch->first].session;

        if (n < t->header->capacity)
            table_commit_session(t, n);
        else
            __atomic_store_n(&batch->first, batch->first + 1, __ATOMIC_RELEASE);
    }
}

/* --- Slots --- */

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
        .address = NO_ADDRESS_COUNT,
        .resident_bytes = s->resident_bytes,
        .listed = s->listed,
        .resident_link = s->resident_link,
        .links[LIST_TRIM] = s->links[LIST_TRIM],
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
    for (enum session_list i = 0; i < LISTS; i++)
        if (i != LIST_TRIM)
            table_list_remove(t, i, s);
    /* The next session reuses the pages: allocating new ones costs more than a record. */
    if (s->resident_bytes > 0 && !table_list_has(s, LIST_TRIM))
        table_list_append(t, LIST_TRIM, s);
    counters_retire(t, s);
    __atomic_store_n(&s->state, SESSION_FREE, __ATOMIC_RELEASE);
    counters_retired(t);
    if (s->header_length > 0)
        table_release_header(t, s);
    s->header_length = 0;
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

static uint32_t *table_resident_head(struct table *t, const struct session *s)
{
    return &t->resident[s->resident_bytes / RESIDENT_PAGE];
}

/* Puts S at the head of the sessions with as many pages. */
static void table_link_resident(struct table *t, struct session *s)
{
    uint32_t *head = table_resident_head(t, s), n = table_number(t, s);

    s->resident_link = (struct session_link){.previous = NO_SESSION, .next = *head};
    if (*head != NO_SESSION)
        t->sessions[*head].resident_link.previous = n;
    *head = n;
}

static void table_unlink_resident(struct table *t, struct session *s)
{
    const struct session_link *link = &s->resident_link;

    if (link->previous == NO_SESSION)
        *table_resident_head(t, s) = link->next;
    else
        t->sessions[link->previous].resident_link.next = link->next;
    if (link->next != NO_SESSION)
        t->sessions[link->next].resident_link.previous = link->previous;
}

static void table_set_resident(struct table *t, struct session *s, uint32_t bytes)
{
    if (s->resident_bytes > 0)
        table_unlink_resident(t, s);
    t->resident_bytes += bytes;
    t->resident_bytes -= s->resident_bytes;
    s->resident_bytes = bytes;
    if (bytes > 0)
        table_link_resident(t, s);
}

void table_note_resident(struct table *t, struct session *s)
{
    uint32_t bytes = (uint32_t)page_align(window_end(s->window));

    if (bytes > s->resident_bytes)
        table_set_resident(t, s, bytes);
}

void table_assume_resident(struct table *t, struct session *s)
{
    s->resident_bytes = 0;
    table_set_resident(t, s, WINDOW_SIZE);
}

void table_trim(struct table *t, struct session *s)
{
    size_t keep = page_align(session_pending(s) > 0 ? window_end(s->window) : 0);

    if (s->resident_bytes <= keep)
        return;
    /* tmpfs(5) frees the pages; if that fails they are merely kept. */
    (void)madvise(table_region(t, s) + keep, s->resident_bytes - keep, MADV_REMOVE);
    table_set_resident(t, s, (uint32_t)keep);
}

void table_release_header(struct table *t, const struct session *s)
{
    (void)madvise(table_region(t, s) + WINDOW_SIZE, HEADER_AREA_SIZE, MADV_REMOVE);
}

struct session *table_largest(const struct table *t)
{
    for (size_t i = RESIDENT_COUNTS; i-- > 1;)
        for (uint32_t n = t->resident[i]; n != NO_SESSION; n = t->sessions[n].resident_link.next) {
            struct session *s = &t->sessions[n];

            if (s->state == SESSION_OPEN && session_is_framed(s) && session_pending(s) > 0)
                return s;
        }
    return NULL;
}
