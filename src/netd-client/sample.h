/* SPDX-License-Identifier: MIT */
/* Lines of the Prometheus text format, as netd writes it. Pure. */
#pragma once

#include <stddef.h>

#define SAMPLE_LABELS_MAX 8

struct sample_label {
    const char *name, *value;
};

/* One value. Strings point into the line. */
struct sample {
    const char *name;
    struct sample_label labels[SAMPLE_LABELS_MAX];
    size_t n_labels;
    const char *value;
};

/*
 * Parses LINE, with or without its LF, and overwrites it. A timestamp behind the value is not
 * accepted. Returns 1; 0 if it is empty or a comment; or -EINVAL.
 */
int sample_parse(char *line, struct sample *ret);

/* Returns the value of the label NAME, or NULL. */
const char *sample_label(const struct sample *sample, const char *name);
