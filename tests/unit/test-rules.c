/* SPDX-License-Identifier: MIT */
#include "netd/session/rules.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct table table;

static const struct endpoint inside = {.family = AF_INET, .ip = {192, 0, 2, 1}};
static const struct endpoint outside = {.family = AF_INET, .ip = {198, 51, 100, 1}};

/* 192.0.2.0/24 */
static struct access_rule rule = {
    .network = {.ip = {[10] = 0xff, [11] = 0xff, 192, 0, 2}, .prefix = 120}, .allow = true};

static int setup(void **state)
{
    (void)state;
    return table_create(&table, 4);
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        rules_close(&table.header->listeners[i].rules);
    table_deinit(&table);
    return 0;
}

/* Listener 2 is open, with the rule. */
static struct table_listener *open_listener(void)
{
    struct table_listener *l = &table.header->listeners[2];

    l->fd = STDIN_FILENO; /* any that is open */
    assert_int_equal(rules_make(&l->rules, &rule, 1), 0);
    return l;
}

static void without_rules_everybody_may(void **state)
{
    struct table_rules rules = {.fd = 99};

    (void)state;
    assert_int_equal(rules_make(&rules, NULL, 0), 0);
    assert_int_equal(rules.fd, -1);
    rules_close(&rules);
    assert_int_equal(rules_map(&table), 0);
    assert_true(rules_allow(&table, 2, &inside));
}

static void each_listener_has_its_own(void **state)
{
    const struct table_listener *l = open_listener();

    (void)state;
    assert_int_equal(fcntl(l->rules.fd, F_GETFD), 0); /* a reload hands it over */
    assert_int_equal(rules_map(&table), 0);
    assert_true(rules_allow(&table, 2, &inside));
    assert_false(rules_allow(&table, 2, &outside));
    assert_true(rules_allow(&table, 1, &outside));
}

/* It is what the next program has mapped that it goes by. */
static void another_process_maps_them(void **state)
{
    struct table other;

    (void)state;
    (void)open_listener();
    assert_int_equal(table_open(&other, dup(table.header_fd), dup(table.regions_fd)), 0);
    assert_int_equal(rules_map(&other), 0);
    assert_false(rules_allow(&other, 2, &outside));
    table_deinit(&other);
}

static void damage_is_found(void **state)
{
    struct table_listener *l = open_listener();

    (void)state;
    l->rules.access.ranges++;
    assert_int_equal(rules_map(&table), -EUCLEAN);
    l->rules.access.ranges--;
    close(l->rules.fd);
    assert_int_equal(rules_map(&table), -EUCLEAN);
}

static void contradictions_are_errors(void **state)
{
    struct access_rule rules[] = {rule, rule};
    struct table_rules made = {.fd = 99};

    (void)state;
    rules[1].allow = false;
    assert_int_equal(rules_make(&made, rules, 2), -EINVAL);
    assert_int_equal(made.fd, 99);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_rules_everybody_may), TEST(each_listener_has_its_own),
        TEST(another_process_maps_them),   TEST(damage_is_found),
        TEST(contradictions_are_errors),
    };

    return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
