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

#include "table.h"

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
    assert_int_equal(recovery_run(&table), 0);
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
    assert_int_equal(recovery_run(&table), 0);
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
    assert_int_equal(recovery_run(&table), 0);
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
                if (k != LIST_TRIM)
                    model_remove(&models[k], n);
            assert_int_equal(s->listed & ~(1u << LIST_TRIM), 0);
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
        n += table.sessions[i].poisoned && endpoint_same_address(&table.sessions[i].peer, e);
    return n;
}

static void addresses_are_counted(void **state)
{
    (void)state;
    for (int i = 0; i < CAPACITY; i++) {
        struct session *s = open_session(0, 0);

        s->poisoned = false; /* this test's own mark: it is counted */
    }
    for (int i = 0; i < 50000; i++) {
        struct session *s = &table.sessions[random_below(CAPACITY)];
        struct endpoint e = random_address();

        if (s->poisoned) {
            address_count_remove(&table, s);
            s->poisoned = false;
            address_count_remove(&table, s); /* is out already */
        } else {
            s->peer = e;
            address_count_add(&table, s);
            s->poisoned = true;
        }
        assert_int_equal(address_count_get(&table, &s->peer), count_slowly(&s->peer));
        assert_int_equal(address_count_get(&table, &e), count_slowly(&e));
    }
}

/* The limit of all, and that of a listener that allows fewer. */
static void addresses_are_counted_at_each_listener(void **state)
{
    static const struct {
        uint32_t own, all;
        bool reached;
    } rows[] = {{0, 0, false}, {0, 4, false}, {0, 3, true}, {1, 0, true}, {2, 0, true},
                {3, 0, false}, {2, 3, true},  {2, 2, true}, {3, 2, true}, {3, 4, false}};
    const struct endpoint other = {.family = AF_INET, .ip = {10}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct session *s[3];
        uint32_t own = rows[i].own;

        table.header->settings.sessions_max_per_address = rows[i].all;
        table.header->listeners[1].settings.sessions_max_per_address = own;
        table.header->listeners[2].settings.sessions_max_per_address = 1;
        for (uint32_t j = 0; j < 3; j++) {
            s[j] = open_session(0, 0);
            s[j]->listener = j == 0 ? 2 : 1;
            s[j]->peer = (struct endpoint){.family = AF_INET, .ip = {192, 0, 2, 1}};
            assert_int_equal(address_count_reached(&table, &s[j]->peer, 1),
                             (own == 1 && j == 2) || (rows[i].all > 0 && j >= rows[i].all));
            address_count_add(&table, s[j]);
        }
        assert_int_equal(address_count_get(&table, &s[0]->peer), 3);
        assert_int_equal(address_count_reached(&table, &s[0]->peer, 1), rows[i].reached);
        assert_true(address_count_reached(&table, &s[0]->peer, 2));
        assert_false(address_count_reached(&table, &other, 1));
        for (uint32_t j = 0; j < 3; j++)
            address_count_remove(&table, s[j]);
        assert_int_equal(address_count_get(&table, &s[0]->peer), 0);
        for (uint32_t j = 0; j < 3; j++) {
            assert_false(address_count_reached(&table, &s[0]->peer, j));
            table_free(&table, s[j]);
        }
    }
}

/* Twice as many counts as sessions are enough. */
static void every_session_may_be_counted_twice(void **state)
{
    (void)state;
    table.header->listeners[3].settings.sessions_max_per_address = 1;
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < CAPACITY; i++) {
            struct session *s = round == 0 ? open_session(0, 0) : &table.sessions[i];

            s->listener = 3;
            s->peer = (struct endpoint){.family = AF_INET, .ip = {10, 0, (uint8_t)round}};
            s->peer.ip[3] = (uint8_t)i;
            assert_false(address_count_reached(&table, &s->peer, 3));
            address_count_add(&table, s);
            assert_true(address_count_reached(&table, &s->peer, 3));
        }
        for (uint32_t i = 0; i < CAPACITY; i++)
            address_count_remove(&table, &table.sessions[(i * 7 + 3) % CAPACITY]);
        for (uint32_t i = 0; i < CAPACITY; i++)
            assert_false(address_count_reached(&table, &table.sessions[i].peer, 3));
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
    assert_ptr_equal(table_list_first(&table, LIST_TRIM), b);
    assert_ptr_equal(table_take(&table), b);
    assert_int_equal(b->resident_bytes, page);
    assert_ptr_equal(table_list_first(&table, LIST_TRIM), b);
    b->window = window_make(0, 1);
    table_note_resident(&table, b);
    assert_int_equal(table.resident_bytes, page);
    table_free(&table, b);
    table_trim(&table, b);
    assert_int_equal(table.resident_bytes, 0);
    assert_int_equal(regions_memory(), 0);
    assert_ptr_equal(table_take(&table), b);
    assert_int_equal(b->resident_bytes, 0);
}

static struct session *received(uint32_t start, uint32_t end, uint32_t framed)
{
    struct session *s = open_session(start, end);

    table_note_resident(&table, s);
    s->framed = framed;
    return s;
}

static void largest_has_the_most_pages(void **state)
{
    struct session *small, *large, *s;

    (void)state;
    assert_null(table_largest(&table));
    (void)received(0, 0, 0);
    assert_null(table_largest(&table));
    small = received(5, 8, 8);
    large = received(90000, 90010, 90010);
    (void)received(0, 150000, 0);           /* waits for its turn */
    (void)received(180000, 180000, 180000); /* has nothing unfinished */
    assert_ptr_equal(table_largest(&table), large);
    s = received(100000, 200000, 200000);
    assert_ptr_equal(table_largest(&table), s);
    s->state = SESSION_REFUSED;
    assert_ptr_equal(table_largest(&table), large);
    large->window = window_make(0, 1);
    table_trim(&table, large);
    assert_int_equal(large->resident_bytes, small->resident_bytes);
    table_free(&table, large);
    assert_ptr_equal(table_largest(&table), small);
    table_free(&table, small);
    assert_null(table_largest(&table));
}

/* The sessions with so many pages are found, and no others. */
static void pages_are_counted_for_each(void **state)
{
    uint64_t sum;

    (void)state;
    for (int i = 0; i < CAPACITY; i++)
        (void)open_session(0, 0);
    for (int i = 0; i < random_rounds(5000); i++) {
        struct session *s = &table.sessions[random_below(CAPACITY)];
        uint32_t end = (uint32_t)random_below(WINDOW_SIZE + 1);

        s->window = window_make((uint32_t)random_below(end + 1), end);
        if (random_below(2))
            table_note_resident(&table, s);
        else
            table_trim(&table, s);
        sum = 0;
        for (size_t k = 0; k < RESIDENT_COUNTS; k++)
            for (uint32_t n = table.resident[k]; n != NO_SESSION;
                 n = table.sessions[n].resident_link.next) {
                assert_int_equal(table.sessions[n].resident_bytes, k * RESIDENT_PAGE);
                sum += table.sessions[n].resident_bytes;
            }
        assert_int_equal(table.resident_bytes, sum);
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
        TEST(addresses_are_counted_at_each_listener),
        TEST(every_session_may_be_counted_twice),
        TEST(every_session_may_have_its_own_address),
        TEST(pages_are_counted_and_given_back),
        TEST(largest_has_the_most_pages),
        TEST(pages_are_counted_for_each),
    };

    random_begin();
    alarm(300); /* what hangs, fails */
    (void)signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
