/* SPDX-License-Identifier: MIT */
/*
 * Entries to standard output: a person's lines, or the Journal Export Format.
 *
 * A reader of such a stream is lost when an entry in it is torn. So entries are copied into a
 * buffer that outlives the worker, and from there they go out byte for byte: whoever finds entries
 * in the buffer finishes them before anything else. How many bytes are out must be known exactly,
 * whenever the worker dies; recovery.c has the argument.
 */
#pragma once

#include "netd/output/batch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the buffer: what any entry needs. */
#define STREAM_BUFFER_SIZE ((size_t)1024 * 1024)

struct sink_type;

struct stream {
    int fd;
    bool append; /* a file that is written to at its end */
    bool blocks; /* a terminal that could not be opened anew: a write may wait */
    uint8_t *buffer;
    size_t piped; /* bytes in the pipe of the progress */
};

extern const struct sink_type stream_sink;

/*
 * Between two workers: counts what the system call took in whose middle the last one died. FD is
 * standard output. Whoever shares it must not have written to it since, so the supervisor calls
 * this first of all.
 */
void stream_settle(struct stream_progress *p, int fd);

/* True for descriptors that outlive a worker. */
bool stream_owns(const struct stream_progress *p, int fd);
