/* SPDX-License-Identifier: MIT */
#include "netd/session/counters.h"

#include "netd/session/recovery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "table.h"

/* Counters that no other test has. */
#define NUMBER 5

static struct totals totals(void)
{
    return table.header->counters[NUMBER].totals;
}

/* A session of that number that has logged something, and ended. */
static struct session *logged_session(uint64_t records, uint64_t bytes, enum session_reason reason)
{
    struct session *s = open_session(0, 0);

    s->counters = NUMBER;
    s->connect_taken = true;
    s->records = records;
    s->bytes = bytes;
    if (reason != REASON_NONE) {
        session_end(s, reason, 0);
        s->end_taken = true;
    }
    return s;
}

/* --- Sessions --- */

/* As a batch does it, with the entries of several sessions mixed. */
static void entries_are_counted(void **state)
{
    struct batch *b = &table.header->batch;
    const struct item items[] = {
        {.session = 0, .kind = ITEM_CONNECT},
        {.session = 1, .kind = ITEM_CONNECT},
        {.session = 1, .kind = ITEM_DATA, .records = 1, .bytes = 10},
        {.session = 1, .kind = ITEM_DATA, .records = 1, .bytes = 90, .continued = true},
        {.session = 0, .kind = ITEM_DATA, .records = 1, .bytes = 4, .resent = true},
        {.session = 1, .kind = ITEM_DATA, .records = 2, .bytes = 100, .unparsed = true},
        {.session = 1, .kind = ITEM_END},
        {.session = CAPACITY, .kind = ITEM_DATA, .records = 7}, /* of a table damaged in a crash */
        {.session = 0, .kind = ITEM_DATA, .records = 2, .bytes = 8},
    };
    const struct counters *c = &table.header->counters[NUMBER];
    uint64_t activity = table.header->activity;

    (void)state;
    for (int i = 0; i < 2; i++) {
        open_session(0, 100)->counters = NUMBER;
        session_end(&table.sessions[i], i == 0 ? REASON_EOF : REASON_IDLE, 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
        b->items[i] = items[i];
        b->messages[i].msg_len = i + 1 < ARRAY_SIZE(items) ? 1 : NOT_TAKEN;
    }
    b->end = ARRAY_SIZE(items);
    table_commit(&table);
    assert_int_equal(b->first, ARRAY_SIZE(items) - 1);
    assert_int_equal(c->totals.started, 2);
    assert_int_equal(c->totals.records, 3);
    assert_int_equal(c->totals.bytes, 104);
    assert_int_equal(c->totals.ended[REASON_IDLE], 1);
    assert_int_equal(c->totals.ended[REASON_EOF], 0);
    assert_int_equal(c->resent, 1);
    assert_int_equal(c->unparsed, 1);
    assert_int_equal(counters_records(table.header), 3);
    assert_true(table.header->activity > activity);
    table_commit(&table);
    assert_int_equal(counters_records(table.header), 3);
}

static void freed_slots_stay_counted(void **state)
{
    struct totals before;

    (void)state;
    (void)logged_session(3, 30, REASON_NONE);
    table_free(&table, logged_session(4, 40, REASON_RESET));
    (void)logged_session(5, 50, REASON_NONE); /* in that slot */
    assert_int_equal(table.header->used, 2);
    counters_recover(&table);
    before = totals();
    assert_int_equal(before.records, 12);
    assert_int_equal(before.bytes, 120);
    assert_int_equal(before.started, 3);
    assert_int_equal(before.ended[REASON_RESET], 1);
    restart();
    assert_int_equal(recovery_run(&table), 0);
    assert_memory_equal(&table.header->counters[NUMBER].totals, &before, sizeof(before));
    assert_int_equal(counters_records(table.header), 12);
}

static void refused_connections_are_counted(void **state)
{
    struct session *s;

    (void)state;
    s = open_session(0, 0);
    s->counters = NUMBER;
    session_end(s, REASON_DENIED, 0);
    table_publish(s, SESSION_REFUSED);
    counters_recover(&table);
    assert_int_equal(totals().ended[REASON_DENIED], 1);
    s->end_taken = true; /* its event counts no second time */
    counters_recover(&table);
    assert_int_equal(totals().ended[REASON_DENIED], 1);
    table_free(&table, s);
    counters_recover(&table);
    assert_int_equal(totals().ended[REASON_DENIED], 1);
    assert_int_equal(totals().started, 0);
}

/* A worker may die between any two stores of counters_retire() and table_free(). */
static void slots_freed_half_are_counted_once(void **state)
{
    struct totals expected, before;

    (void)state;
    table_free(&table, logged_session(1, 10, REASON_EOF));
    (void)logged_session(3, 30, REASON_EOF);
    counters_recover(&table);
    expected = totals();
    before = table.header->retired[NUMBER];
    for (int stores = 0; stores <= 6; stores++) {
        struct session *s = &table.sessions[0];
        struct table_header *h = table.header;
        struct totals *retired = &h->retired[NUMBER], done;

        s->state = SESSION_OPEN;
        *retired = before;
        counters_retire(&table, s);
        done = *retired;
        *retired = before;
        if (stores == 0)
            h->retirement.session = NO_SESSION;
        if (stores >= 2)
            retired->records = done.records;
        if (stores >= 3)
            retired->bytes = done.bytes;
        if (stores >= 4)
            retired->started = done.started;
        if (stores >= 5)
            *retired = done;
        if (stores == 6)
            s->state = SESSION_FREE;
        restart();
        assert_int_equal(recovery_run(&table), 0);
        assert_memory_equal(&table.header->counters[NUMBER].totals, &expected, sizeof(expected));
        assert_int_equal(table.sessions[0].state, stores == 0 ? SESSION_OPEN : SESSION_FREE);
        assert_int_equal(table.header->retirement.session, NO_SESSION);
        if (stores == 0)
            continue;
        /* As it was: recovery has cleared the slot. */
        table.sessions[0] = (struct session){.fd = -1};
        table.header->used = 0;
        table.free = NO_SESSION;
        (void)logged_session(3, 30, REASON_EOF);
    }
}

/* What a crash left is no reason for another one. */
static void damaged_numbers_do_no_harm(void **state)
{
    struct session *s;

    (void)state;
    s = logged_session(1, 1, REASON_EOF);
    s->counters = UINT8_MAX;
    s->reason = UINT8_MAX;
    table.header->retirement =
        (struct retirement){.session = 0, .counters = COUNTERS_MAX, .reason = 1, .records = 77};
    restart();
    assert_int_equal(recovery_run(&table), 0);
    assert_int_equal(counters_records(table.header), 1);
    s = &table.sessions[0];
    s->reason = UINT8_MAX;
    table_free(&table, s);
    table.header->retirement =
        (struct retirement){.session = 0, .counters = 1, .reason = REASONS, .records = 77};
    restart();
    assert_int_equal(recovery_run(&table), 0);
    assert_int_equal(counters_records(table.header), 1);
}

/* --- Names --- */

static void names_keep_their_counters(void **state)
{
    uint32_t a, b;

    (void)state;
    a = counters_find(&table, "");
    b = counters_find(&table, "devices");
    assert_int_not_equal(a, b);
    table.header->counters[b].resent = 7;
    table.header->retired[b].records = 8;
    assert_int_equal(counters_find(&table, ""), a);
    assert_int_equal(counters_find(&table, "devices"), b);
    assert_string_equal(table.header->counters[b].name, "devices");
    assert_int_equal(table.header->counters[b].resent, 7);
}

/* Those of no listener and no session make room; where all are needed, something is returned. */
static void names_make_room_for_others(void **state)
{
    char name[LISTENER_NAME_MAX + 1];
    uint32_t n;

    (void)state;
    table.header->listeners[3].counters = 3;
    for (int i = 0; i < COUNTERS_MAX; i++) {
        snprintf(name, sizeof(name), "name-%d", i);
        assert_int_equal(counters_find(&table, name), i);
        table.header->retired[i].records = 1;
        table.header->counters[i].resent = 1;
    }
    open_session(0, 0)->counters = 0;
    for (int i = 0; i < COUNTERS_MAX; i++) {
        snprintf(name, sizeof(name), "other-%d", i);
        n = counters_find(&table, name);
        assert_true(n < COUNTERS_MAX);
        assert_string_equal(table.header->counters[n].name, name);
        assert_int_equal(table.header->retired[n].records, 0);
        assert_int_equal(table.header->counters[n].resent, 0);
        assert_int_not_equal(n, 3);
        assert_int_not_equal(n, 0);
    }
    for (uint32_t i = 0; i < LISTENERS_MAX; i++) {
        struct session *s = i < CAPACITY / 2 ? open_session(0, 0) : NULL;

        if (s)
            s->counters = (uint8_t)i;
        table.header->listeners[i].counters = i;
        if (!s && i != 3)
            table.header->listeners[i].fd = 0;
    }
    assert_true(counters_find(&table, "one too many") < COUNTERS_MAX);
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (table.header->listeners[i].fd == 0)
            table.header->listeners[i].fd = -1;
}

/* --- Time --- */

static void waiting_is_counted_in_time(void **state)
{
    const uint64_t second = USEC_PER_SEC;
    uint64_t waited, *clock = &table.header->wait_clock;

    (void)state;
    assert_int_equal(counters_waited(table.header), 0);
    counters_set_waiting(&table, false);
    assert_int_equal(counters_waited(table.header), 0);
    *clock = 3 * second;
    counters_set_waiting(&table, true);
    *clock -= 5 * second; /* as if it had been for so long */
    waited = counters_waited(table.header);
    assert_in_range(waited, 8 * second, 60 * second);
    counters_set_waiting(&table, true); /* the same stretch */
    counters_set_waiting(&table, false);
    assert_in_range(counters_waited(table.header), waited, waited + 60 * second);
    waited = counters_waited(table.header);
    counters_set_waiting(&table, false);
    assert_int_equal(counters_waited(table.header), waited);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(entries_are_counted),
        TEST(freed_slots_stay_counted),
        TEST(refused_connections_are_counted),
        TEST(slots_freed_half_are_counted_once),
        TEST(damaged_numbers_do_no_harm),
        TEST(names_keep_their_counters),
        TEST(names_make_room_for_others),
        TEST(waiting_is_counted_in_time),
    };

    return cmocka_run_group_tests_name("counters", tests, NULL, NULL);
}
