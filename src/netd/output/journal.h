/* SPDX-License-Identifier: MIT */
/*
 * Entries to journald, by its native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): one
 * datagram each, many with one sendmmsg(2).
 */
#pragma once

#include <stddef.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

/* Larger entries go as a sealed memfd, as sd_journal_sendv(3) does: the kernel would want one run
 * of pages for a large datagram, and cannot always have it. */
#define DATAGRAM_MAX ((size_t)96 * 1024)

/* Bytes of memfds that may wait in journald's queue: they are not charged to the socket's buffer.
 */
#define MEMFD_WAITING_MAX ((size_t)2 * 1024 * 1024)

struct journal {
    const char *path;      /* of journald's socket */
    int fd;                /* -1: not connected */
    size_t datagram_max;   /* bytes that the socket takes in one datagram, at most DATAGRAM_MAX */
    int memfd;             /* the first entry, where it is a large one */
    size_t memfds_waiting; /* bytes */
    int queued;            /* bytes on the way to journald when its queue was found full */
};

extern const struct sink_type journal_sink;
