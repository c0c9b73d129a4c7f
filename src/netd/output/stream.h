/* SPDX-License-Identifier: MIT */
/* Entries to standard output: a person's lines, or the Journal Export Format. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct stream {
    int fd;
    bool blocks;    /* a write may wait */
    size_t written; /* bytes of the first entry that are out */
};

extern const struct sink_type stream_sink;
