/* SPDX-License-Identifier: MIT */
/* Checks from a client's side: can netd be reached, and is what it receives in the journal? */
#include "netd-client/doctor.h"

#include "common/array.h"
#include "netd-client/output.h"
#include "netd-client/receipt.h"
#include "netd-client/sample.h"
#include "netd-client/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define TEST_TEXT "netd-client doctor: test session"

/* --- Metrics --- */

static void copy_text(char *ret, size_t size, const char *text)
{
    snprintf(ret, size, "%s", text ? text : "");
}

/* Returns a new socket, or NULL if out of memory. */
static struct doctor_socket *doctor_add_socket(struct doctor *d)
{
    struct doctor_socket *sockets =
        array_grow(d->sockets, &d->room, d->n_sockets + 1, sizeof(*sockets));

    if (!sockets)
        return NULL;
    d->sockets = sockets;
    sockets[d->n_sockets] = (struct doctor_socket){.connection.fd = -1};
    return &sockets[d->n_sockets++];
}

/* The samples of sockets come before. */
static void doctor_take_certificate(struct doctor *d, const char *listener, const char *value)
{
    for (size_t i = 0; i < d->n_sockets; i++)
        if (strcmp(d->sockets[i].listener, listener) == 0)
            (void)parse_u64(value, INT64_MAX, &d->sockets[i].not_after);
}

/* Takes SAMPLE. Returns 0 or -ENOMEM. */
static int doctor_take_sample(struct doctor *d, const struct sample *sample)
{
    const char *listener = sample_label(sample, "listener");
    struct doctor_socket *s;

    if (strcmp(sample->name, "netd_journal_waiting") == 0 && *sample->value != '0')
        copy_text(d->waiting, sizeof(d->waiting), sample_label(sample, "cause"));
    if (strcmp(sample->name, "netd_sessions_limit") == 0)
        (void)parse_u64(sample->value, UINT32_MAX, &d->sessions_limit);
    if (strcmp(sample->name, "netd_tls_certificate_not_after_seconds") == 0)
        doctor_take_certificate(d, listener ? listener : "", sample->value);
    if (strcmp(sample->name, "netd_listener_info") != 0)
        return 0;
    s = doctor_add_socket(d);
    if (!s)
        return -ENOMEM;
    copy_text(s->listener, sizeof(s->listener), listener);
    copy_text(s->address, sizeof(s->address), sample_label(sample, "address"));
    copy_text(s->framing, sizeof(s->framing), sample_label(sample, "framing"));
    copy_text(s->format, sizeof(s->format), sample_label(sample, "format"));
    return 0;
}

/* Adds the address that the options and the environment name, as connect_to_netd() finds it. */
static int doctor_add_given(struct doctor *d)
{
    const char *host = d->options->host ? d->options->host : getenv("SERVER_HOST");
    const char *port = d->options->port ? d->options->port : getenv("SERVER_PORT");
    struct doctor_socket *s = doctor_add_socket(d);
    char standard[NUMBER_MAX + 1];
    bool bracket;

    if (!s)
        return -ENOMEM;
    if (!host)
        host = DEFAULT_HOST;
    bracket = strchr(host, ':') && *host != '[';
    snprintf(standard, sizeof(standard), "%d", DEFAULT_PORT);
    if (*host == '/' || *host == '@')
        copy_text(s->address, sizeof(s->address), host);
    else
        snprintf(s->address, sizeof(s->address), "%s%s%s:%s", bracket ? "[" : "", host,
                 bracket ? "]" : "", port ? port : standard);
    s->given = true;
    copy_text(s->framing, sizeof(s->framing), "line");
    return 0;
}

int doctor_read_metrics(struct doctor *d)
{
    CLEANUP(free_pointer) char *line = NULL;
    FILE *f = fopen(METRICS_PATH, "re");
    struct sample sample;
    size_t size = 0;
    int r = 0;

    while (f && r >= 0 && getline(&line, &size, f) >= 0)
        if (sample_parse(line, &sample) > 0)
            r = doctor_take_sample(d, &sample);
    if (f)
        fclose(f);
    d->named =
        d->options->host || d->options->port || getenv("SERVER_HOST") || getenv("SERVER_PORT");
    if (d->named)
        d->n_sockets = 0;
    return r >= 0 && d->n_sockets == 0 ? doctor_add_given(d) : r;
}

/* --- Can it be reached? --- */

/* Splits "127.0.0.1:3000" or "[::1]:3000" into HOST, of SIZE bytes, and the port, which it returns,
 * or NULL for a unix socket. */
static const char *socket_split(const char *address, char *host, size_t size)
{
    const char *colon = *address == '/' || *address == '@' ? NULL : strrchr(address, ':');
    bool bracket = *address == '[';

    if (colon)
        snprintf(host, size, "%.*s", (int)(colon - address) - 2 * bracket, address + bracket);
    else
        copy_text(host, size, address);
    return colon ? colon + 1 : NULL;
}

/* Connects to S. Returns -1 and *RET, or an exit status, with the reason in errno. */
static int socket_connect(const struct doctor *d, const struct doctor_socket *s,
                          struct connection *ret)
{
    struct options options = *d->options;
    char host[sizeof(s->address)];

    if (!s->given) {
        options.port = socket_split(s->address, host, sizeof(host));
        options.host = host;
        options.tls = options.tls && s->not_after > 0;
    }
    errno = 0;
    return connection_open(ret, &options, true);
}

/* A client has to trust a certificate and may need one: --tls says which. A connection without a
 * handshake would be a refused client. */
static bool socket_is_reachable(const struct doctor *d, const struct doctor_socket *s)
{
    return s->not_after == 0 || d->options->tls;
}

/* True if the test session can be one of S. */
static bool socket_is_testable(const struct doctor *d, const struct doctor_socket *s)
{
    return strcmp(s->framing, "relp") != 0 && socket_is_reachable(d, s);
}

static const char *connect_reason(int error)
{
    return error > 0 ? strerror(error) : "no connection";
}

/* Where the service does not run, who answers at its address is somebody else. */
static bool session_is_moot(const struct doctor *d, struct finding *f)
{
    if (d->named || !d->failed)
        return false;
    finding_set(f, DOCTOR_WARNING, "not tried: the service does not run");
    return true;
}

void doctor_check_address(struct doctor *d, struct finding *f)
{
    size_t skipped = 0;
    bool kept = false;

    if (session_is_moot(d, f))
        return;
    for (size_t i = 0; i < d->n_sockets; i++) {
        struct doctor_socket *s = &d->sockets[i];

        if (!socket_is_reachable(d, s)) {
            skipped++;
        } else if (socket_connect(d, s, &s->connection) >= 0) {
            if (f->status == DOCTOR_OK)
                finding_set(f, DOCTOR_PROBLEM, "%s: %s", s->address, connect_reason(errno));
            else
                finding_explain(f, "%s: %s", s->address, connect_reason(errno));
        } else if (kept || !socket_is_testable(d, s)) {
            connection_close(&s->connection);
        } else {
            kept = true;
        }
    }
    if (f->status != DOCTOR_OK)
        finding_restart(d, f);
    else if (d->n_sockets == 1 && skipped == 0)
        finding_set(f, DOCTOR_OK, "%s accepts connections", d->sockets[0].address);
    else if (skipped == 0)
        finding_set(f, DOCTOR_OK, "%zu addresses accept connections", d->n_sockets);
    else
        finding_set(f, DOCTOR_OK,
                    "%zu of %zu addresses accept connections; not tried without "
                    "--tls: %zu",
                    d->n_sockets - skipped, d->n_sockets, skipped);
}

/* --- Is what it receives in the journal? --- */

/* Waits until C is ready for reading, or with WRITING for writing, or until END. Returns 0 or a
 * negative errno. */
static int test_wait(const struct connection *c, bool writing, uint64_t end)
{
    struct pollfd fd = {.fd = c->fd, .events = connection_events(c, writing)};
    uint64_t now = now_usec(CLOCK_MONOTONIC);
    int r;

    if (now >= end)
        return -ETIMEDOUT;
    r = poll(&fd, 1, (int)min_u64((end - now) / USEC_PER_MSEC + 1, INT32_MAX));
    return r < 0 && errno != EINTR ? -errno : 0;
}

/* Sends the test record and the end. */
static int test_send(struct connection *c, const struct doctor_socket *s, uint64_t end)
{
    /* The severity would be part of a plain record. */
    const char *head = strcmp(s->format, "syslog") == 0 ? "<14>" : "";
    char record[sizeof(TEST_TEXT) + 8];
    int length = snprintf(record, sizeof(record), "%s" TEST_TEXT "\n", head);
    ssize_t n;
    int r = 0;

    if (strcmp(s->framing, "nul") == 0)
        record[length - 1] = '\0';
    /* So few bytes are written at once or not at all. */
    while ((n = connection_write(c, record, (size_t)length)) == -EAGAIN && r == 0)
        r = test_wait(c, true, end);
    if (n < 0)
        return r < 0 ? r : (int)n;
    while ((r = connection_finish(c)) == -EAGAIN)
        if ((r = test_wait(c, true, end)) < 0)
            break;
    return r;
}

/* Reads what netd answers, up to RECEIPT_MAX bytes. Returns their number or a negative errno. */
static ssize_t test_receive(struct connection *c, char answer[static RECEIPT_MAX], uint64_t end)
{
    size_t length = 0;
    ssize_t n;
    int r;

    while (length < RECEIPT_MAX) {
        n = connection_read(c, answer + length, RECEIPT_MAX - length);
        if (n == 0 || (n < 0 && n != -EAGAIN))
            return length > 0 || n == 0 ? (ssize_t)length : n;
        if (n > 0)
            length += (size_t)n;
        else if ((r = test_wait(c, false, end)) < 0)
            return r;
    }
    return (ssize_t)length;
}

/* Makes one session at S. Returns 0 and *RET, or a negative errno: -ENODATA if netd closes the
 * connection without an answer. */
static int test_run(const struct doctor *d, struct doctor_socket *s, struct receipt *ret)
{
    uint64_t end = now_usec(CLOCK_MONOTONIC) + d->options->timeout;
    char answer[RECEIPT_MAX];
    ssize_t n;
    int r;

    if (s->connection.fd < 0 && socket_connect(d, s, &s->connection) >= 0)
        return errno > 0 ? -errno : -ENOTCONN;
    r = test_send(&s->connection, s, end);
    /* A client that is refused may get the answer and then a reset. */
    n = r == -ETIMEDOUT ? r : test_receive(&s->connection, answer, end);
    connection_close(&s->connection);
    if (n <= 0)
        return n < 0 ? (int)n : -ENODATA;
    return receipt_parse(ret, answer, (size_t)n);
}

/* Waits until the test session is complete in the journal, for as long as the timeout. Returns 1
 * when it is, 0 with what is there in *RET, or a negative errno. */
static int test_find(const struct doctor *d, struct reader *reader, const char *id,
                     struct tally *ret)
{
    uint64_t end = now_usec(CLOCK_MONOTONIC) + d->options->timeout;
    int r;

    do {
        r = stream_read(reader, id, NULL, NULL, ret);
        if (r >= 0 && verdict_holds(tally_verdict(ret)))
            return 1;
        if (r >= 0)
            r = reader_wait(reader, -1);
    } while (r >= 0 && now_usec(CLOCK_MONOTONIC) < end);
    return r < 0 ? r : 0;
}

/* Says whether session ID, which began at START (CLOCK_MONOTONIC), is in the journal. */
static void test_look_up(struct doctor *d, struct finding *f, const char *id, uint64_t start)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    char waited[DURATION_TEXT_MAX];
    struct tally tally = {0};
    int r;

    if (!d->journal.readable || reader_open(d->options, &reader) >= 0) {
        finding_set(f, DOCTOR_WARNING, "logged, says the receipt; cannot be looked up");
        return;
    }
    r = test_find(d, reader, id, &tally);
    output_duration(now_usec(CLOCK_MONOTONIC) - start, waited);
    if (r > 0) {
        memcpy(d->session, id, sizeof(d->session));
        finding_set(f, DOCTOR_OK, "complete in the journal after %s: %s", waited, id);
        return;
    }
    if (r < 0)
        finding_set(f, DOCTOR_PROBLEM, "journal: %s", strerror(-r));
    else
        finding_set(f, DOCTOR_PROBLEM, "%s in the journal after %s: %s",
                    tally.has_connect || tally.ended ? "not complete" : "not", waited, id);
    finding_explain(f,
                    "netd sent a receipt for it: journald drops entries, or does not store them.");
    finding_explain(f, "Mend what is found below first.");
    finding_restart_journald(d, f);
}

/* Says that there was no receipt, because of ERROR, a negative errno. */
static void test_fail(struct doctor *d, struct finding *f, const struct doctor_socket *s, int error)
{
    finding_set(f, DOCTOR_PROBLEM, "%s: no receipt: %s", s->address, strerror(-error));
    if (d->waiting[0]) {
        finding_explain(f, "netd waits for the journal (%s), and clients wait for netd.",
                        d->waiting);
        finding_restart_journald(d, f);
    } else {
        finding_restart(d, f);
    }
}

/* Says that there was a receipt for less, or an error. */
static void test_refused(struct finding *f, const struct doctor_socket *s,
                         const struct receipt *receipt)
{
    bool full = receipt->kind == RECEIPT_REFUSED && strstr(receipt->reason, "limit");

    finding_set(f, full ? DOCTOR_PROBLEM : DOCTOR_WARNING, "%s: %s", s->address, receipt->reason);
    if (!full)
        return;
    finding_explain(f, "netd refuses further clients. If those it has are all wanted, raise the");
    finding_explain(f, "limit in netd.conf, and reload it. They are:");
    finding_command(f, "netd-client sessions --open");
}

void doctor_check_session(struct doctor *d, struct finding *f)
{
    uint64_t start = now_usec(CLOCK_MONOTONIC);

    if (session_is_moot(d, f))
        return;
    finding_set(f, DOCTOR_WARNING, "not tried: no listener takes plain records without TLS");
    for (size_t i = 0; i < d->n_sockets; i++) {
        struct doctor_socket *s = &d->sockets[i];
        struct receipt receipt;
        int r;

        if (!socket_is_testable(d, s))
            continue;
        r = test_run(d, s, &receipt);
        *f = (struct finding){0};
        if (r >= 0 && receipt.kind == RECEIPT_LOGGED && strcmp(receipt.reason, "eof") == 0) {
            test_look_up(d, f, receipt.session, start);
            return;
        }
        if (r >= 0)
            test_refused(f, s, &receipt);
        else
            test_fail(d, f, s, r);
    }
}

/* --- Certificates --- */

enum doctor_status doctor_certificate_status(uint64_t not_after, uint64_t now)
{
    uint64_t left = not_after > now ? not_after - now : 0;

    if (left >= CERTIFICATE_WARNING)
        return DOCTOR_OK;
    return left >= CERTIFICATE_PROBLEM ? DOCTOR_WARNING : DOCTOR_PROBLEM;
}

void doctor_check_certificates(struct doctor *d, struct finding *f)
{
    const struct output output = {.utc = d->options->utc};
    const struct doctor_socket *first = NULL;
    uint64_t now = now_usec(CLOCK_REALTIME) / USEC_PER_SEC;
    char end[TIME_TEXT_MAX];

    for (size_t i = 0; i < d->n_sockets; i++)
        if (d->sockets[i].not_after > 0 && (!first || d->sockets[i].not_after < first->not_after))
            first = &d->sockets[i];
    if (!first) {
        finding_set(f, DOCTOR_OK, "no listener has one");
        return;
    }
    output_time(&output, first->not_after * USEC_PER_SEC, false, end);
    finding_set(f, doctor_certificate_status(first->not_after, now), "that of listener %s %s %s",
                first->listener, first->not_after > now ? "ends" : "ended", end);
    if (f->status == DOCTOR_OK)
        return;
    finding_explain(f, "From then on its clients connect no more. When the files are renewed:");
    finding_command(f, "systemctl %s %s", doctor_has_credentials(d) ? "restart" : "reload",
                    d->unit);
}
