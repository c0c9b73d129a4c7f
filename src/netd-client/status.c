/* SPDX-License-Identifier: MIT */
/* status: what netd does now, from its metrics. */
#include "common/escape.h"
#include "netd-client/output.h"
#include "netd-client/sample.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define PREFIX "netd_"
#define SUFFIX "_total"

/* The key of the cause why netd waits, or null. */
#define WAITING "journal_waiting"

/* When the listener's certificate expires; and how long before it is a warning, in seconds. */
#define CERTIFICATE_END     "tls_certificate_not_after_seconds"
#define CERTIFICATE_WARNING UINT64_C(14 * 86400)

/* netd writes its metrics every 15 seconds, even if nothing changes. A file older than this, in
 * seconds, is of a netd that hangs. */
#define STALE_SECONDS 40

/* --- From samples to one JSON object, which is also what is printed --- */

/* Returns the member KEY of OBJECT, a new one made by MAKE if there is none; NULL if out of memory.
 */
static json_t *status_member(json_t *object, const char *key, json_t *(*make)(void))
{
    json_t *member = json_object_get(object, key);

    if (!member && json_object_set_new(object, key, make()) == 0)
        member = json_object_get(object, key);
    return member;
}

/* Returns the object of the listener NAME in ROOT, or NULL if out of memory. */
static json_t *status_listener(json_t *root, const char *name)
{
    json_t *listeners = status_member(root, "listeners", json_array), *listener;

    for (size_t i = 0; i < json_array_size(listeners); i++) {
        listener = json_array_get(listeners, i);
        if (strcmp(json_string_value(json_object_get(listener, "name")), name) == 0)
            return listener;
    }
    listener = json_pack("{ss}", "name", name);
    if (!listener || json_array_append_new(listeners, listener) < 0)
        return NULL;
    return listener;
}

/* The value of SAMPLE as a number, or NULL if it is none. */
static json_t *status_number(const struct sample *sample)
{
    uint64_t number;
    char *end;
    double real;

    if (parse_u64(sample->value, UINT64_MAX, &number) == 0)
        return json_integer((json_int_t)number);
    real = strtod(sample->value, &end);
    return *end == '\0' ? json_real(real) : NULL;
}

/* Adds the socket of a "listener_info" to LISTENER. */
static int status_add_socket(json_t *listener, const struct sample *sample)
{
    json_t *sockets = status_member(listener, "sockets", json_array), *socket = json_object();

    if (!sockets || !socket || json_array_append_new(sockets, socket) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < sample->n_labels; i++)
        if (strcmp(sample->labels[i].name, "listener") != 0 &&
            json_object_set_new(socket, sample->labels[i].name,
                                json_string(sample->labels[i].value)) < 0)
            return -EINVAL; /* not UTF-8 */
    return 0;
}

/* Adds SAMPLE, called KEY, to ROOT. Returns 0 or a negative errno. */
static int status_add_key(json_t *root, const struct sample *sample, const char *key)
{
    static const char words[] = "abcdefghijklmnopqrstuvwxyz-";
    const char *listener = sample_label(sample, "listener");
    const char *reason = sample_label(sample, "reason");
    const char *result = sample_label(sample, "result");
    const char *cause = sample_label(sample, "cause");

    if (strcmp(key, "build_info") == 0 && sample_label(sample, "version"))
        return json_object_set_new(root, "version", json_string(sample_label(sample, "version")));
    if (cause)
        return *sample->value == '0' ? 0 : json_object_set_new(root, WAITING, json_string(cause));
    if (listener)
        root = status_listener(root, listener);
    if (root && strcmp(key, "listener_info") == 0)
        return status_add_socket(root, sample);
    reason = reason ? reason : result;
    if (root && reason && reason[strspn(reason, words)] == '\0') {
        root = status_member(root, key, json_object);
        key = reason;
    }
    return root ? json_object_set_new(root, key, status_number(sample)) : -ENOMEM;
}

static int status_add(json_t *root, const struct sample *sample)
{
    char key[64];
    size_t length;

    if (strncmp(sample->name, PREFIX, strlen(PREFIX)) != 0)
        return 0;
    snprintf(key, sizeof(key), "%s", sample->name + strlen(PREFIX));
    length = strlen(key);
    if (length > strlen(SUFFIX) && strcmp(key + length - strlen(SUFFIX), SUFFIX) == 0)
        key[length - strlen(SUFFIX)] = '\0';
    return status_add_key(root, sample, key);
}

/* Reads PATH to *RET, which the caller frees. Returns -1 or an exit status. */
static int status_read(FILE *f, const char *path, json_t **ret)
{
    CLEANUP(free_pointer) char *line = NULL;
    json_t *root = json_pack("{sn}", WAITING);
    struct sample sample;
    unsigned number = 0;
    size_t size = 0;
    int r = 0;

    while (root && r >= 0 && getline(&line, &size, f) >= 0) {
        number++;
        r = sample_parse(line, &sample);
        if (r > 0)
            r = status_add(root, &sample);
    }
    *ret = root;
    if (!root || r == -ENOMEM)
        return client_fail(EXIT_UNAVAILABLE, "%s: %s", path, strerror(ENOMEM));
    if (r < 0)
        return client_fail(EXIT_UNAVAILABLE, "%s:%u: not a metric", path, number);
    if (ferror(f))
        return client_fail(EXIT_UNAVAILABLE, "%s: %s", path, strerror(errno));
    return -1;
}

/* --- Text --- */

static uint64_t status_integer(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* The sum of all numbers of OBJECT, which may be NULL. */
static uint64_t status_sum(json_t *object)
{
    uint64_t sum = 0;
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        sum += (uint64_t)json_integer_value(value);
    }
    return sum;
}

static uint64_t status_sum_listeners(const json_t *root, const char *key)
{
    uint64_t sum = 0;
    json_t *listener;
    size_t i;

    json_array_foreach(json_object_get(root, "listeners"), i, listener)
    {
        sum += status_integer(listener, key);
    }
    return sum;
}

/* KEY of the first listener that has it, or NULL. */
static json_t *status_find(const json_t *root, const char *key)
{
    json_t *listener, *found = NULL;
    size_t i;

    json_array_foreach(json_object_get(root, "listeners"), i, listener)
    {
        found = found ? found : json_object_get(listener, key);
    }
    return found;
}

/* "Refused: denied 3, session-limit 1", of all listeners. */
static void status_print_reasons(const json_t *root, const char *label, const char *key)
{
    const json_t *listeners = json_object_get(root, "listeners");
    json_t *first = status_find(root, key), *value, *listener;
    const char *separator = "", *reason;
    size_t i;

    printf("%9s: ", label);
    json_object_foreach(first, reason, value)
    {
        uint64_t sum = 0;

        json_array_foreach(listeners, i, listener)
        {
            sum += status_integer(json_object_get(listener, key), reason);
        }
        if (sum == 0)
            continue;
        printf("%s%s %" PRIu64, separator, reason, sum);
        separator = ", ";
    }
    printf("%s\n", *separator ? "" : "none");
}

static void status_print_journal(const struct output *output, const json_t *root)
{
    const char *cause = json_string_value(json_object_get(root, WAITING));
    double waited = json_number_value(json_object_get(root, "journal_wait_seconds"));
    enum color color = cause ? COLOR_BAD : COLOR_GOOD;
    char duration[DURATION_TEXT_MAX];

    output_duration((uint64_t)(waited * (double)USEC_PER_SEC), duration);
    printf("%9s: %s%s", "Journal", output_color(output, color),
           cause ? "waiting, because of: " : "takes entries");
    escape_write(stdout, cause ? cause : "", cause ? strlen(cause) : 0);
    fputs(output_plain(output, color), stdout);
    printf("; waited %s in all\n", duration);
}

static void status_print_head(const struct output *output, const json_t *root)
{
    uint64_t starts = status_integer(root, "worker_starts");
    double since = json_number_value(json_object_get(root, "start_time_seconds"));
    uint64_t since_usec = (uint64_t)(since * (double)USEC_PER_SEC);
    uint64_t now = now_usec(CLOCK_REALTIME);
    char time[TIME_TEXT_MAX], duration[DURATION_TEXT_MAX], text[COUNT_TEXT_MAX];
    const char *version = json_string_value(json_object_get(root, "version"));

    output_time(output, since_usec, false, time);
    output_duration(now > since_usec ? now - since_usec : 0, duration);
    printf("%9s: ", "Version");
    escape_write(stdout, version ? version : "", version ? strlen(version) : 0);
    printf("\n%9s: %s%s, for %s\n", "Since", time, output->utc ? " UTC" : "", duration);
    status_print_journal(output, root);
    output_count(status_sum_listeners(root, "records"), "record", text);
    printf("%9s: %s, ", "Logged", text);
    output_count(status_sum_listeners(root, "bytes"), "byte", text);
    printf("%s\n%9s: %" PRIu64 " open, %" PRIu64 " since the start\n", text, "Sessions",
           status_sum_listeners(root, "sessions"), status_sum_listeners(root, "sessions_started"));
    status_print_reasons(root, "Ended", "sessions_ended");
    status_print_reasons(root, "Refused", "refused");
    if (status_find(root, "tls_handshakes"))
        status_print_reasons(root, "TLS", "tls_handshakes");
    output_count(starts > 0 ? starts - 1 : 0, "restart", text);
    printf("%9s: %s\n", "Worker", text);
    printf("%9s: %" PRIu64 " of %" PRIu64 " bytes\n\n", "Buffers",
           status_integer(root, "buffer_bytes"), status_integer(root, "buffer_limit_bytes"));
}

static void status_print_text(const json_t *object, const char *key, int width)
{
    const char *text = json_string_value(json_object_get(object, key));
    char shown[512];

    escape_copy(shown, sizeof(shown), text ? text : "", text ? strlen(text) : 0);
    printf("%-*s ", width, *shown ? shown : "-");
}

/* The end of the certificate, if the listener has one. */
static void status_print_certificate(const struct output *output, const json_t *listener)
{
    const json_t *end = json_object_get(listener, CERTIFICATE_END);
    uint64_t usec = status_integer(listener, CERTIFICATE_END) * USEC_PER_SEC;
    uint64_t warning_usec = now_usec(CLOCK_REALTIME) + CERTIFICATE_WARNING * USEC_PER_SEC;
    enum color color = usec < warning_usec ? COLOR_BAD : COLOR_NONE;
    char time[TIME_TEXT_MAX];

    if (!end)
        return;
    output_time(output, usec, false, time);
    printf(" %s%s%s", output_color(output, color), time, output_plain(output, color));
}

static void status_print_listener(const struct output *output, json_t *listener)
{
    const json_t *sockets = json_object_get(listener, "sockets");
    size_t i = 0;

    status_print_text(listener, "name", 12);
    do {
        const json_t *socket = json_array_get(sockets, i);

        if (i > 0)
            printf("%-12s ", "");
        status_print_text(socket, "address", 24);
        status_print_text(socket, "framing", 7);
        status_print_text(socket, "format", 7);
        if (i == 0)
            printf("%7" PRIu64 " %10" PRIu64 " %12" PRIu64 " %14" PRIu64 " %8" PRIu64,
                   status_integer(listener, "sessions"),
                   status_integer(listener, "sessions_started"),
                   status_integer(listener, "records"), status_integer(listener, "bytes"),
                   status_sum(json_object_get(listener, "refused")));
        if (i == 0)
            status_print_certificate(output, listener);
        putchar('\n');
    } while (++i < json_array_size(sockets));
}

static void status_print(const struct output *output, const json_t *root)
{
    json_t *listener;
    size_t i;

    status_print_head(output, root);
    printf("%s%-12s %-24s %-7s %-7s %7s %10s %12s %14s %8s%s%s\n", output_color(output, COLOR_HEAD),
           "LISTENER", "ADDRESS", "FRAMING", "FORMAT", "OPEN", "SESSIONS", "RECORDS", "BYTES",
           "REFUSED", status_find(root, CERTIFICATE_END) ? " CERTIFICATE UNTIL" : "",
           output_plain(output, COLOR_HEAD));
    json_array_foreach(json_object_get(root, "listeners"), i, listener)
    {
        status_print_listener(output, listener);
    }
}

/* --- The command --- */

/* Returns EXIT_SUCCESS, or EXIT_FAILED if ROOT, from PATH, is old. */
static int status_check_age(const json_t *root, const char *path)
{
    double written = json_number_value(json_object_get(root, "written_time_seconds"));
    double age = (double)now_usec(CLOCK_REALTIME) / (double)USEC_PER_SEC - written;

    if (age <= STALE_SECONDS)
        return EXIT_SUCCESS;
    return client_fail(EXIT_FAILED, "%s: not written for %.0f seconds; netd does not respond", path,
                       age);
}

/* Prints ROOT. Returns an exit status. */
static int status_show(const struct options *options, const json_t *root)
{
    struct output output;

    if (options->json)
        return output_json(json_incref((json_t *)root)) < 0
                   ? client_fail(EXIT_FAILED, "%s", strerror(ENOMEM))
                   : EXIT_SUCCESS;
    output_open(&output, options, true);
    status_print(&output, root);
    output_close(&output);
    return EXIT_SUCCESS;
}

int status_run(const struct options *options, char **arguments, int count)
{
    const char *path = count > 0 ? arguments[0] : METRICS_PATH;
    json_t *root = NULL;
    FILE *f;
    int r;

    f = metrics_open(path, &r);
    if (!f)
        return r;
    r = status_read(f, path, &root);
    fclose(f);
    if (r < 0)
        r = status_show(options, root);
    if (r == EXIT_SUCCESS)
        r = status_check_age(root, path);
    json_decref(root);
    return r;
}
