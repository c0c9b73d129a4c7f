/* SPDX-License-Identifier: MIT */
#include "netd/session/session.h"

#include "common/names.h"
#include "common/util.h"
#include "netd/session/answer.h"
#include "netd/session/recovery.h"

#include "entry.h"
#include "frames.h"
#include "framing.h"
#include "proxy.h"
#include "random.h"
#include "relp.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <syslog.h>

#include <cmocka.h>

#include "journald.h"

/* One session with everything around it: its client, the table, and a stand-in for journald. */
static struct {
    struct table table;
    struct sink *sink;
    struct journald journald;
    struct session *s;
    int client;
    struct joined stream;
    unsigned connects, ends, refusals;
    /* Of the last event but data. */
    struct fields last;
    uint8_t *last_bytes;
} rig;

static struct listener_settings settings;

/* The errno with which the next call of recvmmsg(2) fails, as the kernel reports the error of a
 * socket: once, and before the bytes that came first. */
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

/* How many bytes the client's connection takes, and whether the worker dies when it took some. */
static size_t send_room = SIZE_MAX;
static bool send_kills;
static jmp_buf send_death;

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    struct iovec *piece = messages->msg_hdr.msg_iov;
    int r;

    if (!rig.s || fd != rig.s->fd)
        return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
    if (send_room == 0) {
        errno = EAGAIN;
        return -1;
    }
    piece->iov_len = min_size(piece->iov_len, send_room);
    r = (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
    if (r > 0 && send_room != SIZE_MAX)
        send_room -= messages->msg_len;
    if (r > 0 && send_kills)
        longjmp(send_death, 1);
    return r;
}

static int setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof(rig));
    settings = (struct listener_settings){.max_record = 4096,
                                          .framing = FRAMING_LINE,
                                          .priority = LOG_INFO,
                                          .receipt = true,
                                          .sessions_max = 4};
    journald_init(&rig.journald);
    journald_open(&rig.journald);
    assert_int_equal(table_create(&rig.table, 4), 0);
    rig.table.header->listeners[0].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(listen(rig.table.header->listeners[0].fd, 1), 0);
    rig.table.header->listeners[0].settings = settings;
    assert_int_equal(table_attach(&rig.table), 0);
    rig.sink = calloc(1, sizeof(*rig.sink));
    assert_non_null(rig.sink);
    assert_int_equal(
        sink_init(rig.sink, OUTPUT_JOURNAL, rig.journald.path, &rig.table.header->batch), 0);
    rig.client = -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (rig.s)
        close_fd(&rig.s->fd);
    close_fd(&rig.client);
    close_fd(&rig.table.header->listeners[0].fd);
    sink_deinit(rig.sink);
    table_deinit(&rig.table);
    journald_deinit(&rig.journald);
    free(rig.sink);
    free(rig.stream.bytes);
    free(rig.last_bytes);
    return 0;
}

/* A connection over TCP; FDS as of socketpair(2). */
static void tcp_pair(int fds[2])
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(sa);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&sa, &length), 0);
    fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[1], (struct sockaddr *)&sa, sizeof(sa)), 0);
    fds[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fds[0] >= 0);
    close(listener);
}

/* The next client connects. */
static void begin(bool tcp, enum session_state session_state)
{
    int fds[2];

    if (tcp)
        tcp_pair(fds);
    else
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    rig.client = fds[1];
    rig.s = table_take(&rig.table);
    assert_non_null(rig.s);
    rig.s->fd = fds[0];
    rig.s->cookie = session_cookie(fds[0]);
    rig.s->framing = (uint8_t)settings.framing;
    rig.s->peer = (struct endpoint){.family = AF_INET, .ip = {192, 0, 2, 1}, .port = 4711};
    rig.s->local = (struct endpoint){.family = AF_INET, .ip = {192, 0, 2, 2}, .port = 3000};
    memset(rig.s->id, 0xab, sizeof(rig.s->id));
    if (session_state == SESSION_HEADER)
        rig.s->proxy = rig.s->peer =
            (struct endpoint){.family = AF_INET, .ip = {10, 0, 0, 1}, .port = 99};
    rig.s->begin_usec = rig.s->active_usec = now_usec(CLOCK_MONOTONIC);
    table_publish(rig.s, session_state);
    rig.table.header->listeners[0].settings = settings;
    rig.connects = rig.ends = rig.refusals = 0;
    free(rig.stream.bytes);
    rig.stream = (struct joined){0};
}

static void end(void)
{
    close_fd(&rig.s->fd);
    close_fd(&rig.client);
    table_free(&rig.table, rig.s);
    rig.s = NULL;
}

static struct session_context context(void)
{
    return (struct session_context){
        .settings = &rig.table.header->listeners[0].settings,
        .sink = rig.sink,
        .region = table_region(&rig.table, rig.s),
        .number = table_number(&rig.table, rig.s),
    };
}

/* Looks at the entries that came, which must be in order. */
static void read_journald(void)
{
    while (journald_take(&rig.journald)) {
        struct fields f;

        assert_int_equal(entry_parse(&f, rig.journald.data, rig.journald.length, false),
                         rig.journald.length);
        assert_true(fields_are(&f, "NETD_SESSION_ID", "abababababababababababababababab"));
        assert_true(fields_are(&f, "PRIORITY", "6"));
        assert_int_equal(rig.ends + rig.refusals, 0);
        if (fields_are(&f, "NETD_EVENT", "data")) {
            assert_int_equal(rig.connects, 1);
            assert_true(joined_add(&rig.stream, &f));
            continue;
        }
        rig.connects += fields_are(&f, "NETD_EVENT", "connect");
        rig.ends += fields_are(&f, "NETD_EVENT", "disconnect");
        rig.refusals += fields_are(&f, "NETD_EVENT", "refused");
        assert_int_equal(rig.connects, rig.refusals ? 0 : 1);
        free(rig.last_bytes);
        rig.last_bytes = malloc(rig.journald.length);
        assert_non_null(rig.last_bytes);
        memcpy(rig.last_bytes, rig.journald.data, rig.journald.length);
        (void)entry_parse(&rig.last, rig.last_bytes, rig.journald.length, false);
    }
}

/* Sends the batch, however often it takes. */
static void flush(void)
{
    int r;

    while ((r = sink_send(rig.sink)) == 1) {
        table_commit(&rig.table);
        read_journald();
    }
    assert_int_equal(r, 0);
    table_commit(&rig.table);
    sink_reset(rig.sink);
    read_journald();
}

static void log_all(void)
{
    struct session_context c = context();
    enum session_progress progress;

    while ((progress = session_log(rig.s, &c)) != SESSION_WAITS)
        if (progress == SESSION_BLOCKED)
            flush();
}

static uint32_t receive(void)
{
    struct session_context c = context();

    return session_receive(rig.s, &c, &rig.table.header->receive, UINT32_MAX);
}

/* Waits until the network brought what the client did: EVENTS of poll(2). */
static void arrived(short events)
{
    struct pollfd p = {.fd = rig.s->fd, .events = events};

    assert_int_equal(poll(&p, 1, -1), 1);
}

static bool answer(void)
{
    struct session_context c = context();

    assert_int_equal(answer_send(rig.s, &c, &rig.table.header->answer), 0);
    assert_false(answer_is_due(rig.s, &c));
    return answer_finish(rig.s, &c);
}

static void client_sends(const void *data, size_t length)
{
    assert_int_equal(send(rig.client, data, length, MSG_NOSIGNAL), length);
}

/* Reads what the client is sent, up to the end. Returns 0, or the error at the end. */
static int read_answer(char ret[static RECEIPT_MAX + 1])
{
    size_t length = 0;
    ssize_t n;

    while ((n = recv(rig.client, ret + length, RECEIPT_MAX - length, 0)) > 0)
        length += (size_t)n;
    ret[length] = '\0';
    return n < 0 ? errno : 0;
}

static void stream_is(const void *data, size_t length)
{
    assert_int_equal(rig.stream.length, length);
    if (length > 0)
        assert_memory_equal(rig.stream.bytes, data, length);
}

/* The process dies here; another one goes on with what stands in the table. */
static void die(void)
{
    int header = fcntl(rig.table.header_fd, F_DUPFD_CLOEXEC, 3);
    int regions = fcntl(rig.table.regions_fd, F_DUPFD_CLOEXEC, 3);
    uint32_t number = table_number(&rig.table, rig.s);

    sink_deinit(rig.sink);
    table_deinit(&rig.table);
    assert_int_equal(table_open(&rig.table, header, regions), 0);
    assert_int_equal(table_attach(&rig.table), 0);
    assert_int_equal(recovery_run(&rig.table), 0);
    assert_int_equal(
        sink_init(rig.sink, OUTPUT_JOURNAL, rig.journald.path, &rig.table.header->batch), 0);
    rig.s = &rig.table.sessions[number];
}

/* --- Names --- */

static void reasons_have_names(void **state)
{
    static const struct {
        enum session_reason reason;
        const char *name;
    } rows[] = {
        {REASON_EOF, "eof"},
        {REASON_RESET, "reset"},
        {REASON_TIMEOUT, "timeout"},
        {REASON_IDLE, "idle"},
        {REASON_SHUTDOWN, "shutdown"},
        {REASON_ERROR, "error"},
        {REASON_NONE, "none"},
        {REASON_SESSION_LIMIT, "session-limit"},
        {(enum session_reason)200, "error"},
        {REASON_ADDRESS_LIMIT, "address-limit"},
        {REASON_DENIED, "denied"},
        {REASON_PROTOCOL, "protocol"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_string_equal(session_reason_name(rows[i].reason), rows[i].name);
}

static void cookies_tell_sockets_apart(void **state)
{
    int fds[2], copy;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    copy = dup(fds[0]);
    assert_true(session_cookie(fds[0]) != 0);
    assert_true(session_cookie(fds[0]) != session_cookie(fds[1]));
    assert_true(session_cookie(fds[0]) == session_cookie(copy));
    close(fds[0]);
    close(fds[1]);
    close(copy);
    assert_int_equal(session_cookie(copy), 0);
    assert_int_equal(session_cookie(-1), 0);
    assert_int_equal(session_cookie(rig.table.header_fd), 0);
}

static void connections_are_told_from_others(void **state)
{
    struct session s = {.fd = -1, .cookie = 1};
    int fds[2];

    (void)state;
    assert_false(session_has_connection(&s));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    s.fd = fds[0];
    assert_false(session_has_connection(&s)); /* another connection */
    s.cookie = 0;
    assert_false(session_has_connection(&s));
    s.cookie = session_cookie(fds[0]);
    assert_true(session_has_connection(&s));
    s.fd = rig.table.header_fd;
    assert_false(session_has_connection(&s));
    close(fds[0]);
    close(fds[1]);
    s.fd = fds[0];
    assert_false(session_has_connection(&s));
}

/* --- A life --- */

static void session_has_its_events(void **state)
{
    static const char sent[] = "one\ntwo\r\n\nthr\033ee";
    char heard[RECEIPT_MAX + 1];

    (void)state;
    begin(true, SESSION_OPEN);
    log_all();
    flush();
    assert_int_equal(rig.connects, 1);
    assert_true(fields_are(&rig.last, "NETD_PEER", "192.0.2.1:4711"));
    assert_true(fields_are(&rig.last, "NETD_LOCAL", "192.0.2.2:3000"));
    assert_true(rig.s->connect_taken);

    client_sends(sent, strlen(sent));
    arrived(POLLIN);
    assert_int_equal(receive(), strlen(sent));
    log_all();
    assert_int_equal(rig.s->records, 0); /* not before the journal has them */
    flush();
    assert_int_equal(rig.s->records, 3);
    assert_int_equal(rig.s->bytes, strlen("one\ntwo\r\n\n"));
    assert_int_equal(rig.stream.records, 3);
    assert_int_equal(receive(), 0);
    assert_int_equal(rig.s->reason, REASON_NONE);

    assert_int_equal(shutdown(rig.client, SHUT_WR), 0);
    arrived(POLLRDHUP);
    assert_int_equal(receive(), 0);
    assert_int_equal(rig.s->reason, REASON_EOF);
    log_all();
    assert_false(rig.s->end_taken);
    flush();
    assert_true(rig.s->end_taken);
    assert_int_equal(rig.ends, 1);
    stream_is(sent, strlen(sent));
    assert_true(fields_are(&rig.last, "NETD_REASON", "eof"));
    assert_true(fields_are(&rig.last, "NETD_RECORDS", "4"));
    assert_true(fields_are(&rig.last, "NETD_BYTES", "16"));
    assert_int_equal(counters_records(rig.table.header), 4);

    assert_false(answer());
    close_fd(&rig.s->fd);
    assert_int_equal(read_answer(heard), 0);
    assert_string_equal(
        heard, "netd session=abababababababababababababababab records=4 bytes=16 end=eof\n");
}

static void session_without_a_byte(void **state)
{
    char heard[RECEIPT_MAX + 1];

    (void)state;
    begin(true, SESSION_OPEN);
    assert_int_equal(shutdown(rig.client, SHUT_WR), 0);
    arrived(POLLRDHUP);
    assert_int_equal(receive(), 0);
    log_all();
    flush();
    assert_int_equal(rig.connects, 1);
    assert_int_equal(rig.ends, 1);
    assert_int_equal(rig.stream.records, 0);
    assert_false(answer());
    close_fd(&rig.s->fd);
    assert_int_equal(read_answer(heard), 0);
    assert_string_equal(
        heard, "netd session=abababababababababababababababab records=0 bytes=0 end=eof\n");
}

/* How each reason looks to the journal and to the client. */
static void reasons_are_told(void **state)
{
    static const struct {
        enum session_reason reason;
        const char *name;
        bool receipt, lingers;
    } rows[] = {
        {REASON_EOF, "eof", true, false},          {REASON_RESET, "reset", false, false},
        {REASON_TIMEOUT, "timeout", false, false}, {REASON_IDLE, "idle", true, true},
        {REASON_SHUTDOWN, "shutdown", true, true}, {REASON_ERROR, "error", false, false},
    };

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
        size_t n = i / 2;
        char heard[RECEIPT_MAX + 1], line[RECEIPT_MAX];
        bool lingers;
        int r;

        settings.receipt = i % 2 == 0;
        begin(true, SESSION_OPEN);
        client_sends("one\ntwo", 7);
        arrived(POLLIN);
        assert_int_equal(receive(), 7);
        session_end(rig.s, rows[n].reason, rows[n].reason == REASON_ERROR ? EIO : ENOENT);
        session_end(rig.s, REASON_EOF, 0); /* only the first one counts */
        assert_int_equal(receive(), 0);
        log_all();
        flush();
        assert_int_equal(rig.ends, 1);
        stream_is("one\ntwo", 7);
        assert_true(fields_are(&rig.last, "NETD_REASON", rows[n].name));
        assert_true(fields_are(&rig.last, "NETD_RECORDS", "2"));
        assert_true(fields_are(&rig.last, "NETD_BYTES", "7"));
        if (rows[n].reason == REASON_ERROR)
            assert_true(fields_are(&rig.last, "ERRNO", "5"));
        else
            assert_null(fields_find(&rig.last, "ERRNO"));

        lingers = rows[n].lingers && settings.receipt; /* or nothing can be missed */
        assert_int_equal(answer(), lingers);
        assert_int_equal(rig.s->told, answer_make(rows[n].receipt && settings.receipt, 0));
        if (!lingers)
            close_fd(&rig.s->fd);
        r = read_answer(heard);
        snprintf(line, sizeof(line), RECEIPT_FORMAT, "abababababababababababababababab",
                 UINT64_C(2), UINT64_C(7), rows[n].name);
        assert_string_equal(heard, rows[n].receipt && settings.receipt ? line : "");
        assert_int_equal(r, rows[n].reason == REASON_RESET || rows[n].reason == REASON_TIMEOUT ||
                                    rows[n].reason == REASON_ERROR
                                ? ECONNRESET
                                : 0);
        if (lingers) {
            while (!session_is_acknowledged(rig.s))
                ;
            /* The client may still be sending; that is discarded, without a reset. */
            client_sends("more\n", 5);
            assert_false(session_drain(rig.s));
            assert_int_equal(shutdown(rig.client, SHUT_WR), 0);
            arrived(POLLRDHUP);
            assert_true(session_drain(rig.s));
        }
        end();
    }
}

/* The client has no room for its receipt, then for half of it; another worker says the rest. */
static void answers_wait_for_room(void **state)
{
    static const char junk[4096];
    char line[RECEIPT_MAX], heard[RECEIPT_MAX + 1];
    struct session_context c;

    (void)state;
    begin(true, SESSION_OPEN);
    session_end(rig.s, REASON_SHUTDOWN, 0);
    log_all();
    flush();
    while (send(rig.s->fd, junk, sizeof(junk), MSG_DONTWAIT) > 0)
        ;
    c = context();
    assert_int_equal(answer_send(rig.s, &c, &rig.table.header->answer), -EAGAIN);
    assert_true(answer_is_due(rig.s, &c));
    assert_int_equal(rig.s->told, 0);
    snprintf(line, sizeof(line), RECEIPT_FORMAT, "abababababababababababababababab", UINT64_C(0),
             UINT64_C(0), "shutdown");
    end();

    begin(true, SESSION_OPEN);
    session_end(rig.s, REASON_SHUTDOWN, 0);
    log_all();
    flush();
    assert_int_equal(send(rig.s->fd, line, 30, 0), 30);
    rig.table.header->answer.told = 0;
    rig.table.header->answer.session = table_number(&rig.table, rig.s);
    rig.table.header->answer.message.msg_len = 30;
    die();
    c = context();
    assert_true(answer_is_due(rig.s, &c));
    assert_int_equal(answer_send(rig.s, &c, &rig.table.header->answer), 0);
    assert_false(answer_is_due(rig.s, &c));
    assert_int_equal(shutdown(rig.s->fd, SHUT_WR), 0);
    assert_int_equal(read_answer(heard), 0);
    assert_string_equal(heard, line);
    end();
}

static void refused_clients_are_told(void **state)
{
    static const enum session_reason reasons[] = {REASON_SESSION_LIMIT, REASON_ADDRESS_LIMIT};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        char heard[RECEIPT_MAX + 1], line[RECEIPT_MAX];

        settings.receipt = i == 0; /* it makes no difference here */
        begin(true, SESSION_REFUSED);
        session_end(rig.s, reasons[i], 0);
        client_sends("data\n", 5);
        assert_int_equal(receive(), 0);
        log_all();
        flush();
        assert_int_equal(rig.refusals, 1);
        assert_int_equal(rig.connects + rig.ends, 0);
        assert_true(fields_are(&rig.last, "NETD_REASON", session_reason_name(reasons[i])));
        assert_true(rig.s->end_taken);
        assert_true(answer());
        assert_int_equal(read_answer(heard), 0);
        snprintf(line, sizeof(line), REFUSAL_FORMAT, session_reason_name(reasons[i]));
        assert_string_equal(heard, line);
        end();
    }
}

/* An AF_UNIX client has in its queue what was sent to it; SIOCOUTQ says what it has not read. */
static void local_clients_need_no_acknowledgement(void **state)
{
    (void)state;
    begin(false, SESSION_OPEN);
    assert_int_equal(send(rig.s->fd, "x", 1, 0), 1);
    assert_false(session_is_acknowledged(rig.s));
    rig.s->peer = (struct endpoint){.family = AF_UNIX};
    assert_true(session_is_acknowledged(rig.s));
    client_sends("two", 3);
    assert_int_equal(session_unread(rig.s), 3);
}

/* A client that goes on sending after the end does not delay netd. */
static void drains_are_bounded(void **state)
{
    static char data[100000];
    int left = 0;

    (void)state;
    begin(false, SESSION_OPEN);
    client_sends(data, sizeof(data));
    assert_false(session_drain(rig.s));
    assert_int_equal(ioctl(rig.s->fd, FIONREAD, &left), 0);
    assert_true(left > 0 && left < (int)sizeof(data));
    assert_false(session_drain(rig.s));
    close_fd(&rig.client);
    assert_true(session_drain(rig.s));
}

static void client_that_resets(void **state)
{
    struct linger now = {.l_onoff = 1};

    (void)state;
    begin(true, SESSION_OPEN);
    client_sends("one\ntwo", 7);
    arrived(POLLIN);
    assert_int_equal(receive(), 7);
    assert_int_equal(setsockopt(rig.client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    close_fd(&rig.client);
    arrived(0); /* errors are always told */
    assert_int_equal(receive(), 0);
    assert_int_equal(rig.s->reason, REASON_RESET);
    log_all();
    flush();
    stream_is("one\ntwo", 7);
    assert_true(fields_are(&rig.last, "NETD_REASON", "reset"));
    assert_false(answer());
}

/* What arrived before an error of the socket is read, whatever the error is. */
static void bytes_before_an_error_are_read(void **state)
{
    static const struct {
        int error;
        enum session_reason reason;
    } rows[] = {
        {ECONNABORTED, REASON_ERROR}, {ECONNRESET, REASON_RESET}, {EPIPE, REASON_RESET},
        {ETIMEDOUT, REASON_TIMEOUT},  {ENOBUFS, REASON_ERROR},    {EHOSTUNREACH, REASON_TIMEOUT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        begin(true, SESSION_OPEN);
        client_sends("one\ntwo", 7);
        arrived(POLLIN);
        assert_int_equal(shutdown(rig.client, SHUT_WR), 0);
        arrived(POLLRDHUP);
        receive_error = rows[i].error;
        assert_int_equal(receive(), 7);
        assert_int_equal(rig.s->reason, REASON_NONE);
        if (i % 2)
            die(); /* the next worker knows it, too */
        log_all();
        flush();
        assert_int_equal(receive(), 0);
        assert_int_equal(rig.s->reason, rows[i].reason);
        assert_int_equal(rig.s->error, rows[i].reason == REASON_ERROR ? rows[i].error : 0);
        log_all();
        flush();
        stream_is("one\ntwo", 7);
        assert_int_equal(rig.ends, 1);
        end();
    }
}

static void broken_descriptor_is_an_error(void **state)
{
    (void)state;
    begin(false, SESSION_OPEN);
    close_fd(&rig.s->fd);
    assert_int_equal(receive(), 0);
    assert_int_equal(rig.s->reason, REASON_ERROR);
    assert_int_equal(rig.s->error, EBADF);
    assert_int_equal(rig.table.header->receive.session, NO_SESSION);
    log_all();
    flush();
    assert_int_equal(rig.ends, 1);
    assert_true(fields_are(&rig.last, "ERRNO", "9"));
    assert_false(answer());
    assert_true(session_drain(rig.s));
}

/* --- Receiving --- */

static void limits_of_a_read(void **state)
{
    static uint8_t data[3 * READ_MAX];
    struct session_context c;

    (void)state;
    memset(data, 'x', sizeof(data));
    settings.max_record = MAX_RECORD_HIGH;
    begin(false, SESSION_OPEN);
    client_sends(data, sizeof(data));
    c = context();
    assert_int_equal(session_receive(rig.s, &c, &rig.table.header->receive, 10), 10);
    assert_int_equal(rig.s->window, window_make(0, 10));
    assert_int_equal(receive(), READ_MAX);
    assert_int_equal(rig.s->window, window_make(0, READ_MAX + 10));
    assert_int_equal(rig.table.header->receive.session, NO_SESSION);
    assert_int_equal(session_pending(rig.s), READ_MAX + 10);
}

static void raw_reads_wait_for_the_journal(void **state)
{
    static uint8_t data[300];

    (void)state;
    memset(data, 'x', sizeof(data));
    settings.framing = FRAMING_RAW;
    settings.max_record = 100;
    begin(false, SESSION_OPEN);
    client_sends(data, sizeof(data));
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(receive(), 100);
        assert_int_equal(receive(), 0);
        log_all();
        assert_int_equal(receive(), 0);
        flush();
        assert_int_equal(rig.s->records, i + 1);
    }
    assert_int_equal(receive(), 0);
    assert_int_equal(rig.s->reason, REASON_NONE);
}

/* The region is full of what the journal has not taken: the client waits, and the session goes on.
 */
static void full_regions_wait(void **state)
{
    static uint8_t line[READ_MAX];
    uint64_t sent = 0;

    (void)state;
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\n';
    settings.max_record = MAX_RECORD_HIGH;
    begin(false, SESSION_OPEN);
    for (;;) {
        client_sends(line, sizeof(line));
        if (receive() == 0)
            break;
        sent += sizeof(line);
        assert_true(window_end(rig.s->window) <= WINDOW_SIZE);
        log_all();
    }
    assert_int_equal(rig.s->reason, REASON_NONE);
    assert_true(sent > WINDOW_SIZE / 2);
    flush();
    assert_int_equal(rig.s->bytes, sent);
    assert_int_equal(receive(), sizeof(line));
}

/* The longest record there is, that begins at the worst place. */
static void longest_records_find_room(void **state)
{
    static uint8_t data[MAX_RECORD_HIGH + 2];
    static uint8_t all[READ_MAX - 1 + 4 * (size_t)(MAX_RECORD_HIGH + 2)];

    (void)state;
    memset(data, 'x', sizeof(data));
    data[sizeof(data) - 2] = '\r';
    data[sizeof(data) - 1] = '\n';
    settings.max_record = MAX_RECORD_HIGH;
    for (size_t first = 1; first < READ_MAX; first += 4093) {
        size_t sent = 0, received = 0, total = first;

        memset(all, 'y', first);
        all[first - 1] = '\n';
        for (int i = 0; i < 4; i++, total += sizeof(data))
            memcpy(all + total, data, sizeof(data));
        begin(false, SESSION_OPEN);
        while (received < total) {
            uint32_t r;

            if (sent < total)
                sent +=
                    (size_t)send(rig.client, all + sent, min_size(total - sent, READ_MAX / 2), 0);
            r = receive();
            assert_true(r > 0);
            received += r;
            log_all();
            flush();
        }
        stream_is(all, total);
        assert_int_equal(rig.s->records, 5);
        end();
    }
}

/* --- Turns --- */

static void turns_are_bounded(void **state)
{
    static uint8_t data[TURN_RECORDS * 2 + 10];
    struct session_context c;

    (void)state;
    memset(data, '\n', sizeof(data));
    begin(false, SESSION_OPEN);
    log_all();
    flush();
    client_sends(data, sizeof(data));
    (void)receive();
    c = context();
    for (uint64_t i = 1; i <= 2; i++) {
        assert_int_equal(session_log(rig.s, &c), SESSION_RUNS);
        assert_int_equal(rig.s->batch_records, i * TURN_RECORDS);
        flush();
    }
    assert_int_equal(session_log(rig.s, &c), SESSION_WAITS);
    flush();
    assert_int_equal(rig.s->records, sizeof(data));
}

/* A batch without room: after it was sent, the session continues where it stopped. */
static void full_batches_block(void **state)
{
    static uint8_t data[2000];
    struct session_context c;
    enum session_progress progress = SESSION_RUNS;
    unsigned blocked = 0;

    (void)state;
    memset(data, '\n', sizeof(data));
    begin(false, SESSION_OPEN);
    client_sends(data, sizeof(data));
    (void)receive();
    session_end(rig.s, REASON_IDLE, 0);
    c = context();
    while (progress != SESSION_WAITS) {
        progress = session_log(rig.s, &c);
        if (progress != SESSION_BLOCKED)
            continue;
        assert_int_equal(session_log(rig.s, &c), SESSION_BLOCKED);
        flush();
        blocked++;
    }
    flush();
    assert_true(blocked >= sizeof(data) / BATCH_MAX);
    assert_int_equal(rig.s->records, sizeof(data));
    assert_int_equal(rig.ends, 1);
}

/* Nor may the text of the entries run out of room for good. */
static void full_arenas_block(void **state)
{
    static uint8_t data[100000];
    struct session_context c;
    unsigned blocked = 0;

    (void)state;
    memset(data, 0xff, sizeof(data));
    for (size_t i = 9999; i < sizeof(data); i += 10000)
        data[i] = '\n';
    settings.max_record = MAX_RECORD_HIGH;
    begin(false, SESSION_OPEN);
    log_all();
    rig.sink->arena.size = 60000; /* room for one such record */
    client_sends(data, sizeof(data));
    while (receive() > 0) {
        c = context();
        while (session_log(rig.s, &c) == SESSION_BLOCKED) {
            blocked++;
            flush();
        }
    }
    flush();
    assert_true(blocked > 5);
    assert_int_equal(rig.s->records, 10);
    stream_is(data, sizeof(data));
    rig.sink->arena.size = EVENT_ARENA_SIZE;
}

/* Where there is no room, nothing is put in the batch, and nothing counted. */
static void blocks(enum session_progress (*put)(struct session *, const struct session_context *))
{
    struct session_context c = context();
    uint32_t end = rig.sink->batch->end;

    rig.sink->batch->end = BATCH_MAX;
    assert_int_equal(put(rig.s, &c), SESSION_BLOCKED);
    rig.sink->batch->end = end;
    rig.sink->arena.used = rig.sink->arena.size;
    assert_int_equal(put(rig.s, &c), SESSION_BLOCKED);
    assert_int_equal(rig.sink->batch->end, end);
    rig.sink->arena.used = 0;
}

static void every_event_waits_for_room(void **state)
{
    struct session_context c;

    (void)state;
    begin(false, SESSION_OPEN);
    blocks(session_log);
    log_all();
    flush();
    assert_int_equal(rig.connects, 1);
    client_sends("one\n", 4);
    (void)receive();
    blocks(session_log);
    log_all();
    flush();
    assert_int_equal(rig.stream.records, 1);
    client_sends("two", 3);
    (void)receive();
    blocks(session_flush_partial);
    c = context();
    assert_int_equal(session_flush_partial(rig.s, &c), SESSION_WAITS);
    flush();
    stream_is("one\ntwo", 7);
    client_sends("\n", 1);
    (void)receive();
    log_all();
    flush();
    session_end(rig.s, REASON_IDLE, 0);
    blocks(session_log);
    assert_int_equal(rig.ends, 0);
    log_all();
    flush();
    assert_int_equal(rig.ends, 1);
    end();

    begin(false, SESSION_REFUSED);
    session_end(rig.s, REASON_SESSION_LIMIT, 0);
    blocks(session_log);
    log_all();
    flush();
    assert_int_equal(rig.refusals, 1);
}

static void cuts_take_unfinished_records(void **state)
{
    struct session_context c;

    (void)state;
    begin(false, SESSION_OPEN);
    log_all();
    flush();
    c = context();
    assert_int_equal(session_flush_partial(rig.s, &c), SESSION_WAITS); /* nothing is there */
    client_sends("abc\r", 4);
    (void)receive();
    log_all();
    assert_int_equal(session_flush_partial(rig.s, &c), SESSION_WAITS);
    flush();
    assert_int_equal(rig.s->records, 0);
    assert_int_equal(rig.s->bytes, 3);
    assert_true(rig.s->continued);
    assert_int_equal(session_pending(rig.s), 1);
    client_sends("\n", 1);
    (void)receive();
    log_all();
    flush();
    assert_int_equal(rig.s->records, 1);
    assert_false(rig.s->continued);
    stream_is("abc\r\n", 5);

    /* A record that ends with its cut still ends. */
    client_sends("de", 2);
    (void)receive();
    assert_int_equal(session_flush_partial(rig.s, &c), SESSION_WAITS);
    flush();
    assert_int_equal(shutdown(rig.client, SHUT_WR), 0);
    (void)receive();
    log_all();
    flush();
    assert_int_equal(rig.s->records, 2);
    assert_int_equal(rig.stream.records, 2);
    assert_true(rig.stream.ended);
    stream_is("abc\r\nde", 7);
}

/* Half a frame is logged; the next worker knows how much of it is still to come. */
static void frames_go_on_with_another_worker(void **state)
{
    struct session_context c;

    (void)state;
    settings.framing = FRAMING_OCTET;
    begin(false, SESSION_OPEN);
    client_sends("3 one20 5 two\n", 14);
    (void)receive();
    log_all();
    c = context();
    assert_int_equal(session_flush_partial(rig.s, &c), SESSION_WAITS);
    flush();
    assert_true(rig.s->continued);
    assert_int_equal(rig.s->frame_left, 14);
    assert_int_equal(rig.s->bytes, 14);
    die();
    client_sends("7 three\n\r\n901234", 17);
    (void)receive();
    log_all();
    flush();
    assert_false(rig.s->continued);
    assert_int_equal(rig.s->frame_left, 0);
    assert_int_equal(rig.s->records, 2);
    assert_int_equal(session_pending(rig.s), 3);
    assert_int_equal(shutdown(rig.client, SHUT_WR), 0);
    (void)receive();
    log_all();
    flush();
    assert_int_equal(rig.s->records, 3);
    stream_is("3 one20 5 two\n7 three\n\r\n901234", 31);
}

/* Their offsets are those of their heads. */
static void resent_frames_are_marked(void **state)
{
    (void)state;
    settings.framing = FRAMING_OCTET;
    settings.max_record = 64;
    begin(false, SESSION_OPEN);
    client_sends("3 one5 three70 ", 15);
    client_sends("0123456789012345678901234567890123456789012345678901234567890123456789", 70);
    (void)receive();
    rig.s->resent_end = 6; /* "5 three" begins before it */
    log_all();
    flush();
    assert_int_equal(rig.stream.resent, 2);
    assert_int_equal(rig.stream.resent_at, 5);
    assert_int_equal(rig.stream.records, 3);
    assert_int_equal(rig.s->bytes, 85);
}

static void poisoned_bytes_are_not_looked_at(void **state)
{
    (void)state;
    begin(false, SESSION_OPEN);
    client_sends("one\ntwo\n", 8);
    (void)receive();
    rig.s->poisoned = true;
    session_end(rig.s, REASON_ERROR, EBADMSG);
    log_all();
    flush();
    assert_int_equal(rig.stream.records, 0);
    assert_int_equal(rig.ends, 1);
    assert_true(fields_are(&rig.last, "NETD_BYTES", "8")); /* received, not logged */
    assert_true(fields_are(&rig.last, "NETD_RECORDS", "0"));
}

static void resent_records_are_marked(void **state)
{
    (void)state;
    begin(false, SESSION_OPEN);
    client_sends("one\ntwo\nthree\n", 14);
    (void)receive();
    rig.s->resent_end = 8;
    log_all();
    flush();
    assert_int_equal(rig.stream.resent, 2);
    assert_int_equal(rig.stream.resent_at, 4);
    assert_int_equal(rig.stream.records, 3);
    end();

    begin(false, SESSION_OPEN);
    client_sends("one\ntwo", 7);
    (void)receive();
    log_all();
    flush();
    rig.s->resent_end = 5; /* "two" begins before it */
    (void)receive();       /* moves the rest to the front, and the mark with it */
    assert_int_equal(rig.s->resent_end, 1);
    client_sends("\nthree\n", 7);
    (void)receive();
    log_all();
    flush();
    assert_int_equal(rig.stream.records, 3);
    assert_int_equal(rig.stream.resent, 1);
    assert_int_equal(rig.stream.resent_at, 4);
    end();
}

/* --- Marks move with the bytes --- */

static void compaction_moves_what_fits(void **state)
{
    (void)state;
    begin(false, SESSION_OPEN);
    client_sends("one\ntwo", 7);
    (void)receive();
    log_all();
    flush();
    assert_int_equal(rig.s->window, window_make(4, 7));
    rig.s->resent_end = 6;
    assert_int_equal(receive(), 0);
    assert_int_equal(rig.s->window, window_make(0, 3));
    assert_int_equal(rig.s->resent_end, 2);
    assert_memory_equal(table_region(&rig.table, rig.s), "two", 3);

    /* Longer than the room in front of it: it stays, so that no byte is ever in no place. */
    client_sends("\nlonger", 7);
    (void)receive();
    log_all();
    flush();
    assert_int_equal(rig.s->window, window_make(4, 10));
    assert_int_equal(receive(), 0);
    assert_int_equal(rig.s->window, window_make(4, 10));
    assert_int_equal(rig.s->resent_end, 2);
}

/* The worker that got the error of a connection from netd-tls died: the bytes are still there, and
 * then an end of file like that of an orderly end, after which netd-tls keeps its side open. */
static void cut_off_stream_is_told_from_an_end(void **state)
{
    (void)state;
    for (int is_orderly = 0; is_orderly < 2; is_orderly++) {
        int error = 0;
        socklen_t length = sizeof(error);

        begin(false, SESSION_OPEN);
        rig.s->greeting = GREETING_SENT;
        assert_int_equal(send(rig.s->fd, "\n", 1, 0), 1);
        client_sends("text", 4);
        if (is_orderly)
            (void)shutdown(rig.client, SHUT_WR);
        else
            close_fd(&rig.client);
        assert_int_equal(getsockopt(rig.s->fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
        assert_int_equal(error, is_orderly ? 0 : ECONNRESET);
        die();
        assert_int_equal(receive(), 4);
        assert_int_equal(receive(), 0);
        assert_int_equal(rig.s->reason, is_orderly ? REASON_EOF : REASON_RESET);
        log_all();
        flush();
        stream_is("text", 4);
        end();
    }
}

/* --- PROXY headers --- */

/* From 192.0.2.1:4711, with TLS: the name "client", which is verified. */
static void build_header(struct built *b)
{
    built_begin_inet(b);
    built_tlv(b, 0x20, "\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\6client", 24);
    built_crc(b);
}

/* What the scheduler does with a session that has no header yet. */
static void read_header(void)
{
    struct session_context c = context();
    const char *why = NULL;

    if (!session_parse_header(rig.s, &c, &why))
        (void)receive();
    if (session_parse_header(rig.s, &c, &why) || rig.s->reason != REASON_NONE)
        session_open(rig.s);
    assert_true(!why || rig.s->reason == REASON_PROTOCOL);
}

static void header_comes_first(void **state)
{
    struct built header;

    (void)state;
    build_header(&header);
    begin(false, SESSION_HEADER);
    for (size_t i = 0; i < header.length; i++) {
        assert_int_equal(rig.s->state, SESSION_HEADER);
        assert_false(session_has_header(rig.s));
        client_sends(header.bytes + i, 1);
        if (i % 16 == 1)
            die();
        read_header();
        log_all();
    }
    assert_int_equal(rig.s->state, SESSION_OPEN);
    assert_int_equal(rig.s->header_length, header.length);
    assert_int_equal(session_pending(rig.s), 0);
    log_all();
    flush();
    assert_int_equal(rig.connects, 1);
    for (int i = 0; i < 2; i++) {
        assert_true(fields_are(&rig.last, "NETD_PEER", "192.0.2.1:4711"));
        assert_true(fields_are(&rig.last, "NETD_LOCAL", "198.51.100.2:3000"));
        assert_true(fields_are(&rig.last, "NETD_PROXY", "10.0.0.1:99"));
        assert_true(fields_are(&rig.last, "NETD_TLS_VERSION", "TLSv1.3"));
        assert_true(fields_are(&rig.last, "NETD_TLS_NAME", "client"));
        client_sends("text", 4);
        assert_int_equal(receive(), i == 0 ? 4 : 0);
        session_end(rig.s, REASON_EOF, 0);
        log_all();
        flush();
    }
    assert_int_equal(rig.ends, 1);
    stream_is("text", 4);
    end();
}

static void no_header_is_an_error(void **state)
{
    static const struct {
        const char *data;
        enum session_reason reason;
    } rows[] = {
        {"", REASON_PROTOCOL},
        {"PROXY", REASON_PROTOCOL},
        {"text\n", REASON_PROTOCOL},
        {"PROXY UNKNOWN\r\n", REASON_EOF},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        begin(false, SESSION_HEADER);
        client_sends(rows[i].data, strlen(rows[i].data));
        (void)shutdown(rig.client, SHUT_WR);
        while (rig.s->state == SESSION_HEADER)
            read_header();
        (void)receive();
        assert_int_equal(rig.s->reason, rows[i].reason);
        log_all();
        flush();
        assert_int_equal(rig.connects, 1);
        assert_int_equal(rig.ends, 1);
        assert_true(fields_are(&rig.last, "NETD_PEER", "10.0.0.1:99"));
        assert_true(fields_are(&rig.last, "NETD_BYTES", "0"));
        stream_is("", 0);
        end();
    }
}

/* A LOCAL header, and nothing else so far. */
static void health_checks_are_told_from_sessions(void **state)
{
    struct built header;
    struct session_context c;
    const char *why = NULL;

    (void)state;
    built_begin(&header, 0x20, 0);
    begin(false, SESSION_HEADER);
    c = context();
    client_sends(header.bytes, header.length - 1);
    (void)receive();
    assert_false(session_parse_header(rig.s, &c, &why));
    assert_false(session_is_health_check(rig.s));
    client_sends(header.bytes + header.length - 1, 1);
    (void)receive();
    assert_true(session_parse_header(rig.s, &c, &why));
    assert_true(session_is_health_check(rig.s));
    die();
    assert_true(session_is_health_check(rig.s));
    client_sends("x", 1);
    assert_int_equal(receive(), 1);
    assert_false(session_is_health_check(rig.s));
    session_open(rig.s);
    assert_false(session_is_health_check(rig.s));
    log_all();
    flush();
    assert_true(fields_are(&rig.last, "NETD_PEER", "10.0.0.1:99"));
    end();
}

/* Neither a header that crashes workers nor what it says is looked at again. */
static void poisoned_headers_are_not_looked_at(void **state)
{
    struct session_context c;
    struct built header;
    const char *why = NULL;

    (void)state;
    build_header(&header);
    for (int known = 0; known < 2; known++) {
        begin(false, SESSION_HEADER);
        c = context();
        client_sends(header.bytes, header.length);
        (void)receive();
        if (known)
            assert_true(session_parse_header(rig.s, &c, &why));
        rig.table.header->crashed = true;
        rig.table.header->working = table_number(&rig.table, rig.s);
        rig.s->crashes = 1;
        die();
        assert_int_equal(rig.s->reason, REASON_ERROR);
        read_header();
        log_all();
        flush();
        assert_int_equal(rig.ends, 1);
        assert_null(fields_find(&rig.last, "NETD_TLS_NAME"));
        assert_int_equal(fields_are(&rig.last, "NETD_PEER", "192.0.2.1:4711"), known);
        end();
    }
}

/* --- Any bytes, any cutting, any death --- */

/* A RELP session may end by what has been received. */
static bool may_receive(void)
{
    return settings.framing != FRAMING_RELP || session_is_framed(rig.s);
}

/* The worker dies right after the kernel wrote what it received. */
static void die_in_receive(void)
{
    struct transfer *t = &rig.table.header->receive;
    uint32_t end_before = window_end(rig.s->window);
    struct iovec piece = {
        .iov_base = table_region(&rig.table, rig.s) + end_before,
        .iov_len = min_size(READ_MAX, WINDOW_SIZE - end_before),
    };

    if (rig.s->reason != REASON_NONE || piece.iov_len < READ_MAX ||
        (settings.framing == FRAMING_RAW && session_pending(rig.s) > 0) || !may_receive() ||
        (rig.s->state == SESSION_HEADER && session_has_header(rig.s)))
        return;
    if (settings.framing == FRAMING_RAW)
        piece.iov_len = settings.max_record;
    t->base = end_before;
    t->message =
        (struct mmsghdr){.msg_hdr.msg_iov = &piece, .msg_hdr.msg_iovlen = 1, .msg_len = NOT_TAKEN};
    t->session = table_number(&rig.table, rig.s);
    if (recvmmsg(rig.s->fd, &t->message, 1, MSG_DONTWAIT, NULL) == 1 && random_below(2))
        session_apply_receive(rig.s, t);
    die();
}

/* The worker dies after the journal took some of the batch, wherever it stands with that. */
static void die_in_send(void)
{
    (void)sink_send(rig.sink);
    for (size_t n = random_below(3); n > 0 && batch_taken(&rig.table.header->batch); n--) {
        struct batch *b = &rig.table.header->batch;

        session_apply(rig.s, &b->items[b->first]);
        if (n == 1 && random_below(2))
            break;
        b->first++;
    }
    die();
    read_journald();
}

static void random_step(void)
{
    struct session_context c = context();
    const char *why;

    if (rig.s->state == SESSION_HEADER && random_below(4)) {
        if (session_parse_header(rig.s, &c, &why) && random_below(2))
            session_open(rig.s);
        else if (!session_has_header(rig.s))
            (void)session_receive(rig.s, &c, &rig.table.header->receive,
                                  1 + (uint32_t)random_below(60));
        (void)session_parse_header(rig.s, &c, &why);
        return;
    }
    switch (random_below(12)) {
    case 0:
        die();
        break;
    case 1:
        die_in_receive();
        break;
    case 2:
        die_in_send();
        break;
    case 3:
        if (rig.s->state == SESSION_OPEN && session_log(rig.s, &c) == SESSION_WAITS)
            (void)session_flush_partial(rig.s, &c);
        break;
    case 4:
    case 5:
        flush();
        break;
    case 6:
    case 7:
        (void)session_log(rig.s, &c);
        break;
    default:
        if (rig.s->state != SESSION_HEADER && may_receive())
            (void)session_receive(rig.s, &c, &rig.table.header->receive,
                                  random_below(2) ? UINT32_MAX : 1 + (uint32_t)random_below(500));
    }
}

static void any_bytes_come_back(void **state)
{
    static uint8_t data[100000];
    static struct frames frames;
    struct pieces lines = {0};
    struct built header;

    (void)state;
    for (int i = random_rounds(600); i > 0; i--) {
        size_t length = random_below(random_below(4) ? 4000 : sizeof(data)), sent = 0;
        char heard[RECEIPT_MAX + 1], line[RECEIPT_MAX];

        settings.framing =
            random_below(2) ? FRAMING_LINE : (enum framing)random_below(FRAMING_RELP);
        settings.max_record =
            (uint32_t)(MAX_RECORD_LOW + random_below(random_below(2) ? 20 : 5000));
        if (settings.framing >= FRAMING_NUL) {
            length = min_size(length, FRAMES_STREAM_MAX);
            random_frames(data, length, settings.max_record);
        } else {
            random_stream(data, length, settings.max_record);
        }
        begin(false, random_below(3) ? SESSION_OPEN : SESSION_HEADER);
        if (rig.s->state == SESSION_HEADER) {
            build_header(&header);
            client_sends(header.bytes, header.length);
        }
        while (!rig.s->end_taken) {
            if (sent < length) {
                ssize_t n = send(rig.client, data + sent,
                                 min_size(length - sent, 1 + random_below(3000)), MSG_DONTWAIT);

                sent += n > 0 ? (size_t)n : 0;
            } else {
                (void)shutdown(rig.client, SHUT_WR);
            }
            for (size_t n = random_below(5); n > 0; n--)
                random_step();
        }
        assert_int_equal(rig.s->reason, REASON_EOF);
        read_journald();
        assert_int_equal(rig.connects, 1);
        assert_int_equal(rig.ends, 1);
        stream_is(data, length);
        assert_int_equal(rig.s->bytes, length);
        assert_int_equal(rig.s->records, rig.stream.records);
        assert_int_equal(counters_records(rig.table.header),
                         rig.table.header->retired[0].records + rig.s->records);
        if (settings.framing == FRAMING_LINE) {
            pieces_expect(&lines, SIZE_MAX, data, length);
            assert_int_equal(rig.stream.records, lines.count);
        } else if (settings.framing >= FRAMING_NUL) {
            frames_expect(&frames, settings.framing, FRAMES_STREAM_MAX, data, length);
            assert_int_equal(rig.stream.records, frames.count);
        }
        assert_true(settings.framing == FRAMING_RAW || !rig.stream.went_on);
        assert_int_equal(rig.stream.resent, 0);
        if (random_below(2))
            die();
        assert_false(answer());
        if (random_below(2))
            die();
        assert_false(answer()); /* once is enough */
        close_fd(&rig.s->fd);
        assert_int_equal(read_answer(heard), 0);
        snprintf(line, sizeof(line), RECEIPT_FORMAT, "abababababababababababababababab",
                 rig.s->records, (uint64_t)length, "eof");
        assert_string_equal(heard, line);
        end();
    }
    free(lines.all);
}

/* --- Any RELP session --- */

#define RELP_OPEN_TEXT "1 open 14 relp_version=0\n"
#define RELP_HEARD_MAX 65536

static struct {
    uint8_t sent[65536];
    size_t length;
    uint64_t first; /* records before the stream */
    struct relp_run run;
    struct joined records;
    char heard[RELP_HEARD_MAX];
    size_t heard_length;
} relp;

/* A stream, which may be cut short anywhere or go on with something else. */
static void relp_send_any(void)
{
    static const char *const wrong[] = {"x", "\n", "9 syslog 1 a\n", "1 open 0\n", "2 close 1\n"};
    size_t frames = random_below(random_below(4) ? 30 : 400), n = 0;
    char *p = (char *)relp.sent;

    if (relp.first == 0)
        n = (size_t)sprintf(p, RELP_OPEN_TEXT);
    for (size_t i = 1; i <= frames; i++) {
        size_t data = random_below(random_below(8) ? 12 : 3 * settings.max_record);

        if (n + data + RELP_HEAD_MAX + 64 > sizeof(relp.sent))
            break;
        n += (size_t)sprintf(p + n, "%u syslog %zu%s", relp_txnr(relp.first + i), data,
                             data > 0 ? " " : "");
        random_stream(relp.sent + n, data, 20);
        n += data;
        p[n++] = '\n';
        if (i == frames && random_below(3) == 0)
            n += (size_t)sprintf(p + n, "%u close 0\n", relp_txnr(relp.first + i + 1));
    }
    if (random_below(4) == 0)
        n = random_below(n + 1);
    else if (random_below(4) == 0)
        n += (size_t)sprintf(p + n, "%s", wrong[random_below(ARRAY_SIZE(wrong))]);
    relp.length = n;
    relp.heard_length = 0;
    relp_expect(&relp.run, settings.max_record, relp.first, relp.sent, n);
}

/* A record that ended: all of them but one that the stream's end cut short. */
static uint64_t relp_whole_records(void)
{
    return rig.stream.records - rig.stream.ended;
}

/* What the client may have been told by what journald has. Returns its length. */
static size_t relp_may_hear(char *ret)
{
    uint64_t records = relp_whole_records();
    size_t n = 0;

    if (rig.s->opened && relp.first == 0)
        n = (size_t)sprintf(ret, "1 rsp 102 200 OK\nrelp_version=0\nrelp_software=netd\n"
                                 "commands=syslog\nnetd_session="
                                 "abababababababababababababababab\n");
    for (uint64_t i = 1; i <= records; i++)
        n += (size_t)sprintf(ret + n, "%u rsp 6 200 OK\n", relp_txnr(relp.first + i));
    if (rig.ends && fields_are(&rig.last, "NETD_REASON", "shutdown"))
        n += (size_t)sprintf(ret + n, "0 serverclose 0\n");
    else if (rig.ends && relp.run.result == FRAMING_CLOSED)
        n += (size_t)sprintf(ret + n, "%u rsp 0\n", relp_txnr(relp.first + records + 1));
    return n;
}

/* Reads what the client was sent, which is never more than that. */
static void relp_hear(void)
{
    static char may[RELP_HEARD_MAX];
    ssize_t n;

    while ((n = recv(rig.client, relp.heard + relp.heard_length, RELP_HEARD_MAX - relp.heard_length,
                     MSG_DONTWAIT)) > 0)
        relp.heard_length += (size_t)n;
    read_journald();
    assert_true(relp.heard_length <= relp_may_hear(may));
    assert_memory_equal(relp.heard, may, relp.heard_length);
}

/* Sends as much of the answers as has room, or the worker dies at that. */
static void relp_answer(void)
{
    struct session_context c = context();

    send_room = random_below(random_below(2) ? 40 : 4000);
    send_kills = random_below(4) == 0;
    if (setjmp(send_death) == 0)
        (void)answer_send(rig.s, &c, &rig.table.header->answer);
    else
        die();
    send_room = SIZE_MAX;
    send_kills = false;
}

static void relp_step(void)
{
    struct session_context c = context();

    session_find_open(rig.s, &c);
    switch (random_below(5)) {
    case 0:
        relp_answer();
        break;
    case 1:
        relp_hear();
        break;
    default:
        random_step();
    }
}

/* The records of the stream, each with LF, are what the journal has; or of a session that netd
 * ended, the beginning. */
static void relp_check_records(bool stopped)
{
    size_t at = 0;

    for (size_t i = 0; i < relp.run.count; i++) {
        const struct relp_record *r = &relp.run.all[i];
        size_t n = min_size(r->length, rig.stream.length - at);

        assert_true(stopped || n == r->length);
        if (n > 0)
            assert_memory_equal(rig.stream.bytes + at, relp.sent + r->start, n);
        at += n;
        if (at < rig.stream.length && r->terminator == TERM_RELP)
            assert_int_equal(rig.stream.bytes[at++], '\n');
    }
    assert_int_equal(at, rig.stream.length);
    assert_int_equal(rig.s->records - relp.first, rig.stream.records);
    assert_int_equal(rig.s->bytes, rig.stream.length - relp_whole_records());
    assert_int_equal(rig.stream.resent, 0);
}

/* Each record is acknowledged once, in order, when the journal has it. */
static void any_records_are_acknowledged(void **state)
{
    static char all[RELP_HEARD_MAX];

    (void)state;
    settings.framing = FRAMING_RELP;
    for (int i = random_rounds(600); i > 0; i--) {
        bool stops = random_below(4) == 0;
        struct session_context c;
        struct built header;
        size_t sent = 0;

        settings.max_record =
            (uint32_t)(MAX_RECORD_LOW + random_below(random_below(2) ? 20 : 5000));
        relp.first = random_below(3) ? 0 : 999999990 + random_below(10);
        relp_send_any();
        begin(false, relp.first == 0 && random_below(3) == 0 ? SESSION_HEADER : SESSION_OPEN);
        if (rig.s->state == SESSION_HEADER) {
            build_header(&header);
            client_sends(header.bytes, header.length);
        } else if (relp.first > 0) {
            rig.s->opened = true;
            rig.s->records = rig.s->batch_records = relp.first;
            rig.s->told = answer_make(1 + relp.first, 0);
        }
        while (!rig.s->end_taken) {
            if (sent < relp.length) {
                ssize_t n = send(rig.client, relp.sent + sent,
                                 min_size(relp.length - sent, 1 + random_below(3000)),
                                 MSG_DONTWAIT | MSG_NOSIGNAL);

                sent += n > 0 ? (size_t)n : 0;
            } else {
                (void)shutdown(rig.client, SHUT_WR);
            }
            if (stops && rig.s->state == SESSION_OPEN && random_below(20) == 0)
                session_end(rig.s, REASON_SHUTDOWN, 0);
            for (size_t n = random_below(5); n > 0; n--)
                relp_step();
        }
        read_journald();
        assert_int_equal(rig.connects, 1);
        assert_int_equal(rig.ends, 1);
        stops = rig.s->reason == REASON_SHUTDOWN;
        if (!stops)
            assert_int_equal(rig.s->reason,
                             relp.run.result == -EPROTO ? REASON_PROTOCOL : REASON_EOF);
        relp_check_records(stops);
        for (c = context(); answer_is_due(rig.s, &c); c = context())
            relp_answer();
        relp_hear();
        assert_int_equal(relp.heard_length, relp_may_hear(all));
        end();
    }
}

/* --- Applying twice --- */

static void results_may_be_applied_again(void **state)
{
    struct item items[] = {
        {.kind = ITEM_CONNECT},
        {.kind = ITEM_DATA, .end = 10, .records = 1, .bytes = 10},
        {.kind = ITEM_DATA,
         .end = 15,
         .frame_left = 7,
         .records = 1,
         .bytes = 15,
         .continued = true},
        {.kind = ITEM_END},
    };
    struct transfer t = {.base = 20, .message.msg_len = 5};
    struct session once;

    (void)state;
    begin(false, SESSION_OPEN);
    rig.s->window = window_make(0, 20);
    for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
        session_apply(rig.s, &items[i]);
        once = *rig.s;
        session_apply(rig.s, &items[i]);
        assert_memory_equal(rig.s, &once, sizeof(once));
    }
    assert_true(rig.s->connect_taken && rig.s->continued && rig.s->end_taken);
    assert_int_equal(rig.s->frame_left, 7);
    assert_int_equal(rig.s->window, window_make(15, 20));
    assert_int_equal(rig.s->bytes, 15);

    session_apply_receive(rig.s, &t);
    answer_apply(rig.s, &t);
    once = *rig.s;
    session_apply_receive(rig.s, &t);
    answer_apply(rig.s, &t);
    assert_memory_equal(rig.s, &once, sizeof(once));
    assert_int_equal(rig.s->window, window_make(15, 25));
    assert_int_equal(rig.s->told, answer_make(0, 5));
    t.message.msg_len = NOT_TAKEN;
    session_apply_receive(rig.s, &t);
    assert_memory_equal(rig.s, &once, sizeof(once));
    answer_apply(rig.s, &t);
    assert_memory_equal(rig.s, &once, sizeof(once));
}

static void adoption_is_from_what_the_journal_has(void **state)
{
    (void)state;
    begin(false, SESSION_OPEN);
    client_sends("one\ntwo\n", 8);
    (void)receive();
    log_all(); /* all of it is in the batch, and is lost with it */
    assert_int_equal(rig.s->framed, 8);
    die();
    assert_int_equal(rig.s->framed, 0);
    assert_int_equal(rig.s->batch_records, 0);
    assert_false(rig.s->batch_connect);
    log_all();
    flush();
    stream_is("one\ntwo\n", 8);
    assert_int_equal(rig.connects, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reasons_have_names),
        TEST(cookies_tell_sockets_apart),
        TEST(connections_are_told_from_others),
        TEST(session_has_its_events),
        TEST(session_without_a_byte),
        TEST(reasons_are_told),
        TEST(answers_wait_for_room),
        TEST(refused_clients_are_told),
        TEST(local_clients_need_no_acknowledgement),
        TEST(drains_are_bounded),
        TEST(client_that_resets),
        TEST(bytes_before_an_error_are_read),
        TEST(broken_descriptor_is_an_error),
        TEST(limits_of_a_read),
        TEST(raw_reads_wait_for_the_journal),
        TEST(full_regions_wait),
        TEST(longest_records_find_room),
        TEST(turns_are_bounded),
        TEST(full_batches_block),
        TEST(full_arenas_block),
        TEST(every_event_waits_for_room),
        TEST(cuts_take_unfinished_records),
        TEST(frames_go_on_with_another_worker),
        TEST(resent_frames_are_marked),
        TEST(poisoned_bytes_are_not_looked_at),
        TEST(resent_records_are_marked),
        TEST(compaction_moves_what_fits),
        TEST(cut_off_stream_is_told_from_an_end),
        TEST(header_comes_first),
        TEST(no_header_is_an_error),
        TEST(health_checks_are_told_from_sessions),
        TEST(poisoned_headers_are_not_looked_at),
        TEST(any_bytes_come_back),
        TEST(any_records_are_acknowledged),
        TEST(results_may_be_applied_again),
        TEST(adoption_is_from_what_the_journal_has),
    };

    random_begin();
    alarm(300); /* what hangs, fails */
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
