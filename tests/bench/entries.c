/* SPDX-License-Identifier: MIT */
/*
 * Data events as netd writes them, without netd: what the journal can take at best, and what it
 * takes from sd_journal_sendv(3).
 *
 *   entries batch|sessions|single|sendv LINES SIZE [PAUSE]
 *
 * batch: datagrams by the hundreds in one sendmmsg(2), and a pause of PAUSE (2000) µs when the
 * journal's queue is full. sessions: the same, each line as the one record of a session, with the
 * entries of its beginning and end. single: a sendmsg(2) for each that waits for room. Then it
 * stays until it is killed, so that its use of time and memory can be read.
 */
#include "lines.h"

#include "common/names.h"
#include "common/util.h"
#include "netd/output/event.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#define BATCH 256
#define PAUSE "2000" /* µs; not so long that the queue of 512 gets empty */

static const char *const fields[] = {
    "MESSAGE_ID=" ID_DATA,
    "PRIORITY=6",
    "SYSLOG_IDENTIFIER=entries",
    FIELD_EVENT "=" EVENT_DATA,
    FIELD_SESSION_ID "=0123456789abcdef0123456789abcdef",
    FIELD_PEER "=127.0.0.1:40000",
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))

static int open_journal(void)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket"};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0), size = 8 * 1024 * 1024;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        die(sa.sun_path);
    return fd;
}

/* An entry for each line: what all have in common, the line, the newline. */
static struct mmsghdr *make_messages(char *lines, size_t count, size_t size)
{
    static char prefix[1024];
    struct mmsghdr *messages = calloc(count, sizeof(*messages));
    struct iovec *pieces = calloc(count * 3, sizeof(*pieces));

    if (!messages || !pieces)
        die("calloc");
    for (size_t i = 0; i < FIELDS; i++)
        strcat(strcat(prefix, fields[i]), "\n");
    strcat(prefix, "MESSAGE=");
    for (size_t i = 0; i < count; i++) {
        struct iovec *p = &pieces[3 * i];

        p[0] = (struct iovec){.iov_base = prefix, .iov_len = strlen(prefix)};
        p[1] = (struct iovec){.iov_base = lines + i * size, .iov_len = size - 1};
        p[2] = (struct iovec){.iov_base = (char *)"\n", .iov_len = 1};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = p, .msg_iovlen = 3};
    }
    return messages;
}

/* Connect, the line, disconnect: for each line, with an id of its own. */
static struct mmsghdr *make_sessions(char *lines, size_t count, size_t size)
{
    struct arena arena = {.size = count * 2048 + EVENT_ARENA_SIZE};
    struct mmsghdr *messages = calloc(3 * count, sizeof(*messages));
    struct entry *entries = calloc(3 * count, sizeof(*entries));
    struct endpoint peer = {.ip = {127, 0, 0, 1}, .family = AF_INET}, local = peer;

    /* Only what is used of it takes memory. */
    arena.base = mmap(NULL, arena.size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!messages || !entries || arena.base == MAP_FAILED)
        die("memory");
    local.port = 3000;
    for (size_t i = 0; i < count; i++) {
        char id[33];
        uint8_t number[16];
        struct event_source source = {
            .id = id, .peer = &peer, .local = &local, .priority = 6, .identifier = "netd"};
        struct event_totals totals = {
            .reason = "eof", .records = 1, .bytes = size, .duration_usec = 300 + i % 977};
        struct record record = {
            .data = (uint8_t *)lines + i * size, .length = size - 1, .consumed = size};
        struct event_prefix prefix;
        struct entry *e = &entries[3 * i];

        if (getrandom(number, sizeof(number), 0) != sizeof(number))
            die("getrandom");
        hex_id(number, id);
        peer.port = (uint16_t)(32768 + i % 28232);
        if (event_connect(&e[0], &arena, &source) < 0 ||
            event_data_prefix(&prefix, &arena, &source) < 0 ||
            event_data(&e[1], &arena, &prefix, &record, NOT_RESENT) < 0 ||
            event_disconnect(&e[2], &arena, &source, &totals) < 0)
            die("no room");
    }
    for (size_t i = 0; i < 3 * count; i++)
        messages[i].msg_hdr =
            (struct msghdr){.msg_iov = entries[i].pieces, .msg_iovlen = entries[i].count};
    return messages;
}

static void send_batches(struct mmsghdr *messages, size_t count, useconds_t pause_usec)
{
    int fd = open_journal();

    for (size_t i = 0; i < count;) {
        size_t most = count - i < BATCH ? count - i : BATCH;
        int n = sendmmsg(fd, messages + i, (unsigned)most, MSG_DONTWAIT);

        if (n > 0)
            i += (size_t)n;
        else if (errno == EAGAIN)
            usleep(pause_usec);
        else
            die("sendmmsg");
    }
}

static void send_singles(char *lines, size_t count, size_t size)
{
    struct mmsghdr *messages = make_messages(lines, count, size);
    int fd = open_journal();

    for (size_t i = 0; i < count; i++)
        if (sendmsg(fd, &messages[i].msg_hdr, 0) < 0)
            die("sendmsg");
}

static void send_by_library(const char *lines, size_t count, size_t size)
{
    struct iovec pieces[FIELDS + 1];
    char *message = malloc(size + 16);

    if (!message)
        die("malloc");
    for (size_t i = 0; i < FIELDS; i++)
        pieces[i] =
            (struct iovec){.iov_base = (void *)(uintptr_t)fields[i], .iov_len = strlen(fields[i])};
    for (size_t i = 0; i < count; i++) {
        memcpy(stpcpy(message, "MESSAGE="), lines + i * size, size - 1);
        pieces[FIELDS] = (struct iovec){.iov_base = message, .iov_len = size + 7};
        if (sd_journal_sendv(pieces, FIELDS + 1) < 0)
            die("sd_journal_sendv");
    }
}

int main(int argc, char **argv)
{
    useconds_t pause_usec;
    size_t count, size;
    char *lines;

    if (argc != 4 && argc != 5)
        return EXIT_FAILURE;
    count = number(argv[2], 1);
    size = number(argv[3], 32);
    lines = make_lines(count, size, '\n');
    pause_usec = (useconds_t)number(argc > 4 ? argv[4] : PAUSE, 1);
    if (strcmp(argv[1], "batch") == 0)
        send_batches(make_messages(lines, count, size), count, pause_usec);
    else if (strcmp(argv[1], "sessions") == 0)
        send_batches(make_sessions(lines, count, size), 3 * count, pause_usec);
    else if (strcmp(argv[1], "single") == 0)
        send_singles(lines, count, size);
    else
        send_by_library(lines, count, size);
    pause();
    return 0;
}
