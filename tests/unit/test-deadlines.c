/* SPDX-License-Identifier: MIT */
#include "netd/worker/deadlines.h"

#include "common/util.h"

#include "random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SESSIONS 50

static void first_is_earliest(void **state)
{
    struct deadlines d;

    (void)state;
    assert_int_equal(deadlines_init(&d, 4), 0);
    assert_int_equal(deadlines_first(&d), NO_DEADLINE);
    assert_int_equal(deadlines_get(&d, 3), NO_DEADLINE);
    deadlines_set(&d, 3, 30);
    deadlines_set(&d, 0, 10);
    deadlines_set(&d, 1, 20);
    assert_int_equal(deadlines_first(&d), 10);
    assert_int_equal(d.heap[0].session, 0);
    deadlines_set(&d, 0, 40);
    assert_int_equal(d.heap[0].session, 1);
    deadlines_set(&d, 3, 5);
    assert_int_equal(d.heap[0].session, 3);
    assert_int_equal(deadlines_get(&d, 0), 40);
    deadlines_set(&d, 3, NO_DEADLINE);
    deadlines_set(&d, 3, NO_DEADLINE);
    deadlines_set(&d, 1, NO_DEADLINE);
    assert_int_equal(deadlines_first(&d), 40);
    deadlines_set(&d, 0, NO_DEADLINE);
    assert_int_equal(deadlines_first(&d), NO_DEADLINE);
    deadlines_deinit(&d);
}

/* Against an array in which all is looked at. */
static void anything_is_in_order(void **state)
{
    uint64_t expected[SESSIONS];
    struct deadlines d;

    (void)state;
    assert_int_equal(deadlines_init(&d, SESSIONS), 0);
    for (size_t i = 0; i < SESSIONS; i++)
        expected[i] = NO_DEADLINE;
    for (int n = random_rounds(20000); n > 0; n--) {
        uint32_t session = (uint32_t)random_below(SESSIONS);
        uint64_t first = NO_DEADLINE;

        expected[session] = random_below(3) ? random_below(100) : NO_DEADLINE;
        deadlines_set(&d, session, expected[session]);
        for (uint32_t i = 0; i < SESSIONS; i++) {
            first = min_u64(first, expected[i]);
            assert_int_equal(deadlines_get(&d, i), expected[i]);
        }
        assert_int_equal(deadlines_first(&d), first);
    }
    deadlines_deinit(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_is_earliest),
        cmocka_unit_test(anything_is_in_order),
    };

    random_begin();
    return cmocka_run_group_tests_name("deadlines", tests, NULL, NULL);
}
