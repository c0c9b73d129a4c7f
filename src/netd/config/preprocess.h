/* SPDX-License-Identifier: MIT */
/*
 * The text of a configuration file with its includes put in place, made so that every version of
 * libconfig reads the same from it. Belongs to config.c. What libconfig does not survive or does
 * not notice ends here, with file and line: directories and pipes (its scanner calls exit(3) when
 * it cannot read), endless includes, NUL bytes, integers that it would wrap or take for octal,
 * and nesting, numbers of settings and strings in the wrong place that make it slow or leak.
 */
#pragma once

#include "common/util.h"
#include "netd/config/config.h"

#define CONFIG_BYTES_MAX   ((size_t)1024 * 1024) /* of all files together */
#define CONFIG_FILES_MAX   64
#define CONFIG_NESTING_MAX 16
#define CONFIG_VALUES_MAX  1000 /* libconfig looks for duplicates in quadratic time */

/* From LINE of the text on, the lines are those of FILE from FILE_LINE on. */
struct config_segment {
    unsigned line;
    const char *file; /* one of files */
    unsigned file_line;
};

struct config_text {
    char *text; /* without comments and includes, NUL-terminated */
    size_t length;
    unsigned line; /* the last one of the text, from 1 */
    /* Where in the text a number over 32 bits stands that lacks the suffix L; 0: nowhere. It got
     * one in the text, so that libconfig reads its true value. */
    unsigned wide_line;
    char *files[CONFIG_FILES_MAX];
    size_t n_files;
    struct config_segment segments[2 * CONFIG_FILES_MAX];
    size_t n_segments;
};

/*
 * Reads FILE and what it includes into RET, to be given to config_text_free(). Returns 0; -ENOENT
 * when FILE itself does not exist; -EINVAL for everything else that is wrong with the files; or
 * -ENOMEM. Both of the former leave a line in ERROR. RET is untouched on failure.
 */
int config_text_load(struct config_text *ret, const char *file,
                     char error[static CONFIG_ERROR_MAX]);

/* Frees what RET of config_text_load() holds. A zeroed struct is fine. For CLEANUP(). */
void config_text_free(struct config_text *t);

/* Returns the segment that LINE of the text belongs to: LINE - line + file_line is its number. */
const struct config_segment *config_text_locate(const struct config_text *t, unsigned line);

/* Writes a line into ERROR, made safe for a terminal, and returns -EINVAL. */
int config_fail(char error[static CONFIG_ERROR_MAX], const char *format, ...) PRINTF(2, 3);
