/* SPDX-License-Identifier: MIT */
#include "netd/output/journal.h"

#include "common/util.h"

#include "random.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "batch.h"
#include "journald.h"

static struct journald journald;
static int setup(void **state)
{
    journald_init(&journald);
    return batch_setup(state);
}

static int teardown(void **state)
{
    (void)state;
    batch_teardown();
    journald_deinit(&journald);
    return 0;
}

static void begin(void)
{
    assert_int_equal(sink_init(sink, OUTPUT_JOURNAL, journald.path, batch), 0);
}

/* Takes the next datagram, which must be entry NUMBER with SIZE bytes. */
static void expect(uint64_t number, size_t size)
{
    char digits[9];

    assert_true(journald_take(&journald));
    snprintf(digits, sizeof(digits), "%08u", (unsigned)number);
    assert_int_equal(journald.length, 8 + size);
    assert_memory_equal(journald.data, digits, 8);
    assert_memory_equal(journald.data + 8, entry_text, size);
    assert_int_equal(journald.large, journald.length > DATAGRAM_MAX);
}

static void batch_goes_out_in_order(void **state)
{
    uint64_t next = 0;

    (void)state;
    journald_open(&journald);
    begin();
    assert_false(batch_taken(batch));
    assert_int_equal(sink_send(sink), 0); /* an empty one is out at once */
    for (uint64_t i = 0; i < 10; i++) {
        assert_true(sink_has_room(sink));
        push(i, (size_t)i * 100);
    }
    assert_false(batch_taken(batch));
    assert_int_equal(sink_send(sink), 0);
    assert_int_equal(sink->blocked_errno, 0);
    assert_int_equal(commit(&next), 10);
    assert_int_equal(batch->first, batch->end);
    for (uint64_t i = 0; i < 10; i++)
        expect(i, (size_t)i * 100);
    sink_reset(sink);
    assert_int_equal(batch->end, 0);
    assert_int_equal(sink->arena.used, 0);
    assert_false(journald_take(&journald));
}

static void batch_has_a_last_place(void **state)
{
    (void)state;
    begin();
    for (uint64_t i = 0; i < BATCH_MAX; i++) {
        assert_true(sink_has_room(sink));
        push(i, 1);
    }
    assert_false(sink_has_room(sink));
    sink_reset(sink);
    assert_true(sink_has_room(sink));
}

/* Whatever the queue takes at a time: every entry once, in order. */
static void full_queue_keeps_order(void **state)
{
    uint64_t pushed = 0, committed = 0, received = 0;
    static size_t sizes[3000];

    (void)state;
    journald_open(&journald);
    begin();
    while (received < ARRAY_SIZE(sizes)) {
        int r;

        while (pushed < ARRAY_SIZE(sizes) && sink_has_room(sink) && random_below(200) > 0) {
            sizes[pushed] = random_below(50) ? random_below(3000) : random_below(200000);
            push(pushed, sizes[pushed]);
            pushed++;
        }
        r = sink_send(sink);
        assert_true(r == 0 || r == 1);
        assert_int_equal(sink->blocked_errno, r == 0 ? 0 : EAGAIN);
        (void)commit(&committed);
        if (r == 0) {
            assert_int_equal(committed, pushed);
            sink_reset(sink);
        }
        for (size_t n = random_below(40); n > 0 && received < committed; n--) {
            expect(received, sizes[received]);
            received++;
        }
    }
    assert_false(journald_take(&journald));
}

static void full_queue_is_asked_less_and_less(void **state)
{
    uint64_t next = 0, before = 0;
    int tries;

    (void)state;
    journald_open(&journald);
    begin();
    while (sink_send(sink) == 0) {
        (void)commit(&next);
        sink_reset(sink);
        for (uint64_t i = 0; i < BATCH_MAX; i++)
            push(next + i, 10);
    }
    for (tries = 0; tries < 100; tries++) {
        assert_int_equal(sink_send(sink), 1);
        assert_true(sink_retry_usec(sink) >= before);
        before = sink_retry_usec(sink);
        assert_true(before >= 100 && before <= 100000);
    }
    assert_true(before >= 10000);
    (void)commit(&next);
    assert_true(journald_take(&journald));
    /* One place is free, one entry goes: then it is worth to ask soon again. */
    assert_int_equal(sink_send(sink), 1);
    assert_int_equal(commit(&next), 1);
    assert_true(sink_retry_usec(sink) < before);
}

/* Fills the queue until an entry is left over. */
static void fill_queue(uint64_t *next)
{
    while (sink_send(sink) == 0) {
        (void)commit(next);
        sink_reset(sink);
        for (uint64_t i = 0; i < BATCH_MAX; i++)
            push(*next + i, 10);
    }
    (void)commit(next);
}

static void wait_follows_the_journals_speed(void **state)
{
    uint64_t next = 0, before, slow;

    (void)state;
    journald_open(&journald);
    begin();
    fill_queue(&next);
    /* The queue is empty each time: it was asked too late. */
    for (int i = 0; i < 10; i++) {
        before = sink_retry_usec(sink);
        while (journald_take(&journald))
            ;
        fill_queue(&next);
        assert_true(sink_retry_usec(sink) <= before);
    }
    assert_true(sink_retry_usec(sink) < 500);
    /* One entry is gone each time: too early. */
    slow = sink_retry_usec(sink);
    for (int i = 0; i < 10; i++) {
        assert_true(journald_take(&journald));
        fill_queue(&next);
        assert_true(sink_retry_usec(sink) >= slow);
        slow = sink_retry_usec(sink);
    }
    assert_true(slow > 2000 && slow < 10000);
}

static void missing_journal_is_waited_for(void **state)
{
    uint64_t next = 0;

    (void)state;
    begin();
    for (uint64_t i = 0; i < 5; i++)
        push(i, 100);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sink_send(sink), 1);
        assert_int_equal(sink->blocked_errno, ENOENT);
        assert_true(sink_retry_usec(sink) >= 10000);
        assert_false(batch_taken(batch));
    }
    /* The path is there, and nobody behind it. */
    journald_open(&journald);
    journald_close(&journald);
    assert_int_equal(sink_send(sink), 1);
    assert_int_equal(sink->blocked_errno, ECONNREFUSED);
    assert_false(batch_taken(batch));

    journald_open(&journald);
    assert_int_equal(sink_send(sink), 0);
    assert_int_equal(commit(&next), 5);
    for (uint64_t i = 0; i < 5; i++)
        expect(i, 100);
}

/* What was queued at a journal that died is lost with it; what was not taken goes to the next. */
static void journal_that_goes_away_is_found_again(void **state)
{
    uint64_t next = 0, lost;

    (void)state;
    journald_open(&journald);
    begin();
    push(0, 10);
    assert_int_equal(sink_send(sink), 0);
    assert_int_equal(commit(&next), 1);
    sink_reset(sink);
    expect(0, 10);
    journald_close(&journald);

    for (uint64_t i = 1; i < 4; i++)
        push(i, i == 2 ? DATAGRAM_MAX + 1 : 10); /* a large one stays what it is */
    assert_int_equal(sink_send(sink), 1);
    assert_int_equal(sink->blocked_errno, ECONNREFUSED);
    assert_int_equal(sink->journal.fd, -1);
    assert_int_equal(commit(&next), 0);
    assert_int_equal(unlink(journald.path), 0);
    assert_int_equal(sink_send(sink), 1);
    assert_int_equal(sink->blocked_errno, ENOENT);
    journald_open(&journald);
    assert_int_equal(sink_send(sink), 0);
    assert_int_equal(commit(&next), 3);
    for (uint64_t i = 1; i < 4; i++)
        expect(i, i == 2 ? DATAGRAM_MAX + 1 : 10);
    sink_reset(sink);

    /* In the middle of a batch. */
    do {
        sink_reset(sink);
        for (uint64_t i = 0; i < BATCH_MAX; i++)
            push(next + i, 10);
    } while (sink_send(sink) == 0 && commit(&next) > 0);
    (void)commit(&next);
    lost = next;
    assert_true(batch->first < batch->end);
    journald_close(&journald);
    assert_int_equal(sink_send(sink), 1);
    assert_int_equal(commit(&next), 0);
    journald_open(&journald);
    while (sink_send(sink) == 1) {
        (void)commit(&next);
        while (journald_take(&journald))
            ;
    }
    (void)commit(&next);
    assert_true(next > lost);
    assert_int_equal(batch->first, batch->end);
}

static void large_entries_are_memfds(void **state)
{
    static const size_t sizes[] = {
        DATAGRAM_MAX - 9, DATAGRAM_MAX - 8, DATAGRAM_MAX - 7, 1, 200000, 2};
    uint64_t next = 0;

    (void)state;
    journald_open(&journald);
    begin();
    for (uint64_t i = 0; i < ARRAY_SIZE(sizes); i++)
        push(i, sizes[i]);
    while (sink_send(sink) == 1) {
        uint64_t before = next;

        (void)commit(&next);
        for (; before < next; before++)
            expect(before, sizes[before]);
        sink->arena.used = 0;
    }
    for (uint64_t i = next; i < ARRAY_SIZE(sizes); i++)
        expect(i, sizes[i]);
    assert_int_equal(commit(&next), ARRAY_SIZE(sizes));
    assert_int_equal(sink->journal.memfd, -1);
}

static void memory_of_long_entries_is_given_back(void **state)
{
    uint8_t *far;

    (void)state;
    begin();
    far = sink->arena.base + sink->arena.size - 1;
    *far = 'x';
    sink->arena.used = sink->arena.size;
    sink_trim(sink);
    assert_int_equal(*far, 'x'); /* a batch has it */
    sink_reset(sink);
    sink_trim(sink);
    assert_int_equal(*far, 'x'); /* the next one may be as long */
    *sink->arena.base = 'y';
    sink_trim(sink);
    assert_int_equal(*far, 0);
    assert_int_equal(*sink->arena.base, 'y');
}

/* Memory in memfds that nobody reads has a limit of its own. */
static void waiting_memfds_are_bounded(void **state)
{
    const size_t size = 250000;
    uint64_t next = 0, received = 0;

    (void)state;
    journald_open(&journald);
    begin();
    for (uint64_t i = 0; i < 30; i++)
        push(i, size);
    while (sink_send(sink) == 1) {
        assert_int_equal(sink->blocked_errno, EAGAIN);
        (void)commit(&next);
        assert_true((next - received) * size <= MEMFD_WAITING_MAX);
        assert_true(next > received);
        /* Only when all were read is it known that they are gone. */
        while (received < next)
            expect(received++, size);
    }
    (void)commit(&next);
    assert_int_equal(next, 30);
}

/* A large entry that had to wait is sent as what it is when the socket takes larger ones. */
static void large_entry_may_become_a_small_one(void **state)
{
    uint64_t next = 0, received = 0;

    (void)state;
    journald_open(&journald);
    begin();
    do {
        (void)commit(&next);
        sink_reset(sink);
        for (uint64_t i = 0; i < BATCH_MAX; i++)
            push(next + i, 10);
    } while (sink_send(sink) == 0);
    (void)commit(&next);
    sink->journal.datagram_max = 10; /* less than the entry at the head has */
    assert_int_equal(sink_send(sink), 1);
    sink->journal.datagram_max = DATAGRAM_MAX;
    while (received < next)
        expect(received++, 10);
    while (sink_send(sink) == 1) {
        (void)commit(&next);
        while (received < next)
            expect(received++, 10);
    }
    (void)commit(&next);
    while (received < next)
        expect(received++, 10);
    assert_false(journald_take(&journald));
}

/* A reset that was interrupted leaves an empty batch, whatever stood in it. */
static void half_a_reset_is_a_whole_one(void **state)
{
    uint64_t next = 0;

    (void)state;
    journald_open(&journald);
    begin();
    for (uint64_t i = 0; i < 5; i++)
        push(i, 1);
    assert_int_equal(sink_send(sink), 0);
    assert_int_equal(commit(&next), 5);
    batch->end = 0;
    assert_false(batch_taken(batch));
    /* And an entry that is half in is not in. */
    sink_reset(sink);
    push(5, 1);
    batch->messages[0].msg_len = 9;
    batch->end = 0;
    assert_false(batch_taken(batch));
}

static void names_of_sockets_have_a_limit(void **state)
{
    static char path[300];

    (void)state;
    memset(path, 'x', sizeof(path) - 1);
    assert_int_equal(sink_init(sink, OUTPUT_JOURNAL, path, batch), 0);
    push(0, 1);
    assert_int_equal(sink_send(sink), 1);
    assert_true(sink->blocked_errno != 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(batch_goes_out_in_order),
        TEST(batch_has_a_last_place),
        TEST(full_queue_keeps_order),
        TEST(full_queue_is_asked_less_and_less),
        TEST(wait_follows_the_journals_speed),
        TEST(missing_journal_is_waited_for),
        TEST(journal_that_goes_away_is_found_again),
        TEST(large_entries_are_memfds),
        TEST(memory_of_long_entries_is_given_back),
        TEST(waiting_memfds_are_bounded),
        TEST(large_entry_may_become_a_small_one),
        TEST(half_a_reset_is_a_whole_one),
        TEST(names_of_sockets_have_a_limit),
    };

    random_begin();
    alarm(300); /* what hangs, fails */
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
