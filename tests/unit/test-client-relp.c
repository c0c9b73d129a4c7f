/* SPDX-License-Identifier: MIT */
#include "common/util.h"
#include "netd-client/relp.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ID   "0123456789abcdef0123456789abcdef"
#define OPEN "200 OK\nrelp_version=0\nrelp_software=netd,1\ncommands=syslog\nnetd_session=" ID

/* Parses a copy without a NUL, so that the sanitizer detects reads beyond the end. *TEXT becomes
 * the copy, which *RET points into, for free(3). */
static ssize_t parse(struct relp_answer *ret, char **text, const char *from, size_t length)
{
    *text = malloc(length ? length : 1);
    assert_non_null(*text);
    memcpy(*text, from, length);
    return relp_parse(ret, *text, length);
}

static void frames_of_commands(void **state)
{
    static const struct {
        uint32_t txnr;
        const char *command, *data, *frame;
    } rows[] = {
        {1, "open", "relp_version=0\n", "1 open 15 relp_version=0\n\n"},
        {2, "syslog", "one", "2 syslog 3 one\n"},
        {3, "syslog", "", "3 syslog 0\n"},
        {4, "syslog", "a\nb", "4 syslog 3 a\nb\n"},
        {RELP_TXNR_MAX, "close", "", "999999999 close 0\n"},
    };
    char frame[RELP_FRAME_MAX + 64];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        size_t length = strlen(rows[i].data);
        size_t n = relp_write(frame, rows[i].txnr, rows[i].command, rows[i].data, length);

        assert_int_equal(n, strlen(rows[i].frame));
        assert_memory_equal(frame, rows[i].frame, n);
        assert_true(n <= length + RELP_FRAME_MAX);
    }
}

static void numbers_wrap(void **state)
{
    (void)state;
    assert_int_equal(relp_next_txnr(0), 1);
    assert_int_equal(relp_next_txnr(1), 2);
    assert_int_equal(relp_next_txnr(RELP_TXNR_MAX - 1), RELP_TXNR_MAX);
    assert_int_equal(relp_next_txnr(RELP_TXNR_MAX), 1);
}

static void answers(void **state)
{
    static const struct {
        const char *frame;
        enum relp_kind kind;
        uint32_t txnr;
        unsigned status;
        const char *text;
    } rows[] = {
        {"2 rsp 6 200 OK\n", RELP_RSP, 2, 200, "OK"},
        {"2 rsp 3 200\n", RELP_RSP, 2, 200, ""},
        {"2 rsp 4 200 \n", RELP_RSP, 2, 200, ""},
        {"999999999 rsp 16 500 disk is full\n", RELP_RSP, 999999999, 500, "disk is full"},
        {"007 rsp 6 200 OK\n", RELP_RSP, 7, 200, "OK"},
        {"2 rsp 0\n", RELP_RSP, 2, 0, ""},
        {"2 rsp 0 \n", RELP_RSP, 2, 0, ""},
        {"2 rsp 7 200 a\nb\n", RELP_RSP, 2, 200, "a"},
        {"0 serverclose 0\n", RELP_SERVERCLOSE, 0, 0, ""},
        {"0 serverclose 0 \n", RELP_SERVERCLOSE, 0, 0, ""},
        {"0 serverclose 3 bye\n", RELP_SERVERCLOSE, 0, 0, ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        size_t length = strlen(rows[i].frame);
        struct relp_answer a = {0};
        char more[64], *copy;

        for (size_t n = 0; n < length; n++) {
            assert_int_equal(parse(&a, &copy, rows[i].frame, n), 0);
            free(copy);
        }
        assert_int_equal(parse(&a, &copy, rows[i].frame, length), length);
        assert_int_equal(a.kind, rows[i].kind);
        assert_int_equal(a.txnr, rows[i].txnr);
        assert_int_equal(a.status, rows[i].status);
        assert_int_equal(a.text_length, strlen(rows[i].text));
        if (a.text_length > 0)
            assert_memory_equal(a.text, rows[i].text, a.text_length);
        free(copy);
        /* What follows belongs to the next answer. */
        snprintf(more, sizeof(more), "%s3 rsp 6", rows[i].frame);
        assert_int_equal(parse(&a, &copy, more, strlen(more)), length);
        free(copy);
    }
}

static void invalid_answers(void **state)
{
    static const char *const bad[] = {
        "\n",
        " 2 rsp 0\n",
        "-2 rsp 0\n",
        "x rsp 0\n",
        "0000000002 rsp 0\n",
        "0 rsp 6 200 OK\n",
        "2  rsp 0\n",
        "2\trsp 0\n",
        "2 syslog 1 x\n",
        "2 serverclose 0\n",
        "2 RSP 0\n",
        "2 r!p 0\n",
        "2 rsp\n",
        "2 rsp \n",
        "2 rsp x\n",
        "2 rsp 1000000000 ",
        "2 rsp 4096 200",
        "2 rsp 6\n200 OK\n",
        "2 rsp 6 200 OKx",
        "2 rsp 5 200 OK\n",
        "2 rsp 2 20\n",
        "2 rsp 3 20x\n",
        "2 rsp 3 099\n",
        "2 rsp 4 2000\n",
        "2 rsp 2 OK\n",
        "netd error=session-limit\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    struct relp_answer a = {.txnr = 77};
    char *copy;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(parse(&a, &copy, bad[i], strlen(bad[i])), -EBADMSG);
        free(copy);
    }
    assert_int_equal(a.txnr, 77);
}

static void long_answers(void **state)
{
    char *frame = malloc(RELP_ANSWER_MAX + 1);
    struct relp_answer a;
    int n;

    (void)state;
    assert_non_null(frame);
    n = sprintf(frame, "1 rsp %d 200 ", RELP_ANSWER_MAX - 11);
    assert_int_equal(n, 15);
    memset(frame + n, 'x', RELP_ANSWER_MAX - 15);
    frame[RELP_ANSWER_MAX] = '\n';
    assert_int_equal(relp_parse(&a, frame, RELP_ANSWER_MAX + 1), -EBADMSG);
    n = sprintf(frame, "1 rsp %d 200", RELP_ANSWER_MAX - 12);
    frame[n] = ' ';
    frame[RELP_ANSWER_MAX - 1] = '\n';
    assert_int_equal(relp_parse(&a, frame, RELP_ANSWER_MAX - 1), 0);
    assert_int_equal(relp_parse(&a, frame, RELP_ANSWER_MAX), RELP_ANSWER_MAX);
    assert_int_equal(a.text_length, RELP_ANSWER_MAX - 16);
    free(frame);
}

static void offers(void **state)
{
    static const struct {
        const char *data, *name, *value;
    } rows[] = {
        {OPEN, "netd_session", ID},
        {OPEN "\n", "netd_session", ID},
        {OPEN, "relp_version", "0"},
        {OPEN, "session", NULL},
        {OPEN, "netd", NULL},
        {OPEN, "200 OK", NULL},
        {"200 OK\nnetd_session", "netd_session", NULL},
        {"200 OK\nnetd_session=", "netd_session", ""},
        {"200 OK\n\n\nnetd_session=1\n2", "netd_session", "1"},
        {"200 netd_session=1", "netd_session", NULL},
        {"200 OK\n", "netd_session", NULL},
        {"200", "netd_session", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct relp_answer a;
        const char *value;
        char frame[256], *copy;
        size_t length = 0;

        snprintf(frame, sizeof(frame), "1 rsp %zu %s\n", strlen(rows[i].data), rows[i].data);
        assert_true(parse(&a, &copy, frame, strlen(frame)) > 0);
        value = relp_offer(&a, rows[i].name, &length);
        if (rows[i].value) {
            assert_non_null(value);
            assert_int_equal(length, strlen(rows[i].value));
            assert_memory_equal(value, rows[i].value, length);
        } else {
            assert_null(value);
        }
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_commands),
        cmocka_unit_test(numbers_wrap),
        cmocka_unit_test(answers),
        cmocka_unit_test(invalid_answers),
        cmocka_unit_test(long_answers),
        cmocka_unit_test(offers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
