/* SPDX-License-Identifier: MIT */
#include "common/array.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void growth(void **state)
{
    size_t room = 0, moves = 0;
    unsigned *items = NULL;

    (void)state;
    for (unsigned n = 0; n < 10000; n++) {
        size_t before = room;

        items = array_grow(items, &room, n + 1, sizeof(*items));
        assert_non_null(items);
        assert_true(room > n);
        moves += room != before;
        items[n] = n;
    }
    assert_true(moves < 20);
    for (unsigned n = 0; n < 10000; n++)
        assert_int_equal(items[n], n);
    items = array_grow(items, &room, 100000, sizeof(*items)); /* more than twice the room */
    assert_non_null(items);
    assert_true(room >= 100000);
    free(items);
}

static void overflow(void **state)
{
    size_t room = 0;
    char *items = array_grow(NULL, &room, 1, 1);
    size_t before = room;

    (void)state;
    assert_non_null(items);
    assert_null(array_grow(items, &room, SIZE_MAX, 1));
    assert_null(array_grow(items, &room, SIZE_MAX / 4, 16));
    assert_int_equal(room, before);
    free(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growth),
        cmocka_unit_test(overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
