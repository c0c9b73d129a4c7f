/* SPDX-License-Identifier: MIT */
/*
 * A stand-in for journald: a datagram socket bound in a directory of its own, whose queue fills up
 * when nobody reads it. Needs cmocka.h before.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define DATAGRAM_ROOM ((size_t)1024 * 1024)

struct journald {
    char directory[64], path[80];
    int fd;           /* -1: nobody is there */
    uint8_t *data;    /* the last datagram, or what the memfd in it holds */
    size_t length;    /* bytes of it */
    bool large;       /* it came as a memfd */
    size_t datagrams; /* so far */
};

static inline void journald_open(struct journald *s)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    (void)unlink(s->path);
    s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(s->fd >= 0);
    memcpy(sa.sun_path, s->path, strlen(s->path));
    assert_int_equal(bind(s->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
}

/* Goes away with all that is queued; the path stays. */
static inline void journald_close(struct journald *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static inline void journald_init(struct journald *s)
{
    *s = (struct journald){.directory = "/tmp/netd-test-journald.XXXXXX", .fd = -1};
    assert_non_null(mkdtemp(s->directory));
    snprintf(s->path, sizeof(s->path), "%s/socket", s->directory);
    s->data = malloc(DATAGRAM_ROOM);
    assert_non_null(s->data);
}

static inline void journald_deinit(struct journald *s)
{
    journald_close(s);
    (void)unlink(s->path);
    (void)rmdir(s->directory);
    free(s->data);
}

/* As journald takes it: only with all seals may a memfd be mapped without fear of its writer. */
static inline void journald_read_memfd(struct journald *s, int fd)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
    struct stat st;

    assert_int_equal(fcntl(fd, F_GET_SEALS), seals);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true((size_t)st.st_size <= DATAGRAM_ROOM);
    assert_int_equal(pread(fd, s->data, DATAGRAM_ROOM, 0), st.st_size);
    s->length = (size_t)st.st_size;
    close(fd);
}

/* Takes one datagram out of the queue. Returns false when there is none. */
static inline bool journald_take(struct journald *s)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec piece = {.iov_base = s->data, .iov_len = DATAGRAM_ROOM};
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t n = recvmsg(s->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    if (n < 0) {
        assert_int_equal(errno, EAGAIN);
        return false;
    }
    assert_int_equal(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC), 0);
    s->length = (size_t)n;
    s->large = header != NULL;
    s->datagrams++;
    if (header) {
        int fd;

        assert_int_equal(header->cmsg_type, SCM_RIGHTS);
        assert_int_equal(n, 0);
        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
        journald_read_memfd(s, fd);
    }
    return true;
}
