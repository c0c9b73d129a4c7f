/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/metrics.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "table.h"

/* What metrics_print() prints; valid until the next call. */
static const char *printed(void)
{
    static char text[262144];
    FILE *f = fmemopen(text, sizeof(text), "w");

    assert_non_null(f);
    metrics_print(f, table.header);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void expect_line(const char *line)
{
    char whole[512];
    const char *text = printed();

    snprintf(whole, sizeof(whole), "\n%s\n", line);
    if (!strstr(text, whole))
        fail_msg("no line %s in:\n%s", line, text);
}

static int setup_listeners(void **state)
{
    int r = setup(state);

    if (r == 0) {
        table.header->listeners[3].counters = counters_find(&table, "");
        table.header->listeners[3].bound =
            (struct endpoint){.family = AF_INET, .ip = {192, 0, 2, 1}, .port = 514};
    }
    return r;
}

static void counters_are_printed(void **state)
{
    struct counters *c = &table.header->counters[0];

    (void)state;
    c->open = 5;
    c->totals.started = UINT64_MAX;
    c->totals.records = 2;
    c->totals.bytes = 3;
    c->totals.ended[REASON_IDLE] = 4;
    c->totals.ended[REASON_DENIED] = 6;
    c->resent = 7;
    c->unparsed = 8;
    c->relp_acknowledged = 9;
    table.header->worker_starts = 10;
    table.header->buffer_bytes = 11;
    table.header->settings.buffer_memory = 12;
    table.header->wait_clock = 13000014;
    table.header->started_usec = UINT64_C(1795334400000001);
    expect_line("netd_sessions{listener=\"\"} 5");
    expect_line("netd_sessions_started_total{listener=\"\"} 18446744073709551615");
    expect_line("netd_records_total{listener=\"\"} 2");
    expect_line("netd_bytes_total{listener=\"\"} 3");
    expect_line("netd_sessions_ended_total{listener=\"\",reason=\"idle\"} 4");
    expect_line("netd_sessions_ended_total{listener=\"\",reason=\"eof\"} 0");
    expect_line("netd_refused_total{listener=\"\",reason=\"denied\"} 6");
    expect_line("netd_resent_total{listener=\"\"} 7");
    expect_line("netd_unparsed_total{listener=\"\"} 8");
    expect_line("netd_relp_acknowledged_total{listener=\"\"} 9");
    expect_line("netd_worker_starts_total 10");
    expect_line("netd_buffer_bytes 11");
    expect_line("netd_buffer_limit_bytes 12");
    expect_line("netd_journal_wait_seconds_total 13.000014");
    expect_line("netd_start_time_seconds 1795334400.000001");
    expect_line("netd_build_info{version=\"" NETD_VERSION "\"} 1");
    assert_null(strstr(printed(), "reason=\"none\""));
}

/* Counted by netd-tls, with the numbers of the table. */
static void tls_is_printed(void **state)
{
    static struct tls_counters tls;
    struct table_header *h = table.header;
    uint32_t number = counters_find(&table, "secure");

    (void)state;
    tls.listeners[number].handshakes[TLS_COMPLETE] = UINT64_MAX;
    tls.listeners[number].handshakes[TLS_EVICTED] = 2;
    tls.listeners[number].refusals_unreported = 3;
    tls.listeners[number].not_after = 1795334400;
    h->counters[number].totals.ended[REASON_TLS] = 4;
    h->tls.counters_fd = memfd_create("test", MFD_CLOEXEC);
    assert_null(strstr(printed(), "netd_tls_handshakes_total{"));
    assert_int_equal(pwrite(h->tls.counters_fd, &tls, sizeof(tls), 0), sizeof(tls));
    expect_line("netd_refused_total{listener=\"secure\",reason=\"tls\"} 4");
    h->counters[number].tls = true;
    expect_line("netd_tls_handshakes_total{listener=\"secure\",result=\"complete\"} "
                "18446744073709551615");
    expect_line("netd_tls_handshakes_total{listener=\"secure\",result=\"failed\"} 0");
    expect_line("netd_tls_handshakes_total{listener=\"secure\",result=\"evicted\"} 2");
    expect_line("netd_tls_certificate_not_after_seconds{listener=\"secure\"} 1795334400");
    expect_line("netd_refused_total{listener=\"secure\",reason=\"tls\"} 7");
    assert_null(strstr(printed(), "tls_handshakes_total{listener=\"\""));
    close_fd(&h->tls.counters_fd);
}

static void causes_are_named(void **state)
{
    static const struct {
        int error;
        const char *cause;
    } rows[] = {{EAGAIN, "full"},       {ENOENT, "missing"},   {ECONNREFUSED, "missing"},
                {EACCES, "permission"}, {EPERM, "permission"}, {EIO, "error"}};
    char line[128];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        table.header->blocked_errno = 0;
        snprintf(line, sizeof(line), "netd_journal_waiting{cause=\"%s\"} 0", rows[i].cause);
        expect_line(line);
        for (size_t k = 0; k < ARRAY_SIZE(rows); k++) {
            bool same = strcmp(rows[i].cause, rows[k].cause) == 0;

            table.header->blocked_errno = rows[k].error;
            snprintf(line, sizeof(line), "netd_journal_waiting{cause=\"%s\"} %d", rows[i].cause,
                     same);
            expect_line(line);
        }
    }
}

/* Also a path that nobody would choose; and one line for sockets that differ in nothing. */
static void sockets_are_printed(void **state)
{
    struct table_listener *all = table.header->listeners;
    const char *first, *text;

    (void)state;
    all[0] = all[3];
    all[5] = all[3];
    all[5].closing = true;
    all[5].bound.port = 999;
    all[7] = all[3];
    strcpy(all[7].settings.name, "local");
    strcpy(all[7].path, "/run/a\"b\\c\xff");
    all[7].settings.framing = FRAMING_OCTET;
    expect_line("netd_listener_info{listener=\"\",address=\"192.0.2.1:514\",framing=\"line\","
                "format=\"plain\"} 1");
    expect_line("netd_listener_info{listener=\"local\",address=\"/run/a\\\"b\\\\c\\\\xff\","
                "framing=\"octet\",format=\"plain\"} 1");
    text = printed();
    assert_null(strstr(text, ":999"));
    first = strstr(text, "192.0.2.1:514");
    assert_null(strstr(first + 1, "192.0.2.1:514"));
    all[0].fd = all[5].fd = all[7].fd = -1;
}

/* --- The file --- */

static char directory[] = "/tmp/netd-test-metrics-XXXXXX";
static char path[64], fresh[64];

static int setup_directory(void **state)
{
    strcpy(directory, "/tmp/netd-test-metrics-XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof(path), "%s/metrics.prom", directory);
    snprintf(fresh, sizeof(fresh), "%s/metrics.prom.new", directory);
    return setup_listeners(state);
}

static int teardown_directory(void **state)
{
    (void)unlink(path);
    (void)unlink(fresh);
    (void)rmdir(fresh);
    (void)rmdir(directory);
    return teardown(state);
}

static void files_are_replaced(void **state)
{
    CLEANUP(close_fd) int fd = -1;
    struct stat before, after;
    mode_t mask = umask(077);

    (void)state;
    assert_int_equal(metrics_write(directory, table.header), 0);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(before.st_mode, S_IFREG | 0644);
    assert_true(before.st_size > 1000);
    fd = open(path, O_RDONLY | O_CLOEXEC); /* who reads the old one reads all of it */
    assert_int_equal(metrics_write(directory, table.header), 0);
    assert_int_equal(stat(path, &after), 0);
    assert_int_not_equal(after.st_ino, before.st_ino);
    assert_int_equal(fstat(fd, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(access(fresh, F_OK), -1);
    (void)umask(mask);
}

static void failures_leave_the_old_file(void **state)
{
    struct stat before, after;

    (void)state;
    assert_int_equal(metrics_write(directory, table.header), 0);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(symlink("/dev/full", fresh), 0);
    assert_int_equal(metrics_write(directory, table.header), -ELOOP);
    assert_int_equal(mkdir(fresh, 0700), 0);
    assert_int_equal(metrics_write(directory, table.header), -EISDIR);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(metrics_write("/tmp/netd-test-no-such-directory", table.header), -ENOENT);
}

static void directories_come_from_systemd(void **state)
{
    static char longest[2 * PATH_MAX];

    (void)state;
    memset(longest, 'x', sizeof(longest) - 1);
    assert_int_equal(unsetenv("RUNTIME_DIRECTORY"), 0);
    assert_null(metrics_directory());
    assert_int_equal(setenv("RUNTIME_DIRECTORY", "", 1), 0);
    assert_null(metrics_directory());
    assert_int_equal(setenv("RUNTIME_DIRECTORY", longest, 1), 0);
    assert_null(metrics_directory());
    assert_int_equal(setenv("RUNTIME_DIRECTORY", "/run/netd", 1), 0);
    assert_string_equal(metrics_directory(), "/run/netd");
    assert_int_equal(setenv("RUNTIME_DIRECTORY", "/run/a:/run/b", 1), 0);
    assert_string_equal(metrics_directory(), "/run/a");
    assert_int_equal(unsetenv("RUNTIME_DIRECTORY"), 0);
}

#define TEST(f)      cmocka_unit_test_setup_teardown(f, setup_listeners, teardown)
#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup_directory, teardown_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(counters_are_printed),
        TEST(tls_is_printed),
        TEST(causes_are_named),
        TEST(sockets_are_printed),
        FILE_TEST(files_are_replaced),
        FILE_TEST(failures_leave_the_old_file),
        cmocka_unit_test(directories_come_from_systemd),
    };

    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
