/* SPDX-License-Identifier: MIT */
#include "netd/session/recovery.h"
#include "netd/session/rules.h"
#include "netd/worker/admission.h"

#include "common/names.h"
#include "common/util.h"
#include "netd/worker/listener.h"
#include "netd/worker/refusals.h"

#include "entry.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <syslog.h>

#include <cmocka.h>

#include "journald.h"
#include "proxy.h"
#include "random.h"

#define CLIENTS_MAX 80 /* more than are found ready in one round */
#define PAGE        ((size_t)4096)

/* What the journal has of a session. */
struct history {
    char id[33];
    struct joined stream;
    unsigned connects, ends, refusals;
    char reason[16], error[16];
};

/* A worker without its event loop, its clients, and a stand-in for journald. */
static struct {
    struct table table;
    struct scheduler *scheduler;
    struct journald journald;
    int fds[CLIENTS_MAX]; /* the clients' ends */
    struct history histories[CLIENTS_MAX];
    size_t histories_count;
} rig;

static struct listener_config config;

/* The errno with which the next call of recvmmsg(2) fails, once. */
static int receive_error;

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    if (receive_error != 0) {
        errno = receive_error;
        receive_error = 0;
        return -1;
    }
    return (int)syscall(SYS_recvmmsg, fd, messages, count, flags, timeout);
}

static int setup(void **state)
{
    struct listener_endpoints endpoints;
    char error[LISTENER_ERROR_MAX];

    (void)state;
    memset(&rig, 0, sizeof(rig));
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        rig.fds[i] = -1;
    config = (struct listener_config){
        .address = {.host = "127.0.0.1"},
        .settings = {.max_record = MAX_RECORD_HIGH,
                     .priority = LOG_INFO,
                     .receipt = true,
                     .sessions_max = CLIENTS_MAX},
    };
    journald_init(&rig.journald);
    journald_open(&rig.journald);
    assert_int_equal(table_create(&rig.table, CLIENTS_MAX), 0);
    assert_int_equal(listener_resolve(&config, true, &endpoints, error), 0);
    assert_int_equal(listeners_configure(&rig.table, &config, NULL, &endpoints, 1, error), 0);
    rig.table.header->settings.sessions_max = CLIENTS_MAX;
    rig.table.header->settings.buffer_memory = CLIENTS_MAX * REGION_SIZE;
    assert_int_equal(table_attach(&rig.table), 0);
    rig.scheduler = calloc(1, sizeof(*rig.scheduler));
    assert_non_null(rig.scheduler);
    assert_int_equal(scheduler_init(rig.scheduler, &rig.table, OUTPUT_JOURNAL, rig.journald.path),
                     0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < rig.table.header->used; i++)
        if (rig.table.sessions[i].state != SESSION_FREE)
            close_fd(&rig.table.sessions[i].fd);
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        close_fd(&rig.table.header->listeners[i].fd);
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        close_fd(&rig.fds[i]);
        free(rig.histories[i].stream.bytes);
    }
    scheduler_deinit(rig.scheduler);
    free(rig.scheduler);
    table_deinit(&rig.table);
    journald_deinit(&rig.journald);
    return 0;
}

static void arrived(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&p, 1, -1), 1);
}

static struct sockaddr_in listening(uint32_t listener)
{
    struct sockaddr_in sa;
    socklen_t length = sizeof(sa);

    assert_int_equal(
        getsockname(rig.table.header->listeners[listener].fd, (struct sockaddr *)&sa, &length), 0);
    return sa;
}

/* Client I connects, and is not accepted yet. */
static void client_connects(size_t i, uint32_t listener)
{
    struct sockaddr_in sa = listening(listener);

    rig.fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(rig.fds[i], (struct sockaddr *)&sa, sizeof(sa)), 0);
    arrived(rig.table.header->listeners[listener].fd);
}

/* Client I connects and is admitted; it has the session of that number where none was freed. */
static void admit_client(size_t i)
{
    client_connects(i, 0);
    assert_int_equal(admission_accept(rig.scheduler, 0, 1), 0);
}

static void admit_client_at(size_t i, uint32_t listener)
{
    client_connects(i, listener);
    assert_int_equal(admission_accept(rig.scheduler, listener, 1), 0);
}

/* Listener 1, beside 0. */
static void open_second_listener(void)
{
    static struct listener_config configs[2];
    static struct listener_endpoints endpoints[2];
    char error[LISTENER_ERROR_MAX];

    for (size_t i = 0; i < 2; i++) {
        configs[i] = (struct listener_config){
            .address = {.host = "127.0.0.1"},
            .settings = rig.table.header->listeners[0].settings,
        };
        assert_int_equal(listener_resolve(&configs[i], true, &endpoints[i], error), 0);
    }
    strcpy(configs[1].settings.name, "second");
    assert_int_equal(listeners_configure(&rig.table, configs, NULL, endpoints, 2, error), 0);
    assert_true(rig.table.header->listeners[1].fd >= 0);
}

/* The session that client I has, or NULL. */
static struct session *session_of(size_t i)
{
    struct sockaddr_in sa;
    socklen_t length = sizeof(sa);

    assert_int_equal(getsockname(rig.fds[i], (struct sockaddr *)&sa, &length), 0);
    for (uint32_t n = 0; n < rig.table.header->used; n++)
        if (rig.table.sessions[n].state != SESSION_FREE &&
            rig.table.sessions[n].peer.port == ntohs(sa.sin_port))
            return &rig.table.sessions[n];
    return NULL;
}

static void client_sends(size_t i, const void *data, size_t length)
{
    assert_int_equal(send(rig.fds[i], data, length, MSG_NOSIGNAL), length);
    arrived(session_of(i)->fd);
    scheduler_find_ready(rig.scheduler);
    scheduler_run(rig.scheduler);
}

/* All that client I hears, up to its end. */
static void expect_answer(size_t i, const char *expected)
{
    char heard[256];
    size_t length = 0;
    ssize_t n;

    while ((n = recv(rig.fds[i], heard + length, sizeof(heard) - 1 - length, 0)) > 0)
        length += (size_t)n;
    assert_int_equal(n, 0);
    heard[length] = '\0';
    assert_string_equal(heard, expected);
}

static struct history *history_of(const struct field *id)
{
    struct history *s = rig.histories;

    assert_int_equal(id->length, 32);
    for (; s < rig.histories + rig.histories_count; s++)
        if (memcmp(s->id, id->value, 32) == 0)
            return s;
    assert_true(rig.histories_count++ < CLIENTS_MAX);
    memcpy(s->id, id->value, 32);
    return s;
}

static void copy_field(char ret[static 16], const struct field *field)
{
    assert_true(!field || field->length < 16);
    snprintf(ret, 16, "%.*s", field ? (int)field->length : 0,
             field ? (const char *)field->value : "");
}

static void read_sink(void)
{
    while (journald_take(&rig.journald)) {
        struct fields f;
        struct history *s;

        assert_int_equal(entry_parse(&f, rig.journald.data, rig.journald.length, false),
                         rig.journald.length);
        s = history_of(fields_find(&f, "NETD_SESSION_ID"));
        assert_int_equal(s->ends + s->refusals, 0);
        if (fields_are(&f, "NETD_EVENT", "data")) {
            assert_int_equal(s->connects, 1);
            assert_true(joined_add(&s->stream, &f));
            continue;
        }
        s->connects += fields_are(&f, "NETD_EVENT", "connect");
        s->refusals += fields_are(&f, "NETD_EVENT", "refused");
        s->ends += fields_are(&f, "NETD_EVENT", "disconnect");
        copy_field(s->reason, fields_find(&f, "NETD_REASON"));
        copy_field(s->error, fields_find(&f, "ERRNO"));
    }
}

/* Runs until nothing is left to do before more bytes arrive. */
static void settle(void)
{
    do {
        read_sink();
        if (scheduler_is_blocked(rig.scheduler))
            scheduler_retry(rig.scheduler);
        scheduler_run(rig.scheduler);
        scheduler_find_ready(rig.scheduler);
    } while (scheduler_is_blocked(rig.scheduler) || scheduler_has_work(rig.scheduler));
    read_sink();
}

/* The journal takes all that waits, and no more. */
static void journal_takes_all(void)
{
    do {
        while (journald_take(&rig.journald))
            ;
        scheduler_retry(rig.scheduler);
    } while (scheduler_is_blocked(rig.scheduler));
}

static bool is_within_memory(void)
{
    return rig.table.resident_bytes <= rig.table.header->settings.buffer_memory;
}

/* The worker starts anew: what it had is in the table. */
static void restart_worker(void)
{
    struct table table;

    scheduler_deinit(rig.scheduler);
    assert_int_equal(table_open(&table, dup(rig.table.header_fd), dup(rig.table.regions_fd)), 0);
    table_deinit(&rig.table);
    rig.table = table;
    assert_int_equal(table_attach(&rig.table), 0);
    assert_int_equal(recovery_run(&rig.table), 0);
    assert_int_equal(scheduler_init(rig.scheduler, &rig.table, OUTPUT_JOURNAL, rig.journald.path),
                     0);
    admission_adopt(rig.scheduler, NO_UNCLAIMED);
}

static void restart(void)
{
    restart_worker();
    settle();
}

/* --- Hints --- */

/* Looked at once: the first bytes that a session receives, whether or not they are a record. */
static void only_first_bytes_are_looked_at(void **state)
{
    const uint64_t *next_usec = rig.scheduler->hints.next_usec;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        admit_client(i);
    settle();
    client_sends(0, "text", 4);
    settle();
    client_sends(0, "11 <13>message", 14);
    settle();
    client_sends(1, "text\n", 5);
    settle();
    client_sends(1, "11 <13>message", 14);
    settle();
    assert_int_equal(next_usec[0], 0);
    client_sends(2, "11 <13>message", 14);
    settle();
    assert_int_not_equal(next_usec[0], 0);
}

/* --- Memory --- */

/* Over the limit the longest unfinished record is logged as it is, not the latest one. */
static void longest_records_are_cut(void **state)
{
    static char data[30000];

    (void)state;
    memset(data, 'x', sizeof(data));
    rig.table.header->settings.buffer_memory = 16 * PAGE;
    for (size_t i = 0; i < 3; i++)
        admit_client(i);
    settle();
    client_sends(0, data, 2 * PAGE);
    client_sends(1, data, sizeof(data));
    settle();
    assert_int_equal(rig.histories[0].stream.length + rig.histories[1].stream.length, 0);
    client_sends(2, data, 7 * PAGE);
    settle();
    assert_true(is_within_memory());
    assert_int_equal(rig.histories[0].stream.length, 0);
    assert_int_equal(rig.histories[1].stream.length, sizeof(data));
    assert_true(rig.histories[1].stream.continued);
    assert_int_equal(rig.histories[2].stream.length, 0);

    client_sends(1, "end\n", 4);
    settle();
    assert_int_equal(rig.histories[1].stream.records, 1);
    assert_int_equal(rig.histories[1].stream.length, sizeof(data) + 4);
}

/* A session that waits for its next turn has whole records; they are logged first. */
static void whole_records_are_logged_before_cuts(void **state)
{
    static char data[2 * TURN_RECORDS];

    (void)state;
    memset(data, '\n', sizeof(data));
    rig.table.header->settings.buffer_memory = 0;
    admit_client(0);
    settle();
    client_sends(0, data, sizeof(data));
    settle();
    assert_int_equal(rig.histories[0].stream.records, sizeof(data));
    assert_false(rig.histories[0].stream.continued);
    assert_int_equal(rig.table.resident_bytes, 0);
}

/* When whole records of busy clients fill the memory they are not logged out of turn: a client with
 * little to log would wait until the last of them is. */
static void reclaiming_memory_keeps_the_order(void **state)
{
    static char data[READ_MAX];

    (void)state;
    memset(data, '\n', sizeof(data));
    rig.table.header->settings.buffer_memory = 4 * sizeof(data);
    for (size_t i = 0; i < 8; i++)
        admit_client(i);
    settle();
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(send(rig.fds[i], data, sizeof(data), MSG_NOSIGNAL), sizeof(data));
    client_sends(7, "polite\n", 7);
    for (size_t i = 0; i < 8; i++) {
        journal_takes_all();
        scheduler_find_ready(rig.scheduler);
        scheduler_run(rig.scheduler);
    }
    assert_int_equal(rig.table.sessions[7].records, 1);
    assert_in_range(counters_records(rig.table.header), 1, (size_t)8 * 9 * TURN_RECORDS);
    assert_in_range(rig.table.resident_bytes, 1,
                    rig.table.header->settings.buffer_memory + 8 * PAGE);
}

/* What may be half a line end cannot be logged, and takes its page whatever the limit is. */
static void half_a_line_end_stays(void **state)
{
    (void)state;
    rig.table.header->settings.buffer_memory = 0;
    admit_client(0);
    settle();
    client_sends(0, "one\r", 4);
    settle();
    assert_int_equal(rig.histories[0].stream.length, 3);
    assert_int_equal(rig.table.resident_bytes, PAGE);
    client_sends(0, "\n", 1);
    settle();
    assert_int_equal(rig.histories[0].stream.records, 1);
    assert_memory_equal(rig.histories[0].stream.bytes, "one\r\n", 5);
    assert_int_equal(rig.table.resident_bytes, 0);
}

/* Nor does it keep the pages of what was logged in front of it. */
static void half_a_line_end_keeps_one_page(void **state)
{
    static char data[5 * PAGE];

    (void)state;
    memset(data, 'x', sizeof(data));
    data[sizeof(data) - 1] = '\r';
    rig.table.header->settings.buffer_memory = 2 * PAGE;
    for (size_t i = 0; i < 2; i++) {
        admit_client(i);
        client_sends(i, data, sizeof(data));
        settle();
    }
    assert_true(is_within_memory());
    for (size_t i = 0; i < 2; i++) {
        client_sends(i, "\n", 1);
        settle();
        assert_int_equal(rig.histories[i].stream.records, 1);
        assert_int_equal(rig.histories[i].stream.length, sizeof(data) + 1);
        assert_int_equal(rig.histories[i].stream.bytes[sizeof(data) - 1], '\r');
    }
}

/* The journal goes away while memory is taken back: it is taken when the journal is there again. */
static void cuts_wait_for_the_journal(void **state)
{
    static char data[3 * PAGE];

    (void)state;
    memset(data, 'x', sizeof(data));
    admit_client(0);
    settle();
    rig.table.header->settings.buffer_memory = 0;
    journald_close(&rig.journald);
    client_sends(0, data, sizeof(data));
    assert_true(scheduler_is_blocked(rig.scheduler));
    assert_false(is_within_memory());
    journald_open(&rig.journald);
    settle();
    assert_true(is_within_memory());
    assert_int_equal(rig.histories[0].stream.length, sizeof(data));
    assert_true(rig.histories[0].stream.continued);
}

/* What the journal was too slow for to be logged at once is given back when it has been. */
static void memory_comes_back_after_a_stall(void **state)
{
    static char data[3 * PAGE];
    const struct session *s = rig.table.sessions;

    (void)state;
    memset(data, 'x', sizeof(data));
    data[sizeof(data) - 1] = '\n';
    admit_client(0);
    settle();
    journald_close(&rig.journald);
    client_sends(0, data, sizeof(data));
    scheduler_tick(rig.scheduler, s->active_usec + 2 * USEC_PER_SEC);
    assert_true(scheduler_is_blocked(rig.scheduler));
    assert_int_equal(rig.table.resident_bytes, sizeof(data));
    journald_open(&rig.journald);
    settle();
    scheduler_tick(rig.scheduler, s->active_usec + 4 * USEC_PER_SEC);
    assert_int_equal(rig.table.resident_bytes, 0);
    assert_int_equal(rig.histories[0].stream.records, 1);
}

/* --- Turns --- */

/* Every client sends what fits: lines of LENGTH bytes. */
static void clients_send_what_fits(size_t count, size_t length)
{
    static char lines[READ_MAX];
    size_t size = sizeof(lines) / length * length;

    memset(lines, 'x', size);
    for (size_t i = length - 1; i < size; i += length)
        lines[i] = '\n';
    for (size_t i = 0; i < count; i++)
        while (send(rig.fds[i], lines, size, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            ;
}

/* A session that is ready first when the journal is full does not get the others' share. */
static void check_shares(size_t count, size_t length)
{
    uint64_t least = UINT64_MAX, most = 0;

    for (size_t i = 0; i < count; i++)
        admit_client(i);
    for (size_t i = count * (size_t)(1 + random_rounds(9)); i > 0; i--) {
        clients_send_what_fits(count, length);
        scheduler_find_ready(rig.scheduler);
        scheduler_run(rig.scheduler);
        journal_takes_all();
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t records = rig.table.sessions[i].records;

        least = min_u64(least, records);
        most = records > most ? records : most;
    }
    assert_true(most <= 2 * least);
}

static void shares_are_alike_at_a_slow_journal(void **state)
{
    (void)state;
    check_shares(10, 300); /* less than a turn to a read */
}

static void shares_of_many_are_alike(void **state)
{
    (void)state;
    check_shares((size_t)random_rounds(CLIENTS_MAX), 300);
}

/* Two turns fill the batch: the third one must not be the one that gets nothing each time. */
static void interrupted_turns_come_first(void **state)
{
    (void)state;
    assert_int_equal(BATCH_MAX, 2 * TURN_RECORDS);
    check_shares(3, 10);
}

/* --- Admission --- */

/* A session that only lingers makes room for a new one. */
static void lingering_clients_make_room(void **state)
{
    (void)state;
    rig.table.header->capacity = 2;
    rig.table.header->listeners[0].settings.sessions_max = 1;
    admit_client(0);
    admit_client(1);
    settle();
    assert_int_equal(rig.scheduler->sessions, 2);
    admit_client(2);
    settle();
    assert_int_equal(rig.scheduler->sessions, 2);
    assert_int_equal(rig.table.header->open, 1);
    expect_answer(1, "netd error=session-limit\n");
    expect_answer(2, "netd error=session-limit\n");
    client_sends(0, "served\n", 7);
    settle();
    assert_int_equal(rig.histories[0].stream.records, 1);
    assert_int_equal(rig.histories[1].refusals + rig.histories[2].refusals, 2);
}

/* The limit of all, then that of one listener. */
static void a_listener_has_a_limit_of_its_own(void **state)
{
    (void)state;
    open_second_listener();
    rig.table.header->settings.sessions_max = 3;
    rig.table.header->listeners[1].settings.sessions_max = 1;
    admit_client_at(0, 1);
    admit_client_at(1, 1);
    settle();
    expect_answer(1, "netd error=session-limit\n");
    admit_client(2);
    admit_client(3);
    admit_client(4);
    settle();
    assert_int_equal(rig.table.header->open, 3);
    expect_answer(4, "netd error=session-limit\n");
    client_sends(0, "served\n", 7);
    shutdown(rig.fds[0], SHUT_WR);
    settle();
    assert_int_equal(rig.table.header->open, 2);
    admit_client_at(5, 1); /* whose place it takes */
    settle();
    assert_int_equal(rig.table.header->open, 3);
}

static void addresses_that_are_denied(void **state)
{
    struct table_listener *l = &rig.table.header->listeners[0];
    struct access_rule rules[] = {
        {.network = {.ip = {[10] = 0xff, [11] = 0xff, 127}, .prefix = 128 - 24}}};

    (void)state;
    for (int i = 0; i < 2; i++) {
        rules[0].allow = i == 1;
        rules_close(&l->rules);
        assert_int_equal(rules_make(&l->rules, rules, 1), 0);
        assert_int_equal(rules_map(&rig.table), 0);
        admit_client((size_t)i);
        settle();
        rules_unmap(&rig.table);
    }
    assert_int_equal(rig.table.header->open, 1);
    expect_answer(0, "netd error=denied\n");
    assert_int_equal(rig.histories[0].refusals, 1);
    rules_close(&l->rules);
}

/* Beyond the limit a refused client is told so, and has no event. */
static void a_flood_of_refusals_is_not_logged(void **state)
{
    struct table_refusals *refusals = &rig.table.header->listeners[0].refusals;
    uint64_t due;

    (void)state;
    rig.table.header->listeners[0].settings.sessions_max = 1;
    admit_client(0);
    refusals->arrival_usec = now_usec(CLOCK_MONOTONIC) + (REFUSALS_BURST - 2) * REFUSALS_INTERVAL;
    for (size_t i = 1; i < 20; i++)
        admit_client(i);
    settle();
    for (size_t i = 1; i < 20; i++)
        expect_answer(i, "netd error=session-limit\n");
    for (size_t i = 0; i < rig.histories_count; i++)
        assert_int_equal(rig.histories[i].refusals, i > 0);
    assert_int_equal(rig.histories_count - 1 + refusals->suppressed, 19);
    assert_true(rig.histories_count - 1 >= 2 && refusals->suppressed > 0);
    assert_int_equal(rig.table.header->counters[0].totals.ended[REASON_SESSION_LIMIT], 19);
    assert_int_equal(rig.table.header->counters[0].totals.started, 1);
    assert_int_equal(rig.table.header->counters[0].open, 1);

    /* The next worker still has it to report. */
    restart();
    refusals = &rig.table.header->listeners[0].refusals;
    assert_int_equal(rig.table.header->counters[0].totals.ended[REASON_SESSION_LIMIT], 19);
    due = rig.scheduler->refusals_due;
    assert_int_equal(due, refusals->report_usec);
    assert_true(scheduler_next_due(rig.scheduler) <= due);
    scheduler_tick(rig.scheduler, due - 1);
    assert_true(refusals->suppressed > 0);
    scheduler_tick(rig.scheduler, due);
    assert_int_equal(refusals->suppressed, 0);
    assert_int_equal(rig.scheduler->refusals_due, UINT64_MAX);
}

/* A worker that dies before a client whose refusal is not logged has its answer. */
static void refusals_that_are_not_logged_are_adopted(void **state)
{
    struct session *s;

    (void)state;
    rig.table.header->listeners[0].settings.sessions_max = 0;
    admit_client(0);
    s = session_of(0);
    s->end_taken = true; /* as if it had been above the limit */
    restart();
    expect_answer(0, "netd error=session-limit\n");
    assert_int_equal(rig.histories_count, 0);
}

/* A refused connection that has not had its turn yet does so after it. */
static void refused_clients_make_room(void **state)
{
    (void)state;
    rig.table.header->capacity = 2;
    rig.table.header->listeners[0].settings.sessions_max = 1;
    for (size_t i = 0; i < 3; i++)
        client_connects(i, 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(admission_accept(rig.scheduler, 0, 3), 0);
        settle();
    }
    expect_answer(1, "netd error=session-limit\n");
    expect_answer(2, "netd error=session-limit\n");
}

/* Where no session can make room the connection is closed, and does not hang. */
static void connections_without_room_are_closed(void **state)
{
    (void)state;
    rig.table.header->capacity = 1;
    admit_client(0);
    settle();
    admit_client(1);
    settle();
    assert_int_equal(rig.scheduler->sessions, 1);
    expect_answer(1, "");
}

static void descriptors_are_kept_back(void **state)
{
    (void)state;
    rig.scheduler->descriptors_max = 1;
    admit_client(0);
    client_connects(1, 0);
    assert_int_equal(admission_accept(rig.scheduler, 0, 1), -EMFILE);
    assert_int_equal(rig.scheduler->sessions, 1);
    rig.scheduler->descriptors_max = 2;
    assert_int_equal(admission_accept(rig.scheduler, 0, 1), 0);
    assert_int_equal(rig.scheduler->sessions, 2);
}

/* Watching a session costs more than reading all that it has. */
static void short_sessions_are_not_watched(void **state)
{
    const struct session *s = rig.table.sessions;
    char receipt[RECEIPT_MAX];

    (void)state;
    client_connects(0, 0);
    assert_int_equal(send(rig.fds[0], "one\n", 4, 0), 4);
    assert_int_equal(shutdown(rig.fds[0], SHUT_WR), 0);
    assert_int_equal(admission_accept(rig.scheduler, 0, 1), 0);
    while (scheduler_has_work(rig.scheduler)) {
        scheduler_run(rig.scheduler);
        assert_false(s->watched);
    }
    settle();
    snprintf(receipt, sizeof(receipt), RECEIPT_FORMAT, rig.histories[0].id, UINT64_C(1),
             UINT64_C(4), "eof");
    expect_answer(0, receipt);
}

static void silent_sessions_are_watched(void **state)
{
    const struct session *s = rig.table.sessions;

    (void)state;
    admit_client(0);
    client_sends(0, "one\n", 4);
    settle();
    assert_true(s->watched);
    assert_false(scheduler_has_work(rig.scheduler));
    assert_int_equal(send(rig.fds[0], "two\n", 4, 0), 4);
    arrived(rig.scheduler->epoll);
    settle();
    assert_int_equal(rig.histories[0].stream.records, 2);
}

static void sessions_that_cannot_be_watched_end(void **state)
{
    (void)state;
    admit_client(0);
    close_fd(&rig.scheduler->epoll);
    scheduler_run(rig.scheduler);
    scheduler_run(rig.scheduler);
    settle();
    assert_string_equal(rig.histories[0].reason, "error");
    assert_int_equal(atoi(rig.histories[0].error), EBADF);
}

/* --- Time --- */

static void unread_bytes_prevent_idle_timeout(void **state)
{
    const struct session *s = rig.table.sessions;

    (void)state;
    rig.table.header->listeners[0].settings.idle_timeout = 1;
    admit_client(0);
    settle();
    assert_int_equal(send(rig.fds[0], "here\n", 5, 0), 5);
    arrived(rig.scheduler->epoll);
    scheduler_tick(rig.scheduler, s->active_usec + USEC_PER_SEC);
    settle();
    assert_int_equal(s->reason, REASON_NONE);
    assert_int_equal(rig.histories[0].stream.records, 1);
    scheduler_tick(rig.scheduler, s->active_usec + USEC_PER_SEC);
    settle();
    assert_string_equal(rig.histories[0].reason, "idle");
}

/* Many short records take many turns; all the while the client cannot be read. */
static void waiting_records_prevent_idle_timeout(void **state)
{
    static char data[3 * TURN_RECORDS];
    const struct session *s = rig.table.sessions;

    (void)state;
    memset(data, '\n', sizeof(data));
    rig.table.header->listeners[0].settings.idle_timeout = 1;
    admit_client(0);
    settle();
    client_sends(0, data, sizeof(data));
    journal_takes_all();
    assert_int_equal(send(rig.fds[0], "more\n", 5, 0), 5);
    for (size_t i = 0; i < 3; i++) {
        scheduler_tick(rig.scheduler, s->active_usec + USEC_PER_SEC);
        journal_takes_all();
        assert_int_equal(s->reason, REASON_NONE);
        scheduler_run(rig.scheduler);
        journal_takes_all();
    }
    assert_int_equal(s->records, sizeof(data) + 1);
    scheduler_tick(rig.scheduler, s->active_usec + USEC_PER_SEC);
    assert_int_equal(s->reason, REASON_IDLE);
}

/* A deadline is exact, whatever else is due. */
static void idle_sessions_end_in_time(void **state)
{
    const struct session *s = rig.table.sessions;
    uint64_t due;

    (void)state;
    rig.table.header->listeners[0].settings.idle_timeout = 2;
    admit_client(0);
    settle();
    due = s->active_usec + 2 * USEC_PER_SEC;
    assert_int_equal(scheduler_next_due(rig.scheduler), due);
    client_sends(0, "one\n", 4); /* puts it off */
    settle();
    scheduler_tick(rig.scheduler, due);
    assert_int_equal(s->reason, REASON_NONE);
    due = s->active_usec + 2 * USEC_PER_SEC;
    assert_int_equal(scheduler_next_due(rig.scheduler), due);
    restart(); /* nor does the next worker forget it */
    s = rig.table.sessions;
    scheduler_tick(rig.scheduler, due - 1);
    assert_int_equal(s->reason, REASON_NONE);
    scheduler_tick(rig.scheduler, due);
    assert_int_equal(s->reason, REASON_IDLE);
    settle();
    assert_string_equal(rig.histories[0].reason, "idle");
}

/* Sessions without an unfinished record cause no wake-up. */
static void nothing_is_due_while_nothing_happens(void **state)
{
    uint64_t now;

    (void)state;
    rig.table.header->listeners[0].settings.flush_timeout = 3;
    for (size_t i = 0; i < 20; i++) {
        admit_client(i);
        client_sends(i, "one\n", 4);
        client_sends(i, "two", 3);
        client_sends(i, "\n", 1);
        settle();
    }
    now = now_usec(CLOCK_MONOTONIC) + 3 * USEC_PER_SEC;
    for (size_t i = 0; i < 3; i++, now += USEC_PER_SEC)
        scheduler_tick(rig.scheduler, now);
    assert_int_equal(scheduler_next_due(rig.scheduler), NO_DEADLINE);
}

/* --- Unfinished records that wait for their end --- */

static void client_waits(const char *text)
{
    admit_client(0);
    client_sends(0, text, strlen(text));
    settle();
}

/* Nothing comes for as long as flush_timeout. */
static void time_passes(void)
{
    const struct session *s = rig.table.sessions;
    uint64_t seconds = rig.table.header->listeners[0].settings.flush_timeout;

    scheduler_tick(rig.scheduler, s->active_usec + seconds * USEC_PER_SEC);
    settle();
}

static void unfinished_records_are_seen(void **state)
{
    const struct session *s = rig.table.sessions;

    (void)state;
    rig.table.header->listeners[0].settings.flush_timeout = 3;
    client_waits("aaa");
    scheduler_tick(rig.scheduler, s->active_usec + 3 * USEC_PER_SEC - 1);
    client_sends(0, "bbb", 3); /* puts it off */
    scheduler_tick(rig.scheduler, s->active_usec + 3 * USEC_PER_SEC - 1);
    settle();
    assert_int_equal(rig.histories[0].stream.length, 0);
    time_passes();
    assert_int_equal(rig.histories[0].stream.length, 6);
    assert_true(rig.histories[0].stream.continued);
    assert_int_equal(s->records, 0);
    client_sends(0, "ccc\nd", 5);
    settle();
    assert_int_equal(s->records, 1);
    assert_int_equal(rig.histories[0].stream.records, 1);
    assert_int_equal(rig.histories[0].stream.length, 10);
    time_passes();
    (void)shutdown(rig.fds[0], SHUT_WR);
    arrived(rig.scheduler->epoll);
    settle();
    assert_int_equal(rig.histories[0].stream.records, 2); /* it ends where nothing follows, too */
    assert_int_equal(rig.histories[0].stream.length, 11);
    assert_true(rig.histories[0].stream.ended);
    assert_string_equal(rig.histories[0].reason, "eof");
}

/* What was logged needs no memory, without a new byte. */
static void flushed_records_give_memory_back(void **state)
{
    uint64_t now;

    (void)state;
    rig.table.header->listeners[0].settings.flush_timeout = 3;
    client_waits("half");
    now = rig.table.sessions->active_usec + USEC_PER_SEC;
    scheduler_tick(rig.scheduler, now);
    assert_int_equal(rig.table.resident_bytes, PAGE);
    time_passes();
    for (size_t i = 0; i < 3; i++, now += USEC_PER_SEC)
        scheduler_tick(rig.scheduler, now + 3 * USEC_PER_SEC);
    assert_int_equal(rig.table.resident_bytes, 0);
    assert_int_equal(scheduler_next_due(rig.scheduler), NO_DEADLINE);
}

/* Nor does what the worker before had read. */
static void adopted_records_give_memory_back(void **state)
{
    uint64_t now;

    (void)state;
    admit_client(0);
    settle();
    journald_close(&rig.journald);
    client_sends(0, "one\n", 4);
    restart_worker();
    journald_open(&rig.journald);
    settle();
    assert_int_equal(rig.histories[0].stream.records, 1);
    assert_int_equal(rig.table.resident_bytes, PAGE);
    now = now_usec(CLOCK_MONOTONIC);
    for (size_t i = 1; i < 4; i++)
        scheduler_tick(rig.scheduler, now + i * USEC_PER_SEC);
    assert_int_equal(rig.table.resident_bytes, 0);
}

/* What may be half a line end waits for the other half, and is not due over and over. */
static void half_a_line_end_waits(void **state)
{
    const struct session *s = rig.table.sessions;

    (void)state;
    rig.table.header->listeners[0].settings.flush_timeout = 3;
    client_waits("one\r");
    time_passes();
    assert_int_equal(rig.histories[0].stream.length, 3);
    assert_int_equal(deadlines_first(&rig.scheduler->deadlines), NO_DEADLINE);
    client_sends(0, "\n\r", 2);
    settle();
    assert_int_equal(s->records, 1);
    time_passes();
    assert_int_equal(deadlines_first(&rig.scheduler->deadlines), NO_DEADLINE);
    client_sends(0, "x\n", 2);
    settle();
    assert_int_equal(s->records, 2);
    assert_int_equal(rig.histories[0].stream.length, 8);
    assert_memory_equal(rig.histories[0].stream.bytes, "one\r\n\rx\n", 8);
}

static void flush_timeout_0_is_never(void **state)
{
    (void)state;
    client_waits("one");
    scheduler_tick(rig.scheduler, rig.table.sessions->active_usec + 1000 * USEC_PER_SEC);
    settle();
    assert_int_equal(rig.histories[0].stream.length, 0);
    assert_int_equal(deadlines_first(&rig.scheduler->deadlines), NO_DEADLINE);
}

/* A piece would be a record that its client is never told of. */
static void relp_records_have_no_flush_timeout(void **state)
{
    static const char text[] = "1 open 14 relp_version=0\n2 syslog 9 half";

    (void)state;
    rig.table.header->listeners[0].settings.framing = FRAMING_RELP;
    rig.table.header->listeners[0].settings.flush_timeout = 3;
    client_waits(text);
    time_passes();
    assert_int_equal(rig.histories[0].connects, 1);
    assert_int_equal(rig.histories[0].stream.length, 0);
    assert_int_equal(deadlines_first(&rig.scheduler->deadlines), NO_DEADLINE);
}

/* The end of a record that arrived while the session was not read is found first. */
static void ends_not_yet_read_are_read_first(void **state)
{
    (void)state;
    rig.table.header->listeners[0].settings.flush_timeout = 3;
    client_waits("one");
    assert_int_equal(send(rig.fds[0], " two\n", 5, 0), 5);
    arrived(rig.scheduler->epoll);
    time_passes();
    assert_int_equal(rig.histories[0].stream.records, 1);
    assert_false(rig.histories[0].stream.went_on);
}

/* No deadline is reached while the journal is blocked; those that are due follow. */
static void deadlines_wait_for_the_journal(void **state)
{
    uint64_t due;

    (void)state;
    rig.table.header->listeners[0].settings.flush_timeout = 3;
    client_waits("one");
    due = rig.table.sessions->active_usec + 3 * USEC_PER_SEC;
    admit_client(1);
    journald_close(&rig.journald);
    scheduler_run(rig.scheduler);
    assert_true(scheduler_is_blocked(rig.scheduler));
    assert_int_equal(scheduler_next_due(rig.scheduler), NO_DEADLINE);
    scheduler_tick(rig.scheduler, due);
    journald_open(&rig.journald);
    settle();
    assert_int_equal(rig.histories[0].stream.length, 0);
    assert_int_equal(deadlines_first(&rig.scheduler->deadlines), due);
    scheduler_tick(rig.scheduler, due);
    settle();
    assert_int_equal(rig.histories[0].stream.length, 3);
}

/* More at once than a batch has room for, and than one call looks at. */
static void many_are_due_at_once(void **state)
{
    uint64_t now;

    (void)state;
    rig.table.header->listeners[0].settings.flush_timeout = 1;
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        admit_client(i);
    settle();
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        client_sends(i, "half", 4);
    settle();
    now = now_usec(CLOCK_MONOTONIC) + USEC_PER_SEC;
    while (scheduler_is_blocked(rig.scheduler) || scheduler_next_due(rig.scheduler) <= now) {
        scheduler_tick(rig.scheduler, now);
        settle();
    }
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        assert_int_equal(rig.histories[i].stream.length, 4);
}

/* --- Bytes a second --- */

#define RATE 4000

/* Client I, limited to RATE, sends LENGTH bytes at once: many lines, of which a burst is read. */
static void client_is_limited(size_t i, size_t length)
{
    static char line[] = "a line of 20 bytes.\n";
    static char data[64 * 1024];

    assert_true(length <= sizeof(data));
    for (size_t at = 0; at < sizeof(data); at++)
        data[at] = line[at % 20];
    rig.table.header->listeners[0].settings.max_rate = RATE;
    admit_client(i);
    settle();
    client_sends(i, data, length);
    settle();
}

/* As if so much time had passed for all rates; all deadlines are reached. */
static void rate_time_passes(uint64_t usec)
{
    for (uint32_t i = 0; i < rig.table.header->used; i++)
        rig.table.sessions[i].rate_usec -= usec;
    scheduler_tick(rig.scheduler, now_usec(CLOCK_MONOTONIC) + 60 * USEC_PER_SEC);
    settle();
}

/* What was read at once and later: a burst is what a turn in its time reads, and some more where
 * this program is slow. */
static void rates_are_kept(void **state)
{
    struct session *s = rig.table.sessions;
    uint64_t begin = now_usec(CLOCK_MONOTONIC), most = RATE, before;
    struct pollfd ready = {.events = POLLIN};

    (void)state;
    client_is_limited(0, 5 * RATE);
    for (int i = 0; i < 20; i++) {
        before = rig.histories[0].stream.length;
        assert_true(before >= RATE - 20 && before <= 5 * RATE);
        assert_true(before <= most + (now_usec(CLOCK_MONOTONIC) - begin) * RATE / USEC_PER_SEC);
        /* It waits, and is not looked at. */
        assert_true(s->throttled || before == 5 * RATE);
        assert_false(scheduler_has_work(rig.scheduler));
        ready.fd = rig.scheduler->epoll;
        assert_int_equal(poll(&ready, 1, 0), 0);
        rate_time_passes(USEC_PER_SEC / 4);
        most += RATE / 4;
        assert_true(rig.histories[0].stream.length > before || before == 5 * RATE);
    }
    assert_int_equal(rig.histories[0].stream.length, 5 * RATE);
    assert_false(s->throttled);
    client_sends(0, "more\n", 5); /* it is watched again */
    settle();
    assert_int_equal(rig.histories[0].stream.records, 5 * RATE / 20 + 1);
}

/* Nobody else waits for one who does. */
static void rates_are_each_sessions_own(void **state)
{
    (void)state;
    client_is_limited(0, 3 * RATE);
    client_is_limited(1, RATE / 2);
    assert_true(rig.table.sessions[0].throttled);
    assert_int_equal(rig.histories[1].stream.length, RATE / 2);
    assert_false(rig.table.sessions[1].throttled);
}

static void rates_outlive_workers(void **state)
{
    uint64_t begin = now_usec(CLOCK_MONOTONIC);

    (void)state;
    client_is_limited(0, 5 * RATE);
    for (int i = 0; i < 5; i++) {
        restart();
        assert_true(rig.table.sessions[0].throttled ||
                    now_usec(CLOCK_MONOTONIC) - begin > USEC_PER_SEC / 8);
        assert_true(rig.histories[0].stream.length <=
                    RATE + (now_usec(CLOCK_MONOTONIC) - begin) * RATE / USEC_PER_SEC);
    }
    rig.table.header->listeners[0].settings.max_rate = 0; /* a reload takes the limit away */
    restart();
    assert_int_equal(rig.histories[0].stream.length, 5 * RATE);
}

/* A client that is not read is neither idle nor waiting for the end of its record. */
static void limited_clients_are_not_silent(void **state)
{
    struct session *s = rig.table.sessions;

    (void)state;
    rig.table.header->listeners[0].settings.idle_timeout = 1;
    rig.table.header->listeners[0].settings.flush_timeout = 1;
    client_is_limited(0, 2 * RATE);
    s->rate_usec += 10 * USEC_PER_SEC;
    s->active_usec -= 5 * USEC_PER_SEC;
    scheduler_tick(rig.scheduler, now_usec(CLOCK_MONOTONIC) + USEC_PER_SEC);
    settle();
    assert_int_equal(s->reason, REASON_NONE);
    assert_false(rig.histories[0].stream.continued);
    rate_time_passes(15 * USEC_PER_SEC);
    assert_int_equal(rig.histories[0].stream.length, 2 * RATE);
    rate_time_passes(2 * USEC_PER_SEC); /* now there is nothing to read, and it is idle */
    scheduler_tick(rig.scheduler, s->active_usec + USEC_PER_SEC);
    assert_int_equal(s->reason, REASON_IDLE);
}

/* Its end is seen when its bytes are read. */
static void limited_clients_may_leave(void **state)
{
    struct pollfd ready = {.events = POLLIN};

    (void)state;
    client_is_limited(0, 2 * RATE);
    client_is_limited(1, 2 * RATE);
    (void)shutdown(rig.fds[0], SHUT_WR);
    (void)setsockopt(rig.fds[1], SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
                     sizeof(struct linger));
    close_fd(&rig.fds[1]);
    ready.fd = rig.scheduler->epoll;
    assert_int_equal(poll(&ready, 1, 0), 0); /* although one of them was reset */
    rate_time_passes(2 * USEC_PER_SEC);
    rate_time_passes(2 * USEC_PER_SEC);
    assert_string_equal(rig.histories[0].reason, "eof");
    assert_int_equal(rig.histories[0].stream.length, 2 * RATE);
    assert_string_equal(rig.histories[1].reason, "reset");
}

static void stops_wait_for_no_rate(void **state)
{
    (void)state;
    client_is_limited(0, 5 * RATE);
    assert_true(rig.histories[0].stream.length < 5 * RATE);
    scheduler_stop(rig.scheduler);
    settle();
    assert_string_equal(rig.histories[0].reason, "shutdown");
    assert_int_equal(rig.histories[0].stream.length, 5 * RATE);
}

/* --- Stopping --- */

/* What had been sent by then is read, and no more. */
static void stops_read_what_was_sent(void **state)
{
    char line[RECEIPT_MAX];

    (void)state;
    admit_client(0);
    admit_client(1);
    settle();
    assert_int_equal(send(rig.fds[0], "one\ntwo", 7, 0), 7);
    arrived(rig.scheduler->epoll);
    scheduler_stop(rig.scheduler);
    assert_int_equal(send(rig.fds[0], "late", 4, 0), 4);
    settle();
    assert_string_equal(rig.histories[0].reason, "shutdown");
    assert_string_equal(rig.histories[1].reason, "shutdown");
    assert_int_equal(rig.histories[0].stream.length, 7);
    snprintf(line, sizeof(line), RECEIPT_FORMAT, rig.histories[0].id, UINT64_C(2), UINT64_C(7),
             "shutdown");
    expect_answer(0, line);
}

/* Connections that waited to be accepted are served, too. */
static void stops_accept_waiting_connections(void **state)
{
    (void)state;
    client_connects(0, 0);
    client_connects(1, 0);
    assert_int_equal(send(rig.fds[0], "one\n", 4, 0), 4);
    scheduler_stop(rig.scheduler);
    assert_int_equal(admission_accept(rig.scheduler, 0, 2), 0);
    settle();
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(rig.histories[i].reason, "shutdown");
    assert_int_equal(rig.histories[0].stream.records + rig.histories[1].stream.records, 1);
}

/* Runs until no session is left, waiting for nothing but what the network brings. */
static void all_are_closed(void)
{
    settle();
    while (rig.scheduler->sessions > 0) {
        arrived(rig.scheduler->epoll);
        settle();
    }
}

/* A client that does not close its side holds nothing up once it has its answer. */
static void stops_do_not_wait_for_close(void **state)
{
    char line[RECEIPT_MAX];

    (void)state;
    rig.table.header->listeners[0].settings.sessions_max = 1;
    admit_client(0);
    admit_client(1);
    settle();
    assert_int_equal(rig.scheduler->sessions, 2); /* the refused one may still read why */
    scheduler_stop(rig.scheduler);
    all_are_closed();
    snprintf(line, sizeof(line), RECEIPT_FORMAT, rig.histories[0].id, UINT64_C(0), UINT64_C(0),
             "shutdown");
    expect_answer(0, line);
    expect_answer(1, "netd error=session-limit\n");
}

/* Ends a session while netd stops, and leaves more unread than a turn drains. */
static const struct session *client_sends_on(size_t i)
{
    static char data[10000];
    const struct session *s;

    admit_client(i);
    settle();
    s = session_of(i);
    scheduler_stop(rig.scheduler);
    while (session_unread(s) <= 65536)
        assert_true(send(rig.fds[i], data, sizeof(data), MSG_NOSIGNAL) > 0);
    scheduler_run(rig.scheduler);
    assert_true(table_list_has(s, LIST_LINGER));
    return s;
}

/* What a client still sends is read, so that no reset destroys its answer. */
static void stops_drain_unread_bytes(void **state)
{
    char line[RECEIPT_MAX];

    (void)state;
    (void)client_sends_on(0);
    all_are_closed();
    snprintf(line, sizeof(line), RECEIPT_FORMAT, rig.histories[0].id, UINT64_C(0), UINT64_C(0),
             "shutdown");
    expect_answer(0, line);
}

static void stops_wait_200_ms_at_most(void **state)
{
    const struct session *s = client_sends_on(0);
    uint64_t due = s->active_usec + 200 * USEC_PER_MSEC;

    (void)state;
    assert_int_equal(scheduler_next_due(rig.scheduler), due);
    scheduler_tick(rig.scheduler, due - 1);
    assert_int_equal(rig.scheduler->sessions, 1);
    scheduler_tick(rig.scheduler, due);
    assert_int_equal(rig.scheduler->sessions, 0);
    assert_int_equal(scheduler_next_due(rig.scheduler), UINT64_MAX);
}

/* A client without an answer cannot miss it. */
static void stops_without_receipts_close_at_once(void **state)
{
    char byte;

    (void)state;
    rig.table.header->listeners[0].settings.receipt = false;
    admit_client(0);
    admit_client(1);
    settle();
    scheduler_stop(rig.scheduler);
    assert_int_equal(send(rig.fds[1], "late", 4, 0), 4);
    arrived(session_of(1)->fd);
    scheduler_run(rig.scheduler);
    assert_int_equal(rig.scheduler->sessions, 0);
    expect_answer(0, "");
    assert_int_equal(recv(rig.fds[1], &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET); /* it sent what was not logged */
}

/* A session that could not be logged in time is not taken for logged. */
static void abandoned_clients_see_a_reset(void **state)
{
    char byte;

    (void)state;
    rig.table.header->listeners[0].settings.sessions_max = 2;
    for (size_t i = 0; i < 3; i++)
        admit_client(i);
    settle();
    journald_close(&rig.journald);
    client_sends(0, "one\n", 4);
    assert_int_equal(scheduler_abandon(rig.scheduler), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(recv(rig.fds[i], &byte, 1, 0), -1);
        assert_int_equal(errno, ECONNRESET);
    }
    /* The third was told, and that is logged. */
    (void)shutdown(rig.fds[2], SHUT_WR);
    scheduler_tick(rig.scheduler, now_usec(CLOCK_MONOTONIC) + 10 * USEC_PER_SEC);
    expect_answer(2, "netd error=session-limit\n");
}

/* --- Adoption --- */

/* Another listener, at another address and the same port; the one between is closed. */
#define OTHER 2

static void listen_too(void)
{
    struct table_listener *l = &rig.table.header->listeners[OTHER];
    struct sockaddr_in sa = listening(0);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    *l = rig.table.header->listeners[0];
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    l->bound.ip[3] = 2;
    assert_int_equal(bind(l->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(l->fd, 1), 0);
}

/* What a worker had accepted when it died: a session of the listener that it came by. */
static void unclaimed_connection_becomes_a_session(void **state)
{
    struct table_accept *call = &rig.table.header->accept;
    const struct session *s = rig.table.sessions;
    struct endpoint peer;
    int fd;

    (void)state;
    listen_too();
    client_connects(0, OTHER);
    call->listener = OTHER;
    fd = listener_accept(&rig.table.header->listeners[OTHER], call, &peer);
    assert_true(fd >= 0);

    admission_adopt(rig.scheduler, fd);
    assert_int_equal(call->listener, NO_LISTENER);
    settle();
    assert_int_equal(rig.table.header->open, 1);
    assert_int_equal(s->listener, OTHER);
    assert_memory_equal(&s->peer, &peer, sizeof(peer));
    assert_memory_equal(&s->local, &rig.table.header->listeners[OTHER].bound, sizeof(s->local));
    client_sends(0, "one\n", 4);
    settle();
    assert_int_equal(rig.histories[0].stream.records, 1);
}

/* The next worker knows which listener's connection may be unclaimed, until it is a session. */
static void accepting_is_announced(void **state)
{
    (void)state;
    assert_int_equal(rig.table.header->accept.listener, NO_LISTENER);
    admit_client(0);
    assert_int_equal(rig.table.header->accept.listener, NO_LISTENER);
    assert_int_equal(rig.table.header->accept.length, sizeof(struct sockaddr_in));
}

/* The worker died when the journal had the end, and the client not yet its answer. */
static void ends_that_were_taken_are_answered(void **state)
{
    struct session *s = rig.table.sessions;
    char answer[128] = "";

    (void)state;
    admit_client(0);
    client_sends(0, "one\n", 4);
    settle();
    s->reason = REASON_SHUTDOWN;
    s->end_usec = s->active_usec;
    s->end_taken = true;
    restart();
    assert_int_equal(rig.table.header->open, 0);
    assert_true(recv(rig.fds[0], answer, sizeof(answer) - 1, 0) > 0);
    assert_non_null(strstr(answer, " records=1 bytes=4 end=shutdown\n"));
    assert_int_equal(rig.histories[0].ends, 0); /* not logged twice */
}

static void lost_connections_are_errors(void **state)
{
    struct session *s = rig.table.sessions;
    int fd;

    (void)state;
    admit_client(0);
    settle();
    fd = s->fd;
    close_fd(&fd);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fd, s->fd); /* somebody else's by now */
    restart();
    assert_string_equal(rig.histories[0].reason, "error");
    assert_int_equal(atoi(rig.histories[0].error), EBADF);
    assert_int_equal(close(fd), 0);
    assert_int_equal(rig.table.header->open, 0);
}

/* Two sessions with one connection cannot be: one of them has it, and the other one ends. */
static void one_connection_is_one_session(void **state)
{
    struct session *s = rig.table.sessions;

    (void)state;
    admit_client(0);
    admit_client(1);
    settle();
    close_fd(&s[1].fd);
    s[1].fd = s[0].fd;
    s[1].cookie = s[0].cookie;
    restart();
    assert_string_equal(rig.histories[1].reason, "error");
    assert_int_equal(atoi(rig.histories[1].error), EEXIST);
    client_sends(0, "one\n", 4);
    settle();
    assert_int_equal(rig.histories[0].ends, 0);
    assert_int_equal(rig.histories[0].stream.records, 1);
}

/* --- PROXY headers --- */

static void headers_have_five_seconds(void **state)
{
    uint64_t due;

    (void)state;
    rig.table.header->listeners[0].settings.proxy = true;
    for (size_t i = 0; i < 3; i++)
        admit_client(i);
    settle();
    client_sends(0, "PROXY UNKNOWN\r\n", 15);
    client_sends(1, "PROXY", 5);
    settle();
    assert_int_equal(rig.histories_count, 1);
    restart();
    due = rig.table.sessions[1].begin_usec + 5 * USEC_PER_SEC;
    scheduler_tick(rig.scheduler, due - 1);
    settle();
    assert_int_equal(rig.scheduler->sessions, 3);
    scheduler_tick(rig.scheduler, rig.table.sessions[2].begin_usec + 5 * USEC_PER_SEC);
    settle();
    assert_int_equal(rig.scheduler->sessions, 1);
    assert_int_equal(rig.histories_count, 3);
    assert_string_equal(rig.histories[0].reason, "");
    for (size_t i = 1; i < 3; i++)
        assert_string_equal(rig.histories[i].reason, "protocol");
    assert_int_equal(rig.table.header->open, 1);
    assert_int_equal(deadlines_first(&rig.scheduler->deadlines), NO_DEADLINE);
}

/* Limits by address are for the address in the header; beyond what is logged of refusals a client
 * is told, and has no event. */
static void addresses_in_headers_are_limited(void **state)
{
    (void)state;
    rig.table.header->listeners[0].settings.proxy = true;
    rig.table.header->listeners[0].settings.sessions_max_per_address = 1;
    for (size_t i = 0; i < 4; i++) {
        const char *header = i == 0 ? "PROXY TCP4 192.0.2.2 192.0.2.9 1 2\r\n"
                                    : "PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n";

        admit_client(i);
        settle();
        assert_int_equal(send(rig.fds[i], header, strlen(header), MSG_NOSIGNAL), strlen(header));
        arrived(rig.scheduler->epoll);
        settle();
        if (i > 1)
            expect_answer(i, "netd error=address-limit\n");
        if (i == 2)
            while (refusals_count(&rig.table.header->listeners[0], now_usec(CLOCK_MONOTONIC)))
                ;
    }
    assert_int_equal(rig.histories_count, 3);
    assert_int_equal(rig.histories[2].refusals, 1);
    assert_int_equal(rig.table.header->open, 2);
}

/* --- RELP --- */

static void has_little_room(int fd)
{
    const int least = 1;

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)), 0);
}

/* The listener takes RELP from local clients, whose connections have no room until they read. */
static void listener_takes_local_relp(void)
{
    const struct sockaddr_un any = {.sun_family = AF_UNIX};
    struct table_listener *l = &rig.table.header->listeners[0];

    l->settings.framing = FRAMING_RELP;
    close_fd(&l->fd);
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(l->fd, (const struct sockaddr *)&any, sizeof(any.sun_family)), 0);
    assert_int_equal(listen(l->fd, 1), 0);
}

/* Client I has session I. */
static void admit_local_client(size_t i)
{
    int listener = rig.table.header->listeners[0].fd;
    struct sockaddr_un sa;
    socklen_t length = sizeof(sa);

    assert_int_equal(getsockname(listener, (struct sockaddr *)&sa, &length), 0);
    rig.fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(rig.fds[i], (struct sockaddr *)&sa, length), 0);
    assert_int_equal(admission_accept(rig.scheduler, 0, 1), 0);
    has_little_room(rig.table.sessions[i].fd);
}

/* Sends N records, in front of record 0 the open command, or nothing if there is no room. Returns
 * the number of the next record. */
static size_t client_sends_records(size_t i, size_t first, size_t n)
{
    char text[200 * 32];
    size_t length = 0;

    assert_true(n <= 200);
    for (size_t k = first; k < first + n; k++)
        length +=
            (size_t)sprintf(text + length, "%s%zu syslog 1 x\n", k ? "" : "1 open 0\n", k + 2);
    return send(rig.fds[i], text, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? first : first + n;
}

/* Reads the responses to N records from number FIRST on, in order, and in front of record 0 that to
 * the open command. */
static void client_hears(size_t i, size_t first, size_t n)
{
    static char text[65536];
    char opened[] = "1 rsp 102 200 OK\nrelp_version=0\nrelp_software=netd\ncommands=syslog\n"
                    "netd_session=0123456789abcdef0123456789abcdef\n";
    size_t skip = first ? 0 : strlen(opened), length = skip, heard = 0;
    char expected[65536];

    for (; n > 0; first++, n--)
        length += (size_t)sprintf(expected + length, "%zu rsp 6 200 OK\n", first + 2);
    assert_true(length < sizeof(text));
    while (heard < length) {
        ssize_t r = recv(rig.fds[i], text + heard, min_size(length - heard, 700), MSG_DONTWAIT);

        assert_true(r > 0); /* what has room is there */
        heard += (size_t)r;
        scheduler_serve_urgent(rig.scheduler);
        settle();
    }
    assert_memory_equal(text + skip, expected + skip, length - skip);
    assert_int_equal(recv(rig.fds[i], text, 1, MSG_DONTWAIT), -1);
}

/* Client 0 has heard of the first records, sends more and reads no answer. When it is no longer
 * read it goes on: more than one read takes. Returns how many it has sent. */
static size_t client_does_not_read(size_t first)
{
    size_t sent = first;

    listener_takes_local_relp();
    admit_local_client(0);
    (void)client_sends_records(0, 0, first);
    settle();
    client_hears(0, 0, first);
    while (!rig.table.sessions[0].deaf) {
        sent = client_sends_records(0, sent, 1 + random_below(200));
        settle();
    }
    for (int i = 0; i < 15; i++)
        sent = client_sends_records(0, sent, 200);
    assert_true(session_unread(&rig.table.sessions[0]) > READ_MAX);
    return sent;
}

/* A client that reads no answers is not read. When it does, the next worker tells it the rest. */
static void clients_that_do_not_read_are_not_read(void **state)
{
    size_t first = 1 + random_below(200), sent = client_does_not_read(first);
    size_t logged = rig.histories[0].stream.records;

    (void)state;
    assert_true(logged < sent);
    admit_local_client(1); /* others are served */
    (void)client_sends_records(1, 0, 20);
    settle();
    client_hears(1, 0, 20);
    for (int i = 0; i < 3; i++) {
        scheduler_serve_urgent(rig.scheduler);
        settle();
        assert_true(rig.table.sessions[0].deaf);
        assert_true(session_unread(&rig.table.sessions[0]) > 0);
        assert_int_equal(rig.histories[0].stream.records, logged);
        restart();
    }
    client_hears(0, first, sent - first);
    assert_false(rig.table.sessions[0].deaf);
    assert_int_equal(rig.histories[0].stream.records, sent);
    assert_int_equal(counters_get(&rig.table, &rig.table.sessions[0])->relp_acknowledged,
                     sent + 20);
}

/* A stop logs what such a client has sent, and does not wait for it. */
static void stops_do_not_wait_for_clients_that_do_not_read(void **state)
{
    size_t sent = client_does_not_read(1);

    (void)state;
    scheduler_stop(rig.scheduler);
    settle();
    assert_int_equal(rig.histories[0].stream.records, sent);
    assert_string_equal(rig.histories[0].reason, "shutdown");
    assert_int_equal(rig.scheduler->sessions, 1);
    scheduler_tick(rig.scheduler, now_usec(CLOCK_MONOTONIC) + 200 * USEC_PER_MSEC);
    assert_int_equal(rig.scheduler->sessions, 0);
}

/* A connection that failed ends when the bytes that came before are read, and not only when its
 * client, which waits for an answer, does something. */
static void check_connection_that_failed(bool restarts)
{
    char c;

    listener_takes_local_relp();
    admit_local_client(0);
    (void)client_sends_records(0, 0, 1);
    settle();
    client_hears(0, 0, 1);
    assert_int_equal(client_sends_records(0, 1, 1), 2);
    receive_error = ENOMEM;
    scheduler_find_ready(rig.scheduler);
    scheduler_run(rig.scheduler);
    assert_int_equal(rig.table.sessions[0].records, 2);
    if (restarts)
        restart_worker();
    settle();
    assert_string_equal(rig.histories[0].reason, "error");
    assert_int_equal(rig.scheduler->sessions, 0);
    assert_int_equal(recv(rig.fds[0], &c, 1, 0), 0); /* over TCP a reset */
}

static void connections_that_failed_end(void **state)
{
    (void)state;
    check_connection_that_failed(false);
}

static void connections_that_failed_end_with_another_worker(void **state)
{
    (void)state;
    check_connection_that_failed(true);
}

/* --- Random steps --- */

/* True when something comes back to S: its turn, its end in the batch, or what its client does. */
static bool is_scheduled(const struct session *s)
{
    struct epoll_event event = {.events = EPOLLIN};

    if (table_list_has(s, LIST_RUN) || table_list_has(s, LIST_ANSWER))
        return true;
    if (s->throttled)
        return deadlines_get(&rig.scheduler->deadlines, table_number(&rig.table, s)) != NO_DEADLINE;
    return epoll_ctl(s->watched == WATCH_URGENT ? rig.scheduler->urgent : rig.scheduler->epoll,
                     EPOLL_CTL_ADD, s->fd, &event) < 0 &&
           errno == EEXIST;
}

static void all_are_scheduled(void)
{
    uint32_t sessions = 0;

    for (uint32_t i = 0; i < rig.table.header->used; i++) {
        const struct session *s = &rig.table.sessions[i];

        assert_true(s->state == SESSION_FREE || is_scheduled(s));
        sessions += s->state != SESSION_FREE;
    }
    assert_int_equal(sessions, rig.scheduler->sessions);
}

/* Client I begins like a proxy, with a health check, or with half a header. */
static void random_header(size_t i)
{
    static const struct {
        const char *data;
        size_t length;
    } rows[] = {
        {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 36},
        {PROXY_SIGNATURE "\x20\0\0", 16},
        {"PROXY TCP4 192.0", 16},
        {"", 0},
    };
    size_t n = random_below(ARRAY_SIZE(rows));

    if (rig.table.header->listeners[0].settings.proxy)
        (void)send(rig.fds[i], rows[n].data, rows[n].length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* How many records a RELP client has sent. */
static size_t random_sent[CLIENTS_MAX];

static void random_client_step(size_t i)
{
    static uint8_t data[READ_MAX];
    struct linger now = {.l_onoff = 1};
    bool relp = rig.table.header->listeners[0].settings.framing == FRAMING_RELP;

    if (rig.fds[i] < 0) {
        client_connects(i, 0);
        random_header(i);
        random_sent[i] = 0;
        return;
    }
    if (relp && random_below(20)) {
        if (random_below(3))
            random_sent[i] = client_sends_records(i, random_sent[i], random_below(200));
        else
            (void)recv(rig.fds[i], data, random_below(sizeof(data)), MSG_DONTWAIT);
        return;
    }
    switch (random_below(8)) {
    case 0:
        (void)shutdown(rig.fds[i], SHUT_WR);
        break;
    case 1:
        (void)setsockopt(rig.fds[i], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close_fd(&rig.fds[i]);
        break;
    case 2:
        close_fd(&rig.fds[i]);
        break;
    default:
        random_stream(data, sizeof(data), 100);
        (void)send(rig.fds[i], data, random_below(random_below(2) ? 100 : sizeof(data)),
                   MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

static void random_journal_step(void)
{
    switch (random_below(3)) {
    case 0:
        journald_close(&rig.journald);
        break;
    case 1:
        journald_close(&rig.journald);
        journald_open(&rig.journald);
        break;
    default:
        while (rig.journald.fd >= 0 && random_below(8) && journald_take(&rig.journald))
            ;
    }
}

static void random_worker_step(void)
{
    switch (random_below(12)) {
    case 0:
        restart_worker();
        break;
    case 1:
        scheduler_tick(rig.scheduler, now_usec(CLOCK_MONOTONIC) + random_below(3) * USEC_PER_SEC);
        break;
    case 2:
    case 3:
        assert_int_equal(admission_accept(rig.scheduler, 0, 3), 0);
        break;
    default:
        if (random_below(4) == 0)
            scheduler_serve_urgent(rig.scheduler);
        else if (scheduler_is_blocked(rig.scheduler))
            scheduler_retry(rig.scheduler);
        else if (random_below(2))
            scheduler_find_ready(rig.scheduler);
        else
            scheduler_run(rig.scheduler);
    }
}

/* Whatever happens, and in whatever order: each session has a turn or is watched until it ends. */
static void every_session_stays_scheduled(void **state)
{
    struct listener_settings *own = &rig.table.header->listeners[0].settings;
    const size_t clients = 12;

    (void)state;
    own->sessions_max = 8;
    own->sessions_max_per_address = random_below(2) ? 2 : 0;
    own->proxy = random_below(2);
    own->idle_timeout = (uint32_t)random_below(2);
    own->flush_timeout = (uint32_t)random_below(2);
    own->framing = random_below(3) ? (enum framing)random_below(FRAMINGS) : FRAMING_RELP;
    has_little_room(rig.table.header->listeners[0].fd); /* nor have its connections */
    own->max_rate = random_below(2) ? 1 + (uint32_t)random_below(100000) : 0;
    rig.table.header->settings.buffer_memory = random_below(2) ? 16 * PAGE : clients * REGION_SIZE;
    for (int n = random_rounds(10000); n > 0; n--) {
        if (random_below(3) == 0)
            random_client_step(random_below(clients));
        else if (random_below(4) == 0)
            random_journal_step();
        else
            random_worker_step();
        all_are_scheduled();
    }
    if (random_below(2))
        scheduler_stop(rig.scheduler);
    for (size_t i = 0; i < clients; i++)
        close_fd(&rig.fds[i]);
    journald_close(&rig.journald);
    journald_open(&rig.journald);
    do {
        assert_int_equal(admission_accept(rig.scheduler, 0, CLIENTS_MAX), 0);
        scheduler_find_ready(rig.scheduler);
        scheduler_serve_urgent(rig.scheduler);
        scheduler_run(rig.scheduler);
        journal_takes_all();
        for (uint32_t i = 0; i < rig.table.header->used; i++)
            rig.table.sessions[i].rate_usec = 0;
        scheduler_tick(rig.scheduler, now_usec(CLOCK_MONOTONIC) + USEC_PER_SEC);
        journal_takes_all();
        all_are_scheduled();
    } while (scheduler_has_work(rig.scheduler) || rig.scheduler->sessions > 0);
    assert_int_equal(rig.table.header->open, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_first_bytes_are_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(longest_records_are_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(whole_records_are_logged_before_cuts, setup, teardown),
        cmocka_unit_test_setup_teardown(reclaiming_memory_keeps_the_order, setup, teardown),
        cmocka_unit_test_setup_teardown(half_a_line_end_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(half_a_line_end_keeps_one_page, setup, teardown),
        cmocka_unit_test_setup_teardown(cuts_wait_for_the_journal, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_comes_back_after_a_stall, setup, teardown),
        cmocka_unit_test_setup_teardown(shares_are_alike_at_a_slow_journal, setup, teardown),
        cmocka_unit_test_setup_teardown(shares_of_many_are_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupted_turns_come_first, setup, teardown),
        cmocka_unit_test_setup_teardown(lingering_clients_make_room, setup, teardown),
        cmocka_unit_test_setup_teardown(a_listener_has_a_limit_of_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(addresses_that_are_denied, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flood_of_refusals_is_not_logged, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_that_are_not_logged_are_adopted, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_clients_make_room, setup, teardown),
        cmocka_unit_test_setup_teardown(connections_without_room_are_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(descriptors_are_kept_back, setup, teardown),
        cmocka_unit_test_setup_teardown(short_sessions_are_not_watched, setup, teardown),
        cmocka_unit_test_setup_teardown(silent_sessions_are_watched, setup, teardown),
        cmocka_unit_test_setup_teardown(sessions_that_cannot_be_watched_end, setup, teardown),
        cmocka_unit_test_setup_teardown(unread_bytes_prevent_idle_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(waiting_records_prevent_idle_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(idle_sessions_end_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_due_while_nothing_happens, setup, teardown),
        cmocka_unit_test_setup_teardown(unfinished_records_are_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(flushed_records_give_memory_back, setup, teardown),
        cmocka_unit_test_setup_teardown(adopted_records_give_memory_back, setup, teardown),
        cmocka_unit_test_setup_teardown(half_a_line_end_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(flush_timeout_0_is_never, setup, teardown),
        cmocka_unit_test_setup_teardown(relp_records_have_no_flush_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_not_yet_read_are_read_first, setup, teardown),
        cmocka_unit_test_setup_teardown(deadlines_wait_for_the_journal, setup, teardown),
        cmocka_unit_test_setup_teardown(many_are_due_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(rates_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(rates_are_each_sessions_own, setup, teardown),
        cmocka_unit_test_setup_teardown(rates_outlive_workers, setup, teardown),
        cmocka_unit_test_setup_teardown(limited_clients_are_not_silent, setup, teardown),
        cmocka_unit_test_setup_teardown(limited_clients_may_leave, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_wait_for_no_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_read_what_was_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_accept_waiting_connections, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_do_not_wait_for_close, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_drain_unread_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_wait_200_ms_at_most, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_without_receipts_close_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(abandoned_clients_see_a_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_that_were_taken_are_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(lost_connections_are_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(unclaimed_connection_becomes_a_session, setup, teardown),
        cmocka_unit_test_setup_teardown(accepting_is_announced, setup, teardown),
        cmocka_unit_test_setup_teardown(one_connection_is_one_session, setup, teardown),
        cmocka_unit_test_setup_teardown(addresses_in_headers_are_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_have_five_seconds, setup, teardown),
        cmocka_unit_test_setup_teardown(clients_that_do_not_read_are_not_read, setup, teardown),
        cmocka_unit_test_setup_teardown(connections_that_failed_end, setup, teardown),
        cmocka_unit_test_setup_teardown(connections_that_failed_end_with_another_worker, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(stops_do_not_wait_for_clients_that_do_not_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(every_session_stays_scheduled, setup, teardown),
    };

    random_begin();
    alarm(300); /* what hangs, fails */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
