/* SPDX-License-Identifier: MIT */
#include "netd/session/rate.h"

#include "common/util.h"
#include "netd/session/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "random.h"

static const uint32_t rates[] = {1, 2, 7, 8, 9, 1000, 1000003, 262144, INT32_MAX};

static void a_burst_is_a_second_worth(void **state)
{
    uint64_t now = 100 * USEC_PER_SEC;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
        assert_int_equal(rate_room(0, rates[i], now), rates[i]);
        assert_int_equal(rate_room(now, rates[i], now), rates[i]);
        assert_int_equal(rate_room(now + RATE_BURST_USEC, rates[i], now), 0);
        assert_int_equal(rate_room(UINT64_MAX, rates[i], now), 0);
        assert_int_equal(rate_charge(now, rates[i], rates[i]), now + RATE_BURST_USEC);
    }
    assert_int_equal(rate_room(now + RATE_BURST_USEC / 2, 1000, now), 500);
}

/* Who comes back then may read, and not one byte only. */
static void there_is_room_when_it_is_due(void **state)
{
    uint64_t now = 100 * USEC_PER_SEC;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
        uint64_t arrival = now + RATE_BURST_USEC, due = rate_due(arrival, rates[i]);
        uint32_t worth = (uint32_t)min_size(rates[i] / 8 + !(rates[i] / 8), READ_MAX);

        assert_true(due > now && due <= now + USEC_PER_SEC);
        assert_true(rate_room(arrival, rates[i], due) >= worth);
        assert_true(rate_room(arrival, rates[i], due - 1) < worth);
        assert_true(rate_due(now, rates[i]) <= now); /* a full burst */
        assert_int_equal(rate_due(0, rates[i]), 0);
    }
}

/* However it is asked for, at any time, no more comes than the rate and the burst. */
static void the_limit_holds(void **state)
{
    (void)state;
    for (int n = random_rounds(300); n > 0; n--) {
        uint32_t rate = random_below(2) ? rates[random_below(ARRAY_SIZE(rates))]
                                        : 1 + (uint32_t)random_below(100000);
        uint64_t begin = 5 * USEC_PER_SEC, now = begin, arrival = random_below(2) ? 0 : begin;
        uint64_t received = 0;

        for (int i = 0; i < 1000; i++) {
            uint32_t room = rate_room(arrival, rate, now);
            uint32_t bytes = random_below(2) ? room : (uint32_t)random_below((size_t)room + 1);

            arrival = rate_charge(rate_begin(arrival, now), rate, bytes);
            received += bytes;
            assert_true(arrival <= now + RATE_BURST_USEC);
            assert_true(received <= rate + rate * (now - begin) / USEC_PER_SEC);
            now += random_below(random_below(10) ? 5000 : 3 * USEC_PER_SEC);
        }
    }
}

/* Nor does it lose what may come: a firehose that is read when it is due gets its rate. */
static void the_rate_is_reached(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
        uint64_t now = 5 * USEC_PER_SEC, end = now + 20 * USEC_PER_SEC, arrival = 0, received = 0;

        while (now < end) {
            uint32_t bytes = (uint32_t)min_size(rate_room(arrival, rates[i], now), READ_MAX);

            arrival = rate_charge(rate_begin(arrival, now), rates[i], bytes);
            received += bytes;
            now = rate_begin(rate_due(arrival, rates[i]), now);
        }
        assert_true(received >= UINT64_C(20) * rates[i] * 95 / 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_is_a_second_worth),
        cmocka_unit_test(there_is_room_when_it_is_due),
        cmocka_unit_test(the_limit_holds),
        cmocka_unit_test(the_rate_is_reached),
    };

    random_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
