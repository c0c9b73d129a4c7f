/* SPDX-License-Identifier: MIT */
#include "netd-client/output.h"

#include "common/escape.h"
#include "netd-client/record.h"

#include <errno.h>
#include <inttypes.h>
#include <langinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <syslog.h>
#include <time.h>

#define COLUMNS_DEFAULT 80
#define EVENT_NAME_MAX  64 /* buffer for "data continued resent", or a forged name, truncated */
#define SESSION_SHORT   8  /* digits of an abbreviated session ID */

/* --- Terminal, colour, pager --- */

static unsigned terminal_columns(void)
{
    const char *variable = getenv("COLUMNS");
    struct winsize size;
    uint64_t columns;

    if (variable && parse_u64(variable, UINT16_MAX, &columns) == 0 && columns > 0)
        return (unsigned)columns;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return COLUMNS_DEFAULT;
}

static bool terminal_is_dumb(void)
{
    const char *terminal = getenv("TERM");

    return !terminal || strcmp(terminal, "dumb") == 0;
}

/* The variable NAME as a boolean of systemd: 1, 0, or -1 if it is unset or neither. */
static int variable_boolean(const char *name)
{
    static const char *const words[][2] = {{"0", "1"}, {"no", "yes"},     {"n", "y"},
                                           {"f", "t"}, {"false", "true"}, {"off", "on"}};
    const char *value = getenv(name);

    for (size_t i = 0; value && i < ARRAY_SIZE(words); i++)
        for (int j = 0; j < 2; j++)
            if (strcasecmp(value, words[i][j]) == 0)
                return j;
    return -1;
}

/* SYSTEMD_COLORS takes precedence over NO_COLOR and TERM, as in systemd. */
static bool terminal_has_color(bool terminal)
{
    static const char *const modes[] = {"16", "256", "24bit"};
    const char *colors = getenv("SYSTEMD_COLORS"), *no_color = getenv("NO_COLOR");
    int wanted = variable_boolean("SYSTEMD_COLORS");

    for (size_t i = 0; colors && i < ARRAY_SIZE(modes); i++)
        if (strcmp(colors, modes[i]) == 0)
            return true;
    if (wanted >= 0)
        return wanted;
    return terminal && !terminal_is_dumb() && !(no_color && *no_color);
}

/* The pager as a shell command, or NULL for none. */
static const char *pager_command(void)
{
    const char *command = getenv("SYSTEMD_PAGER");

    if (!command)
        command = getenv("PAGER");
    if (!command)
        return "command -v less >/dev/null && exec less; command -v more >/dev/null && exec more; "
               "exec cat";
    return *command && strcmp(command, "cat") != 0 ? command : NULL;
}

static FILE *pager_open(void)
{
    const char *command = pager_command(), *less = getenv("SYSTEMD_LESS");
    FILE *pager;

    if (!command)
        return NULL;
    setenv("LESS", less ? less : "FRSXMK", 1);
    /* As in systemctl(1): the caller may have privileges that the user does not. */
    setenv("LESSSECURE", variable_boolean("SYSTEMD_PAGERSECURE") == 0 ? "0" : "1", 1);
    if (strcmp(nl_langinfo(CODESET), "UTF-8") == 0)
        setenv("LESSCHARSET", "utf-8", 1);
    fflush(stdout);
    pager = popen(command, "we");
    if (!pager)
        return NULL;
    dup2(fileno(pager), STDOUT_FILENO);
    signal(SIGINT, SIG_IGN); /* the pager handles it */
    return pager;
}

void output_open(struct output *ret, const struct options *options, bool paged)
{
    bool terminal = isatty(STDOUT_FILENO);

    *ret = (struct output){.utc = options->utc, .color = terminal_has_color(terminal)};
    if (!terminal)
        return;
    ret->columns = terminal_columns();
    if (paged && !options->no_pager && !terminal_is_dumb())
        ret->pager = pager_open();
}

void output_close(struct output *output)
{
    if (!output->pager)
        return;
    fflush(stdout);
    close(STDOUT_FILENO);
    pclose(output->pager);
    output->pager = NULL;
}

const char *output_color(const struct output *output, enum color color)
{
    static const char *const sequences[] = {
        [COLOR_NONE] = "",
        [COLOR_HEAD] = "\033[1m",
        [COLOR_DIM] = "\033[2m",
        [COLOR_GOOD] = "\033[0;32m",
        [COLOR_BAD] = "\033[0;31m",
        [COLOR_ERROR] = "\033[0;1;31m",
        [COLOR_WARNING] = "\033[0;1;33m",
        [COLOR_NOTICE] = "\033[0;1;39m",
        [COLOR_DEBUG] = "\033[0;90m",
    };

    return output->color ? sequences[color] : "";
}

const char *output_plain(const struct output *output, enum color color)
{
    return output->color && color != COLOR_NONE ? "\033[0m" : "";
}

/* --- Times --- */

void output_time(const struct output *output, uint64_t usec, bool micro,
                 char ret[static TIME_TEXT_MAX])
{
    time_t seconds = (time_t)(usec / USEC_PER_SEC);
    struct tm tm = {0};
    size_t n;

    if (output->utc)
        gmtime_r(&seconds, &tm);
    else
        localtime_r(&seconds, &tm);
    n = strftime(ret, TIME_TEXT_MAX, "%Y-%m-%d %H:%M:%S", &tm);
    if (micro)
        snprintf(ret + n, TIME_TEXT_MAX - n, ".%06u", (unsigned)(usec % USEC_PER_SEC));
}

void output_duration(uint64_t usec, char ret[static DURATION_TEXT_MAX])
{
    uint64_t ms = usec / USEC_PER_MSEC, s = ms / 1000, min = s / 60, h = min / 60;

    if (s == 0)
        snprintf(ret, DURATION_TEXT_MAX, "%" PRIu64 "ms", ms);
    else if (min == 0)
        snprintf(ret, DURATION_TEXT_MAX, "%" PRIu64 ".%03us", s, (unsigned)(ms % 1000));
    else if (h == 0)
        snprintf(ret, DURATION_TEXT_MAX, "%" PRIu64 "min %us", min, (unsigned)(s % 60));
    else if (h < 24)
        snprintf(ret, DURATION_TEXT_MAX, "%" PRIu64 "h %umin", h, (unsigned)(min % 60));
    else
        snprintf(ret, DURATION_TEXT_MAX, "%" PRIu64 "d %uh", h / 24, (unsigned)(h % 24));
}

void output_count(uint64_t count, const char *thing, char ret[static COUNT_TEXT_MAX])
{
    snprintf(ret, COUNT_TEXT_MAX, "%" PRIu64 " %s%s", count, thing, count == 1 ? "" : "s");
}

/* --- Events --- */

static void output_value(const struct value *value)
{
    if (value->text)
        escape_write(stdout, value->text, value->length);
}

/* The name of the event, the terminator and whether it was resent. A client has no influence on
 * this column. */
static void output_event_name(const struct event *event)
{
    const struct value *terminator = &event->fields[EVENT_TERMINATOR];
    char name[EVENT_NAME_MAX], safe[ESCAPE_LENGTH * sizeof(name)];

    snprintf(name, sizeof(name), "%s%s%s%s", event->fields[EVENT_NAME].text,
             terminator->text ? " " : "", terminator->text ? terminator->text : "",
             event->fields[EVENT_RESENT].text ? " resent" : "");
    escape_copy(safe, sizeof(safe), name, strlen(name));
    printf("%-15s", safe);
}

static void output_disconnect(const struct event *event)
{
    const struct value *error = &event->fields[EVENT_ERRNO];
    struct totals totals = event_totals(event);
    char duration[DURATION_TEXT_MAX], records[COUNT_TEXT_MAX], bytes[COUNT_TEXT_MAX];

    output_duration(totals.duration, duration);
    output_count(totals.records, "record", records);
    output_count(totals.bytes, "byte", bytes);
    output_value(&event->fields[EVENT_REASON]);
    if (error->text)
        printf(" (%s)", strerror((int)value_number(error)));
    printf(", %s, %s, %s", records, bytes, duration);
}

static enum color severity_color(int severity)
{
    switch (severity) {
    case LOG_WARNING:
        return COLOR_WARNING;
    case LOG_NOTICE:
        return COLOR_NOTICE;
    case LOG_INFO:
        return COLOR_NONE;
    case LOG_DEBUG:
        return COLOR_DEBUG;
    default:
        return COLOR_ERROR;
    }
}

/* "web1 sshd[4711]: Accepted", like journalctl(1): the message has the colour of its severity. */
static void output_syslog(const struct output *output, const struct event *event)
{
    const struct value *host = &event->fields[EVENT_HOSTNAME];
    const struct value *identifier = &event->fields[EVENT_IDENTIFIER];
    const struct value *pid = &event->fields[EVENT_SYSLOG_PID];
    enum color color = severity_color(record_severity(event));

    if (host->text) {
        output_value(host);
        putchar(' ');
    }
    output_value(identifier);
    if (pid->text) {
        putchar('[');
        output_value(pid);
        putchar(']');
    }
    if (identifier->text || pid->text)
        fputs(": ", stdout);
    fputs(output_color(output, color), stdout);
    output_value(&event->fields[EVENT_MESSAGE]);
    fputs(output_plain(output, color), stdout);
}

static void output_event_text(const struct output *output, const struct event *event)
{
    switch (event->kind) {
    case KIND_CONNECT:
        output_value(&event->fields[EVENT_PEER]);
        fputs(" to ", stdout);
        output_value(&event->fields[EVENT_LOCAL]);
        break;
    case KIND_REFUSED:
        output_value(&event->fields[EVENT_PEER]);
        fputs(": ", stdout);
        output_value(&event->fields[EVENT_REASON]);
        break;
    case KIND_DISCONNECT:
        output_disconnect(event);
        break;
    default:
        if (record_is_syslog(event))
            output_syslog(output, event);
        else
            output_value(&event->fields[EVENT_MESSAGE]);
    }
}

void output_event(const struct output *output, const struct event *event, bool with_session)
{
    enum color color = event->kind == KIND_DATA      ? COLOR_NONE
                       : event->kind == KIND_REFUSED ? COLOR_BAD
                                                     : COLOR_HEAD;
    char time[TIME_TEXT_MAX];

    output_time(output, event->time, true, time);
    printf("%s%s%s ", output_color(output, COLOR_DIM), time, output_plain(output, COLOR_DIM));
    if (with_session)
        printf("%.*s ", SESSION_SHORT, event->fields[EVENT_SESSION].text);
    fputs(output_color(output, color), stdout);
    output_event_name(event);
    putchar(' ');
    output_event_text(output, event);
    fputs(output_plain(output, color), stdout);
    putchar('\n');
}

/* --- JSON --- */

static json_t *bytes_json(const struct value *value)
{
    json_t *array = json_array();

    for (size_t i = 0; array && i < value->length; i++)
        if (json_array_append_new(array, json_integer((uint8_t)value->text[i])) < 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

json_t *value_json(const struct value *value)
{
    int before = errno;
    json_t *text;

    errno = 0;
    text = json_stringn(value->text, value->length);
    if (!text && errno == ENOMEM)
        return NULL;
    /* Otherwise it is not valid UTF-8. */
    errno = before;
    return text ? text : bytes_json(value);
}

static json_t *field_json(enum event_field field, const struct value *value)
{
    switch (field) {
    case EVENT_DATA_BYTES:
        return bytes_json(value);
    case EVENT_RESENT:
    case EVENT_FRAME_LENGTH:
    case EVENT_RECORDS:
    case EVENT_BYTES:
    case EVENT_DURATION:
    case EVENT_ERRNO:
        return json_integer((json_int_t)value_number(value));
    default:
        return value_json(value);
    }
}

struct json_key {
    const char *key;
    enum event_field field;
};

/* Sets the COUNT KEYS of OBJECT for which EVENT has a field. Returns 0 or -ENOMEM. */
static int event_json_add(json_t *object, const struct event *event, const struct json_key *keys,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct value *value = &event->fields[keys[i].field];

        if (value->text &&
            json_object_set_new(object, keys[i].key, field_json(keys[i].field, value)) < 0)
            return -ENOMEM;
    }
    return 0;
}

/* The same for the fields of a syslog record, and the record if no field has all of it. */
static int event_json_add_syslog(json_t *object, const struct event *event)
{
    static const struct json_key keys[] = {
        {"identifier", EVENT_IDENTIFIER}, {"pid", EVENT_SYSLOG_PID},
        {"hostname", EVENT_HOSTNAME},     {"timestamp", EVENT_TIMESTAMP},
        {"msgid", EVENT_MSGID},           {"structured_data", EVENT_STRUCTURED_DATA},
    };
    json_t *severity = json_integer(record_severity(event));
    uint64_t facility = value_number(&event->fields[EVENT_FACILITY]);

    if (json_object_set_new(object, "severity", severity) < 0 ||
        json_object_set_new(object, "facility", json_integer((json_int_t)facility)) < 0)
        return -ENOMEM;
    if (event->rebuilt.text &&
        json_object_set_new(object, "record", value_json(&event->rebuilt)) < 0)
        return -ENOMEM;
    return event_json_add(object, event, keys, ARRAY_SIZE(keys));
}

json_t *event_json(const struct event *event)
{
    static const struct json_key keys[] = {
        {"session", EVENT_SESSION},
        {"event", EVENT_NAME},
        {"peer", EVENT_PEER},
        {"local", EVENT_LOCAL},
        {"listener", EVENT_LISTENER},
        {"host", EVENT_HOST},
        {"message", EVENT_MESSAGE},
        {"data", EVENT_DATA_BYTES},
        {"resent", EVENT_RESENT},
        {"terminator", EVENT_TERMINATOR},
        {"frame_length", EVENT_FRAME_LENGTH},
        {"framing", EVENT_FRAMING},
        {"reason", EVENT_REASON},
        {"errno", EVENT_ERRNO},
        {"records", EVENT_RECORDS},
        {"bytes", EVENT_BYTES},
        {"duration", EVENT_DURATION},
        {"format", EVENT_FORMAT},
    };
    json_t *object = json_pack("{sI}", "time", (json_int_t)event->time);

    if (object && (event_json_add(object, event, keys, ARRAY_SIZE(keys)) < 0 ||
                   (record_is_syslog(event) && event_json_add_syslog(object, event) < 0))) {
        json_decref(object);
        return NULL;
    }
    return object;
}

json_t *json_complete(json_t *object)
{
    if (errno != ENOMEM)
        return object;
    json_decref(object);
    return NULL;
}

static int json_write(const json_t *value);

static int json_write_object(const json_t *object)
{
    const char *separator = "", *key;
    json_t *value;
    int r = 0;

    putchar('{');
    /* json_object_foreach() does not accept a const object, but does not modify it. */
    json_object_foreach((json_t *)object, key, value)
    {
        printf("%s\"%s\":", separator, key); /* keys contain nothing to escape */
        separator = ",";
        r = json_write(value);
        if (r < 0)
            return r;
    }
    putchar('}');
    return r;
}

static int json_write_array(const json_t *array)
{
    int r = 0;

    putchar('[');
    for (size_t i = 0; r >= 0 && i < json_array_size(array); i++) {
        fputs(i > 0 ? "," : "", stdout);
        r = json_write(json_array_get(array, i));
    }
    putchar(']');
    return r;
}

/* Like json_dumpf(), but with unsigned integers; those of jansson end at INT64_MAX. */
static int json_write(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return json_write_object(value);
    case JSON_ARRAY:
        return json_write_array(value);
    case JSON_INTEGER:
        printf("%" PRIu64, (uint64_t)json_integer_value(value));
        return 0;
    default:
        return json_dumpf(value, stdout, JSON_ENCODE_ANY);
    }
}

int output_json(json_t *object)
{
    int r;

    if (!object)
        return -ENOMEM;
    r = json_write(object);
    json_decref(object);
    if (r < 0 && !ferror(stdout)) /* main() reports write errors */
        return -ENOMEM;
    putchar('\n');
    return 0;
}
