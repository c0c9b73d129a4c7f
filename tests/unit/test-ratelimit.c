/* SPDX-License-Identifier: MIT */
#include "common/ratelimit.h"

#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "random.h"

#define INTERVAL UINT64_C(1000)
#define BURST    7

static bool below(uint64_t *arrival, uint64_t now)
{
    return ratelimit_below(arrival, INTERVAL, BURST, now);
}

static void a_burst_and_then_one_an_interval(void **state)
{
    uint64_t arrival = 0, now = 123456;

    (void)state;
    for (int i = 0; i < BURST; i++)
        assert_true(below(&arrival, now));
    assert_false(below(&arrival, now));
    assert_false(below(&arrival, now + INTERVAL - 1));
    assert_true(below(&arrival, now + INTERVAL));
    assert_false(below(&arrival, now + INTERVAL));
    /* A pause gives one burst, however long it was. */
    now += 1000 * INTERVAL;
    for (int i = 0; i < BURST; i++)
        assert_true(below(&arrival, now));
    assert_false(below(&arrival, now));
}

/* In any time, no more than the rate and the burst, and no less where more are tried. */
static void the_limit_holds_and_is_reached(void **state)
{
    (void)state;
    for (int n = random_rounds(300); n > 0; n--) {
        uint64_t begin = 1 + random_below(100000), now = begin, arrival = 0, logged = 0;
        uint64_t pause = 1 + random_below(INTERVAL);

        for (int i = 0; i < 2000; i++, now += random_below((size_t)pause))
            logged += below(&arrival, now);
        assert_true(logged <= BURST + (now - begin) / INTERVAL);
        assert_true(logged >= min_u64(2000, BURST + (now - begin) / INTERVAL * 9 / 10 - 1));
    }
}

/* Memory that a dying process wrote to may hold anything: it is no silence for ever. */
static void any_state_is_the_limit_at_most(void **state)
{
    uint64_t arrival = UINT64_MAX, now = 5;

    (void)state;
    assert_false(below(&arrival, now));
    assert_true(below(&arrival, now + INTERVAL));
    assert_false(below(&arrival, now + INTERVAL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_and_then_one_an_interval),
        cmocka_unit_test(the_limit_holds_and_is_reached),
        cmocka_unit_test(any_state_is_the_limit_at_most),
    };

    random_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
