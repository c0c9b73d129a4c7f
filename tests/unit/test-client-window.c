/* SPDX-License-Identifier: MIT */
#include "common/util.h"
#include "netd-client/relp.h"
#include "netd-client/window.h"

#include "random.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
    struct window *w = malloc(sizeof(*w));

    assert_non_null(w);
    assert_int_equal(window_init(w), 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    window_deinit(*state);
    free(*state);
    return 0;
}

static void add(struct window *w, const char *text, size_t length)
{
    char *room;

    assert_true(window_room(w, &room) >= length);
    memcpy(room, text, length);
    window_add(w, length);
}

/* Asserts that TEXT is the next record, and sends it. */
static void send_next(struct window *w, const char *text, uint32_t txnr)
{
    const struct window_record *record;
    const char *data;

    record = window_next(w, &data);
    assert_non_null(record);
    assert_int_equal(record->length, strlen(text));
    assert_memory_equal(data, text, record->length);
    window_sent(w, txnr);
}

static void assert_none_to_send(const struct window *w)
{
    const char *data;

    assert_null(window_next(w, &data));
}

static void lines_become_records(void **state)
{
    struct window *w = *state;

    add(w, "one\n\ntw", 7);
    send_next(w, "one", 2);
    send_next(w, "", 3);
    assert_none_to_send(w);
    add(w, "o\r\nx", 4);
    send_next(w, "two\r", 4);
    assert_none_to_send(w);
    assert_true(window_end_line(w));
    assert_true(window_end_line(w));
    send_next(w, "x", 5);
    assert_true(window_put(w, "message\n2", 9));
    assert_true(window_put(w, "", 0));
    send_next(w, "message\n2", 6);
    send_next(w, "", 7);
    for (uint32_t txnr = 2; txnr <= 7; txnr++) {
        assert_false(window_is_empty(w));
        assert_int_equal(window_acknowledge(w, txnr), 0);
    }
    assert_true(window_is_empty(w));
}

static void unknown_acknowledgements(void **state)
{
    struct window *w = *state;

    assert_int_equal(window_acknowledge(w, 0), -ENOENT);
    add(w, "a\nb\n", 4);
    assert_int_equal(window_acknowledge(w, 0), -ENOENT); /* not sent */
    send_next(w, "a", 2);
    send_next(w, "b", 3);
    assert_int_equal(window_acknowledge(w, 1), -ENOENT);
    assert_int_equal(window_acknowledge(w, 4), -ENOENT);
    assert_int_equal(window_acknowledge(w, 3), 0);
    assert_int_equal(window_acknowledge(w, 3), -ENOENT);
    assert_int_equal(window_acknowledge(w, 2), 0);
    assert_int_equal(window_acknowledge(w, 2), -ENOENT);
}

static void restart_sends_what_is_not_acknowledged(void **state)
{
    struct window *w = *state;

    add(w, "a\nb\nc\nd\ne\nf", 11);
    send_next(w, "a", 2);
    send_next(w, "b", 3);
    send_next(w, "c", 4);
    send_next(w, "d", 5);
    assert_int_equal(window_acknowledge(w, 2), 0);
    assert_int_equal(window_acknowledge(w, 4), 0);
    assert_int_equal(window_restart(w), 2);
    assert_int_equal(window_acknowledge(w, 3), -ENOENT); /* of the last connection */
    send_next(w, "b", 2);
    assert_int_equal(window_acknowledge(w, 2), 0);
    send_next(w, "d", 3);
    send_next(w, "e", 4);
    assert_none_to_send(w);
    assert_int_equal(window_restart(w), 2);
    assert_int_equal(window_restart(w), 0);
    send_next(w, "d", 2);
    send_next(w, "e", 3);
    assert_true(window_end_line(w));
    send_next(w, "f", 4);
}

/* The longest line fits; one more byte makes two records. */
static void long_lines(void **state)
{
    struct window *w = *state;
    size_t size = 4 * (size_t)RELP_DATA_MAX;
    char *text = malloc(size);
    const char *data;

    assert_non_null(text);
    memset(text, 'x', size);
    text[RELP_DATA_MAX] = '\n';
    add(w, text, RELP_DATA_MAX);
    assert_none_to_send(w);
    add(w, text + RELP_DATA_MAX, 1);
    assert_int_equal(window_next(w, &data)->length, RELP_DATA_MAX);
    assert_int_equal(w->pieces, 0);
    window_sent(w, 2);
    assert_none_to_send(w);

    text[RELP_DATA_MAX] = 'x';
    text[2 * RELP_DATA_MAX + 1] = '\n';
    add(w, text, 2 * RELP_DATA_MAX + 2);
    assert_int_equal(w->pieces, 2);
    for (uint32_t txnr = 3; txnr <= 4; txnr++) {
        assert_int_equal(window_next(w, &data)->length, RELP_DATA_MAX);
        window_sent(w, txnr);
    }
    send_next(w, "x", 5);
    assert_none_to_send(w);
    free(text);
}

static void memory_is_bounded(void **state)
{
    struct window *w = *state;
    uint32_t txnr = 1;
    size_t taken = 0;
    const char *data;
    char *room;

    /* Many small records. */
    while (window_room(w, &room) > 0)
        add(w, "\n", 1);
    assert_int_equal(w->count, WINDOW_RECORDS);
    assert_false(window_put(w, "", 0));
    while (window_next(w, &data))
        window_sent(w, ++txnr);
    while (txnr > 1)
        assert_int_equal(window_acknowledge(w, txnr--), 0);
    assert_true(window_is_empty(w));

    /* Lines that come faster than they are split. */
    while (window_room(w, &room) > 0) {
        size_t n = window_room(w, &room);

        memset(room, '\n', n);
        window_add(w, n);
        taken += n;
    }
    assert_true(taken <= WINDOW_BYTES);
    while (!window_end_line(w) || w->count > 0) {
        window_sent(w, ++txnr);
        assert_int_equal(window_acknowledge(w, txnr), 0);
        taken--;
    }
    assert_int_equal(taken, 0);

    /* A line without end. */
    while (window_room(w, &room) > 0) {
        memset(room, 'x', window_room(w, &room));
        window_add(w, window_room(w, &room));
    }
    assert_int_equal(w->end - w->begin, WINDOW_BYTES);
    assert_false(window_put(w, "x", 1));
}

/* There is room for the longest record wherever the last one ended. */
static void room_for_long_records(void **state)
{
    struct window *w = *state;
    char *text = calloc(1, RELP_DATA_MAX);

    assert_non_null(text);
    for (uint32_t txnr = 2; txnr < 200; txnr++) {
        assert_true(window_put(w, text, RELP_DATA_MAX - 10000 * (txnr % 7)));
        window_sent(w, txnr);
        assert_int_equal(window_acknowledge(w, txnr), 0);
    }
    free(text);
}

/* The line N of the input of random_traffic(), of LENGTH bytes. */
static void fill_line(char *line, size_t length, uint64_t n)
{
    for (size_t i = 0; i < length; i++)
        line[i] = (char)('a' + (n + i) % 26);
}

/* Random lines, acknowledged in random order with random losses of the connection: each comes once
 * with the first acknowledgement, whole, and what is not acknowledged comes again in order. */
static void random_traffic(void **state)
{
    struct window *w = *state;
    uint64_t added = 0, oldest = 0, next = 0;
    uint32_t txnr = 1;
    static char line[4096];
    static size_t lengths[2 * WINDOW_RECORDS];
    static bool acknowledged[2 * WINDOW_RECORDS];
    static uint64_t number_of[2 * WINDOW_RECORDS]; /* by transaction, on this connection */
    char expected[sizeof(line)];

    for (int round = random_rounds(200000); round > 0; round--) {
        size_t what = random_below(100), length = random_below(sizeof(line));
        const struct window_record *record;
        const char *data;
        char *room;

        if (what < 40 && added - oldest < WINDOW_RECORDS && window_room(w, &room) > length) {
            fill_line(line, length, added);
            line[length] = '\n';
            add(w, line, length + 1);
            lengths[added % ARRAY_SIZE(lengths)] = length;
            acknowledged[added++ % ARRAY_SIZE(lengths)] = false;
        } else if (what < 70 && (record = window_next(w, &data)) && txnr < 2 * WINDOW_RECORDS - 1) {
            while (acknowledged[next % ARRAY_SIZE(lengths)])
                next++;
            assert_int_equal(record->length, lengths[next % ARRAY_SIZE(lengths)]);
            fill_line(expected, record->length, next);
            assert_memory_equal(data, expected, record->length);
            number_of[++txnr] = next++;
            window_sent(w, txnr);
        } else if (what < 99 && txnr > 1) {
            uint32_t t = 2 + (uint32_t)random_below(txnr - 1);
            uint64_t n = number_of[t];
            bool open = n >= oldest && !acknowledged[n % ARRAY_SIZE(lengths)];

            assert_int_equal(window_acknowledge(w, t), open ? 0 : -ENOENT);
            acknowledged[n % ARRAY_SIZE(lengths)] = true;
            while (oldest < added && acknowledged[oldest % ARRAY_SIZE(lengths)])
                oldest++;
            assert_int_equal(w->count, added - oldest);
        } else if (what == 99 || txnr == 2 * WINDOW_RECORDS - 1) {
            window_restart(w);
            txnr = 1;
            next = oldest;
        }
    }
    assert_true(added > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_become_records, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_acknowledgements, setup, teardown),
        cmocka_unit_test_setup_teardown(restart_sends_what_is_not_acknowledged, setup, teardown),
        cmocka_unit_test_setup_teardown(long_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(room_for_long_records, setup, teardown),
        cmocka_unit_test_setup_teardown(random_traffic, setup, teardown),
    };

    random_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
