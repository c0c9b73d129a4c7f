/* SPDX-License-Identifier: MIT */
/* verify: compare the data events of sessions with their disconnect events. */
#include "netd-client/list.h"
#include "netd-client/output.h"
#include "netd-client/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

struct verification {
    struct output output;
    const struct options *options;
    struct reader *reader;
    uint64_t found[VERDICTS];
    bool unmatched; /* a session that was asked for does not exist */
};

static json_t *verdict_json(const char *id, enum verdict verdict, const struct tally *tally)
{
    const struct totals *expected = &tally->expected;

    errno = 0;
    return json_complete(json_pack(
        "{ss ss sb sI sI sI so? so?}", "session", id, "verdict", verdict_word(verdict), "holds",
        (int)verdict_holds(verdict), "records", (json_int_t)tally->records, "bytes",
        (json_int_t)tally->bytes, "repeats", (json_int_t)tally->repeats, "expected_records",
        tally->ended ? json_integer((json_int_t)expected->records) : NULL, "expected_bytes",
        tally->ended ? json_integer((json_int_t)expected->bytes) : NULL));
}

static void verdict_print(const struct output *output, const char *id, enum verdict verdict,
                          const struct tally *tally)
{
    enum color color = verdict_holds(verdict) ? COLOR_GOOD : COLOR_BAD;
    char records[COUNT_TEXT_MAX], bytes[COUNT_TEXT_MAX];
    bool partly = tally->ended && !tally_adds_up(tally);

    output_count(partly ? tally->expected.records : tally->records, "record", records);
    output_count(partly ? tally->expected.bytes : tally->bytes, "byte", bytes);
    printf("%s  %s%-12s%s  ", id, output_color(output, color), verdict_word(verdict),
           output_plain(output, color));
    if (partly)
        printf("%" PRIu64 " of %s, %" PRIu64 " of %s", tally->records, records, tally->bytes,
               bytes);
    else
        printf("%s, %s", records, bytes);
    if (tally->repeats > 0) {
        output_count(tally->repeats, "repeat", records);
        printf(", %s left out", records);
    }
    putchar('\n');
}

/* Checks one session. Returns 0 or a negative errno. */
static int verify_session(struct verification *v, const char *id)
{
    struct tally tally;
    enum verdict verdict;
    int r;

    r = stream_read(v->reader, id, NULL, NULL, &tally);
    if (r < 0)
        return r;
    verdict = tally_verdict(&tally);
    v->found[verdict]++;
    if (v->options->quiet)
        return 0;
    if (v->options->json)
        return output_json(verdict_json(id, verdict, &tally));
    verdict_print(&v->output, id, verdict, &tally);
    return 0;
}

/* Sessions of other hosts may still be open there. */
static void verify_say_unknown(uint64_t count)
{
    char sessions[COUNT_TEXT_MAX];

    output_count(count, "session", sessions);
    client_fail(0, "%s without an end not checked: may be open on another host", sessions);
}

/* Checks all sessions that have ended or were abandoned. Returns 0 or a negative errno. */
static int verify_all(struct verification *v)
{
    struct list list CLEANUP(list_free) = {0};
    uint64_t unknown = 0;
    int r;

    r = list_collect(&list, v->reader, v->options);
    if (r >= 0 && list.count == 0) {
        client_fail(EXIT_FAILED, "no sessions in the journal%s",
                    v->options->listener ? " match" : "");
        v->unmatched = true;
    }
    for (size_t i = 0; r >= 0 && i < list.count; i++) {
        const struct session *s = list.sessions[i];

        if (s->ended || s->state == SESSION_ABANDONED)
            r = verify_session(v, s->id);
        else
            unknown += s->state == SESSION_UNKNOWN;
    }
    if (r >= 0 && unknown > 0 && !v->options->quiet)
        verify_say_unknown(unknown);
    return r;
}

static uint64_t verify_count(const struct verification *v)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < VERDICTS; i++)
        sum += v->found[i];
    return sum;
}

static void summary_print(const struct verification *v)
{
    char sessions[COUNT_TEXT_MAX];
    const char *separator = ": ";

    output_count(verify_count(v), "session", sessions);
    fputs(sessions, stdout);
    for (enum verdict i = 0; i < VERDICTS; i++)
        if (v->found[i] > 0) {
            printf("%s%" PRIu64 " %s", separator, v->found[i], verdict_word(i));
            separator = ", ";
        }
    putchar('\n');
}

static json_t *summary_json(const struct verification *v)
{
    json_t *object = json_pack("{sI}", "sessions", (json_int_t)verify_count(v));

    for (enum verdict i = 0; object && i < VERDICTS; i++)
        if (json_object_set_new(object, verdict_word(i), json_integer((json_int_t)v->found[i])) <
            0) {
            json_decref(object);
            return NULL;
        }
    return object ? json_pack("{so}", "summary", object) : NULL;
}

/* Prints the summary. Returns the exit status. */
static int verify_conclude(const struct verification *v)
{
    int status = v->unmatched ? EXIT_FAILED : EXIT_SUCCESS;

    if (v->options->quiet || (v->unmatched && verify_count(v) == 0))
        ; /* no summary */
    else if (!v->options->json)
        summary_print(v);
    else if (output_json(summary_json(v)) < 0)
        return session_fail_journal(-ENOMEM);
    for (enum verdict i = 0; i < VERDICTS; i++)
        if (v->found[i] > 0 && !verdict_holds(i))
            status = EXIT_FAILED;
    return status;
}

/* Checks the sessions given by ARGUMENTS. Returns 0 or a negative errno. */
static int verify_named(struct verification *v, char **arguments, int count)
{
    char id[SESSION_ID_HEX + 1];
    int r = 0;

    for (int i = 0; r >= 0 && i < count; i++) {
        if (session_find(v->reader, v->options, arguments[i], true, id) < 0)
            r = verify_session(v, id);
        else
            v->unmatched = true;
    }
    return r;
}

int verify_run(const struct options *options, char **arguments, int count)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    struct verification v = {.options = options};
    int r;

    r = reader_open(options, &reader);
    if (r >= 0)
        return r;
    v.reader = reader;
    output_open(&v.output, options, !options->json && !options->quiet);
    r = count > 0 ? verify_named(&v, arguments, count) : verify_all(&v);
    r = r < 0 ? session_fail_journal(r) : verify_conclude(&v);
    output_close(&v.output);
    return r;
}
