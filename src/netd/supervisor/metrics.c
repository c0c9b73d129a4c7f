/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/metrics.h"

#include "common/escape.h"
#include "common/util.h"
#include "netd/config/keys.h"
#include "netd/worker/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define METRICS_NEW METRICS_FILE ".new"

/* A counter or gauge of each listener: a uint64_t in struct counters. */
struct metric {
    const char *name, *help;
    size_t offset;
};

#define METRIC(name, member, help)                        \
    {                                                     \
        (name), (help), offsetof(struct counters, member) \
    }

static const struct metric metrics_listed[] = {
    METRIC("sessions_started_total", totals.started, "Sessions that began."),
    METRIC("records_total", totals.records, "Records that the journal has taken."),
    METRIC("bytes_total", totals.bytes, "Bytes of clients that the journal has taken."),
    METRIC("resent_total", resent, "Data events that may repeat an earlier one, after a crash."),
    METRIC("unparsed_total", unparsed, "Records that are not of the listener's format."),
    METRIC("relp_acknowledged_total", relp_acknowledged, "RELP records acknowledged."),
};

/* Why nothing is logged, by errno. Any other one is the last. */
static const struct {
    const char *cause;
    int errors[2];
} metrics_causes[] = {
    {"full", {EAGAIN}},
    {"missing", {ENOENT, ECONNREFUSED}},
    {"permission", {EACCES, EPERM}},
    {"error", {0}},
};

/* --- The text format --- */

static void metrics_head(FILE *f, const char *name, const char *type, const char *help)
{
    fprintf(f, "# HELP netd_%s %s\n# TYPE netd_%s %s\n", name, help, name, type);
}

static void metrics_value(FILE *f, const char *name, const char *type, const char *help,
                          uint64_t value)
{
    metrics_head(f, name, type, help);
    fprintf(f, "netd_%s %" PRIu64 "\n", name, value);
}

/* USEC microseconds as seconds. */
static void metrics_seconds(FILE *f, const char *name, const char *type, const char *help,
                            uint64_t usec)
{
    metrics_head(f, name, type, help);
    fprintf(f, "netd_%s %" PRIu64 ".%06" PRIu64 "\n", name, usec / USEC_PER_SEC,
            usec % USEC_PER_SEC);
}

/* A label's value: what is not printable ASCII is escaped, and then what ends or escapes a value.
 */
static void metrics_label(FILE *f, const char *name, const char *value)
{
    char shown[ESCAPE_LENGTH * sizeof(((struct table_listener *)0)->path) + 1];

    escape_copy(shown, sizeof(shown), value, strlen(value));
    fprintf(f, "%s=\"", name);
    for (const char *p = shown; *p; p++)
        fprintf(f, "%s%c", *p == '"' || *p == '\\' ? "\\" : "", *p);
    fputc('"', f);
}

/* --- Listeners --- */

static void metrics_of_listeners(FILE *f, const struct table_header *h)
{
    for (size_t i = 0; i < ARRAY_SIZE(metrics_listed); i++) {
        metrics_head(f, metrics_listed[i].name, "counter", metrics_listed[i].help);
        for (size_t k = 0; k < COUNTERS_MAX; k++) {
            const struct counters *c = &h->counters[k];
            const uint64_t *value = (const void *)((const uint8_t *)c + metrics_listed[i].offset);

            if (c->used)
                fprintf(f, "netd_%s{listener=\"%s\"} %" PRIu64 "\n", metrics_listed[i].name,
                        c->name, counter_read(value));
        }
    }
}

static void metrics_of_sessions(FILE *f, const struct table_header *h)
{
    metrics_head(f, "sessions", "gauge", "Sessions going on.");
    for (size_t i = 0; i < COUNTERS_MAX; i++)
        if (h->counters[i].used)
            fprintf(f, "netd_sessions{listener=\"%s\"} %u\n", h->counters[i].name,
                    __atomic_load_n(&h->counters[i].open, __ATOMIC_RELAXED));
}

/* What netd-tls has counted. */
static void metrics_read_tls(const struct table_header *h, struct tls_counters *ret)
{
    const int fd = h->tls.counters_fd;

    if (fd <= 0 || pread(fd, ret, sizeof(*ret), 0) != sizeof(*ret))
        memset(ret, 0, sizeof(*ret));
}

static void metrics_of_tls(FILE *f, const struct table_header *h, const struct tls_counters *tls)
{
    static const char *const results[] = TLS_RESULT_NAMES;

    metrics_head(f, "tls_handshakes_total", "counter", "TLS handshakes that ended.");
    for (size_t i = 0; i < COUNTERS_MAX; i++)
        for (size_t r = 0; h->counters[i].tls && r < TLS_RESULTS; r++)
            fprintf(f, "netd_tls_handshakes_total{listener=\"%s\",result=\"%s\"} %" PRIu64 "\n",
                    h->counters[i].name, results[r], tls->listeners[i].handshakes[r]);
    metrics_head(f, "tls_certificate_not_after_seconds", "gauge",
                 "When the listener's certificate expires, in seconds since the epoch.");
    for (size_t i = 0; i < COUNTERS_MAX; i++)
        if (tls->listeners[i].not_after != 0)
            fprintf(f, "netd_tls_certificate_not_after_seconds{listener=\"%s\"} %" PRId64 "\n",
                    h->counters[i].name, tls->listeners[i].not_after);
}

/* Clients that got no session, those that netd-tls did not report included. */
static uint64_t metrics_refused(const struct counters *c, const struct tls_listener_counters *tls,
                                enum session_reason reason)
{
    uint64_t more = c->tls && reason == REASON_TLS ? tls->refusals_unreported : 0;

    return counter_read(&c->totals.ended[reason]) + more;
}

/* What ended for the reasons from FIRST up to END, without END. */
static void metrics_of_reasons(FILE *f, const struct table_header *h,
                               const struct tls_counters *tls, const char *name, const char *help,
                               enum session_reason first, enum session_reason end)
{
    metrics_head(f, name, "counter", help);
    for (size_t i = 0; i < COUNTERS_MAX; i++)
        for (enum session_reason r = first; h->counters[i].used && r < end; r++)
            fprintf(f, "netd_%s{listener=\"%s\",reason=\"%s\"} %" PRIu64 "\n", name,
                    h->counters[i].name, session_reason_name(r),
                    metrics_refused(&h->counters[i], &tls->listeners[i], r));
}

/* The word for VALUE of the listener's key NAME. */
static const char *metrics_word(const char *name, unsigned value)
{
    const struct key_choice *choice = config_find_key(name, true)->choices;

    while (choice->word && choice->value != value)
        choice++;
    return choice->word ? choice->word : "";
}

/* True if an earlier socket has the same labels: systemd may pass several for one address. */
static bool metrics_is_known(const struct table_header *h, size_t number)
{
    const struct table_listener *a = &h->listeners[number];

    for (size_t i = 0; i < number; i++) {
        const struct table_listener *b = &h->listeners[i];

        if (b->fd >= 0 && !b->closing && strcmp(a->settings.name, b->settings.name) == 0 &&
            strcmp(a->path, b->path) == 0 && memcmp(&a->bound, &b->bound, sizeof(a->bound)) == 0)
            return true;
    }
    return false;
}

static void metrics_of_sockets(FILE *f, const struct table_header *h)
{
    char address[128];

    metrics_head(f, "listener_info", "gauge", "A socket that netd listens on.");
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &h->listeners[i];

        if (l->fd < 0 || l->closing || metrics_is_known(h, i))
            continue;
        listener_format(l, address);
        fprintf(f, "netd_listener_info{listener=\"%s\",", l->settings.name);
        metrics_label(f, "address", address);
        fprintf(f, ",framing=\"%s\",format=\"%s\"} 1\n",
                metrics_word("framing", l->settings.framing),
                metrics_word("format", l->settings.format));
    }
}

/* --- All of it --- */

static void metrics_of_journal(FILE *f, const struct table_header *h)
{
    int error = __atomic_load_n(&h->blocked_errno, __ATOMIC_RELAXED);
    size_t i, last = ARRAY_SIZE(metrics_causes) - 1;
    size_t cause = 0;

    while (cause < last && metrics_causes[cause].errors[0] != error &&
           metrics_causes[cause].errors[1] != error)
        cause++;
    metrics_head(f, "journal_waiting", "gauge", "1 while the journal takes no entries.");
    for (i = 0; i <= last; i++)
        fprintf(f, "netd_journal_waiting{cause=\"%s\"} %d\n", metrics_causes[i].cause,
                error != 0 && i == cause);
    metrics_seconds(f, "journal_wait_seconds_total", "counter",
                    "Time during which the journal took no entries.", counters_waited(h));
}

void metrics_print(FILE *stream, const struct table_header *h)
{
    struct tls_counters tls;

    metrics_read_tls(h, &tls);
    metrics_head(stream, "build_info", "gauge", "The version of netd.");
    fprintf(stream, "netd_build_info{version=\"" NETD_VERSION "\"} 1\n");
    metrics_seconds(stream, "start_time_seconds", "gauge",
                    "Since when everything is counted, in seconds since the epoch.",
                    h->started_usec);
    metrics_seconds(stream, "written_time_seconds", "gauge",
                    "When these metrics were written, in seconds since the epoch.",
                    now_usec(CLOCK_REALTIME));
    metrics_value(stream, "worker_starts_total", "counter", "Processes started to serve clients.",
                  h->worker_starts);
    metrics_of_sockets(stream, h);
    metrics_of_sessions(stream, h);
    metrics_value(stream, "sessions_limit", "gauge", "Sessions that may be open.",
                  h->settings.sessions_max);
    metrics_of_listeners(stream, h);
    metrics_of_reasons(stream, h, &tls, "sessions_ended_total", "Sessions that ended.",
                       REASON_NONE + 1, REASON_SESSION_LIMIT);
    metrics_of_reasons(stream, h, &tls, "refused_total", "Clients that got no session.",
                       REASON_SESSION_LIMIT, REASONS);
    metrics_of_tls(stream, h, &tls);
    metrics_of_journal(stream, h);
    metrics_value(stream, "buffer_bytes", "gauge", "Memory that unfinished records take.",
                  counter_read(&h->buffer_bytes));
    metrics_value(stream, "buffer_limit_bytes", "gauge", "Memory that unfinished records may take.",
                  h->settings.buffer_memory);
}

/* --- The file --- */

const char *metrics_directory(void)
{
    static char directory[PATH_MAX];
    const char *list = getenv("RUNTIME_DIRECTORY");
    size_t length = list ? strcspn(list, ":") : 0;

    if (length == 0 || length >= sizeof(directory) - sizeof("/" METRICS_NEW))
        return NULL;
    memcpy(directory, list, length);
    directory[length] = '\0';
    return directory;
}

/* Writes the file PATH. Returns 0 or a negative errno. */
static int metrics_write_file(const char *path, const struct table_header *h)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    int r = 0;

    if (!f) {
        r = -errno;
        close_fd(&fd);
        return r;
    }
    errno = 0;
    metrics_print(f, h);
    /* The unit's UMask= is for sockets. */
    if (fflush(f) != 0 || ferror(f) || fchmod(fd, 0644) < 0)
        r = errno > 0 ? -errno : -EIO;
    if (fclose(f) != 0 && r == 0)
        r = -errno;
    return r;
}

int metrics_write(const char *directory, const struct table_header *h)
{
    char path[PATH_MAX], fresh[PATH_MAX];
    int r;

    if (snprintf(path, sizeof(path), "%s/" METRICS_FILE, directory) >= PATH_MAX ||
        snprintf(fresh, sizeof(fresh), "%s/" METRICS_NEW, directory) >= PATH_MAX)
        return -ENAMETOOLONG;
    r = metrics_write_file(fresh, h);
    if (r == 0 && rename(fresh, path) < 0)
        r = -errno;
    if (r < 0)
        (void)unlink(fresh);
    return r;
}
