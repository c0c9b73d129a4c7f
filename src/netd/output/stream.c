/* SPDX-License-Identifier: MIT */
#include "netd/output/stream.h"

#include "common/util.h"
#include "netd/output/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

static int stream_open(struct sink *s)
{
    struct stream *stream = &s->stream;
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    struct stat st;

    *stream = (struct stream){.fd = -1};
    if (flags < 0 || fstat(STDOUT_FILENO, &st) < 0)
        return -errno;
    /* O_NONBLOCK belongs to the open file that others share, so a pipe or terminal is opened anew;
     * another user's cannot be. Not what may only be read: that would give it the right to swallow
     * everything. */
    if ((flags & O_ACCMODE) != O_RDONLY && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) {
        stream->fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        stream->blocks = stream->fd < 0;
    }
    if (stream->fd < 0)
        stream->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    return stream->fd < 0 ? -errno : 0;
}

static void stream_close(struct sink *s)
{
    close_fd(&s->stream.fd);
}

/* As writev(2), which for a pipe or terminal that is ready waits for none of the first PIPE_BUF
 * bytes. It may change PIECES. */
static ssize_t stream_writev(const struct stream *stream, struct iovec *pieces, size_t count)
{
    struct pollfd ready = {.fd = stream->fd, .events = POLLOUT};
    size_t room = PIPE_BUF;

    if (stream->blocks && poll(&ready, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    for (size_t i = 0; stream->blocks && i < count; i++) {
        pieces[i].iov_len = min_size(pieces[i].iov_len, room);
        room -= pieces[i].iov_len;
    }
    return writev(stream->fd, pieces, (int)count);
}

/* Writes the rest of the entry number I. Returns 1 when all of it is out, or a negative errno. */
static int stream_send(struct sink *s, uint32_t i)
{
    struct stream *stream = &s->stream;
    const struct entry *entry = &s->entries[i];
    struct iovec pieces[ENTRY_PIECES_MAX];
    size_t skip = stream->written, count = 0;
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
    __atomic_store_n(&s->batch->begun, i + 1, __ATOMIC_RELEASE);
    n = sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK)
        n = stream_writev(stream, pieces, count);
    if (n < 0) {
        if (stream->written == 0)
            __atomic_store_n(&s->batch->begun, 0, __ATOMIC_RELEASE);
        return -errno;
    }
    stream->written += (size_t)n;
    if (stream->written < entry->size)
        return -EAGAIN;
    stream->written = 0;
    s->batch->messages[i].msg_len = 0;
    return 1;
}

/* Space may come back. */
static bool stream_is_fatal(int error)
{
    return error != EAGAIN && error != ENOBUFS && error != ENOMEM && error != ENOSPC &&
           error != EDQUOT;
}

const struct sink_type stream_sink = {
    .name = "standard output",
    .open = stream_open,
    .close = stream_close,
    .send = stream_send,
    .is_fatal = stream_is_fatal,
};
