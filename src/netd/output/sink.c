/* SPDX-License-Identifier: MIT */
#include "netd/output/sink.h"

#include "common/util.h"

#include <errno.h>
#include <sys/mman.h>

/* How long to wait before the next attempt: at first after EAGAIN, after many attempts, and when
 * the output is not there. */
#define RETRY_FIRST_USEC 1000
#define RETRY_PATIENCE   20
#define RETRY_SLOW_USEC  (20 * USEC_PER_MSEC)
#define RETRY_GONE_USEC  (100 * USEC_PER_MSEC)

/* Bytes of text that a batch usually has, and a multiple of any page size; escaped records need
 * more. */
#define ARENA_KEPT ((size_t)64 * 1024)

/* Pages that no escaped record ever needs are never touched. */
static int sink_map_arena(struct arena *arena)
{
    void *p =
        mmap(NULL, EVENT_ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return -errno;
    (void)madvise(p, EVENT_ARENA_SIZE, MADV_DONTDUMP); /* as the regions, see table_attach() */
    *arena = (struct arena){.base = p, .size = EVENT_ARENA_SIZE};
    return 0;
}

int sink_init(struct sink *s, enum output output, const char *path, struct batch *batch)
{
    int r;

    *s = (struct sink){
        .type = output == OUTPUT_JOURNAL ? &journal_sink : &stream_sink,
        .output = output,
        .batch = batch,
        .retry_usec = RETRY_FIRST_USEC,
    };
    if (output == OUTPUT_JOURNAL)
        s->journal.path = path;
    r = s->type->open(s);
    if (r == 0)
        r = sink_map_arena(&s->arena);
    if (r < 0)
        sink_deinit(s);
    return r;
}

void sink_deinit(struct sink *s)
{
    if (s->type)
        s->type->close(s);
    if (s->arena.base)
        munmap(s->arena.base, s->arena.size);
    *s = (struct sink){0};
}

bool sink_has_room(const struct sink *s)
{
    return s->batch->end < BATCH_MAX;
}

void sink_push(struct sink *s, const struct entry *entry, const struct item *item)
{
    struct entry *e = &s->entries[s->batch->end];

    *e = *entry;
    batch_push(s->batch, item, e->pieces, e->count);
}

/* Makes sink_send()'s result of N, the result of the type's function. */
static int sink_result(struct sink *s, int n)
{
    if (n >= 0) {
        s->blocked_errno = 0;
        return 0;
    }
    if (s->type->is_fatal && s->type->is_fatal(-n))
        return n;
    s->blocked_errno = -n;
    s->blocked_tries++;
    return 1;
}

int sink_resume(struct sink *s)
{
    int r;

    do
        r = s->type->resume ? s->type->resume(s) : 0;
    while (r == -EINTR);
    return sink_result(s, r);
}

int sink_send(struct sink *s)
{
    uint32_t i = s->batch->first;
    int n = 0;

    while (i < s->batch->end) {
        n = s->type->send(s, i);
        if (n == -EINTR)
            continue;
        if (n < 0)
            break;
        i += (uint32_t)n;
        s->blocked_tries = 0;
    }
    return sink_result(s, n);
}

void sink_reset(struct sink *s)
{
    batch_reset(s->batch);
    if (s->arena.used > s->arena_most)
        s->arena_most = s->arena.used;
    s->arena.used = 0;
}

void sink_trim(struct sink *s)
{
    if (s->arena_most <= ARENA_KEPT && s->arena.used <= ARENA_KEPT)
        (void)madvise(s->arena.base + ARENA_KEPT, s->arena.size - ARENA_KEPT, MADV_DONTNEED);
    s->arena_most = 0;
    if (s->type->trim)
        s->type->trim(s);
}

uint64_t sink_retry_usec(const struct sink *s)
{
    if (s->blocked_errno != EAGAIN)
        return RETRY_GONE_USEC;
    return s->blocked_tries < RETRY_PATIENCE ? s->retry_usec : RETRY_SLOW_USEC;
}
