/* SPDX-License-Identifier: MIT */
/* Where results go: a terminal with colour and a pager, or a plain stream. And their parts. */
#pragma once

#include "netd-client/reader.h"

#include <jansson.h>
#include <stdio.h>

struct output {
    bool utc;
    bool color;
    unsigned columns; /* of the terminal; 0: there is none */
    FILE *pager;      /* NULL: there is none */
};

enum color { COLOR_NONE, COLOR_HEAD, COLOR_DIM, COLOR_GOOD, COLOR_BAD };

/*
 * Looks at standard output; with PAGED it becomes the way to a pager where journalctl would use
 * one, and output_close() waits for that to end.
 */
void output_open(struct output *ret, const struct options *options, bool paged);
void output_close(struct output *output);

/* The sequences before and after something in COLOR; "" where there is none. */
const char *output_color(const struct output *output, enum color color);
const char *output_plain(const struct output *output, enum color color);

#define TIME_TEXT_MAX     64
#define DURATION_TEXT_MAX 32

/* "2026-11-22 08:00:01", with MICRO "2026-11-22 08:00:01.123456". USEC since the epoch. */
void output_time(const struct output *output, uint64_t usec, bool micro,
                 char ret[static TIME_TEXT_MAX]);

/* "12ms", "1.234s", "2min 3s", "4h 5min", "6d 7h". */
void output_duration(uint64_t usec, char ret[static DURATION_TEXT_MAX]);

#define COUNT_TEXT_MAX 64

/* "1 record", "2 records". */
void output_count(uint64_t count, const char *thing, char ret[static COUNT_TEXT_MAX]);

/* Writes an event as one line. WITH_SESSION: with the first digits of its session's id. */
void output_event(const struct output *output, const struct event *event, bool with_session);

/* The same as a JSON object; NULL without memory. */
json_t *event_json(const struct event *event);

/* A value that is there as a JSON string; bytes that are no text as an array of numbers, as
 * journalctl does it. NULL without memory. */
json_t *value_json(const struct value *value);

/* OBJECT, or NULL, and it is freed, where memory ran out since errno was set to 0: jansson then
 * puts null in the place of what it could not make. */
json_t *json_whole(json_t *object);

/*
 * Writes and frees OBJECT, as one line. Its integers are uint64_t, cast to json_int_t. Returns 0 or
 * -ENOMEM (also when OBJECT is NULL).
 */
int output_json(json_t *object);
