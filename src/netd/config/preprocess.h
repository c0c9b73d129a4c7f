/* SPDX-License-Identifier: MIT */
/*
 * The text of a configuration file with its includes expanded, which every version of libconfig
 * parses alike. What libconfig does not handle or does not detect is an error here, with file and
 * line: directories (its scanner calls exit(3) when read(2) fails), recursive includes, NUL bytes,
 * integers that it would truncate or parse as octal, a comma behind the last element of a list, and
 * more settings than it can parse quickly.
 */
#pragma once

#include "common/util.h"
#include "netd/config/config.h"

#define PREPROCESS_BYTES_MAX    ((size_t)1024 * 1024) /* of all files together */
#define PREPROCESS_FILES_MAX    64
#define PREPROCESS_SEGMENTS_MAX ((size_t)128) /* one more for each @include */
#define PREPROCESS_SETTINGS_MAX 5000          /* libconfig takes quadratic time */

/* The lines from LINE of the text on are those from FILE_LINE of FILE on. */
struct preprocess_segment {
    unsigned line;
    const char *file; /* one of files */
    unsigned file_line;
};

struct preprocess_text {
    char *text; /* NUL-terminated */
    size_t length;
    unsigned line; /* the last one of the text, from 1 */
    char *files[PREPROCESS_FILES_MAX];
    size_t n_files;
    struct preprocess_segment segments[PREPROCESS_SEGMENTS_MAX];
    size_t n_segments;
};

/*
 * Reads FILE and what it includes into RET, to be given to preprocess_free(). Returns 0; -ENOENT
 * when FILE itself does not exist; -EINVAL for every other error in the files; or -ENOMEM. The
 * first two leave a line in ERROR. RET is untouched on failure.
 */
int preprocess_load(struct preprocess_text *ret, const char *file,
                    char error[static CONFIG_ERROR_MAX]);

/* Frees what RET of preprocess_load() holds. A zeroed struct is fine. For CLEANUP(). */
void preprocess_free(struct preprocess_text *t);

/* Returns the file that LINE of the text comes from, and its line there in *RET. */
const char *preprocess_locate(const struct preprocess_text *t, unsigned line, unsigned *ret);

/* Returns the line of the text where element INDEX, from 0, of the list NAME begins, which is at
 * LINE or below. libconfig has it too late where a line ends behind a string. */
unsigned preprocess_find_element(const struct preprocess_text *t, unsigned line, const char *name,
                                 unsigned index);
