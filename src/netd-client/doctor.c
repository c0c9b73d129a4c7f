/* SPDX-License-Identifier: MIT */
/* doctor: the table of checks, and what is printed about them. */
#include "netd-client/doctor.h"

#include "common/escape.h"
#include "netd-client/output.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

/* Time without progress after which a connection or the test session has failed. */
#define DOCTOR_TIMEOUT_USEC (10 * USEC_PER_SEC)

#define NAME_WIDTH     15
#define MEANING_COLUMN (9 + NAME_WIDTH)
#define COMMAND_COLUMN (MEANING_COLUMN + 4)

static const struct {
    const char *name;
    void (*run)(struct doctor *d, struct finding *f);
    bool anywhere; /* also where systemd is not running */
} checks[] = {
    {"permission", doctor_check_permission, false},
    {"service", doctor_check_service, false},
    {"boot", doctor_check_boot, false},
    {"address", doctor_check_address, true},
    {"test session", doctor_check_session, true},
    {"rate limit", doctor_check_rate_limit, false},
    {"dropped", doctor_check_dropped, false},
    {"level", doctor_check_level, false},
    {"forwarding", doctor_check_forwarding, false},
    {"storage", doctor_check_storage, false},
    {"space", doctor_check_space, false},
    {"open files", doctor_check_open_files, false},
    {"certificates", doctor_check_certificates, true},
};

static const struct {
    const char *word;
    enum color color;
} statuses[] = {
    [DOCTOR_OK] = {"ok", COLOR_GOOD},
    [DOCTOR_WARNING] = {"warning", COLOR_WARNING},
    [DOCTOR_PROBLEM] = {"problem", COLOR_BAD},
};

/* --- Findings --- */

void finding_set(struct finding *f, enum doctor_status status, const char *format, ...)
{
    va_list arguments;

    f->status = status;
    va_start(arguments, format);
    vsnprintf(f->text, sizeof(f->text), format, arguments);
    va_end(arguments);
}

/* Appends a line to TEXT. */
static void finding_append(char text[static FINDING_MAX], const char *format, va_list arguments)
{
    size_t used = strlen(text);

    vsnprintf(text + used, FINDING_MAX - used, format, arguments);
    used = strlen(text);
    snprintf(text + used, FINDING_MAX - used, "\n");
}

void finding_explain(struct finding *f, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    finding_append(f->meaning, format, arguments);
    va_end(arguments);
}

void finding_command(struct finding *f, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    finding_append(f->commands, format, arguments);
    va_end(arguments);
}

void finding_drop_in(struct finding *f, const char *directory, const char *name,
                     const char *section, const char *settings)
{
    finding_command(f, "mkdir -p %s", directory);
    finding_command(f, "printf '[%s]\\n%s' >%s/%s", section, settings, directory, name);
}

void finding_restart_journald(const struct doctor *d, struct finding *f)
{
    const char *space = d->journal.name_space;

    finding_command(f, "systemctl restart systemd-journald%s%s.service", *space ? "@" : "", space);
}

void finding_journald(const struct doctor *d, struct finding *f, const char *name,
                      const char *settings)
{
    const char *space = d->journal.name_space, *at = *space ? "@" : "";
    char directory[PATH_MAX];

    snprintf(directory, sizeof(directory), "/etc/systemd/journald%s%s.conf.d", at, space);
    finding_drop_in(f, directory, name, "Journal", settings);
    finding_restart_journald(d, f);
}

/* --- Output --- */

/* Returns where the line at LINE ends, and moves *NEXT to the one after it. One that was cut off
 * has no LF. */
static const char *line_end(const char *line, const char **next)
{
    const char *end = line + strcspn(line, "\n");

    *next = *end ? end + 1 : end;
    return end;
}

/* Prints the lines of TEXT, each indented to COLUMN. */
static void doctor_print_lines(const char *text, int column)
{
    for (const char *line = text, *next; *line; line = next) {
        const char *end = line_end(line, &next);

        printf("%*s", column, "");
        escape_write(stdout, line, (size_t)(end - line));
        putchar('\n');
    }
}

static void doctor_print(const struct output *output, const char *name, const struct finding *f)
{
    enum color color = statuses[f->status].color;

    printf("%s%-8s%s %-*s", output_color(output, color), statuses[f->status].word,
           output_plain(output, color), NAME_WIDTH, name);
    escape_write(stdout, f->text, strlen(f->text));
    putchar('\n');
    doctor_print_lines(f->meaning, MEANING_COLUMN);
    doctor_print_lines(f->commands, COMMAND_COLUMN);
    fflush(stdout); /* the next check may take a while */
}

/* The lines of TEXT as an array. */
static json_t *doctor_lines_json(const char *text)
{
    json_t *array = json_array();

    for (const char *line = text, *next; array && *line; line = next) {
        struct value value = {.text = line, .length = (size_t)(line_end(line, &next) - line)};

        if (json_array_append_new(array, value_json(&value)) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *doctor_json(const char *name, const struct finding *f)
{
    struct value text = {.text = f->text, .length = strlen(f->text)};

    errno = 0;
    return json_complete(json_pack("{ss ss so so so}", "check", name, "status",
                                   statuses[f->status].word, "text", value_json(&text), "meaning",
                                   doctor_lines_json(f->meaning), "commands",
                                   doctor_lines_json(f->commands)));
}

static void doctor_print_summary(const unsigned found[static ARRAY_SIZE(statuses)])
{
    char problems[COUNT_TEXT_MAX], warnings[COUNT_TEXT_MAX];

    output_count(found[DOCTOR_PROBLEM], "problem", problems);
    output_count(found[DOCTOR_WARNING], "warning", warnings);
    printf("%s, %s\n", problems, warnings);
}

/* --- The command --- */

/* Runs all checks. Returns an exit status. */
static int doctor_run_checks(struct doctor *d, const struct output *output)
{
    struct finding *f CLEANUP(free_pointer) = malloc(sizeof(*f));
    unsigned found[ARRAY_SIZE(statuses)] = {0};

    for (size_t i = 0; f && i < ARRAY_SIZE(checks); i++) {
        *f = (struct finding){.status = DOCTOR_OK};
        if (checks[i].anywhere || sd_booted() > 0)
            checks[i].run(d, f);
        else
            finding_set(f, DOCTOR_WARNING, "not checked: systemd is not running");
        found[f->status]++;
        if (d->options->json && output_json(doctor_json(checks[i].name, f)) < 0)
            return client_fail(EXIT_FAILED, "%s", strerror(ENOMEM));
        if (!d->options->json && (!d->options->quiet || f->status != DOCTOR_OK))
            doctor_print(output, checks[i].name, f);
    }
    if (!f)
        return client_fail(EXIT_FAILED, "%s", strerror(ENOMEM));
    if (!d->options->json && !d->options->quiet)
        doctor_print_summary(found);
    return found[DOCTOR_PROBLEM] > 0 ? EXIT_FAILED : EXIT_SUCCESS;
}

static void doctor_free(struct doctor *d)
{
    for (size_t i = 0; i < d->n_sockets; i++)
        connection_close(&d->sockets[i].connection);
    free(d->sockets);
    free(d->path);
    free(d->log_namespace);
    sd_bus_flush_close_unref(d->bus);
}

int doctor_run(const struct options *options, char **arguments, int count)
{
    struct options used = *options;
    struct doctor d CLEANUP(doctor_free) = {.options = &used, .unit = "netd.service"};
    struct output output;

    (void)arguments;
    (void)count;
    if (used.timeout == 0)
        used.timeout = DOCTOR_TIMEOUT_USEC;
    signal(SIGPIPE, SIG_IGN);
    doctor_open_bus(&d);
    if (!used.name_space && d.log_namespace && *d.log_namespace)
        used.name_space = d.log_namespace;
    if (doctor_read_metrics(&d) < 0 || doctor_read_journald(&d) < 0)
        return client_fail(EXIT_FAILED, "%s", strerror(ENOMEM));
    output_open(&output, options, false);
    return doctor_run_checks(&d, &output);
}
