/* SPDX-License-Identifier: MIT */
/*
 * A worker adopts a table with arbitrary contents. It must not crash or hang; it writes only valid
 * entries; every session ends; and a session that is not damaged loses no byte.
 */
#include "netd/session/recovery.h"
#include "netd/worker/admission.h"
#include "netd/worker/scheduler.h"

#include "common/names.h"
#include "common/util.h"

#include "../unit/entry.h"
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/un.h>
#include <syslog.h>

#define CAPACITY 6
#define SESSIONS 5
#define ROUNDS   400

/* What the clients of the sessions have sent, lines or counted frames by turns: some of it is
 * logged, some received, some neither. Of the first frame four bytes are logged. */
#define SENT 27
static const char sent[][SENT + 1] = {
    "logged\nreceived\nand not\nfin",
    "12 abcdefg\nhij\0\n3 xyz9 tail",
};
#define LOGGED   7
#define RECEIVED 20

/* The last session has received half of its PROXY header. */
#define PROXIED (SESSIONS - 1)
#define HEADER  "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
#define HALF    16

static struct table table;
static struct scheduler clients;
static int listener = -1, sink = -1;
static char journald_path[64];
static uint8_t ids[SESSIONS][16];
static int peers[SESSIONS];
static struct joined streams[SESSIONS];
static unsigned ends[SESSIONS];

/* --- Environment --- */

static char directory[] = "/tmp/netd-fuzz.XXXXXX";

static void remove_directory(void)
{
    (void)unlink(journald_path);
    (void)rmdir(directory);
}

static void prepare(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    if (sink >= 0)
        return;
    MUST(mkdtemp(directory));
    (void)atexit(remove_directory);
    snprintf(journald_path, sizeof(journald_path), "%s/socket", directory);
    memcpy(sa.sun_path, journald_path, strlen(journald_path));
    sink = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    MUST(bind(sink, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(listen(listener, 1) == 0);
    /* Random, so that no input can contain the id of another session. */
    MUST(getrandom(ids, sizeof(ids), 0) == (ssize_t)sizeof(ids));
}

/* What the journal has of session I when the table is damaged. */
static size_t logged(int i)
{
    return i == PROXIED ? 0 : LOGGED;
}

static void begin_with_header(struct session *s)
{
    s->state = SESSION_HEADER;
    s->proxy = s->peer;
    s->window = window_make(0, HALF);
    memcpy(table_region(&table, s), HEADER, HALF);
    MUST(send(peers[PROXIED], &HEADER[HALF], strlen(HEADER) - HALF, MSG_NOSIGNAL) > 0);
    MUST(send(peers[PROXIED], sent[0], SENT, MSG_NOSIGNAL) > 0);
}

/* As far as LOGGED and RECEIVED say. */
static void begin_logged(struct session *s, int i)
{
    bool framed = i % 2;

    s->state = SESSION_OPEN;
    s->connect_taken = true;
    s->records = !framed;
    s->continued = framed;
    s->frame_left = framed ? 8 : 0;
    s->bytes = LOGGED;
    s->window = window_make(LOGGED, RECEIVED);
    memcpy(table_region(&table, s), sent[framed], RECEIVED);
    MUST(send(peers[i], sent[framed] + RECEIVED, SENT - RECEIVED, MSG_NOSIGNAL) > 0);
}

/* A session whose state is only in its slot. */
static void add_session(int i)
{
    bool framed = i % 2;
    struct session *s = table_take(&table);
    int fds[2];

    MUST(s && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    peers[i] = fds[1];
    s->fd = fds[0];
    s->cookie = session_cookie(s->fd);
    memcpy(s->id, ids[i], sizeof(s->id));
    s->peer = s->local = (struct endpoint){.family = AF_INET, .ip = {192, 0, 2, (uint8_t)i}};
    s->begin_usec = s->active_usec = now_usec(CLOCK_MONOTONIC);
    s->framing = framed ? FRAMING_OCTET : FRAMING_LINE;
    if (i == PROXIED)
        begin_with_header(s);
    else
        begin_logged(s, i);
    MUST(shutdown(peers[i], SHUT_WR) == 0);
    streams[i] = (struct joined){.continued = framed};
    ends[i] = 0;
}

static void make_table(void)
{
    struct table_listener *l;

    MUST(table_create(&table, CAPACITY) == 0);
    MUST(table_attach(&table) == 0);
    l = &table.header->listeners[1];
    l->fd = listener;
    l->settings = (struct listener_settings){.max_record = 4096,
                                             .framing = FRAMING_LINE,
                                             .priority = LOG_INFO,
                                             .receipt = true,
                                             .sessions_max = CAPACITY,
                                             .identifier = "netd"};
    table.header->settings = (struct service_settings){.output = OUTPUT_JOURNAL,
                                                       .sessions_max = CAPACITY,
                                                       .stop_timeout = 5,
                                                       .buffer_memory = BUFFER_MEMORY_LOW};
    table.header->output = OUTPUT_JOURNAL;
    for (int i = 0; i < SESSIONS; i++) {
        add_session(i);
        table.sessions[i].listener = 1;
    }
}

/* Writes arbitrary bytes: the input is a list of target, offset, length and bytes. Fills in which
 * sessions were not written to; returns false if the header was, so that this means nothing. */
static bool damage(struct input *in, bool whole[SESSIONS])
{
    bool header_is_whole = true;

    for (int i = 0; i < SESSIONS; i++)
        whole[i] = true;
    while (in->size > 0) {
        uint32_t target = input_number(in, 1) % (CAPACITY + 2), at = input_number(in, 2);
        size_t n = input_number(in, 1), size = sizeof(struct session);
        uint8_t *base =
            target < CAPACITY ? (uint8_t *)&table.sessions[target] : (uint8_t *)table.header;

        if (target >= CAPACITY)
            size = sizeof(struct table_header);
        if (target > CAPACITY)
            at *= 4; /* two bytes alone do not reach its end */
        at = (uint32_t)(at % size);
        n = min_size(min_size(n, size - at), in->size);
        memcpy(base + at, in->data, n);
        in->data += n;
        in->size -= n;
        if (n > 0 && target < SESSIONS)
            whole[target] = false;
        header_is_whole = header_is_whole && (n == 0 || target < CAPACITY);
    }
    return header_is_whole;
}

/* --- The worker --- */

static void read_sink(void)
{
    static uint8_t datagram[1024 * 1024];
    ssize_t n;

    while ((n = recv(sink, datagram, sizeof(datagram), 0)) >= 0) {
        const struct field *priority;
        struct fields f;
        char id[33];

        if (n == 0)
            continue; /* a large entry, in a memfd */
        MUST(entry_parse(&f, datagram, (size_t)n, false) == (size_t)n);
        priority = fields_find(&f, "PRIORITY");
        MUST(priority && priority->length == 1 && *priority->value >= '5' &&
             *priority->value <= '7');
        MUST(fields_find(&f, "SYSLOG_IDENTIFIER")); /* the template may be damaged */
        for (int i = 0; i < SESSIONS; i++) {
            hex_id(ids[i], id);
            if (!fields_are(&f, "NETD_SESSION_ID", id))
                continue;
            if (fields_are(&f, "NETD_EVENT", "data"))
                (void)joined_add(&streams[i], &f);
            ends[i] += fields_are(&f, "NETD_EVENT", "disconnect") &&
                       fields_are(&f, "NETD_REASON", "eof") &&
                       fields_are(&f, "NETD_RECORDS", "4") && fields_are(&f, "NETD_BYTES", "27");
        }
    }
}

static void turn(uint64_t now)
{
    scheduler_find_ready(&clients);
    scheduler_run(&clients);
    if (scheduler_is_blocked(&clients))
        scheduler_retry(&clients);
    scheduler_tick(&clients, now);
    read_sink();
}

/* Serves until all sessions have ended, by themselves or because netd stops. */
static void serve(void)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC);

    read_sink(); /* entries from the adoption, which may have ended all sessions */
    for (int i = 0; i < ROUNDS && clients.sessions > 0; i++) {
        if (i == ROUNDS / 2)
            scheduler_stop(&clients);
        turn(now + (uint64_t)i * USEC_PER_SEC);
    }
    MUST(clients.sessions == 0);
    for (uint32_t i = 0; i < table.header->used; i++)
        MUST(table.sessions[i].state == SESSION_FREE);
}

static void check_session(int i)
{
    char id[33], line[RECEIPT_MAX], heard[RECEIPT_MAX];
    ssize_t n = recv(peers[i], heard, sizeof(heard), 0);
    int length;

    hex_id(ids[i], id);
    length = snprintf(line, sizeof(line), RECEIPT_FORMAT, id, UINT64_C(4), UINT64_C(27), "eof");
    MUST(ends[i] == 1);
    MUST(streams[i].length == SENT - logged(i));
    MUST(memcmp(streams[i].bytes, sent[i % 2] + logged(i), streams[i].length) == 0);
    MUST(n == length && memcmp(line, heard, (size_t)n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    bool whole[SESSIONS], telling;
    int header_fd, regions_fd, fds[SESSIONS];

    prepare();
    make_table();
    for (int i = 0; i < SESSIONS; i++)
        fds[i] = table.sessions[i].fd;
    telling = damage(&in, whole);

    header_fd = fcntl(table.header_fd, F_DUPFD_CLOEXEC, 3);
    regions_fd = fcntl(table.regions_fd, F_DUPFD_CLOEXEC, 3);
    table_deinit(&table);
    if (table_open(&table, header_fd, regions_fd) < 0) {
        close(header_fd);
        close(regions_fd);
    } else {
        MUST(table_attach(&table) == 0);
        if (recovery_run(&table) == 0) {
            MUST(scheduler_init(&clients, &table, OUTPUT_JOURNAL, journald_path) == 0);
            admission_adopt(&clients, NO_UNCLAIMED);
            serve();
            scheduler_deinit(&clients);
            for (int i = 0; i < SESSIONS && telling; i++)
                if (whole[i])
                    check_session(i);
        }
    }
    table_deinit(&table);
    for (int i = 0; i < SESSIONS; i++) {
        close(peers[i]);
        close(fds[i]); /* the worker could not find it */
        free(streams[i].bytes);
    }
    return 0;
}
