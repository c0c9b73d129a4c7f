/* SPDX-License-Identifier: MIT */
#include "netd/output/journal.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>

/* After EAGAIN journald is busy with what its queue holds, some hundred entries: milliseconds of
 * work. Waking for each place that it frees costs both sides a lot, and coming back when the queue
 * has long been empty costs time. So the wait is made longer or shorter until a quarter to a half
 * of the queue is gone by then. */
#define RETRY_FIRST_USEC 1000
#define RETRY_LEAST_USEC 250
#define RETRY_MOST_USEC  4000

/* A journald that takes nothing at all is asked less and less often. */
#define RETRY_PATIENCE  20
#define RETRY_SLOW_USEC (20 * USEC_PER_MSEC)
#define RETRY_GONE_USEC (100 * USEC_PER_MSEC)

/* Asked for, and cut down by the kernel to what net.core.wmem_max allows. */
#define SEND_BUFFER (8 * 1024 * 1024)

/* What the text of a batch usually needs, and of pages of any size a multiple. Escaped records need
 * more. */
#define ARENA_KEPT ((size_t)64 * 1024)

static int journal_open_stdout(struct journal *j)
{
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    struct stat st;

    if (flags < 0 || fstat(STDOUT_FILENO, &st) < 0)
        return -errno;
    /* O_NONBLOCK belongs to the open file that others share, so a pipe or terminal is opened anew;
     * another user's cannot be. Not what may only be read: that would give it the right to swallow
     * everything. */
    if ((flags & O_ACCMODE) != O_RDONLY && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) {
        j->fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        j->blocks = j->fd < 0;
    }
    if (j->fd < 0)
        j->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    return j->fd < 0 ? -errno : 0;
}

int journal_init(struct journal *j, enum output output, const char *path, struct batch *batch)
{
    int r;

    *j = (struct journal){
        .output = output,
        .path = path,
        .fd = -1,
        .batch = batch,
        .memfd = -1,
        .retry_usec = RETRY_FIRST_USEC,
        .arena.size = EVENT_ARENA_SIZE,
    };
    if (output != OUTPUT_JOURNAL) {
        r = journal_open_stdout(j);
        if (r < 0)
            return r;
    }
    /* Pages that no escaped record ever needs are never touched. */
    j->arena.base =
        mmap(NULL, j->arena.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (j->arena.base == MAP_FAILED) {
        j->arena.base = NULL;
        r = -errno;
        close_fd(&j->fd);
        return r;
    }
    journal_reset(j);
    return 0;
}

void journal_deinit(struct journal *j)
{
    if (j->arena.base)
        munmap(j->arena.base, j->arena.size);
    j->arena.base = NULL;
    close_fd(&j->fd);
    close_fd(&j->memfd);
}

bool journal_has_room(const struct journal *j)
{
    return j->batch->end < BATCH_MAX;
}

void journal_push(struct journal *j, const struct entry *entry, const struct item *item)
{
    uint32_t i = j->batch->end;

    j->entries[i] = *entry;
    j->batch->items[i] = *item;
    j->batch->messages[i] = (struct mmsghdr){
        .msg_hdr.msg_iov = j->entries[i].pieces,
        .msg_hdr.msg_iovlen = entry->count,
        .msg_len = NOT_TAKEN,
    };
    /* An entry is part of the batch only when all of it stands there. */
    __atomic_store_n(&j->batch->end, i + 1, __ATOMIC_RELEASE);
}

bool batch_taken(const struct batch *batch)
{
    return batch->first < batch->end && batch->messages[batch->first].msg_len != NOT_TAKEN;
}

void batch_reset(struct batch *batch)
{
    /* END first: an interrupted reset leaves an empty batch (FIRST beyond END), never an old one.
     */
    __atomic_store_n(&batch->end, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&batch->first, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&batch->begun, 0, __ATOMIC_RELEASE);
}

void journal_reset(struct journal *j)
{
    batch_reset(j->batch);
    if (j->arena.used > j->arena_most)
        j->arena_most = j->arena.used;
    j->arena.used = 0;
    j->written = 0;
}

void journal_trim(struct journal *j)
{
    if (j->arena_most <= ARENA_KEPT && j->arena.used <= ARENA_KEPT)
        (void)madvise(j->arena.base + ARENA_KEPT, j->arena.size - ARENA_KEPT, MADV_DONTNEED);
    j->arena_most = 0;
}

/* --- The journal's socket --- */

static int journal_connect(struct journal *j)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    CLEANUP(close_fd) int fd = -1;
    int size = SEND_BUFFER;
    socklen_t length = sizeof(size);

    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* Best effort: a small buffer only means fewer entries on the way. */
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

/* True when journald has taken out enough of the memfds sent before for another one of SIZE bytes.
 */
static bool journal_memfd_may_go(struct journal *j, size_t size)
{
    int queued = 0;

    if (j->memfds_waiting > 0 && ioctl(j->fd, SIOCOUTQ, &queued) == 0 && queued == 0)
        j->memfds_waiting = 0;
    return j->memfds_waiting == 0 || j->memfds_waiting + size <= MEMFD_WAITING_MAX;
}

/* Sends the large entry number I. Returns as sendmmsg(2), with the negative errno. */
static int journal_send_large(struct journal *j, uint32_t i)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct mmsghdr *message = &j->batch->messages[i];
    struct msghdr plain = message->msg_hdr;
    size_t size = j->entries[i].size;
    int r;

    if (!journal_memfd_may_go(j, size))
        return -EAGAIN;
    if (j->memfd < 0) {
        r = journal_make_memfd(j, &j->entries[i]);
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

/* Sends as many entries from number I on as one call can. Returns how many, or a negative errno. */
static int journal_send_some(struct journal *j, uint32_t i)
{
    struct batch *batch = j->batch;
    uint32_t end = i;
    int n;

    if (j->fd < 0) {
        n = journal_connect(j);
        if (n < 0)
            return n;
    }
    if (j->entries[i].size > j->datagram_max)
        return journal_send_large(j, i);
    while (end < batch->end && j->entries[end].size <= j->datagram_max)
        end++;
    close_fd(&j->memfd);
    n = sendmmsg(j->fd, &batch->messages[i], end - i, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

/* --- Standard output --- */

/* As writev(2), which for a pipe or terminal that is ready waits for none of the first PIPE_BUF
 * bytes. It may change PIECES. */
static ssize_t journal_writev(const struct journal *j, struct iovec *pieces, size_t count)
{
    struct pollfd ready = {.fd = j->fd, .events = POLLOUT};
    size_t room = PIPE_BUF;

    if (j->blocks && poll(&ready, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    for (size_t i = 0; j->blocks && i < count; i++) {
        pieces[i].iov_len = min_size(pieces[i].iov_len, room);
        room -= pieces[i].iov_len;
    }
    return writev(j->fd, pieces, (int)count);
}

/* Writes the rest of the entry number I. Returns 1 when all of it is out, or a negative errno. */
static int journal_write(struct journal *j, uint32_t i)
{
    const struct entry *entry = &j->entries[i];
    struct iovec pieces[ENTRY_PIECES_MAX];
    size_t skip = j->written, count = 0;
    struct msghdr message = {.msg_iov = pieces};
    ssize_t n;

    for (size_t p = 0; p < entry->count; p++) {
        size_t out = min_size(skip, entry->pieces[p].iov_len);

        skip -= out;
        if (out == entry->pieces[p].iov_len)
            continue;
        pieces[count++] = (struct iovec){
            .iov_base = (uint8_t *)entry->pieces[p].iov_base + out,
            .iov_len = entry->pieces[p].iov_len - out,
        };
    }
    message.msg_iovlen = count;
    __atomic_store_n(&j->batch->begun, i + 1, __ATOMIC_RELEASE);
    n = sendmsg(j->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK)
        n = journal_writev(j, pieces, count);
    if (n < 0) {
        if (j->written == 0)
            __atomic_store_n(&j->batch->begun, 0, __ATOMIC_RELEASE);
        return -errno;
    }
    j->written += (size_t)n;
    if (j->written < entry->size)
        return -EAGAIN;
    j->written = 0;
    j->batch->messages[i].msg_len = 0;
    return 1;
}

/* --- Both --- */

/* Errors that end an output for good. Of the journal's socket none does: it may come back. */
static bool journal_is_fatal(const struct journal *j, int error)
{
    return j->output != OUTPUT_JOURNAL && error != EAGAIN && error != EINTR && error != ENOBUFS &&
           error != ENOMEM && error != ENOSPC && error != EDQUOT;
}

/* The socket's other end is not there any more; a new connection may find a new one. */
static bool journal_is_disconnected(int error)
{
    return error == ECONNREFUSED || error == ENOTCONN || error == ECONNRESET || error == EPIPE ||
           error == EDESTADDRREQ;
}

/* Bytes that journald has not taken out of its queue yet (the kernel counts its own, too). */
static int journal_queued(const struct journal *j)
{
    int queued = 0;

    if (j->fd >= 0)
        (void)ioctl(j->fd, SIOCOUTQ, &queued);
    return queued;
}

/* Coming back after the queue was full: was it the right time? */
static void journal_adapt_retry(struct journal *j)
{
    int taken = j->queued - journal_queued(j);

    if (taken < j->queued / 4)
        j->retry_usec = min_u64(j->retry_usec * 2, RETRY_MOST_USEC);
    else if (taken > j->queued / 2 && j->retry_usec > RETRY_LEAST_USEC)
        j->retry_usec /= 2;
}

int journal_send(struct journal *j)
{
    struct batch *batch = j->batch;
    uint32_t i = batch->first;
    int n = 0;

    if (j->blocked_errno == EAGAIN)
        journal_adapt_retry(j);
    while (i < batch->end) {
        n = j->output == OUTPUT_JOURNAL ? journal_send_some(j, i) : journal_write(j, i);
        if (n == -EINTR)
            continue;
        if (n < 0)
            break;
        i += (uint32_t)n;
        j->blocked_tries = 0;
    }
    if (n >= 0) {
        j->blocked_errno = 0;
        return 0;
    }
    if (journal_is_fatal(j, -n))
        return n;
    if (j->output == OUTPUT_JOURNAL && journal_is_disconnected(-n))
        close_fd(&j->fd);
    j->blocked_errno = -n;
    j->blocked_tries++;
    j->queued = journal_queued(j);
    return 1;
}

uint64_t journal_retry_usec(const struct journal *j)
{
    if (j->blocked_errno != EAGAIN)
        return RETRY_GONE_USEC;
    return j->blocked_tries < RETRY_PATIENCE ? j->retry_usec : RETRY_SLOW_USEC;
}
