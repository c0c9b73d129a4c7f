/* SPDX-License-Identifier: MIT */
/*
 * Entries to standard output: a person's lines, or the Journal Export Format.
 *
 * A reader cannot make sense of what follows a torn entry. So entries are copied to a buffer that
 * outlives the worker, and are written from there; a worker that finds entries in the buffer
 * completes them before anything else. The number of bytes written is known exactly whenever a
 * worker dies: see recovery.c.
 */
#pragma once

#include "netd/output/batch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the buffer: it holds any entry. */
#define STREAM_BUFFER_SIZE ((size_t)1024 * 1024)

struct sink_type;

struct stream {
    int fd;
    bool append; /* a file with O_APPEND */
    bool blocks; /* a terminal that could not be reopened: a write may block */
    uint8_t *buffer;
    size_t piped; /* bytes in our own pipe */
};

extern const struct sink_type stream_sink;

/* Between two workers: accounts for the system call that the last one was making when it died. FD
 * is standard output, to which nobody may have written since. */
void stream_settle(struct stream_progress *p, int fd);

/* True if FD is one of those that outlive a worker. */
bool stream_owns(const struct stream_progress *p, int fd);
