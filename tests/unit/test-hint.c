/* SPDX-License-Identifier: MIT */
#include "netd/worker/hint.h"

#include "common/util.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "logged.h"

static struct hints hints;
static struct table_listener listener;
static struct session session;

static void set_address(struct endpoint *e, uint16_t port)
{
    struct sockaddr_storage sa = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&sa;

    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    endpoint_from_sockaddr(e, &sa, sizeof(*in));
}

static int setup(void **state)
{
    (void)state;
    memset(&hints, 0, sizeof(hints));
    listener = (struct table_listener){0};
    session = (struct session){.framing = FRAMING_LINE};
    set_address(&listener.bound, 3000);
    set_address(&session.peer, 40000);
    logged_begin();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    logged_end();
    return 0;
}

static bool check(const char *data, size_t length, uint64_t now)
{
    return hints_check(&hints, &listener, &session, (const uint8_t *)data, length, now);
}

#define CHECK(text, now) check(text, sizeof(text) - 1, now)

static void warnings_name_client_and_remedy(void **state)
{
    (void)state;
    assert_true(CHECK("11 <13>message", 1));
    expect_log("netd: 127.0.0.1:3000: a client (127.0.0.1:40000) seems to send syslog with octet "
               "counting; set format = \"syslog\" or framing = \"octet\"\n");
    strcpy(listener.path, "/run/netd/input");
    session = (struct session){.listener = 1};
    session.peer.family = AF_UNIX;
    assert_true(CHECK("<13>message\0", 1));
    expect_log("netd: /run/netd/input: a client (unix) seems to send syslog messages that end with "
               "NUL; set framing = \"nul\"\n");
}

static void ordinary_text_has_none(void **state)
{
    (void)state;
    assert_false(CHECK("<13>message\n", 1));
    assert_false(CHECK("", 1));
    session.framing = FRAMING_OCTET;
    assert_false(CHECK("11 <13>message", 1));
    expect_log("");
}

static void headers_are_looked_at_by_the_listener(void **state)
{
    (void)state;
    assert_true(CHECK("PROXY UNKNOWN\r\n", 1));
    expect_log(
        "netd: 127.0.0.1:3000: a client (127.0.0.1:40000) seems to send a PROXY header; use a "
        "listener with proxy = true\n");
    listener.settings.proxy = true;
    assert_false(CHECK("PROXY UNKNOWN\r\n", 1 + HINT_USEC));
    assert_true(hints_bad_header(&hints, &listener, &session, "too short", 1 + HINT_USEC));
    expect_log("netd: 127.0.0.1:3000: a client (127.0.0.1:40000) sent no valid PROXY header: too "
               "short\n");
    assert_false(hints_bad_header(&hints, &listener, &session, "too short", 2 + HINT_USEC));
}

/* Whatever the client sends, and however often. */
static void one_a_minute_and_listener(void **state)
{
    const uint64_t minute = HINT_USEC, begin = 5;
    unsigned warnings = 0;

    (void)state;
    for (uint64_t t = begin; t < begin + 10 * minute; t += USEC_PER_SEC)
        warnings += t / USEC_PER_SEC % 2 ? CHECK("11 <13>message", t) : CHECK("<13>message\0", t);
    assert_int_equal(warnings, 10);

    memset(&hints, 0, sizeof(hints));
    assert_true(CHECK("11 <13>message", begin));
    assert_false(CHECK("11 <13>message", begin + minute - 1));
    assert_false(CHECK("\x16\x03\x01\x02\x00\x01", begin + minute - 1));
    session.listener = LISTENERS_MAX - 1;
    assert_true(CHECK("11 <13>message", begin + minute - 1));
    assert_false(CHECK("11 <13>message", begin + minute));
    session.listener = 0;
    assert_true(CHECK("11 <13>message", begin + minute));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(warnings_name_client_and_remedy, setup, teardown),
        cmocka_unit_test_setup_teardown(ordinary_text_has_none, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_are_looked_at_by_the_listener, setup, teardown),
        cmocka_unit_test_setup_teardown(one_a_minute_and_listener, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
