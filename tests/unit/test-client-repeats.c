/* SPDX-License-Identifier: MIT */
#include "common/util.h"
#include "netd-client/repeats.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A stretch of a session's bytes: RUN as for repeats_add(). */
struct part {
    uint64_t run;
    const char *text;
};

static void add_all(struct repeats *r, const struct part *parts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(repeats_add(r, parts[i].run, parts[i].text, strlen(parts[i].text)), 0);
}

/* What is left of PARTS without their repeats, in memory to free. */
static char *without_repeats(const struct repeats *r, const struct part *parts, size_t count)
{
    char *text = calloc(1, 1 << 20), *end = text;
    uint64_t run = 0, skip = 0;

    assert_non_null(text);
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(parts[i].text), left_out;

        if (parts[i].run != run && parts[i].run > 0)
            skip = repeats_size(r, parts[i].run - 1);
        run = parts[i].run;
        left_out = run > 0 ? (size_t)min_u64(skip, length) : 0;
        skip -= left_out;
        end = stpcpy(end, parts[i].text + left_out);
    }
    return text;
}

#define MAX_PARTS 8

static const struct {
    struct part parts[MAX_PARTS];
    const char *expected;
    uint64_t surplus; /* UINT64_MAX: the session has no end */
    int result;
} rows[] = {
    /* nothing marked */
    {{{0, "one\n"}, {0, "two\n"}}, "one\ntwo\n", 0, 0},
    /* all of the run is a repeat, a part of it, none of it */
    {{{0, "one\ntwo\n"}, {1, "two\n"}, {0, "three\n"}}, "one\ntwo\nthree\n", 4, 0},
    {{{0, "one\ntwo\n"}, {1, "two\nthree\n"}, {0, "four\n"}}, "one\ntwo\nthree\nfour\n", 4, 0},
    {{{0, "one\n"}, {1, "two\n"}, {0, "three\n"}}, "one\ntwo\nthree\n", 0, 0},
    /* the sum decides between sizes that all fit */
    {{{0, "a\na\na\n"}, {1, "a\na\n"}}, "a\na\na\na\na\n", 0, 0},
    {{{0, "a\na\na\n"}, {1, "a\na\n"}}, "a\na\na\na\n", 2, 0},
    {{{0, "a\na\na\n"}, {1, "a\na\n"}}, "a\na\na\n", 4, 0},
    /* without a sum: the longest */
    {{{0, "a\na\na\n"}, {1, "a\na\nb\n"}}, "a\na\na\nb\n", UINT64_MAX, 0},
    /* records cut at another place the second time */
    {{{0, "one\nlong rec"}, {1, "long record\n"}, {0, "x\n"}}, "one\nlong record\nx\n", 8, 0},
    {{{0, "one\nlong rec"}, {0, "ord\n"}, {1, "long"}, {1, " record\n"}},
     "one\nlong record\n",
     12,
     0},
    /* two crashes */
    {{{0, "one\n"}, {1, "one\ntwo\n"}, {0, "three\n"}, {2, "three\nfour\n"}},
     "one\ntwo\nthree\nfour\n",
     10,
     0},
    /* the second one while repeating: from the start again, and from where the first one came to */
    {{{0, "one\ntwo\nthree\n"}, {1, "two\n"}, {2, "two\nthree\nfour\n"}},
     "one\ntwo\nthree\nfour\n",
     14,
     0},
    {{{0, "one\ntwo\nthree\n"}, {1, "two\n"}, {2, "three\nfour\n"}},
     "one\ntwo\nthree\nfour\n",
     10,
     0},
    {{{0, "one\ntwo\nthree\n"}, {1, "two\n"}, {2, "three\nfour\n"}},
     "one\ntwo\nthree\nfour\n",
     UINT64_MAX,
     0},
    /* a new record that was seen further back is no repeat */
    {{{0, "one\ntwo\n"}, {1, "one\n"}}, "one\ntwo\none\n", UINT64_MAX, 0},
    {{{0, "one\ntwo\n"}, {1, "one\n"}, {0, "two\n"}}, "one\ntwo\none\ntwo\n", 0, 0},
    /* the longest fits by chance, the sum tells: the first run is new, the second a repeat */
    {{{0, "x\n\n"}, {1, "\ny\n"}, {0, "abc\n"}, {2, "abc\n"}}, "x\n\n\ny\nabc\n", 4, 0},
    /* nothing fits the sum */
    {{{0, "one\n"}, {1, "two\n"}}, "one\ntwo\n", 3, 1},
    /* empty */
    {{{0, "one\n"}, {1, ""}, {0, "two\n"}, {2, "two\n"}}, "one\ntwo\n", 4, 0},
    {{{1, "one\n"}}, "one\n", 0, 0},
};

static void repeats_are_left_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct repeats *r = repeats_new();
        size_t count = 0;
        char *left;

        assert_non_null(r);
        while (count < MAX_PARTS && rows[i].parts[count].text)
            count++;
        add_all(r, rows[i].parts, count);
        if (repeats_solve(r, rows[i].surplus) != rows[i].result)
            fail_msg("row %zu: the wrong result", i);
        left = without_repeats(r, rows[i].parts, count);
        if (strcmp(left, rows[i].expected) != 0)
            fail_msg("row %zu: '%s' is left", i, left);
        free(left);
        repeats_free(r);
    }
}

/* --- Crashes at random: what is sent again is what was under way, and the next bytes --- */

#define LINES   400
#define CRASHES 6

struct simulation {
    struct part parts[LINES * 4];
    char *texts[LINES * 4];
    size_t count;
    char sent[1 << 16];
    uint64_t surplus;
};

static void emit(struct simulation *sim, uint64_t run, const char *from, size_t length)
{
    char *text = strndup(from, length);

    assert_non_null(text);
    sim->texts[sim->count] = text;
    sim->parts[sim->count++] = (struct part){run, text};
}

/* DISTINCT: how many different lines there are. */
static void simulate(struct simulation *sim, unsigned distinct)
{
    size_t ends[LINES + 1] = {0}, line = 0;
    uint64_t run = 0;
    char *end = sim->sent;

    for (size_t i = 0; i < LINES; i++) {
        end += sprintf(end, "line %ld\n", distinct ? random() % distinct : (long)i);
        ends[i + 1] = (size_t)(end - sim->sent);
    }
    for (size_t crash = 0; crash < CRASHES; crash++) {
        size_t stop = line + (size_t)random() % (LINES / CRASHES), under_way, again;

        for (; line < stop; line++)
            emit(sim, 0, sim->sent + ends[line], ends[line + 1] - ends[line]);
        under_way = line > 0 ? (size_t)random() % min_size(line, 10) : 0;
        again = line - under_way;
        sim->surplus += ends[line] - ends[again];
        run++;
        stop = min_size(line + (size_t)random() % 5, LINES);
        for (; again < stop; again++)
            emit(sim, run, sim->sent + ends[again], ends[again + 1] - ends[again]);
        line = stop;
        if (line < LINES) { /* so that runs are apart */
            emit(sim, 0, sim->sent + ends[line], ends[line + 1] - ends[line]);
            line++;
        }
    }
    for (; line < LINES; line++)
        emit(sim, 0, sim->sent + ends[line], ends[line + 1] - ends[line]);
}

/* Runs without a byte in them exist for nobody: number them as a reader would. */
static void renumber(struct simulation *sim)
{
    uint64_t run = 0, last = 0;

    for (size_t i = 0; i < sim->count; i++) {
        uint64_t was = sim->parts[i].run;

        if (was > 0 && was != last)
            run++;
        last = was;
        sim->parts[i].run = was > 0 ? run : 0;
    }
}

static void check_simulation(unsigned seed, unsigned distinct)
{
    struct simulation *sim = calloc(1, sizeof(*sim));
    struct repeats *r = repeats_new();
    char *left;

    assert_non_null(sim);
    assert_non_null(r);
    srandom(seed);
    simulate(sim, distinct);
    renumber(sim);
    add_all(r, sim->parts, sim->count);
    assert_int_equal(repeats_solve(r, sim->surplus), 0);
    left = without_repeats(r, sim->parts, sim->count);
    if (strcmp(left, sim->sent) != 0)
        fail_msg("seed %u, %u distinct lines: not what was sent", seed, distinct);
    for (size_t i = 0; i < sim->count; i++)
        free(sim->texts[i]);
    free(left);
    free(sim);
    repeats_free(r);
}

static void crashes_at_random_lose_and_repeat_nothing(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 30; seed++) {
        check_simulation(seed, 0);
        check_simulation(seed, 1);
    }
}

/* More than a window before the run, and a run longer than one. */
static void long_sessions_take_no_more_memory(void **state)
{
    size_t size = REPEATS_WINDOW + 1000;
    char *block = malloc(size);
    struct repeats *r = repeats_new();

    (void)state;
    assert_non_null(block);
    assert_non_null(r);
    srandom(1);
    for (size_t i = 0; i < size; i++)
        block[i] = (char)random();
    for (int i = 0; i < 10; i++)
        assert_int_equal(repeats_add(r, 0, block, size), 0);
    for (size_t i = 0; i < size; i += 500)
        assert_int_equal(repeats_add(r, 1, block + i, min_size(500, size - i)), 0);
    assert_int_equal(repeats_add(r, 0, block, 100), 0);
    assert_int_equal(repeats_add(r, 2, block, 100), 0);
    assert_int_equal(repeats_solve(r, 100), 0);
    assert_int_equal(repeats_size(r, 0), 0);
    assert_int_equal(repeats_size(r, 1), 100);
    assert_int_equal(repeats_size(r, 2), 0);
    repeats_free(r);
    free(block);
}

/* --- Without memory --- */

/* How many of them work before they fail; -1: all. */
static int allocations = -1;

void *__real_reallocarray(void *pointer, size_t count, size_t size);
void *__wrap_reallocarray(void *pointer, size_t count, size_t size);
void *__wrap_reallocarray(void *pointer, size_t count, size_t size)
{
    if (allocations == 0)
        return NULL;
    allocations -= allocations > 0;
    return __real_reallocarray(pointer, count, size);
}

/* Runs that end, that are cut short, that are longer than a window. */
static int take_in(struct repeats *r)
{
    static char block[REPEATS_WINDOW];
    int status = repeats_add(r, 0, "one\ntwo\n", 8);

    for (uint64_t run = 1; status == 0 && run <= 9; run++)
        status = repeats_add(r, run, "two\n", 4);
    if (status == 0)
        status = repeats_add(r, 10, block, sizeof(block));
    if (status == 0)
        status = repeats_add(r, 11, "two\n", 4);
    return status == 0 ? repeats_solve(r, UINT64_MAX) : status;
}

static void missing_memory_is_an_error(void **state)
{
    int status = -ENOMEM;
    int failures = 0;

    (void)state;
    for (; status == -ENOMEM; failures++) {
        struct repeats *r = repeats_new();

        assert_non_null(r);
        allocations = failures;
        status = take_in(r);
        allocations = -1;
        repeats_free(r);
    }
    assert_int_equal(status, 0);
    assert_true(failures > 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeats_are_left_out),
        cmocka_unit_test(crashes_at_random_lose_and_repeat_nothing),
        cmocka_unit_test(long_sessions_take_no_more_memory),
        cmocka_unit_test(missing_memory_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
