/* SPDX-License-Identifier: MIT */
#include "netd/session/address-count.h"
#include "netd/session/recovery.h"

#include "common/util.h"

#include "random.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>

#include <cmocka.h>

#define CAPACITY 64

static struct table table;

static const struct listener_settings settings = {
    .max_record = 4096, .framing = FRAMING_LINE, .priority = LOG_INFO, .sessions_max = CAPACITY};

/* A socket that listens somewhere on the loopback. */
static int listening_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static int setup(void **state)
{
    (void)state;
    if (table_create(&table, CAPACITY) < 0)
        return -1;
    table.header->listeners[3].fd = listening_socket();
    table.header->listeners[3].settings = settings;
    return table_attach(&table);
}

static int teardown(void **state)
{
    (void)state;
    close_fd(&table.header->listeners[3].fd);
    table_deinit(&table);
    return 0;
}

/* As if the process died here and another one came. */
static void restart(void)
{
    int header = fcntl(table.header_fd, F_DUPFD_CLOEXEC, 3);
    int regions = fcntl(table.regions_fd, F_DUPFD_CLOEXEC, 3);

    table_deinit(&table);
    assert_int_equal(table_open(&table, header, regions), 0);
    assert_int_equal(table_attach(&table), 0);
}

/* A session as a worker leaves it in the middle of its life. */
static struct session *open_session(uint32_t start, uint32_t end)
{
    struct session *s = table_take(&table);

    assert_non_null(s);
    s->listener = 3;
    s->begin_usec = s->active_usec = now_usec(CLOCK_MONOTONIC);
    s->window = window_make(start, end);
    table_publish(s, SESSION_OPEN);
    return s;
}

/* --- The memfds --- */

static void new_table_is_empty(void **state)
{
    (void)state;
    assert_int_equal(table.header->magic, TABLE_MAGIC);
    assert_int_equal(table.header->capacity, CAPACITY);
    assert_int_equal(table.capacity, CAPACITY);
    assert_int_equal(table.header->used, 0);
    assert_int_equal(table.header->working, NO_SESSION);
    assert_int_equal(table.header->receive.session, NO_SESSION);
    assert_int_equal(table.header->answer.session, NO_SESSION);
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        assert_true((table.header->listeners[i].fd >= 0) == (i == 3));
    for (size_t i = 0; i < LISTS; i++)
        assert_null(table_list_first(&table, (enum session_list)i));
    assert_null(table_largest(&table));
    /* An executed program must find them open. */
    assert_int_equal(fcntl(table.header_fd, F_GETFD), 0);
    assert_int_equal(fcntl(table.regions_fd, F_GETFD), 0);
}

static void another_process_sees_the_same(void **state)
{
    struct session *s;

    (void)state;
    s = open_session(1, 4);
    s->id[5] = 55;
    memcpy(table_region(&table, s), "abcd", 4);
    restart();
    assert_int_equal(table.capacity, CAPACITY);
    assert_int_equal(table.header->used, 1);
    s = &table.sessions[0];
    assert_int_equal(s->state, SESSION_OPEN);
    assert_int_equal(s->id[5], 55);
    assert_memory_equal(table_region(&table, s), "abcd", 4);
}

static void other_layouts_are_refused(void **state)
{
    struct table_header *h = table.header, good = *table.header;
    struct table other = {.header_fd = -7};
    struct stat header, regions;

    (void)state;
    assert_int_equal(fstat(table.header_fd, &header), 0);
    assert_int_equal(fstat(table.regions_fd, &regions), 0);
    for (int i = 0; i < 10; i++) {
        int header_fd = table.header_fd, regions_fd = table.regions_fd;

        switch (i) {
        case 0:
            h->magic++;
            break;
        case 1:
            h->layout++;
            break;
        case 2:
            h->capacity++;
            break;
        case 3:
            h->capacity = UINT32_MAX;
            break;
        case 4:
            h->used = h->capacity + 1;
            break;
        case 5:
            h->output = OUTPUT_EXPORT + 1;
            break;
        case 6:
            assert_int_equal(ftruncate(header_fd, header.st_size - 1), 0);
            break;
        case 7:
            assert_int_equal(ftruncate(regions_fd, regions.st_size - 1), 0);
            break;
        case 8:
            header_fd = regions_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
            break;
        case 9: /* nobody could attach it */
            h->capacity = h->used = 0;
            break;
        }
        assert_int_equal(table_open(&other, header_fd, regions_fd), -EPROTONOSUPPORT);
        assert_int_equal(other.header_fd, -7);
        assert_true(fcntl(header_fd, F_GETFD) >= 0); /* still the caller's */
        if (header_fd != table.header_fd)
            close(header_fd);
        assert_int_equal(ftruncate(table.header_fd, header.st_size), 0);
        assert_int_equal(ftruncate(table.regions_fd, regions.st_size), 0);
        *h = good;
    }
    assert_int_equal(table_open(&other, -1, table.regions_fd), -EBADF);
    assert_int_equal(table_open(&other, table.header_fd, -1), -EBADF);
    restart();
}

static void tables_grow(void **state)
{
    struct session *s;

    (void)state;
    s = open_session(0, 3);
    memcpy(table_region(&table, s), "abc", 3);
    assert_int_equal(table_grow(&table, CAPACITY - 1), 0);
    assert_int_equal(table.header->capacity, CAPACITY);
    assert_int_equal(table_grow(&table, 500), 0);
    assert_int_equal(table.header->capacity, 500);
    assert_int_equal(table.capacity, 500);
    restart();
    assert_int_equal(recovery_run(&table, false), 0);
    assert_memory_equal(table_region(&table, &table.sessions[0]), "abc", 3);
    for (int i = 1; i < 500; i++)
        (void)open_session(0, 0);
    assert_null(table_take(&table));
}

/* A table that cannot grow is what it was, also for a program executed later. */
static void tables_that_cannot_grow_stay(void **state)
{
    struct rlimit before, limit;
    struct session *s;

    (void)state;
    s = open_session(0, 3);
    s->id[0] = 77;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (int i = 0; i < 2; i++) {
        limit = before;
        /* Either memfd is the one that cannot. */
        limit.rlim_cur = i == 0 ? table.header_size : 1000 * REGION_SIZE;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_int_equal(table_grow(&table, 2000), -EFBIG);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(table.header->capacity, CAPACITY);
        restart();
        assert_int_equal(table.header->capacity, CAPACITY);
        assert_int_equal(table.sessions[0].id[0], 77);
    }
}

#ifndef __SANITIZE_ADDRESS__
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#endif

static void tables_that_cannot_be_mapped_stay(void **state)
{
#ifdef __SANITIZE_ADDRESS__
    (void)state;
    skip(); /* it needs more memory than there is */
#else
    struct rlimit before, limit;
    struct session *s;
    int r;

    (void)state;
    s = open_session(0, 3);
    s->id[0] = 77;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit = before;
    limit.rlim_cur = 4096;
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    r = table_grow(&table, 20000);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(r, -ENOMEM);
    assert_int_equal(table.header->capacity, CAPACITY);
    assert_int_equal(table.sessions[0].id[0], 77);
    restart();
    assert_int_equal(table.sessions[0].id[0], 77);
#endif
}

/* --- Sessions --- */

static void sessions_are_taken_and_freed(void **state)
{
    struct session *all[CAPACITY], *s;

    (void)state;
    for (uint32_t i = 0; i < CAPACITY; i++) {
        all[i] = open_session(0, 0);
        assert_int_equal(table_number(&table, all[i]), i);
        assert_int_equal(table.header->used, i + 1);
    }
    assert_null(table_take(&table));
    all[7]->records = all[7]->continued = all[7]->poisoned = 1;
    table_free(&table, all[7]);
    table_free(&table, all[9]);
    assert_int_equal(all[7]->state, SESSION_FREE);
    /* Nothing of the one before is left. */
    s = table_take(&table);
    assert_ptr_equal(s, all[9]);
    s = table_take(&table);
    assert_ptr_equal(s, all[7]);
    assert_int_equal(s->fd, -1);
    assert_int_equal(s->records + s->continued + s->poisoned + s->listed, 0);
    assert_int_equal(s->stop_bytes, UINT32_MAX);
    assert_null(table_take(&table));
}

/* Taken and not published: whoever comes next does not see it. */
static void unpublished_sessions_are_free(void **state)
{
    struct session *s;

    (void)state;
    s = table_take(&table);
    s->fd = 99;
    restart();
    assert_int_equal(recovery_run(&table, false), 0);
    assert_int_equal(table.header->used, 1);
    assert_int_equal(table.sessions[0].state, SESSION_FREE);
    assert_ptr_equal(table_take(&table), &table.sessions[0]);
    assert_int_equal(table.sessions[0].fd, -1);
}

/* A worker that crashed may have written where no session was yet. */
static void what_was_never_used_is_cleared(void **state)
{
    struct session *s;

    (void)state;
    (void)open_session(0, 0);
    memset(&table.sessions[1], 0xff, sizeof(table.sessions[1]));
    restart();
    assert_int_equal(recovery_run(&table, false), 0);
    assert_ptr_equal((s = table_take(&table)), &table.sessions[1]);
    assert_int_equal(s->resident_bytes + s->listed + s->poisoned + s->state, 0);
    table_free(&table, s);
    for (size_t i = 0; i < LISTS; i++)
        assert_int_equal(table.lists[i].count, 0);
}

/* --- Lists --- */

/* The same as lists, of numbers in an array. */
struct model {
    uint32_t all[CAPACITY];
    size_t count;
};

static void model_remove(struct model *m, uint32_t number)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->all[i] != number)
            continue;
        memmove(&m->all[i], &m->all[i + 1], (m->count - i - 1) * sizeof(m->all[0]));
        m->count--;
        return;
    }
}

static void model_check(const struct model *m, enum session_list list)
{
    uint32_t n = table.lists[list].first, previous = NO_SESSION;

    assert_int_equal(table.lists[list].count, m->count);
    for (size_t i = 0; i < m->count; i++) {
        assert_int_equal(n, m->all[i]);
        assert_int_equal(table.sessions[n].links[list].previous, previous);
        assert_true(table_list_has(&table.sessions[n], list));
        previous = n;
        n = table.sessions[n].links[list].next;
    }
    assert_int_equal(n, NO_SESSION);
    assert_int_equal(table.lists[list].last, previous);
    assert_true(table_list_first(&table, list) ==
                (m->count > 0 ? &table.sessions[m->all[0]] : NULL));
}

static void lists_keep_their_order(void **state)
{
    static struct model models[LISTS];

    (void)state;
    memset(models, 0, sizeof(models));
    for (int i = 0; i < CAPACITY; i++)
        (void)open_session(0, 0);
    for (int i = 0; i < 20000; i++) {
        enum session_list list = (enum session_list)random_below(LISTS);
        uint32_t n = (uint32_t)random_below(CAPACITY);
        struct session *s = &table.sessions[n];

        if (random_below(100) == 0) {
            table_free(&table, s);
            for (size_t k = 0; k < LISTS; k++)
                if (k != LIST_RESIDENT && k != LIST_TRIM)
                    model_remove(&models[k], n);
            assert_int_equal(s->listed & ~(1u << LIST_RESIDENT | 1u << LIST_TRIM), 0);
            assert_ptr_equal(open_session(0, 0), s);
        } else if (random_below(2)) {
            table_list_append(&table, list, s);
            model_remove(&models[list], n);
            models[list].all[models[list].count++] = n;
        } else {
            table_list_remove(&table, list, s);
            model_remove(&models[list], n);
            assert_false(table_list_has(s, list));
        }
        model_check(&models[list], list);
    }
}

/* --- Addresses --- */

static struct endpoint random_address(void)
{
    struct endpoint e = {.family = AF_UNIX};
    size_t kind = random_below(3);

    if (kind == 0)
        return e;
    e.family = kind == 1 ? AF_INET : AF_INET6;
    e.ip[random_below(4)] = (uint8_t)random_below(8);
    e.scope_id = kind == 2 ? (uint32_t)random_below(2) : 0;
    e.port = (uint16_t)random_next(); /* of no importance */
    return e;
}

static uint32_t count_slowly(const struct endpoint *e)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < CAPACITY; i++)
        n += table.sessions[i].answered && endpoint_same_address(&table.sessions[i].peer, e);
    return n;
}

static void addresses_are_counted(void **state)
{
    (void)state;
    for (int i = 0; i < CAPACITY; i++) {
        struct session *s = open_session(0, 0);

        s->answered = false; /* this test's own mark: it is counted */
    }
    for (int i = 0; i < 50000; i++) {
        struct session *s = &table.sessions[random_below(CAPACITY)];
        struct endpoint e = random_address();

        if (s->answered) {
            address_count_remove(&table, s);
            s->answered = false;
            address_count_remove(&table, s); /* is out already */
        } else {
            s->peer = e;
            address_count_add(&table, s);
            s->answered = true;
        }
        assert_int_equal(address_count_get(&table, &s->peer), count_slowly(&s->peer));
        assert_int_equal(address_count_get(&table, &e), count_slowly(&e));
    }
}

/* As many addresses as sessions is the most there can be. */
static void every_session_may_have_its_own_address(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < CAPACITY; i++) {
            struct session *s = round == 0 ? open_session(0, 0) : &table.sessions[i];

            s->peer = (struct endpoint){.family = AF_INET, .ip = {10, 0, (uint8_t)round}};
            s->peer.ip[3] = (uint8_t)i;
            address_count_add(&table, s);
        }
        for (uint32_t i = 0; i < CAPACITY; i++)
            assert_int_equal(address_count_get(&table, &table.sessions[i].peer), 1);
        for (uint32_t i = 0; i < CAPACITY; i++)
            address_count_remove(&table, &table.sessions[(i * 7 + 3) % CAPACITY]);
        for (uint32_t i = 0; i < CAPACITY; i++)
            assert_int_equal(address_count_get(&table, &table.sessions[i].peer), 0);
    }
}

/* --- Memory --- */

/* Bytes of memory that the regions take. */
static uint64_t regions_memory(void)
{
    struct stat st;

    assert_int_equal(fstat(table.regions_fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void pages_are_counted_and_given_back(void **state)
{
    struct session *a = NULL, *b = NULL;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint64_t resident_bytes;
    uint8_t byte = 'x';

    (void)state;
    a = open_session(0, 0);
    b = open_session(0, 0);
    assert_int_equal(table.resident_bytes, 0);
    table_note_resident(&table, a);
    assert_int_equal(table.resident_bytes, 0);

    a->window = window_make(0, 100000);
    b->window = window_make(0, 1);
    memset(table_region(&table, a), 'a', 100000);
    memset(table_region(&table, b), 'b', 1);
    table_note_resident(&table, a);
    table_note_resident(&table, a);
    table_note_resident(&table, b);
    resident_bytes = (100000 + page - 1) / page * page + page;
    assert_int_equal(table.resident_bytes, resident_bytes);
    assert_int_equal(regions_memory(), resident_bytes);

    /* The window was moved to the front: what it does not reach goes back, what it has stays. */
    a->window = window_make(0, (uint32_t)page + 1);
    table_trim(&table, a);
    assert_int_equal(table.resident_bytes, 3 * page);
    assert_int_equal(regions_memory(), 3 * page);
    for (size_t i = 0; i < page + 1; i++)
        assert_int_equal(table_region(&table, a)[i], 'a');
    assert_int_equal(pread(table.regions_fd, &byte, 1, (off_t)(2 * page)), 1);
    assert_int_equal(byte, 0);
    table_trim(&table, a);
    assert_int_equal(table.resident_bytes, 3 * page);

    /* Nothing unfinished: nothing is kept, wherever the window stands. */
    a->window = window_make((uint32_t)page + 1, (uint32_t)page + 1);
    table_trim(&table, a);
    assert_int_equal(table.resident_bytes, page);

    /* Free, it keeps them for the next one, and for no longer than others keep theirs. */
    table_free(&table, b);
    assert_int_equal(table.resident_bytes, page);
    assert_ptr_equal(table_list_first(&table, LIST_RESIDENT), b);
    assert_ptr_equal(table_take(&table), b);
    assert_int_equal(b->resident_bytes, page);
    assert_ptr_equal(table_list_first(&table, LIST_RESIDENT), b);
    assert_int_equal(table.lists[LIST_RESIDENT].count, 1);
    b->window = window_make(0, 1);
    table_note_resident(&table, b);
    assert_int_equal(table.resident_bytes, page);
    table_free(&table, b);
    table_trim(&table, b);
    assert_int_equal(table.resident_bytes, 0);
    assert_int_equal(regions_memory(), 0);
    assert_ptr_equal(table_take(&table), b);
    assert_int_equal(b->resident_bytes + b->listed, 0);
}

static void largest_has_the_most_pending(void **state)
{
    struct session *s;

    (void)state;
    s = open_session(0, 0);
    assert_null(table_largest(&table));
    open_session(5, 8)->framed = 8;
    s = open_session(90000, 90010);
    s->framed = 90010;
    open_session(3, 12)->framed = 12;
    (void)open_session(0, 5000); /* waits for its turn */
    assert_ptr_equal(table_largest(&table), s);
    s->window = window_make(90010, 90010);
    assert_ptr_equal(table_largest(&table), &table.sessions[3]);
    table.sessions[3].state = SESSION_REFUSED;
    assert_ptr_equal(table_largest(&table), &table.sessions[1]);
}

/* --- Recovery --- */

/* Recovers, and once more from what an interrupted recovery may have left. */
static void recover(bool resent)
{
    restart();
    assert_int_equal(recovery_run(&table, resent), 0);
    assert_int_equal(table.header->receive.session, NO_SESSION);
    assert_int_equal(table.header->answer.session, NO_SESSION);
    assert_int_equal(table.header->working, NO_SESSION);
    assert_int_equal(table.header->batch.first, 0);
    assert_int_equal(table.header->batch.end, 0);
    assert_int_equal(table.header->crashed, false);
}

static void received_bytes_are_counted(void **state)
{
    struct session *s;
    struct transfer *t = &table.header->receive;

    (void)state;
    s = open_session(10, 20);
    t->base = 20;
    t->message.msg_len = 5;
    t->session = 0;
    session_apply_receive(s, t); /* the worker had done it already, or not */
    recover(false);
    s = &table.sessions[0];
    assert_int_equal(s->window, window_make(10, 25));

    t = &table.header->receive;
    t->session = 0;
    t->base = 25;
    t->message.msg_len = NOT_TAKEN; /* the call was not made */
    recover(false);
    s = &table.sessions[0];
    assert_int_equal(s->window, window_make(10, 25));

    t = &table.header->receive;
    t->session = 0;
    t->message.msg_len = 0; /* the end of the stream: the next worker sees it again */
    recover(false);
    s = &table.sessions[0];
    assert_int_equal(s->window, window_make(10, 25));
    assert_int_equal(s->reason, REASON_NONE);

    t = &table.header->receive;
    t->session = NO_SESSION;
    t->base = 25;
    t->message.msg_len = 7; /* finished long ago */
    recover(false);
    assert_int_equal(table.sessions[0].window, window_make(10, 25));
}

static void answers_are_given_once(void **state)
{
    struct session *s;

    (void)state;
    s = open_session(0, 0);
    session_end(s, REASON_EOF, 0);
    s->end_taken = true;
    table.header->answer.session = 0;
    table.header->answer.message.msg_len = NOT_TAKEN;
    recover(false);
    assert_false(table.sessions[0].answered);
    table.header->answer.session = 0;
    table.header->answer.message.msg_len = 90;
    recover(false);
    assert_true(table.sessions[0].answered);
}

/* Puts an item in the batch as journal_push() does. */
static void push(struct item item, uint32_t msg_len)
{
    struct batch *b = &table.header->batch;

    b->items[b->end] = item;
    b->messages[b->end].msg_len = msg_len;
    b->end++;
}

static struct item data_item(uint32_t session, uint32_t end, uint64_t records, uint64_t bytes)
{
    return (struct item){
        .session = session, .kind = ITEM_DATA, .end = end, .records = records, .bytes = bytes};
}

static void taken_entries_are_accounted_for(void **state)
{
    struct item continued = data_item(1, 60, 0, 60);
    const struct session *s;

    (void)state;
    (void)open_session(0, 100);
    (void)open_session(0, 100);
    continued.continued = true;
    push((struct item){.session = 0, .kind = ITEM_CONNECT}, 200);
    push(data_item(0, 10, 1, 10), 200);
    push(continued, 0);
    push(data_item(0, 30, 2, 30), 1);
    push(data_item(0, 40, 3, 40), NOT_TAKEN);
    push(data_item(0, 50, 4, 50), NOT_TAKEN);
    /* Two were accounted for when the worker died. */
    session_apply(&table.sessions[0], &table.header->batch.items[0]);
    session_apply(&table.sessions[0], &table.header->batch.items[1]);
    table.header->records_total = 1;
    table.header->batch.first = 2;
    session_apply(&table.sessions[1], &table.header->batch.items[2]);
    recover(false);
    s = &table.sessions[0];
    assert_true(s->connect_taken);
    assert_int_equal(s->window, window_make(30, 100));
    assert_int_equal(s->records, 2);
    assert_int_equal(s->bytes, 30);
    assert_int_equal(s->framed, 30);
    assert_int_equal(s->batch_records, 2);
    assert_int_equal(s->batch_bytes, 30);
    assert_false(s->continued);
    assert_int_equal(s->resent_end, 0);
    s = &table.sessions[1];
    assert_false(s->connect_taken);
    assert_int_equal(s->window, window_make(60, 100));
    assert_int_equal(s->records, 0);
    assert_true(s->continued);
    assert_true(s->batch_continued);
    assert_int_equal(table.header->records_total, 2);
}

static void interrupted_reset_is_an_empty_batch(void **state)
{
    (void)state;
    (void)open_session(0, 100);
    push(data_item(0, 10, 1, 10), 200);
    push(data_item(0, 20, 2, 20), 200);
    push(data_item(0, 30, 3, 30), 200);
    table.header->batch.first = 3;
    table.header->batch.end = 0; /* and then the worker died */
    recover(true);
    assert_int_equal(table.sessions[0].window, window_make(0, 100));
    assert_int_equal(table.sessions[0].resent_end, 0);
    (void)open_session(0, 100);
    table.header->batch.first = BATCH_MAX; /* the fullest there is */
    recover(true);
    assert_int_equal(table.sessions[0].window, window_make(0, 100));
    assert_int_equal(table.sessions[0].resent_end, 0);
}

/* Standard output does not say what it took: the one entry that was being written may be out. */
static void entry_at_the_head_may_repeat(void **state)
{
    const struct session *s;

    (void)state;
    (void)open_session(0, 100);
    push(data_item(0, 10, 1, 10), 0);
    push(data_item(0, 20, 2, 20), NOT_TAKEN);
    push(data_item(0, 30, 3, 30), NOT_TAKEN);
    table.header->batch.begun = 2;
    recover(true);
    s = &table.sessions[0];
    assert_int_equal(s->window, window_make(10, 100));
    assert_int_equal(s->resent_end, 20);

    /* One that was not begun is not out. */
    push(data_item(0, 50, 3, 50), NOT_TAKEN);
    recover(true);
    assert_int_equal(s->resent_end, 20);
    push(data_item(0, 50, 3, 50), 0);
    push(data_item(0, 60, 4, 60), NOT_TAKEN);
    table.header->batch.begun = 1;
    recover(true);
    assert_int_equal(s->resent_end, 20);

    /* All else never repeats. */
    push((struct item){.session = 0, .kind = ITEM_CONNECT}, NOT_TAKEN);
    recover(true);
    assert_false(table.sessions[0].connect_taken);
    push((struct item){.session = 0, .kind = ITEM_CONNECT}, NOT_TAKEN);
    table.header->batch.begun = 1;
    recover(true);
    assert_true(table.sessions[0].connect_taken);
    session_end(&table.sessions[0], REASON_EOF, 0);
    push((struct item){.session = 0, .kind = ITEM_END}, NOT_TAKEN);
    table.header->batch.begun = 1;
    recover(false);
    assert_false(table.sessions[0].end_taken);
    push((struct item){.session = 0, .kind = ITEM_END}, NOT_TAKEN);
    table.header->batch.begun = 1;
    recover(true);
    assert_true(table.sessions[0].end_taken);
}

static void two_crashes_in_a_row_end_a_session(void **state)
{
    struct session *s;

    (void)state;
    (void)open_session(0, 100);
    (void)open_session(0, 100);
    for (int i = 0; i < 3; i++) {
        table.header->working = 0;
        table.header->crashed = false; /* killed from outside */
        recover(false);
    }
    assert_int_equal(table.sessions[0].crashes, 0);
    table.header->working = NO_SESSION;
    table.header->crashed = true;
    recover(false);
    table.header->working = 0;
    table.header->crashed = true;
    recover(false);
    s = &table.sessions[0];
    assert_int_equal(s->crashes, 1);
    assert_false(s->poisoned);
    assert_int_equal(s->reason, REASON_NONE);
    table.header->working = 0;
    table.header->crashed = true;
    recover(false);
    s = &table.sessions[0];
    assert_true(s->poisoned);
    assert_int_equal(s->reason, REASON_ERROR);
    assert_int_equal(s->error, EBADMSG);
    assert_int_equal(table.sessions[1].crashes, 0);
    assert_int_equal(table.sessions[1].reason, REASON_NONE);
}

static void recovery_gives_back_pages(void **state)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    (void)state;
    (void)open_session(0, 10);
    (void)open_session(5 * (uint32_t)page, 5 * (uint32_t)page);
    (void)open_session(0, 0);
    for (uint32_t i = 0; i < 3; i++)
        memset(table_region(&table, &table.sessions[i]), 'x', REGION_SIZE);
    table_free(&table, &table.sessions[2]);
    recover(false);
    assert_int_equal(regions_memory(), page);
    assert_int_equal(table.resident_bytes, page);
    assert_int_equal(table_region(&table, &table.sessions[0])[9], 'x');
    assert_int_equal(table.lists[LIST_RESIDENT].count, 1);
    assert_ptr_equal(table_list_first(&table, LIST_RESIDENT), &table.sessions[0]);
    assert_int_equal(table.sessions[1].listed + table.sessions[2].listed, 0);
    assert_int_equal(address_count_get(&table, &table.sessions[0].peer), 0);
    address_count_remove(&table, &table.sessions[0]); /* it is in no count yet */
}

/* --- What cannot be --- */

#define IMPOSSIBLE 26

/* Makes S what no worker leaves, in way number I. */
static void damage(struct session *s, int i)
{
    uint64_t later = now_usec(CLOCK_MONOTONIC) + 1000 * USEC_PER_SEC;

    switch (i) {
    case 0:
        s->state = SESSION_REFUSED + 1;
        break;
    case 1:
        s->state = UINT32_MAX;
        break;
    case 2:
        s->listener = LISTENERS_MAX;
        break;
    case 3:
        s->listener = UINT32_MAX;
        break;
    case 4:
        s->listener = 0; /* which was never used */
        break;
    case 5:
        s->window = window_make(2, 1);
        break;
    case 6:
        s->window = window_make(0, REGION_SIZE + 1);
        break;
    case 7:
        s->window = window_make(UINT32_MAX, UINT32_MAX);
        break;
    case 8:
        s->reason = REASON_ADDRESS_LIMIT + 1;
        break;
    case 9:
        s->reason = REASON_SESSION_LIMIT; /* and open */
        break;
    case 10:
        s->state = SESSION_REFUSED; /* and no reason */
        break;
    case 11:
        s->state = SESSION_REFUSED;
        s->reason = REASON_EOF;
        break;
    case 12:
        s->end_taken = true;
        break;
    case 13:
        s->poisoned = true;
        break;
    case 14:
        s->answered = true;
        break;
    case 15:
        s->begin_usec = later;
        break;
    case 16:
        s->active_usec = later;
        break;
    case 17:
        s->active_usec = s->begin_usec - 1;
        break;
    case 18:
        s->reason = REASON_EOF;
        s->end_usec = later;
        break;
    case 19:
        s->reason = REASON_EOF;
        s->end_usec = s->begin_usec - 1;
        break;
    case 20: /* the kernel says it received more than there is room for */
        table.header->receive.session = 0;
        table.header->receive.base = REGION_SIZE;
        table.header->receive.message.msg_len = 1;
        break;
    case 21:
        table.header->receive.session = 0;
        table.header->receive.base = UINT32_MAX - 1;
        table.header->receive.message.msg_len = 1;
        break;
    case 22: /* the journal took what was never received */
        push(data_item(0, 101, 1, 1), 1);
        break;
    case 23:
        push(data_item(0, UINT32_MAX, 1, 1), 1);
        break;
    case 24:
        memset(s, 0xff, sizeof(*s));
        break;
    case 25:
        s->pending_reason = REASON_IDLE;
        break;
    default:
        fail();
    }
}

static void impossible_sessions_are_ended(void **state)
{
    (void)state;
    for (int i = 0; i < IMPOSSIBLE; i++) {
        uint64_t before = now_usec(CLOCK_MONOTONIC);
        struct session *s, good;

        if (i == 0) {
            (void)open_session(0, 100);
            (void)open_session(5, 50);
        }
        s = &table.sessions[0];
        *s = table.sessions[1];
        s->window = window_make(0, 100);
        good = table.sessions[1];
        damage(s, i);
        recover(false);
        s = &table.sessions[0];
        assert_int_equal(s->state, SESSION_OPEN);
        assert_int_equal(s->reason, REASON_ERROR);
        assert_int_equal(s->error, EUCLEAN);
        assert_int_equal(s->listener, 3);
        assert_int_equal(s->window, 0);
        assert_int_equal(s->framed, 0);
        assert_true(s->poisoned);
        assert_true(s->begin_usec <= s->end_usec);
        assert_true(s->end_usec >= before);
        /* Once is enough. */
        s->error = 1;
        recover(false);
        assert_int_equal(table.sessions[0].error, 1);
        /* The other one goes on. */
        s = &table.sessions[1];
        assert_int_equal(s->window, good.window);
        assert_int_equal(s->reason, REASON_NONE);
        assert_int_equal(s->listener, good.listener);
    }
}

/* What workers do leave is not taken for damage. */
static void possible_sessions_go_on(void **state)
{
    struct session *s;

    (void)state;
    (void)open_session(REGION_SIZE, REGION_SIZE);
    for (enum session_reason r = REASON_EOF; r <= REASON_ERROR; r++) {
        s = open_session(0, (uint32_t)r);
        session_end(s, r, ECONNRESET);
        s->end_taken = r > REASON_EOF;
        s->answered = r > REASON_RESET;
        s->poisoned = r == REASON_ERROR;
    }
    for (enum session_reason r = REASON_SESSION_LIMIT; r <= REASON_ADDRESS_LIMIT; r++) {
        s = open_session(0, 0);
        s->state = SESSION_REFUSED;
        session_end(s, r, 0);
    }
    s = table_take(&table); /* not published: anything */
    memset(s, 0xee, sizeof(*s));
    s->state = SESSION_FREE;
    /* A listener may be closed while its sessions go on. */
    s = open_session(0, 0);
    s->listener = 5;
    table.header->listeners[5].settings = settings;
    recover(false);
    for (uint32_t i = 0; i < table.header->used; i++)
        assert_true(table.sessions[i].error != EUCLEAN);
    assert_int_equal(table.sessions[table.header->used - 1].listener, 5);
    s = &table.sessions[table.header->used - 2];
    assert_int_equal(s->state, SESSION_FREE);
    assert_int_equal(s->listener, 0); /* nothing is left in it */
    assert_int_equal(s->fd, -1);
}

static void impossible_listeners_stop_everything(void **state)
{
    struct table_listener good = table.header->listeners[3];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    (void)open_session(0, 100);
    for (int i = 0; i < 14; i++) {
        struct table_listener *l = &table.header->listeners[3];

        *l = good;
        switch (i) {
        case 0:
            l->fd = -1;
            break;
        case 1:
            l->fd = 9999;
            break;
        case 2:
            l->fd = table.header_fd;
            break;
        case 3:
            l->fd = fd; /* which does not listen */
            break;
        case 4:
            l->settings.max_record = MAX_RECORD_LOW - 1;
            break;
        case 5:
            l->settings.max_record = MAX_RECORD_HIGH + 1;
            break;
        case 6:
            l->settings.framing = (enum framing)(FRAMING_RAW + 1);
            break;
        case 7:
            l->settings.priority = LOG_WARNING;
            break;
        case 8:
            l->settings.priority = LOG_DEBUG + 1;
            break;
        case 9:
            l->settings.priority = -1;
            break;
        case 10:
            memset(&l->settings.receipt, 2, sizeof(l->settings.receipt));
            break;
        case 11:
            memset(l->path, 'x', sizeof(l->path));
            break;
        case 12:
            memcpy(l->path, "a\nPRIORITY=0", 13);
            break;
        case 13: /* one of several */
            table.header->listeners[4] = good;
            table.header->listeners[4].settings.max_record = 0;
            break;
        }
        restart();
        assert_int_equal(recovery_run(&table, false), -EUCLEAN);
    }
    table.header->listeners[3] = good;
    table.header->listeners[4].fd = -1;
    recover(false);
    close(fd);
}

/* Which entries were taken is not known any more: all may repeat. */
static void impossible_batches_mark_everything(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        (void)open_session(10, 100);
        push(data_item((uint32_t)i, 50, 1, 40), 1);
        table.header->batch.end = i == 1 ? 1 : BATCH_MAX + 1;
        table.header->batch.first = i == 0 ? 0 : UINT32_MAX;
        recover(false);
        for (int k = 0; k <= i; k++) {
            assert_int_equal(table.sessions[k].window, window_make(10, 100));
            assert_int_equal(table.sessions[k].resent_end, 100);
            assert_int_equal(table.sessions[k].reason, REASON_NONE);
        }
    }
}

static void impossible_counts_are_cut(void **state)
{
    (void)state;
    (void)open_session(10, 100);
    table.header->used = UINT32_MAX;
    table.header->capacity = UINT32_MAX;
    assert_int_equal(recovery_run(&table, false), 0);
    assert_int_equal(table.header->capacity, CAPACITY);
    assert_int_equal(table.header->used, CAPACITY);
    assert_int_equal(table.sessions[0].window, window_make(10, 100));
    for (int i = 1; i < CAPACITY; i++)
        assert_non_null(table_take(&table));
    assert_null(table_take(&table));
}

/* Any bytes at all: nothing out of bounds, and every session one that can be worked with. */
static void garbage_is_survived(void **state)
{
    (void)state;
    for (int i = 0; i < 2000; i++) {
        struct table_header *h = table.header;
        const struct table_listener l = h->listeners[3];
        const uint64_t magic = h->magic;
        uint8_t *bytes = (uint8_t *)h;
        const size_t size = table.header_size;

        for (size_t n = random_below(3000); n > 0; n--)
            bytes[random_below(size)] = (uint8_t)(random_below(2) ? random_next() : 0);
        /* What another program would refuse before. */
        h->magic = magic;
        h->layout = TABLE_LAYOUT;
        h->output = OUTPUT_JOURNAL;
        h->capacity = CAPACITY;
        h->used = (uint32_t)min_u64(h->used, CAPACITY);
        for (size_t k = 0; k < LISTENERS_MAX; k++)
            h->listeners[k].fd = -1;
        h->listeners[3] = l;
        recover(random_below(2));
        for (uint32_t k = 0; k < table.header->used; k++) {
            const struct session *s = &table.sessions[k];

            assert_true(s->state <= SESSION_REFUSED);
            if (s->state == SESSION_FREE)
                continue;
            assert_true(s->listener < LISTENERS_MAX);
            assert_true(window_start(s->window) <= window_end(s->window));
            assert_true(window_end(s->window) <= REGION_SIZE);
        }
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(new_table_is_empty),
        TEST(another_process_sees_the_same),
        TEST(other_layouts_are_refused),
        TEST(tables_grow),
        TEST(tables_that_cannot_grow_stay),
        TEST(tables_that_cannot_be_mapped_stay),
        TEST(sessions_are_taken_and_freed),
        TEST(unpublished_sessions_are_free),
        TEST(what_was_never_used_is_cleared),
        TEST(lists_keep_their_order),
        TEST(addresses_are_counted),
        TEST(every_session_may_have_its_own_address),
        TEST(pages_are_counted_and_given_back),
        TEST(largest_has_the_most_pending),
        TEST(received_bytes_are_counted),
        TEST(answers_are_given_once),
        TEST(taken_entries_are_accounted_for),
        TEST(interrupted_reset_is_an_empty_batch),
        TEST(entry_at_the_head_may_repeat),
        TEST(two_crashes_in_a_row_end_a_session),
        TEST(recovery_gives_back_pages),
        TEST(impossible_sessions_are_ended),
        TEST(possible_sessions_go_on),
        TEST(impossible_listeners_stop_everything),
        TEST(impossible_batches_mark_everything),
        TEST(impossible_counts_are_cut),
        TEST(garbage_is_survived),
    };

    random_begin();
    alarm(300); /* what hangs, fails */
    (void)signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
