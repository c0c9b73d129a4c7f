/* SPDX-License-Identifier: MIT */
/*
 * A worker's work without the loop around it, for callgrind to count: clients connect, send lines
 * and finish; the journal's socket is one of our own, emptied whenever it is full. What is counted
 * is measured_round() alone, so the counts are netd's, and the same in every run.
 *
 *   instructions CLIENTS LINES BYTES            CLIENTS at a time, each LINES of BYTES
 *   instructions CLIENTS MESSAGES BYTES syslog  counted syslog messages instead
 *   instructions CLIENTS LINES BYTES relp       RELP, LINES without their LF as data; clients read
 *                                               the responses
 *
 * Prints how many events the journal got.
 */
#include "lines.h"

#include "common/util.h"
#include "netd/session/table.h"
#include "netd/worker/admission.h"
#include "netd/worker/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>
#include <syslog.h>

#define CLIENTS_MAX 1024

enum kind { LINES, SYSLOG, RELP };

struct setup {
    enum kind kind;
    char path[64];
    int journal;
    uint16_t port;
    struct table table;
    struct scheduler clients;
    size_t events;
};

/* One pass of the loop: whoever wants to be accepted, whoever is readable, whatever is left over.
 */
void measured_round(struct scheduler *c);
__attribute__((noinline)) void measured_round(struct scheduler *c)
{
    if (scheduler_is_blocked(c))
        scheduler_retry(c);
    if (!scheduler_is_blocked(c))
        admission_accept(c, 0, 32);
    if (!scheduler_is_blocked(c)) {
        scheduler_find_ready(c);
        if (c->table->header->listeners[0].settings.framing == FRAMING_RELP)
            scheduler_serve_urgent(c);
        scheduler_run(c);
    }
}

static void open_journal(struct setup *s)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    snprintf(s->path, sizeof(s->path), "/tmp/netd-instructions-%d", getpid());
    strcpy(sa.sun_path, s->path);
    s->journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (bind(s->journal, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        die(s->path);
}

static void empty_journal(struct setup *s)
{
    char entry[4];

    while (recv(s->journal, entry, sizeof(entry), 0) > 0)
        s->events++;
}

static void listen_somewhere(struct setup *s)
{
    static struct listener_config config = {
        .address = {.host = "127.0.0.1"},
        .settings = {.max_record = 65536,
                     .framing = FRAMING_LINE,
                     .priority = LOG_INFO,
                     .receipt = true,
                     .sessions_max = CLIENTS_MAX,
                     .identifier = "netd"},
    };
    struct listener_endpoints endpoints;
    struct listener_settings *settings = &config.settings;
    char error[LISTENER_ERROR_MAX];

    if (s->kind == SYSLOG) {
        settings->framing = FRAMING_OCTET;
        settings->format = FORMAT_SYSLOG;
    } else if (s->kind == RELP) {
        settings->framing = FRAMING_RELP;
    }
    if (listener_resolve(&config, true, &endpoints, error) < 0 ||
        listeners_configure(&s->table, &config, NULL, &endpoints, 1, error) < 0) {
        fprintf(stderr, "%s\n", error);
        exit(EXIT_FAILURE);
    }
    s->port = s->table.header->listeners[0].bound.port;
}

static void start(struct setup *s)
{
    open_journal(s);
    if (table_create(&s->table, CLIENTS_MAX + 256) < 0 || table_attach(&s->table) < 0)
        die("table");
    s->table.header->settings.sessions_max = CLIENTS_MAX;
    s->table.header->settings.buffer_memory = (uint64_t)1 << 30;
    listen_somewhere(s);
    if (scheduler_init(&s->clients, &s->table, OUTPUT_JOURNAL, s->path) < 0)
        die("clients");
    admission_adopt(&s->clients, NO_UNCLAIMED);
}

static int connect_client(const struct setup *s)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(s->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        die("connect");
    return fd;
}

/* What the clients have to send, SIZE bytes each; RET is its length. */
static char *make_text(enum kind kind, size_t lines, size_t size, size_t *ret)
{
    char *all = kind == SYSLOG ? make_syslog(lines, size) : make_lines(lines, size, '\n'), *relp;

    *ret = lines * size;
    if (kind != RELP)
        return all;
    relp = malloc(lines * (size + 64) + 64);
    if (!relp)
        die("malloc");
    *ret = (size_t)sprintf(relp, "1 open 0\n");
    for (size_t i = 0; i < lines; i++) {
        *ret += (size_t)sprintf(relp + *ret, "%zu syslog %zu ", i + 2, size - 1);
        memcpy(relp + *ret, all + i * size, size);
        *ret += size;
    }
    free(all);
    return relp;
}

/* Rounds until there is nothing left to do. */
static void work(struct setup *s, const int *fds, size_t count)
{
    static char answers[65536];
    size_t before;

    do {
        before = s->events;
        measured_round(&s->clients);
        empty_journal(s);
        for (size_t i = 0; s->kind == RELP && i < count; i++)
            while (recv(fds[i], answers, sizeof(answers), MSG_DONTWAIT) > 0)
                ;
    } while (s->events != before || scheduler_has_work(&s->clients));
}

int main(int argc, char **argv)
{
    static struct setup s;
    size_t count, lines, size, length;
    static int fds[CLIENTS_MAX];
    char *text;

    if (argc == 5 && strcmp(argv[4], "syslog") == 0)
        s.kind = SYSLOG;
    else if (argc == 5 && strcmp(argv[4], "relp") == 0)
        s.kind = RELP;
    else if (argc != 4)
        return EXIT_FAILURE;
    count = number(argv[1], 1);
    lines = number(argv[2], 1);
    size = number(argv[3], 32);
    if (count > CLIENTS_MAX)
        return EXIT_FAILURE;
    text = make_text(s.kind, lines, size, &length);
    start(&s);
    for (size_t i = 0; i < count; i++)
        fds[i] = connect_client(&s);
    work(&s, fds, count);
    /* So much at a time as surely goes into the socket. */
    for (size_t at = 0; at < length; at += 32768)
        for (size_t i = 0; i < count; i++) {
            size_t most = min_size(32768, length - at);

            if (send(fds[i], text + at, most, MSG_DONTWAIT) != (ssize_t)most)
                die("send");
            if (i % 32 == 31 || i == count - 1)
                work(&s, fds, count);
        }
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
    work(&s, fds, 0);
    unlink(s.path);
    printf("%zu\n", s.events);
    return 0;
}
