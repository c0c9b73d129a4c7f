/* SPDX-License-Identifier: MIT */
/* Checks of the unit, which ask the service manager: org.freedesktop.systemd1(5). */
#include "netd-client/doctor.h"

#include "netd-client/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <systemd/sd-daemon.h>

#define MANAGER "org.freedesktop.systemd1"
#define UNIT    MANAGER ".Unit"
#define SERVICE MANAGER ".Service"

#define UNITS       "/org/freedesktop/systemd1/unit"
#define SOCKET_PATH UNITS "/netd_2esocket"

#define DROP_INS "/etc/systemd/system/%s.d"

/* --- The bus --- */

/* Where the service manager itself listens, for root and without dbus-daemon(1). */
static int unit_open_private(sd_bus **ret)
{
    sd_bus *bus = NULL;
    int r = sd_bus_new(&bus);

    if (r >= 0)
        r = sd_bus_set_address(bus, "unix:path=/run/systemd/private");
    if (r >= 0)
        r = sd_bus_start(bus);
    if (r < 0)
        sd_bus_unref(bus);
    else
        *ret = bus;
    return r;
}

void doctor_open_bus(struct doctor *d)
{
    if (sd_booted() <= 0 || (sd_bus_open_system(&d->bus) < 0 && unit_open_private(&d->bus) < 0))
        return;
    sd_bus_set_method_call_timeout(d->bus, d->options->timeout);
    if (sd_bus_path_encode(UNITS, d->unit, &d->path) < 0)
        d->path = NULL;
    if (d->path)
        (void)sd_bus_get_property_string(d->bus, MANAGER, d->path, SERVICE, "LogNamespace", NULL,
                                         &d->log_namespace);
}

/* Returns the property NAME as text, to be freed by the caller, or NULL. */
static char *unit_text(const struct doctor *d, const char *name)
{
    char *text = NULL;

    if (d->path)
        (void)sd_bus_get_property_string(d->bus, MANAGER, d->path, UNIT, name, NULL, &text);
    return text;
}

/* True if the property NAME of the socket unit is WORD. */
static bool socket_unit_is(const struct doctor *d, const char *name, const char *word)
{
    char *text CLEANUP(free_pointer) = NULL;

    return d->path &&
           sd_bus_get_property_string(d->bus, MANAGER, SOCKET_PATH, UNIT, name, NULL, &text) >= 0 &&
           strcmp(text, word) == 0;
}

/* Reads the property NAME of TYPE, see sd_bus_message_read_basic(3). Returns false if it cannot. */
static bool unit_number(const struct doctor *d, const char *interface, const char *name, char type,
                        void *ret)
{
    return d->path && sd_bus_get_property_trivial(d->bus, MANAGER, d->path, interface, name, NULL,
                                                  type, ret) >= 0;
}

/* Adds the commands that change a setting of the unit, and take it into use. */
static void finding_unit(const struct doctor *d, struct finding *f, const char *name,
                         const char *settings)
{
    char directory[PATH_MAX];

    snprintf(directory, sizeof(directory), DROP_INS, d->unit);
    finding_drop_in(f, directory, name, "Service", settings);
    finding_command(f, "systemctl daemon-reload");
    finding_command(f, "systemctl restart %s", d->unit);
}

bool doctor_service_is_active(const struct doctor *d)
{
    char *state CLEANUP(free_pointer) = unit_text(d, "ActiveState");

    return state && (strcmp(state, "active") == 0 || strcmp(state, "reloading") == 0);
}

/* Says that a check needs a running service. Returns false if it runs. */
static bool unit_is_inactive(const struct doctor *d, struct finding *f)
{
    if (doctor_service_is_active(d))
        return false;
    finding_set(f, DOCTOR_WARNING, "not checked: the service is not known to run");
    return true;
}

/* Says that a check needs the service manager. Returns false if it can be asked. */
static bool unit_is_unknown(const struct doctor *d, struct finding *f)
{
    if (d->path)
        return false;
    finding_set(f, DOCTOR_WARNING, "not checked: no connection to the service manager");
    return true;
}

/* --- The service --- */

uint16_t doctor_error_port(const char *error)
{
    const char *end = strstr(error, ": Address already in use"), *digits = end;
    char number[8];
    uint64_t port;

    while (digits && digits > error && digits[-1] >= '0' && digits[-1] <= '9')
        digits--;
    if (!end || (size_t)(end - digits) >= sizeof(number))
        return 0;
    snprintf(number, sizeof(number), "%.*s", (int)(end - digits), digits);
    return parse_u64(number, UINT16_MAX, &port) < 0 ? 0 : (uint16_t)port;
}

/* Says why the service failed to start. */
static void service_explain(const struct doctor *d, struct finding *f)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    char error[FINDING_MAX / 2];
    uint16_t port;

    if (!d->journal.readable || reader_open(d->options, &reader) >= 0 ||
        reader_last_error(reader, d->unit, error, sizeof(error)) <= 0) {
        finding_explain(f, "The command journalctl -u %s says why.", d->unit);
        return;
    }
    finding_explain(f, "Its last error: %s", error);
    port = doctor_error_port(error);
    if (port > 0 && !doctor_blame_port(f, port))
        finding_explain(f, "The command ss -ltnp shows, as root, who uses port %u.", port);
}

/* If the service waits for its first client: says so, and has the socket's address tried. */
static bool service_has_socket(struct doctor *d, struct finding *f)
{
    const char *type, *address;
    sd_bus_message *m = NULL;

    if (!socket_unit_is(d, "ActiveState", "active"))
        return false;
    if (!d->named &&
        sd_bus_get_property(d->bus, MANAGER, SOCKET_PATH, MANAGER ".Socket", "Listen", NULL, &m,
                            "a(ss)") >= 0 &&
        sd_bus_message_enter_container(m, 'a', "(ss)") > 0 &&
        sd_bus_message_read(m, "(ss)", &type, &address) > 0 && d->n_sockets > 0) {
        snprintf(d->sockets[0].address, sizeof(d->sockets[0].address), "%s", address);
        d->sockets[0].given = false;
    }
    sd_bus_message_unref(m);
    finding_set(f, DOCTOR_OK, "%s starts when a client connects to netd.socket", d->unit);
    return true;
}

void finding_restart(const struct doctor *d, struct finding *f)
{
    if (d->path)
        finding_command(f, "systemctl restart %s", d->unit);
    else
        finding_explain(f, "Does netd run? See netd(8).");
}

/* Where the link that masks the unit is. */
static const char *unmask_option(const struct doctor *d)
{
    char *state CLEANUP(free_pointer) = unit_text(d, "UnitFileState");

    return state && strcmp(state, "masked-runtime") == 0 ? "--runtime" : "--system";
}

void doctor_check_service(struct doctor *d, struct finding *f)
{
    char *state CLEANUP(free_pointer) = NULL, *sub CLEANUP(free_pointer) = NULL;
    char *load CLEANUP(free_pointer) = NULL;

    if (unit_is_unknown(d, f))
        return;
    load = unit_text(d, "LoadState");
    state = unit_text(d, "ActiveState");
    sub = unit_text(d, "SubState");
    if (!load || !state || !sub) {
        finding_set(f, DOCTOR_WARNING, "not checked: the service manager does not answer");
        return;
    }
    finding_set(f, DOCTOR_OK, "%s is %s (%s)", d->unit, strcmp(load, "loaded") == 0 ? state : load,
                sub);
    if (doctor_service_is_active(d) || service_has_socket(d, f))
        return;
    d->failed = true;
    f->status = DOCTOR_PROBLEM;
    finding_explain(f, "Clients find nobody to connect to.");
    if (strcmp(load, "masked") == 0)
        finding_command(f, "systemctl unmask %s %s", unmask_option(d), d->unit);
    else if (strcmp(load, "loaded") != 0)
        finding_command(f, "systemctl daemon-reload");
    else if (strcmp(state, "inactive") != 0)
        service_explain(d, f);
    finding_command(f, "systemctl restart %s", d->unit);
}

void doctor_check_boot(struct doctor *d, struct finding *f)
{
    char *state CLEANUP(free_pointer) = NULL;

    if (unit_is_unknown(d, f))
        return;
    state = unit_text(d, "UnitFileState");
    if (!state || !*state) {
        finding_set(f, DOCTOR_WARNING, "not checked: %s has no unit file", d->unit);
        return;
    }
    if (socket_unit_is(d, "UnitFileState", "enabled")) {
        finding_set(f, DOCTOR_OK, "netd.socket is enabled");
        return;
    }
    finding_set(f, DOCTOR_OK, "%s is %s", d->unit, state);
    if (strcmp(state, "enabled") == 0)
        return;
    f->status = DOCTOR_WARNING;
    finding_explain(f, "It does not start by itself when the machine does.");
    finding_command(f, "systemctl enable %s", d->unit);
}

bool doctor_has_credentials(const struct doctor *d)
{
    sd_bus_message *m = NULL;
    bool some;

    some = d->path &&
           sd_bus_get_property(d->bus, MANAGER, d->path, SERVICE, "LoadCredential", NULL, &m,
                               "a(ss)") >= 0 &&
           sd_bus_message_enter_container(m, 'a', "(ss)") > 0 &&
           sd_bus_message_at_end(m, false) == 0;
    sd_bus_message_unref(m);
    return some;
}

/* --- What journald is told about the unit --- */

/*
 * Reads the number that the service manager has exported for journald in a symbolic link when the
 * unit started; a limit changed since is not in force. Returns false if there is none: journald
 * then takes its own setting. LogRateLimitIntervalSec=0 is not exported.
 */
static bool exported_number(const struct doctor *d, const char *name, uint64_t *ret)
{
    char path[PATH_MAX], value[NUMBER_MAX + 1];
    ssize_t n;

    snprintf(path, sizeof(path), "/run/systemd/units/%s:%s", name, d->unit);
    n = readlink(path, value, sizeof(value) - 1);
    value[n > 0 ? n : 0] = '\0';
    return parse_u64(value, UINT64_MAX, ret) >= 0;
}

bool doctor_rate_is_enough(uint64_t interval, uint64_t burst)
{
    return interval == 0 || burst == 0 ||
           (burst <= BURST_HIGH &&
            (double)burst * (double)USEC_PER_SEC >= (double)interval * RATE_NEEDED);
}

void doctor_check_rate_limit(struct doctor *d, struct finding *f)
{
    uint64_t interval = d->journald.rate_interval, burst = d->journald.rate_burst;
    char duration[DURATION_TEXT_MAX];
    uint64_t unit_interval = 0;
    uint32_t unit_burst = 0;

    if (unit_is_inactive(d, f))
        return;
    (void)exported_number(d, "log-rate-limit-interval", &interval);
    (void)exported_number(d, "log-rate-limit-burst", &burst);
    output_duration(interval, duration);
    if (interval == 0 || burst == 0)
        finding_set(f, DOCTOR_OK, "none");
    else
        finding_set(f, DOCTOR_OK, "%ju entries in %s", (uintmax_t)burst, duration);
    if (doctor_rate_is_enough(interval, burst))
        return;
    f->status = DOCTOR_PROBLEM;
    finding_explain(f,
                    "journald drops what netd logs above that, also what clients have a receipt");
    finding_explain(f, "for. To start netd anew ends its sessions.");
    (void)unit_number(d, SERVICE, "LogRateLimitIntervalUSec", 't', &unit_interval);
    (void)unit_number(d, SERVICE, "LogRateLimitBurst", 'u', &unit_burst);
    if (unit_interval > 0 && unit_burst > 0 && doctor_rate_is_enough(unit_interval, unit_burst))
        finding_command(f, "systemctl restart %s", d->unit);
    else
        finding_unit(d, f, "zz-rate-limit.conf",
                     "LogRateLimitIntervalSec=1ms\\nLogRateLimitBurst=1000000\\n");
}

void doctor_check_dropped(struct doctor *d, struct finding *f)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    uint64_t since = 0, dropped = 0;
    int r;

    if (unit_is_inactive(d, f))
        return;
    (void)unit_number(d, UNIT, "ActiveEnterTimestamp", 't', &since);
    if (!d->journal.readable || reader_open(d->options, &reader) >= 0) {
        finding_set(f, DOCTOR_WARNING, "not checked: no journal to read");
        return;
    }
    r = reader_count_dropped(reader, d->unit, since, &dropped);
    if (r < 0) {
        finding_set(f, DOCTOR_PROBLEM, "journal: %s", strerror(-r));
        return;
    }
    finding_set(f, DOCTOR_OK, "none since the service was started");
    if (dropped == 0)
        return;
    finding_set(f, DOCTOR_PROBLEM, "%ju entries since the service was started", (uintmax_t)dropped);
    finding_explain(f,
                    "journald dropped them because of its rate limit; netd-client verify shows of");
    finding_explain(f, "which sessions. With a higher limit in force, a new start begins anew:");
    finding_unit(d, f, "zz-rate-limit.conf",
                 "LogRateLimitIntervalSec=1ms\\nLogRateLimitBurst=1000000\\n");
}

void doctor_check_level(struct doctor *d, struct finding *f)
{
    int32_t unit_level = -1;
    bool lost;

    (void)unit_number(d, SERVICE, "LogLevelMax", 'i', &unit_level);
    /* A listener may log with "notice", so that only a session that is lost tells. */
    lost = !d->session[0];
    if (lost && unit_level >= 0 && unit_level < LOG_INFO) {
        finding_set(f, DOCTOR_PROBLEM, "LogLevelMax=%d of %s", unit_level, d->unit);
        finding_explain(f, "journald drops the events of netd, which have level %d (info) unless",
                        LOG_INFO);
        finding_explain(f, "netd.conf says otherwise.");
        finding_unit(d, f, "zz-level.conf", "LogLevelMax=debug\\n");
    } else if (lost && d->journald.max_level_store < LOG_INFO) {
        finding_set(f, DOCTOR_PROBLEM, "MaxLevelStore=%ju of journald",
                    (uintmax_t)d->journald.max_level_store);
        finding_explain(f, "journald does not store the events of netd, which have level %d (info)",
                        LOG_INFO);
        finding_explain(f, "unless netd.conf says otherwise.");
        finding_journald(d, f, "zz-level.conf", "MaxLevelStore=debug\\n");
    } else {
        finding_set(f, DOCTOR_OK, "journald stores the level of netd's events");
    }
}

/* --- Open files --- */

/* Reads the limit of open files of process PID. Returns false if it cannot be read. */
static bool process_limit(uint32_t pid, uint64_t *ret)
{
    char path[64], number[NUMBER_MAX + 1];
    char *line CLEANUP(free_pointer) = NULL;
    bool found = false;
    size_t size = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%u/limits", pid);
    f = fopen(path, "re");
    while (f && !found && getline(&line, &size, f) >= 0)
        found = sscanf(line, "Max open files %20[0-9]", number) == 1;
    if (f)
        fclose(f);
    return found && parse_u64(number, UINT64_MAX, ret) >= 0;
}

void doctor_check_open_files(struct doctor *d, struct finding *f)
{
    uint64_t limit = 0, needed = d->sessions_limit + DESCRIPTORS_KEPT + d->n_sockets;
    char setting[64];
    uint32_t pid = 0;

    if (unit_is_inactive(d, f))
        return;
    if (!unit_number(d, SERVICE, "MainPID", 'u', &pid) || !process_limit(pid, &limit) ||
        d->sessions_limit == 0) {
        finding_set(f, DOCTOR_WARNING, "not checked: no metrics, or no process of the service");
        return;
    }
    finding_set(f, DOCTOR_OK, "%ju, for %ju sessions", (uintmax_t)limit,
                (uintmax_t)d->sessions_limit);
    if (limit >= needed)
        return;
    f->status = DOCTOR_PROBLEM;
    finding_explain(f,
                    "LimitNOFILE= is too low for sessions.max: netd refuses clients before that");
    finding_explain(f, "many are connected. To start netd anew ends its sessions.");
    snprintf(setting, sizeof(setting), "LimitNOFILE=%ju\\n", (uintmax_t)needed);
    finding_unit(d, f, "zz-open-files.conf", setting);
}
