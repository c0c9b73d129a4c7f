/* SPDX-License-Identifier: MIT */
#include "netd/session/address-count.h"
#include "netd/session/answer.h"
#include "netd/session/recovery.h"

#include "common/names.h"
#include "common/util.h"

#include "random.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>

#include <cmocka.h>

#include "table.h"

/* Recovers, and once more from what an interrupted recovery may have left. */
static void recover(void)
{
    restart();
    assert_int_equal(recovery_run(&table), 0);
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
    t->rate = 1000;
    t->rate_usec = 77;
    t->message.msg_len = 5;
    t->session = 0;
    session_apply_receive(s, t); /* the worker had done it already, or not */
    recover();
    s = &table.sessions[0];
    assert_int_equal(s->window, window_make(10, 25));
    assert_int_equal(s->rate_usec, 77 + 5000);

    t = &table.header->receive;
    t->session = 0;
    t->base = 25;
    t->message.msg_len = NOT_TAKEN; /* the call was not made */
    recover();
    s = &table.sessions[0];
    assert_int_equal(s->window, window_make(10, 25));

    t = &table.header->receive;
    t->session = 0;
    t->message.msg_len = 0; /* the end of the stream: the next worker sees it again */
    recover();
    s = &table.sessions[0];
    assert_int_equal(s->window, window_make(10, 25));
    assert_int_equal(s->reason, REASON_NONE);

    t = &table.header->receive;
    t->session = NO_SESSION;
    t->base = 25;
    t->message.msg_len = 7; /* finished long ago */
    recover();
    assert_int_equal(table.sessions[0].window, window_make(10, 25));
    assert_int_equal(table.sessions[0].rate_usec, 77 + 5000);

    table.sessions[0].rate_usec = UINT64_MAX; /* by which it would wait for ever */
    recover();
    assert_true(table.sessions[0].rate_usec <= now_usec(CLOCK_MONOTONIC) + USEC_PER_SEC);
}

static void answers_are_given_once(void **state)
{
    char receipt[RECEIPT_MAX];
    struct session *s;
    int length;

    (void)state;
    s = open_session(0, 0);
    length = snprintf(receipt, sizeof(receipt), RECEIPT_FORMAT, "0123456789abcdef0123456789abcdef",
                      s->records, s->bytes, "eof");
    session_end(s, REASON_EOF, 0);
    s->end_taken = true;
    table.header->answer.session = 0;
    table.header->answer.message.msg_len = NOT_TAKEN;
    recover();
    assert_int_equal(table.sessions[0].told, 0);
    table.header->answer.session = 0;
    table.header->answer.message.msg_len = 30;
    recover();
    assert_int_equal(table.sessions[0].told, answer_make(0, 30));
    table.header->answer.session = 0;
    table.header->answer.told = answer_make(0, 30);
    table.header->answer.message.msg_len = (uint32_t)length - 30;
    recover();
    assert_int_equal(table.sessions[0].told, answer_make(1, 0));
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
    table.header->batch.first = 2;
    session_apply(&table.sessions[1], &table.header->batch.items[2]);
    recover();
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
    assert_int_equal(counters_records(table.header), 2);
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
    recover();
    assert_int_equal(table.sessions[0].window, window_make(0, 100));
    assert_int_equal(table.sessions[0].resent_end, 0);
    (void)open_session(0, 100);
    table.header->batch.first = BATCH_MAX; /* the fullest there is */
    recover();
    assert_int_equal(table.sessions[0].window, window_make(0, 100));
    assert_int_equal(table.sessions[0].resent_end, 0);
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
        recover();
    }
    assert_int_equal(table.sessions[0].crashes, 0);
    table.header->working = NO_SESSION;
    table.header->crashed = true;
    recover();
    table.header->working = 0;
    table.header->crashed = true;
    recover();
    s = &table.sessions[0];
    assert_int_equal(s->crashes, 1);
    assert_false(s->poisoned);
    assert_int_equal(s->reason, REASON_NONE);
    table.header->working = 0;
    table.header->crashed = true;
    recover();
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
        memset(table_region(&table, &table.sessions[i]), 'x', WINDOW_SIZE);
    table_free(&table, &table.sessions[2]);
    recover();
    assert_int_equal(regions_memory(), page);
    assert_int_equal(table.resident_bytes, page);
    assert_int_equal(table_region(&table, &table.sessions[0])[9], 'x');
    assert_int_equal(table.resident[page / RESIDENT_PAGE], 0);
    assert_int_equal(table.sessions[0].resident_link.next, NO_SESSION);
    assert_int_equal(table.sessions[1].listed + table.sessions[2].listed, 0);
    assert_int_equal(address_count_get(&table, &table.sessions[0].peer), 0);
    address_count_remove(&table, &table.sessions[0]); /* it is in no count yet */
}

/* A header that is kept stays until its session is freed, and no page of it longer. */
static void headers_are_kept(void **state)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct session *s = open_session(0, 0);

        s->header_length = 9;
        memset(table_region(&table, s) + WINDOW_SIZE, 'h', 9);
    }
    recover();
    assert_int_equal(regions_memory(), 2 * page);
    assert_int_equal(table_region(&table, &table.sessions[1])[WINDOW_SIZE + 8], 'h');
    table_free(&table, &table.sessions[1]);
    assert_int_equal(regions_memory(), page);
    table.sessions[0].state = SESSION_FREE; /* and the worker dies */
    recover();
    assert_int_equal(regions_memory(), 0);
}

/* --- What cannot be --- */

#define IMPOSSIBLE 33

/* Makes S what no worker leaves, in way number I. */
static void damage(struct session *s, int i)
{
    uint64_t later = now_usec(CLOCK_MONOTONIC) + 1000 * USEC_PER_SEC;

    switch (i) {
    case 0:
        s->state = SESSION_HEADER + 1;
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
        s->window = window_make(0, WINDOW_SIZE + 1);
        break;
    case 7:
        s->window = window_make(UINT32_MAX, UINT32_MAX);
        break;
    case 8:
        s->reason = REASON_DENIED + 1;
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
        s->told = answer_make(0, 1);
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
        table.header->receive.base = WINDOW_SIZE;
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
    case 26:
        s->framing = FRAMINGS;
        break;
    case 27: /* the kernel says it sent more than there was */
        table.header->answer.session = 0;
        table.header->answer.message.msg_len = NOT_TAKEN - 1;
        break;
    case 28:
        s->header_length = PROXY_HEADER_MAX + 1;
        break;
    case 29:
        s->state = SESSION_HEADER;
        s->connect_taken = true;
        break;
    case 30:
        s->state = SESSION_HEADER;
        s->reason = REASON_EOF;
        s->end_usec = s->active_usec;
        s->end_taken = true;
        break;
    case 31:
        s->greeting = GREETING_SENT + 1;
        break;
    case 32:
        s->format = FORMATS;
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
        recover();
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
        recover();
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
    (void)open_session(WINDOW_SIZE, WINDOW_SIZE);
    for (enum session_reason r = REASON_EOF; r <= REASON_PROTOCOL; r++) {
        s = open_session(0, (uint32_t)r);
        session_end(s, r, ECONNRESET);
        s->end_taken = r > REASON_EOF;
        s->told = answer_make(r > REASON_RESET, 0);
        s->poisoned = r == REASON_ERROR;
    }
    for (enum session_reason r = REASON_SESSION_LIMIT; r <= REASON_TLS; r++) {
        s = open_session(0, 0);
        s->state = SESSION_REFUSED;
        session_end(s, r, 0);
    }
    s = open_session(0, 10); /* part of a header */
    s->state = SESSION_HEADER;
    s = open_session(10, 20); /* at its limit, and not refused yet */
    s->state = SESSION_HEADER;
    session_end(s, REASON_ADDRESS_LIMIT, 0);
    s = table_take(&table); /* not published: anything */
    memset(s, 0xee, sizeof(*s));
    s->state = SESSION_FREE;
    /* A listener may be closed while its sessions go on. */
    s = open_session(0, 0);
    s->listener = 5;
    table.header->listeners[5].settings = settings;
    recover();
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
    for (int i = 0; i < 18; i++) {
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
            l->settings.framing = FRAMINGS;
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
        case 13:
            memset(l->settings.identifier, 'x', sizeof(l->settings.identifier));
            break;
        case 14:
            memcpy(l->settings.identifier, "a\nPRIORITY=0", 13);
            break;
        case 15:
            l->settings.format = FORMATS;
            break;
        case 16:
            memset(&l->settings.trust_severity, 2, sizeof(l->settings.trust_severity));
            break;
        case 17: /* one of several */
            table.header->listeners[4] = good;
            table.header->listeners[4].settings.max_record = 0;
            break;
        }
        restart();
        assert_int_equal(recovery_run(&table), -EUCLEAN);
    }
    table.header->listeners[3] = good;
    table.header->listeners[4].fd = -1;
    recover();
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
        recover();
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
    assert_int_equal(recovery_run(&table), 0);
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
        h->layout = (uint32_t)table_layout();
        h->output = OUTPUT_JOURNAL;
        h->capacity = CAPACITY;
        h->used = (uint32_t)min_u64(h->used, CAPACITY);
        for (size_t k = 0; k < LISTENERS_MAX; k++)
            h->listeners[k].fd = -1;
        h->listeners[3] = l;
        recover();
        for (uint32_t k = 0; k < table.header->used; k++) {
            const struct session *s = &table.sessions[k];

            assert_true(s->state <= SESSION_HEADER);
            if (s->state == SESSION_FREE)
                continue;
            assert_true(s->listener < LISTENERS_MAX);
            assert_true(window_start(s->window) <= window_end(s->window));
            assert_true(window_end(s->window) <= WINDOW_SIZE);
        }
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(received_bytes_are_counted),
        TEST(answers_are_given_once),
        TEST(taken_entries_are_accounted_for),
        TEST(interrupted_reset_is_an_empty_batch),
        TEST(two_crashes_in_a_row_end_a_session),
        TEST(recovery_gives_back_pages),
        TEST(headers_are_kept),
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
    return cmocka_run_group_tests_name("recovery", tests, NULL, NULL);
}
