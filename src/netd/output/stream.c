/* SPDX-License-Identifier: MIT */
#include "netd/output/stream.h"

#include "common/util.h"
#include "netd/output/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The default capacity of a pipe, see pipe(7). */
#define PIPE_BYTES ((size_t)64 * 1024)

/* Bytes of the buffer whose pages are kept. */
#define BUFFER_KEPT ((size_t)64 * 1024)

/* MESSAGE, NETD_DATA and the other fields. */
_Static_assert(STREAM_BUFFER_SIZE >= EVENT_ESCAPED_MAX + MAX_RECORD_HIGH + 8192,
               "an entry may not fit");

/* --- What outlives the worker --- */

static uint32_t stream_handed(const struct stream_progress *p)
{
    return (uint32_t)(p->handed / 2);
}

/* COUNT bytes have been taken, and a call that may take more is being made if BUSY: one store. */
static void stream_set_handed(struct stream_progress *p, uint32_t count, bool busy)
{
    __atomic_store_n(&p->handed, (uint64_t)count * 2 + busy, __ATOMIC_RELEASE);
}

/* Bytes that the interrupted call took. */
static uint64_t stream_taken(const struct stream_progress *p, int fd)
{
    int64_t offset;
    int unread = 0;

    switch ((enum stream_kind)p->kind) {
    case STREAM_SOCKET:
        return p->message.msg_len == NOT_TAKEN ? 0 : p->message.msg_len;
    case STREAM_FILE:
        offset = lseek(fd, 0, SEEK_CUR); /* devices have none: unknown */
        return offset < p->offset ? 0 : (uint64_t)(offset - p->offset);
    case STREAM_PIPE:
        (void)ioctl(p->pipe[0], FIONREAD, &unread); /* empty before the call */
        break;
    }
    return (uint64_t)unread;
}

void stream_settle(struct stream_progress *p, int fd)
{
    uint32_t handed = stream_handed(p);

    if (p->handed % 2 == 0 || handed > p->length)
        return;
    stream_set_handed(p, handed + (uint32_t)min_u64(stream_taken(p, fd), p->length - handed),
                      false);
}

bool stream_owns(const struct stream_progress *p, int fd)
{
    return fd == p->buffer || fd == p->pipe[0] || fd == p->pipe[1];
}

static bool stream_has_pipe(const struct stream_progress *p)
{
    struct stat st[2];

    for (int i = 0; i < 2; i++)
        if (p->pipe[i] <= STDERR_FILENO || fstat(p->pipe[i], &st[i]) < 0 ||
            !S_ISFIFO(st[i].st_mode))
            return false;
    return st[0].st_ino == st[1].st_ino;
}

static bool stream_has_buffer(const struct stream_progress *p)
{
    struct stat st;

    return p->buffer > STDERR_FILENO && fstat(p->buffer, &st) == 0 && S_ISREG(st.st_mode) &&
           st.st_size == (off_t)STREAM_BUFFER_SIZE;
}

/* A worker that crashed may have written anything. */
static bool stream_progress_valid(const struct batch *batch)
{
    const struct stream_progress *p = &batch->stream;

    return p->loaded <= batch->end && batch->end <= BATCH_MAX && p->length <= STREAM_BUFFER_SIZE &&
           stream_handed(p) <= p->length && p->kind <= STREAM_PIPE && stream_has_buffer(p) &&
           (p->kind != STREAM_PIPE || stream_has_pipe(p));
}

/* --- The output --- */

/* O_NONBLOCK is a property of the open file, which is shared with others. So a terminal is
 * reopened, unless it belongs to another user; not one that is open for reading only, which must
 * remain an error. */
static int stream_open_output(struct stream *stream, enum stream_kind *kind)
{
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    struct stat st;

    if (flags < 0 || fstat(STDOUT_FILENO, &st) < 0)
        return -errno;
    stream->append = flags & O_APPEND;
    *kind = S_ISSOCK(st.st_mode) ? STREAM_SOCKET : STREAM_FILE;
    if ((flags & O_ACCMODE) != O_RDONLY && (S_ISFIFO(st.st_mode) || isatty(STDOUT_FILENO)))
        *kind = STREAM_PIPE;
    if (*kind == STREAM_PIPE && !S_ISFIFO(st.st_mode)) {
        stream->fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        stream->blocks = stream->fd < 0;
    }
    if (stream->fd < 0)
        stream->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    return stream->fd < 0 ? -errno : 0;
}

/* Makes the buffer, and the pipe if it is needed, without close-on-exec: a reload hands them over.
 * If the worker dies before they are in *P, unclaimed_collect() closes them. */
static int stream_make(struct stream_progress *p, enum stream_kind kind)
{
    int fd;

    p->kind = kind;
    if (!stream_has_buffer(p)) {
        fd = memfd_create("netd-output", 0);
        p->buffer = fd;
        if (fd < 0 || ftruncate(fd, STREAM_BUFFER_SIZE) < 0)
            return -errno;
    }
    if (kind == STREAM_PIPE && !stream_has_pipe(p) && pipe2(p->pipe, O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

/* Finds out what is in the pipe, and discards it if the buffer was abandoned. */
static int stream_open_pipe(struct stream *stream, const struct stream_progress *p)
{
    char discard[4096];
    int unread = 0;

    while (p->loaded == 0 && read(p->pipe[0], discard, sizeof(discard)) > 0)
        ;
    if (ioctl(p->pipe[0], FIONREAD, &unread) < 0)
        return -errno;
    stream->piped = (size_t)unread;
    return 0;
}

static int stream_open(struct sink *s)
{
    struct stream_progress *p = &s->batch->stream;
    struct stream *stream = &s->stream;
    enum stream_kind kind = STREAM_FILE;
    void *buffer;
    int r;

    *stream = (struct stream){.fd = -1};
    r = stream_open_output(stream, &kind);
    if (r < 0)
        return r;
    if (p->loaded > 0 && (p->kind != kind || !stream_progress_valid(s->batch))) {
        /* What was written is unknown: recovery_run() finds a corrupt batch. */
        p->loaded = 0;
        s->batch->end = UINT32_MAX;
    }
    r = stream_make(p, kind);
    if (r == 0 && kind == STREAM_PIPE)
        r = stream_open_pipe(stream, p);
    if (r < 0)
        return r;
    buffer = mmap(NULL, STREAM_BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->buffer, 0);
    if (buffer == MAP_FAILED)
        return -errno;
    (void)madvise(buffer, STREAM_BUFFER_SIZE, MADV_DONTDUMP); /* as the regions */
    stream->buffer = buffer;
    stream_settle(p, stream->fd);
    return 0;
}

static void stream_close(struct sink *s)
{
    if (s->stream.buffer)
        munmap(s->stream.buffer, STREAM_BUFFER_SIZE);
    close_fd(&s->stream.fd);
}

/* --- Calls that take bytes of the buffer --- */

static int stream_result(ssize_t n)
{
    return n < 0 ? -errno : (int)n;
}

static int stream_send_socket(const struct stream *stream, struct stream_progress *p, uint32_t at)
{
    struct iovec piece = {.iov_base = stream->buffer + at, .iov_len = p->length - at};

    p->message = (struct mmsghdr){
        .msg_hdr.msg_iov = &piece,
        .msg_hdr.msg_iovlen = 1,
        .msg_len = NOT_TAKEN,
    };
    stream_set_handed(p, at, true);
    if (sendmmsg(stream->fd, &p->message, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return -errno;
    return (int)p->message.msg_len;
}

static int stream_write_file(const struct stream *stream, struct stream_progress *p, uint32_t at)
{
    /* With O_APPEND, write(2) sets the offset to the end first. */
    p->offset = lseek(stream->fd, 0, stream->append ? SEEK_END : SEEK_CUR);
    stream_set_handed(p, at, true);
    return stream_result(write(stream->fd, stream->buffer + at, p->length - at));
}

/* Fills the pipe, which is empty. */
static int stream_fill_pipe(struct stream *stream, struct stream_progress *p, uint32_t at)
{
    int n;

    stream_set_handed(p, at, true);
    n = stream_result(write(p->pipe[1], stream->buffer + at, min_size(p->length - at, PIPE_BYTES)));
    stream->piped = n > 0 ? (size_t)n : 0;
    return n;
}

static int stream_step(struct stream *stream, struct stream_progress *p)
{
    uint32_t at = stream_handed(p);
    int n;

    switch ((enum stream_kind)p->kind) {
    case STREAM_SOCKET:
        n = stream_send_socket(stream, p, at);
        break;
    case STREAM_FILE:
        n = stream_write_file(stream, p, at);
        break;
    default:
        n = stream_fill_pipe(stream, p, at);
        break;
    }
    stream_set_handed(p, n > 0 ? at + (uint32_t)n : at, false);
    return n;
}

/* Moves bytes from the pipe to standard output. A terminal that is ready takes PIPE_BUF bytes
 * without blocking. Returns as splice(2), or a negative errno. */
static int stream_empty_pipe(struct stream *stream, const struct stream_progress *p)
{
    struct pollfd ready = {.fd = stream->fd, .events = POLLOUT};
    size_t most = stream->blocks ? PIPE_BUF : PIPE_BYTES;
    int n;

    if (stream->blocks && poll(&ready, 1, 0) == 0)
        return -EAGAIN;
    n = stream_result(
        splice(p->pipe[0], NULL, stream->fd, NULL, most, SPLICE_F_NONBLOCK | SPLICE_F_MOVE));
    if (n > 0)
        stream->piped -= min_size(stream->piped, (size_t)n);
    return n;
}

/* --- Entries --- */

static uint32_t stream_first(const struct batch *batch)
{
    uint32_t i = batch->first;

    while (i < batch->end && batch->messages[i].msg_len != NOT_TAKEN)
        i++;
    return i;
}

/* Copies entries to the buffer, which is empty, from number I on. */
static void stream_load(struct sink *s, uint32_t i)
{
    struct stream_progress *p = &s->batch->stream;
    uint8_t *at = s->stream.buffer;
    const uint8_t *end = at + STREAM_BUFFER_SIZE;

    for (; i < s->batch->end && s->entries[i].size <= (size_t)(end - at); i++)
        for (size_t k = 0; k < s->entries[i].count; k++) {
            memcpy(at, s->entries[i].pieces[k].iov_base, s->entries[i].pieces[k].iov_len);
            at += s->entries[i].pieces[k].iov_len;
        }
    p->length = (uint32_t)(at - s->stream.buffer);
    stream_set_handed(p, 0, false);
    /* From here on they will be written, even if this worker dies. */
    __atomic_store_n(&p->loaded, i, __ATOMIC_RELEASE);
}

/* Writes what is left of the buffer. Returns 0 or a negative errno. */
static int stream_finish(struct sink *s)
{
    struct stream_progress *p = &s->batch->stream;

    while (s->stream.piped > 0 || stream_handed(p) < p->length) {
        int n = s->stream.piped > 0 ? stream_empty_pipe(&s->stream, p) : stream_step(&s->stream, p);

        if (n < 0)
            return n;
    }
    for (uint32_t i = stream_first(s->batch); i < p->loaded; i++)
        s->batch->messages[i].msg_len = 0;
    __atomic_store_n(&p->loaded, 0, __ATOMIC_RELEASE);
    return 0;
}

static int stream_resume(struct sink *s)
{
    return s->batch->stream.loaded > 0 ? stream_finish(s) : 0;
}

static int stream_send(struct sink *s, uint32_t i)
{
    uint32_t end;
    int r;

    if (s->batch->stream.loaded == 0)
        stream_load(s, i);
    end = s->batch->stream.loaded;
    r = stream_finish(s);
    return r < 0 ? r : (int)(end - i);
}

static void stream_trim(struct sink *s)
{
    if (s->batch->stream.loaded == 0)
        (void)madvise(s->stream.buffer + BUFFER_KEPT, STREAM_BUFFER_SIZE - BUFFER_KEPT,
                      MADV_REMOVE);
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
    .resume = stream_resume,
    .send = stream_send,
    .trim = stream_trim,
    .is_fatal = stream_is_fatal,
};
