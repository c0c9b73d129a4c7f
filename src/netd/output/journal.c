/* SPDX-License-Identifier: MIT */
#include "netd/output/journal.h"

#include "common/util.h"
#include "netd/output/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/un.h>

/* After EAGAIN journald has some hundred entries in its queue: milliseconds of work. Waking up for
 * each place that it frees is expensive for both sides, and returning long after the queue is empty
 * wastes time. So the wait adapts until a quarter to a half of the queue has been read by then. */
#define RETRY_LEAST_USEC 250
#define RETRY_MOST_USEC  4000

/* Requested; the kernel limits it to net.core.wmem_max. */
#define SEND_BUFFER (8 * 1024 * 1024)

static int journal_open(struct sink *s)
{
    s->journal.fd = s->journal.memfd = -1;
    return 0;
}

static void journal_close(struct sink *s)
{
    close_fd(&s->journal.fd);
    close_fd(&s->journal.memfd);
}

static int journal_connect(struct journal *j)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    CLEANUP(close_fd) int fd = -1;
    int size = SEND_BUFFER;
    socklen_t length = sizeof(size);

    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* Best effort: with a smaller buffer fewer entries are queued. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    strncpy(sa.sun_path, j->path, sizeof(sa.sun_path) - 1);
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return -errno;
    /* What the kernel compares a datagram's size with, see unix(7) and sock_alloc_send_pskb(). */
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &length) < 0)
        return -errno;
    j->datagram_max = min_size(DATAGRAM_MAX, (size_t)size - min_size((size_t)size, 64));
    j->fd = fd;
    fd = -1;
    return 0;
}

/* Writes the entry at the head into a sealed memfd, which journald maps. */
static int journal_make_memfd(struct journal *j, const struct entry *entry)
{
    CLEANUP(close_fd) int fd = memfd_create("netd-entry", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return -errno;
    for (size_t i = 0; i < entry->count; i++) {
        const uint8_t *p = entry->pieces[i].iov_base;
        size_t left = entry->pieces[i].iov_len;

        while (left > 0) {
            ssize_t n = write(fd, p, left);

            if (n < 0)
                return -errno;
            p += n;
            left -= (size_t)n;
        }
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return -errno;
    j->memfd = fd;
    fd = -1;
    return 0;
}

/* True if journald has received enough of the memfds sent before for another one of SIZE bytes. */
static bool journal_memfd_may_go(struct journal *j, size_t size)
{
    int queued = 0;

    if (j->memfds_waiting > 0 && ioctl(j->fd, SIOCOUTQ, &queued) == 0 && queued == 0)
        j->memfds_waiting = 0;
    return j->memfds_waiting == 0 || j->memfds_waiting + size <= MEMFD_WAITING_MAX;
}

/* Sends the large entry number I. Returns as sendmmsg(2), with the negative errno. */
static int journal_send_large(struct sink *s, uint32_t i)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct journal *j = &s->journal;
    struct mmsghdr *message = &s->batch->messages[i];
    struct msghdr plain = message->msg_hdr;
    size_t size = s->entries[i].size;
    int r;

    if (!journal_memfd_may_go(j, size))
        return -EAGAIN;
    if (j->memfd < 0) {
        r = journal_make_memfd(j, &s->entries[i]);
        if (r < 0)
            return r;
    }
    control.header = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET,
        .cmsg_type = SCM_RIGHTS,
        .cmsg_len = CMSG_LEN(sizeof(int)),
    };
    memcpy(CMSG_DATA(&control.header), &j->memfd, sizeof(int));
    message->msg_hdr = (struct msghdr){.msg_control = &control, .msg_controllen = sizeof(control)};
    r = sendmmsg(j->fd, message, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    message->msg_hdr = plain; /* the next socket may take it as a datagram */
    if (r < 0)
        return -errno;
    close_fd(&j->memfd);
    j->memfds_waiting += size;
    return r;
}

/* The other end of the socket is gone; a new connection may find another one. */
static bool journal_is_disconnected(int error)
{
    return error == ECONNREFUSED || error == ENOTCONN || error == ECONNRESET || error == EPIPE ||
           error == EDESTADDRREQ;
}

/* Bytes that journald has not read yet, the kernel's overhead included. */
static int journal_queued(const struct journal *j)
{
    int queued = 0;

    if (j->fd >= 0)
        (void)ioctl(j->fd, SIOCOUTQ, &queued);
    return queued;
}

/* The queue was full, and the wait is over: adapts the next wait to what was read meanwhile. */
static void journal_adapt_retry(struct sink *s)
{
    struct journal *j = &s->journal;
    int taken = j->queued - journal_queued(j);

    if (taken < j->queued / 4)
        s->retry_usec = min_u64(s->retry_usec * 2, RETRY_MOST_USEC);
    else if (taken > j->queued / 2 && s->retry_usec > RETRY_LEAST_USEC)
        s->retry_usec /= 2;
    j->queued = 0;
}

/* Returns as sendmmsg(2), with the negative errno. */
static int journal_send_some(struct sink *s, uint32_t i)
{
    struct journal *j = &s->journal;
    uint32_t end = i;
    int n;

    if (j->fd < 0) {
        n = journal_connect(j);
        if (n < 0)
            return n;
    }
    if (s->entries[i].size > j->datagram_max)
        return journal_send_large(s, i);
    while (end < s->batch->end && s->entries[end].size <= j->datagram_max)
        end++;
    close_fd(&j->memfd);
    n = sendmmsg(j->fd, &s->batch->messages[i], end - i, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

/* No error is fatal: journald may come back. */
static int journal_send(struct sink *s, uint32_t i)
{
    int n;

    if (s->journal.queued > 0)
        journal_adapt_retry(s);
    n = journal_send_some(s, i);
    if (n >= 0 || n == -EINTR)
        return n;
    if (journal_is_disconnected(-n))
        close_fd(&s->journal.fd);
    s->journal.queued = journal_queued(&s->journal);
    return n;
}

const struct sink_type journal_sink = {
    .name = "the journal",
    .open = journal_open,
    .close = journal_close,
    .send = journal_send,
};
