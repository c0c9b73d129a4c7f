/* SPDX-License-Identifier: MIT */
#include "netd-client/sample.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"

static struct sample sample;
static char line[256];

static int parse(const char *text)
{
    snprintf(line, sizeof(line), "%s", text);
    return sample_parse(line, &sample);
}

static void samples_are_parsed(void **state)
{
    (void)state;
    assert_int_equal(parse("netd_records_total 17\n"), 1);
    assert_string_equal(sample.name, "netd_records_total");
    assert_string_equal(sample.value, "17");
    assert_int_equal(sample.n_labels, 0);
    assert_null(sample_label(&sample, "listener"));

    assert_int_equal(parse("a{listener=\"\",path=\"/a b\\\\x\\\"y\\n,}=\"} 1.5e+3"), 1);
    assert_string_equal(sample.name, "a");
    assert_string_equal(sample.value, "1.5e+3");
    assert_int_equal(sample.n_labels, 2);
    assert_string_equal(sample_label(&sample, "listener"), "");
    assert_string_equal(sample_label(&sample, "path"), "/a b\\x\"y\n,}=");
    assert_null(sample_label(&sample, "pat"));
}

static void comments_are_skipped(void **state)
{
    static const char *const rows[] = {"", "\n", "# HELP a b\n", "#"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(parse(rows[i]), 0);
}

static void other_lines_are_refused(void **state)
{
    static const char *const rows[] = {
        " ",
        "a",
        "a ",
        "a x",
        "a 1 1795334400",
        "a{",
        "a{}",
        "a{} 1",
        "a{b",
        "a{b=",
        "a{b=\"",
        "a{b=\"c",
        "a{b=\"c\\",
        "a{b=\"c\"",
        "a{b=\"c\"}",
        "a{b=\"c\"}1",
        "a{b=\"c\"} ",
        "a{b=\"c\",} 1",
        "a{b='c'} 1",
        "{b=\"c\"} 1",
        "a{a=\"\",b=\"\",c=\"\",d=\"\",e=\"\",f=\"\",g=\"\",h=\"\",i=\"\"} 1",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (parse(rows[i]) != -EINVAL)
            fail_msg("%s", rows[i]);
    /* Eight labels are not too many. */
    assert_int_equal(parse("a{a=\"\",b=\"\",c=\"\",d=\"\",e=\"\",f=\"\",g=\"\",h=\"\"} 1"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_parsed),
        cmocka_unit_test(comments_are_skipped),
        cmocka_unit_test(other_lines_are_refused),
    };

    return cmocka_run_group_tests_name("sample", tests, NULL, NULL);
}
