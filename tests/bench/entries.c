/* SPDX-License-Identifier: MIT */
/*
 * Data events as netd writes them, without netd: what the journal can take at best, and what it
 * takes from sd_journal_sendv(3).
 *
 *   entries batch|single|sendv LINES SIZE [PAUSE]
 *
 * batch: datagrams by the hundreds in one sendmmsg(2), and a pause of PAUSE (2000) µs when the
 * journal's queue is full. single: the same with a sendmsg(2) for each that waits for room. Then it
 * stays until it is killed, so that its use of time and memory can be read.
 */
#include "lines.h"

#include "common/names.h"

#include <errno.h>
#include <stdint.h>
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

static void send_batches(char *lines, size_t count, size_t size, useconds_t pause_usec)
{
    struct mmsghdr *messages = make_messages(lines, count, size);
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
    size_t count, size;
    char *lines;

    if (argc != 4 && argc != 5)
        return EXIT_FAILURE;
    count = number(argv[2], 1);
    size = number(argv[3], 32);
    lines = make_lines(count, size, '\n');
    if (strcmp(argv[1], "batch") == 0)
        send_batches(lines, count, size, (useconds_t)number(argc > 4 ? argv[4] : PAUSE, 1));
    else if (strcmp(argv[1], "single") == 0)
        send_singles(lines, count, size);
    else
        send_by_library(lines, count, size);
    pause();
    return 0;
}
