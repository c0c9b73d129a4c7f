/* SPDX-License-Identifier: MIT */
/*
 * How long a line takes until it is in the journal, and until a reader that waits there sees it.
 *
 *   latency PORT COUNT INTERVAL FIELD [p]
 *
 * Sends COUNT lines to 127.0.0.1:PORT, one every INTERVAL µs, from 127.0.0.9, and waits for the
 * entries in which FIELD is that address (p: and the port). Prints a line for each: the µs from
 * send(2) until journald had it, and until sd_journal_wait(3) had said so.
 */
#include "lines.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

/* After the last line was sent. */
#define PATIENCE_USEC 20000000

#define FROM "127.0.0.9"

struct probe {
    uint64_t sent, stored, readable; /* µs since 1970 */
};

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int connect_from(unsigned short port, unsigned short *ret_port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)}, from = to;
    socklen_t length = sizeof(from);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    from.sin_port = 0;
    inet_pton(AF_INET, FROM, &from.sin_addr);
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        getsockname(fd, (struct sockaddr *)&from, &length) < 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    *ret_port = ntohs(from.sin_port);
    return fd;
}

static sd_journal *open_journal(const char *match)
{
    sd_journal *j;

    if (sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY) < 0 || sd_journal_seek_tail(j) < 0 ||
        sd_journal_previous(j) < 0 || sd_journal_add_match(j, match, 0) < 0)
        die("journal");
    return j;
}

/* Takes note of the entries that are there now. Returns how many they are. */
static size_t read_entries(sd_journal *j, struct probe *probes, size_t count)
{
    const char *data;
    size_t length, seen = 0;

    while (sd_journal_next(j) > 0) {
        char text[32] = "";
        size_t n;

        if (sd_journal_get_data(j, "MESSAGE", (const void **)&data, &length) < 0)
            continue;
        length -= strlen("MESSAGE=");
        memcpy(text, data + strlen("MESSAGE="), length < 31 ? length : 31);
        if (sscanf(text, "probe %zu", &n) != 1 || n >= count)
            continue;
        probes[n].readable = now();
        sd_journal_get_realtime_usec(j, &probes[n].stored);
        seen++;
    }
    return seen;
}

int main(int argc, char **argv)
{
    size_t count, seen = 0, sent = 0;
    struct probe *probes;
    uint64_t interval, due;
    unsigned short port;
    char match[128];
    sd_journal *j;
    int fd;

    if (argc != 5 && argc != 6)
        return EXIT_FAILURE;
    count = number(argv[2], 1);
    interval = number(argv[3], 1);
    probes = calloc(count, sizeof(*probes));
    fd = connect_from((unsigned short)number(argv[1], 1), &port);
    if (argc == 6)
        snprintf(match, sizeof(match), "%s=" FROM ":%u", argv[4], port);
    else
        snprintf(match, sizeof(match), "%s=" FROM, argv[4]);
    j = open_journal(match);

    due = now() + interval;
    while (seen < count && now() < due + PATIENCE_USEC) {
        if (sent < count && now() >= due) {
            char line[32];
            int length = snprintf(line, sizeof(line), "probe %zu\n", sent);

            probes[sent++].sent = now();
            if (send(fd, line, (size_t)length, 0) != length)
                die("send");
            due += interval;
        }
        if (sent < count)
            sd_journal_wait(j, now() < due ? due - now() : 0);
        else
            sd_journal_wait(j, 100000);
        seen += read_entries(j, probes, count);
    }
    for (size_t i = 0; i < count; i++)
        if (probes[i].readable > 0)
            printf("%" PRId64 " %" PRId64 "\n", (int64_t)(probes[i].stored - probes[i].sent),
                   (int64_t)(probes[i].readable - probes[i].sent));
    close(fd);
    return seen == count ? 0 : EXIT_FAILURE;
}
