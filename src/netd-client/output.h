/* SPDX-License-Identifier: MIT */
/* Output to a terminal with colour and a pager, or to a plain stream; formatting. */
#pragma once

#include "netd-client/reader.h"

#include <jansson.h>
#include <stdio.h>

struct output {
    bool utc;
    bool color;
    unsigned columns; /* of the terminal; 0: not a terminal */
    FILE *pager;      /* NULL: none */
};

enum color {
    COLOR_NONE,
    COLOR_HEAD,
    COLOR_DIM,
    COLOR_GOOD,
    COLOR_BAD,
    /* Severities, as in journalctl(1). */
    COLOR_ERROR,
    COLOR_WARNING,
    COLOR_NOTICE,
    COLOR_DEBUG,
};

/*
 * Initializes RET for standard output. PAGED starts a pager where journalctl(1) would use one, and
 * redirects standard output to it; output_close() waits for the pager to exit.
 */
void output_open(struct output *ret, const struct options *options, bool paged);
void output_close(struct output *output);

/* Escape sequences that start and end COLOR; "" without colour. */
const char *output_color(const struct output *output, enum color color);
const char *output_plain(const struct output *output, enum color color);

#define TIME_TEXT_MAX     64
#define DURATION_TEXT_MAX 32

/* "2026-11-22 08:00:01", with MICRO "2026-11-22 08:00:01.123456". USEC is since the epoch. */
void output_time(const struct output *output, uint64_t usec, bool micro,
                 char ret[static TIME_TEXT_MAX]);

/* "12ms", "1.234s", "2min 3s", "4h 5min", "6d 7h". */
void output_duration(uint64_t usec, char ret[static DURATION_TEXT_MAX]);

#define COUNT_TEXT_MAX 64

/* "1 record", "2 records". */
void output_count(uint64_t count, const char *thing, char ret[static COUNT_TEXT_MAX]);

/* Prints EVENT as one line. WITH_SESSION adds the abbreviated session ID. */
void output_event(const struct output *output, const struct event *event, bool with_session);

/* Returns EVENT as a JSON object, or NULL if out of memory. */
json_t *event_json(const struct event *event);

/* Returns VALUE, which must be present, as a JSON string, or like journalctl(1) as an array of
 * bytes if it is not valid UTF-8. NULL if out of memory. */
json_t *value_json(const struct value *value);

/* Returns OBJECT; or frees it and returns NULL if errno has become ENOMEM since the caller set it
 * to 0. jansson replaces members that it could not allocate by null. */
json_t *json_complete(json_t *object);

/*
 * Prints OBJECT as one line and frees it. Its integers are uint64_t, cast to json_int_t. Returns 0
 * or -ENOMEM (also if OBJECT is NULL).
 */
int output_json(json_t *object);
