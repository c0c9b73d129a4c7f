/* SPDX-License-Identifier: MIT */
#include "daemon/config.h"

#include "common/names.h"
#include "daemon/config-text.h"

#include <errno.h>
#include <inttypes.h>
#include <libconfig.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

/* Of what a person wrote, as much as a message shows. */
#define SHOWN       "%.40s%s"
#define SHOW(value) (value), strlen(value) > 40 ? "..." : ""

enum kind { KIND_GROUP, KIND_HOST, KIND_WORD, KIND_NUMBER, KIND_BOOLEAN };

struct word {
    const char *text;
    unsigned value;
};

/* Ended by a word without text. */
static const struct word framing_words[] = {
    {"line", FRAMING_LINE},
    {"raw", FRAMING_RAW},
    {NULL, 0},
};
static const struct word priority_words[] = {
    {"notice", LOG_NOTICE},
    {"info", LOG_INFO},
    {"debug", LOG_DEBUG},
    {NULL, 0},
};
static const struct word output_words[] = {
    {"auto", OUTPUT_AUTO},
    {"journal", OUTPUT_JOURNAL},
    {"text", OUTPUT_TEXT},
    {"export", OUTPUT_EXPORT},
    {NULL, 0},
};

struct key {
    const char *path;
    enum kind kind;
    size_t offset; /* in struct config, like the two below */
    size_t size;
    size_t origin;            /* 0: none is kept */
    uint64_t low, high;       /* of a number */
    const struct word *words; /* that a string may be */
};

#define FIELD(f)  .offset = offsetof(struct config, f), .size = sizeof(((struct config *)0)->f)
#define ORIGIN(f) .origin = offsetof(struct config, f)

static const struct key key_host = {
    .path = "host",
    .kind = KIND_HOST,
    FIELD(listener.host),
    ORIGIN(listener.host_origin),
};
