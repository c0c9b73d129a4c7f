/* SPDX-License-Identifier: MIT */
/* sessions: a table that fits the width of the terminal. */
#include "common/escape.h"
#include "netd-client/list.h"
#include "netd-client/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ID_SHORTEST 8 /* minimum number of digits shown */
#define CELL_MAX    (ESCAPE_LENGTH * LISTED_MAX + 1)

enum column {
    COL_ID,
    COL_BEGIN,
    COL_DURATION,
    COL_HOST,
    COL_PEER,
    COL_RECORDS,
    COL_BYTES,
    COL_END,
    COLUMNS
};

static const struct {
    const char *title;
    bool right;
} columns[COLUMNS] = {
    [COL_ID] = {"SESSION", false},       [COL_BEGIN] = {"BEGIN", false},
    [COL_DURATION] = {"DURATION", true}, [COL_HOST] = {"HOST", false},
    [COL_PEER] = {"PEER", false},        [COL_RECORDS] = {"RECORDS", true},
    [COL_BYTES] = {"BYTES", true},       [COL_END] = {"END", false},
};

/* Columns that are omitted on a narrow terminal, in this order. */
static const enum column spare[] = {COL_DURATION, COL_RECORDS, COL_BYTES, COL_HOST, COL_PEER};

struct table {
    const struct output *output;
    uint64_t now;
    bool with_hosts;
    size_t widths[COLUMNS]; /* 0: omitted */
    size_t id_length;
    size_t gap; /* spaces between columns */
};

struct row {
    char cells[COLUMNS][CELL_MAX];
};

/* --- Rows --- */

static void cell_text(char ret[static CELL_MAX], const char *text)
{
    escape_copy(ret, CELL_MAX, text, strlen(text));
}

static void cell_number(char *ret, const struct session *s, uint64_t number)
{
    if (s->ended)
        snprintf(ret, NUMBER_MAX + 1, "%" PRIu64, number);
    else
        strcpy(ret, "-");
}

/* "~" marks a time calculated from the end, without a connect event. */
static void cell_begin(char *ret, const struct table *t, const struct session *s)
{
    char time[TIME_TEXT_MAX];

    output_time(t->output, s->begin, false, time);
    if (s->begin == 0)
        strcpy(ret, "-");
    else
        snprintf(ret, TIME_TEXT_MAX + 1, "%s%s", s->has_connect ? "" : "~", time);
}

static void cell_duration(char *ret, const struct table *t, const struct session *s)
{
    bool running = s->begin > 0 && s->begin <= t->now && s->state == SESSION_OPEN;

    if (s->ended)
        output_duration(s->totals.duration, ret);
    else if (running)
        output_duration(t->now - s->begin, ret);
    else
        strcpy(ret, "-");
}

static void row_fill(struct row *row, const struct table *t, const struct session *s)
{
    snprintf(row->cells[COL_ID], sizeof(row->cells[COL_ID]), "%.*s", (int)t->id_length, s->id);
    cell_begin(row->cells[COL_BEGIN], t, s);
    cell_duration(row->cells[COL_DURATION], t, s);
    cell_text(row->cells[COL_HOST], *s->host ? s->host : "-");
    cell_text(row->cells[COL_PEER], s->peer);
    cell_number(row->cells[COL_RECORDS], s, s->totals.records);
    cell_number(row->cells[COL_BYTES], s, s->totals.bytes);
    cell_text(row->cells[COL_END], s->ended ? s->reason : session_state_word(s->state));
}

static void row_titles(struct row *row, const struct table *t)
{
    for (size_t i = 0; i < COLUMNS; i++)
        strcpy(row->cells[i], columns[i].title);
    if (t->output->utc)
        strcpy(row->cells[COL_BEGIN], "BEGIN (UTC)");
}

static void row_print(const struct row *row, const struct table *t, enum color color)
{
    for (size_t i = 0; i < COLUMNS; i++) {
        int width = (int)t->widths[i];
        const char *gap = i == COL_END ? "\n" : t->gap > 1 ? "  " : " ";

        if (width == 0)
            continue;
        if (i == COL_END || color == COLOR_HEAD)
            fputs(output_color(t->output, color), stdout);
        printf("%*s", i == COL_END ? 0 : columns[i].right ? width : -width, row->cells[i]);
        if (i == COL_END || color == COLOR_HEAD)
            fputs(output_plain(t->output, color), stdout);
        fputs(gap, stdout);
    }
}

/* --- Widths --- */

static int compare_ids(const void *a, const void *b)
{
    return strcmp((*(const struct session *const *)a)->id, (*(const struct session *const *)b)->id);
}

static size_t common_length(const char *a, const char *b)
{
    size_t n = 0;

    while (a[n] && a[n] == b[n])
        n++;
    return n;
}

/* Number of digits needed to distinguish the listed sessions; all if out of memory. */
static size_t shortest_ids(const struct list *list)
{
    CLEANUP(free_pointer) struct session **sorted = NULL;
    size_t longest = ID_SHORTEST;

    sorted = reallocarray(NULL, list->count + 1, sizeof(struct session *));
    if (!sorted)
        return SESSION_ID_HEX;
    memcpy(sorted, list->sessions, list->count * sizeof(struct session *));
    qsort(sorted, list->count, sizeof(struct session *), compare_ids);
    for (size_t i = 1; i < list->count; i++) {
        size_t n = common_length(sorted[i - 1]->id, sorted[i]->id) + 1;

        longest = n > longest ? n : longest;
    }
    return longest;
}

static size_t table_width(const struct table *t)
{
    size_t sum = 0;

    for (size_t i = 0; i < COLUMNS; i++)
        if (t->widths[i] > 0)
            sum += t->widths[i] + (i == COL_END ? 0 : t->gap);
    return sum;
}

static void table_measure(struct table *t, const struct row *row)
{
    for (size_t i = 0; i < COLUMNS; i++) {
        size_t n = i == COL_HOST && !t->with_hosts ? 0 : strlen(row->cells[i]);

        t->widths[i] = n > t->widths[i] ? n : t->widths[i];
    }
}

/* Fits the table to the terminal: shorter IDs, narrower gaps, fewer columns. */
static void table_fit(struct table *t, const struct list *list)
{
    unsigned room = t->output->columns;

    if (room == 0 || table_width(t) <= room)
        return;
    t->id_length = t->widths[COL_ID] = shortest_ids(list);
    if (table_width(t) > room)
        t->gap = 1;
    for (size_t i = 0; i < ARRAY_SIZE(spare) && table_width(t) > room; i++)
        t->widths[spare[i]] = 0;
}

static void table_print(const struct output *output, const struct list *list, bool with_hosts)
{
    struct table table = {
        .output = output,
        .with_hosts = with_hosts,
        .now = now_usec(CLOCK_REALTIME),
        .id_length = SESSION_ID_HEX,
        .gap = 2,
    };
    struct row titles, row;

    row_titles(&titles, &table);
    table_measure(&table, &titles);
    for (size_t i = 0; i < list->count; i++) {
        row_fill(&row, &table, list->sessions[i]);
        table_measure(&table, &row);
    }
    table_fit(&table, list);
    row_print(&titles, &table, COLOR_HEAD);
    for (size_t i = 0; i < list->count; i++) {
        const struct session *s = list->sessions[i];

        row_fill(&row, &table, s);
        row_print(&row, &table,
                  s->ended                   ? COLOR_NONE
                  : s->state == SESSION_OPEN ? COLOR_GOOD
                                             : COLOR_BAD);
    }
}

/* --- JSON --- */

static json_t *text_json(const char *text)
{
    struct value value = {.text = text, .length = strlen(text)};

    return *text ? value_json(&value) : NULL;
}

static json_t *time_json(uint64_t usec)
{
    return usec > 0 ? json_integer((json_int_t)usec) : NULL;
}

static json_t *session_json(const struct session *s)
{
    json_t *object;

    errno = 0;
    object = json_pack(
        "{ss so? sb so? so? so? so? so? ss so*}", "session", s->id, "begin", time_json(s->begin),
        "begin_logged", (int)s->has_connect, "end", s->ended ? time_json(s->end) : NULL, "peer",
        text_json(s->peer), "local", text_json(s->local), "listener", text_json(s->listener),
        "host", text_json(s->host), "state", s->ended ? "ended" : session_state_word(s->state),
        "reason", text_json(s->reason));

    if (object && s->ended) {
        json_object_set_new(object, "duration", json_integer((json_int_t)s->totals.duration));
        json_object_set_new(object, "records", json_integer((json_int_t)s->totals.records));
        json_object_set_new(object, "bytes", json_integer((json_int_t)s->totals.bytes));
    }
    return json_complete(object);
}

/* --- The command --- */

static void sessions_reverse(struct list *list)
{
    for (size_t i = 0; i < list->count / 2; i++) {
        struct session *s = list->sessions[i];

        list->sessions[i] = list->sessions[list->count - 1 - i];
        list->sessions[list->count - 1 - i] = s;
    }
}

static int sessions_print(const struct output *output, const struct list *list,
                          struct reader *reader, const struct options *options)
{
    int r = 0;

    if (!options->json && !options->quiet) {
        r = reader_has_several_hosts(reader);
        if (r >= 0)
            table_print(output, list, r);
    }
    for (size_t i = 0; r >= 0 && i < list->count; i++) {
        if (options->json)
            r = output_json(session_json(list->sessions[i]));
        else if (options->quiet)
            puts(list->sessions[i]->id);
    }
    return r;
}

int sessions_run(const struct options *options, char **arguments, int count)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    struct list list CLEANUP(list_free) = {0};
    struct output output;
    int r;

    (void)arguments;
    (void)count;
    r = reader_open(options, &reader);
    if (r >= 0)
        return r;
    r = list_collect(&list, reader, options);
    if (r < 0)
        return session_fail_journal(r);
    if (list.count == 0)
        return options->quiet ? EXIT_FAILED
                              : client_fail(EXIT_FAILED, "no sessions in the journal match");
    if (options->reverse)
        sessions_reverse(&list);
    output_open(&output, options, !options->json && !options->quiet);
    r = sessions_print(&output, &list, reader, options);
    output_close(&output);
    return r < 0 ? session_fail_journal(r) : EXIT_SUCCESS;
}
