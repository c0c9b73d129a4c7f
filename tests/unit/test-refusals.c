/* SPDX-License-Identifier: MIT */
#include "netd/worker/refusals.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "logged.h"
#include "table.h"

/* Listener 3 is the one of table.h. */
static struct table_listener *second;

static int begin(void **state)
{
    if (setup(state) < 0)
        return -1;
    strcpy(table.header->listeners[3].path, "@first");
    second = &table.header->listeners[5];
    *second = (struct table_listener){.fd = listening_socket(), .path = "@second"};
    logged_begin();
    return 0;
}

static int end(void **state)
{
    logged_end();
    close_fd(&second->fd);
    return teardown(state);
}

/* How many of COUNT refusals at NOW are logged. */
static unsigned logged(struct table_listener *l, unsigned count, uint64_t now)
{
    unsigned n = 0;

    while (count-- > 0)
        n += refusals_count(l, now);
    return n;
}

static void each_listener_logs_so_many(void **state)
{
    struct table_listener *first = &table.header->listeners[3];
    const uint64_t now = USEC_PER_SEC;

    (void)state;
    assert_int_equal(logged(first, REFUSALS_BURST + 1, now), REFUSALS_BURST);
    assert_int_equal(logged(second, REFUSALS_BURST, now), REFUSALS_BURST);
    assert_int_equal(logged(first, 5, now + 2 * REFUSALS_INTERVAL), 2);
    assert_int_equal(first->refusals.suppressed, 4);
    assert_int_equal(second->refusals.suppressed, 0);
}

static void a_warning_counts_the_others(void **state)
{
    struct table_listener *first = &table.header->listeners[3];
    uint64_t now = USEC_PER_SEC, due = now + REFUSALS_REPORT_USEC;

    (void)state;
    assert_int_equal(refusals_report(&table, now), UINT64_MAX);
    (void)logged(first, REFUSALS_BURST + 41, now);
    assert_int_equal(refusals_report(&table, now), due);
    (void)logged(first, 1, now); /* does not put it off */
    (void)logged(second, REFUSALS_BURST + 1, now + 1);
    assert_int_equal(refusals_report(&table, due - 1), due);
    expect_log("");
    restart();
    first = &table.header->listeners[3];
    second = &table.header->listeners[5];
    assert_int_equal(refusals_report(&table, due), due + 1);
    expect_log("netd: @first: suppressed 42 refused events; at most 100 at once and then one a "
               "second are logged\n");
    assert_int_equal(refusals_report(&table, due), due + 1);
    expect_log("");
    assert_int_equal(refusals_report(&table, UINT64_MAX), UINT64_MAX);
    expect_log("netd: @second: suppressed 1 refused event; at most 100 at once and then one a "
               "second are logged\n");
    (void)logged(first, REFUSALS_BURST + 1, due + 5);
    assert_int_equal(refusals_report(&table, due + 5), due + 5 + REFUSALS_REPORT_USEC);
}

/* One that is closed has been reported, and what it names may be of another one. */
static void closed_listeners_have_no_report(void **state)
{
    (void)state;
    (void)logged(second, REFUSALS_BURST + 1, USEC_PER_SEC);
    close_fd(&second->fd);
    assert_int_equal(refusals_report(&table, UINT64_MAX), UINT64_MAX);
    expect_log("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_listener_logs_so_many, begin, end),
        cmocka_unit_test_setup_teardown(a_warning_counts_the_others, begin, end),
        cmocka_unit_test_setup_teardown(closed_listeners_have_no_report, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
