/* SPDX-License-Identifier: MIT */
/* Checks of the journal: who may read it, what journald does with entries, where it keeps them. */
#include "netd-client/doctor.h"

#include "netd-client/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <systemd/sd-id128.h>

#define SYSLOG_SOCKET "/run/systemd/journal/syslog"

#define MIB (UINT64_C(1) << 20)

/* Below it, the journal has room for few entries. */
#define ROOM_LOW (16 * MIB)

static bool file_exists(const char *path)
{
    return access(path, F_OK) == 0 || errno == EACCES;
}

/* True if DIRECTORY has the file that journald writes to; it may not be readable. */
static bool journal_exists(const char *directory)
{
    char path[PATH_MAX + sizeof("/system.journal")];

    snprintf(path, sizeof(path), "%s/system.journal", directory);
    return file_exists(path);
}

/* True if it has, and it must not be read. */
static bool journal_is_forbidden(const char *directory)
{
    char path[PATH_MAX + sizeof("/system.journal")];

    snprintf(path, sizeof(path), "%s/system.journal", directory);
    return access(path, R_OK) < 0 && errno == EACCES;
}

int doctor_read_journald(struct doctor *d)
{
    const char *space = d->options->name_space;
    char machine[SD_ID128_STRING_MAX] = "";
    sd_id128_t id;

    /* journalctl's "*" and "+NAME" name several. */
    if (space && *space && !strchr("*+", *space))
        snprintf(d->journal.name_space, sizeof(d->journal.name_space), "%s", space);
    space = d->journal.name_space;
    if (sd_id128_get_machine(&id) >= 0)
        sd_id128_to_string(id, machine);
    snprintf(d->journal.persistent, PATH_MAX, "/var/log/journal/%s%s%s", machine, *space ? "." : "",
             space);
    snprintf(d->journal.runtime, PATH_MAX, "/run/log/journal/%s%s%s", machine, *space ? "." : "",
             space);
    return journald_read(&d->journald, "", *space ? space : NULL);
}

/* --- Permission --- */

void doctor_check_permission(struct doctor *d, struct finding *f)
{
    const struct passwd *user = getpwuid(geteuid());

    if (journal_is_forbidden(d->journal.persistent) || journal_is_forbidden(d->journal.runtime)) {
        finding_set(f, DOCTOR_PROBLEM, "no permission to read the journal");
        finding_explain(f, "netd-client cannot show what netd logs. Members of the group");
        finding_explain(f, "systemd-journal can, from their next login on.");
        finding_command(f, "usermod -a -G systemd-journal %s", user ? user->pw_name : "USER");
        return;
    }
    if (!journal_exists(d->journal.persistent) && !journal_exists(d->journal.runtime)) {
        finding_set(f, DOCTOR_PROBLEM, "no journal to read");
        finding_explain(f, "journald does not run, or does not store entries.");
        finding_restart_journald(d, f);
        return;
    }
    d->journal.readable = true;
    finding_set(f, DOCTOR_OK, "the journal can be read");
}

/* --- Forwarding --- */

void doctor_check_forwarding(struct doctor *d, struct finding *f)
{
    if (!d->journald.forward_to_syslog) {
        finding_set(f, DOCTOR_OK, "ForwardToSyslog=no");
        return;
    }
    finding_set(f, DOCTOR_WARNING, "ForwardToSyslog=yes");
    if (file_exists(SYSLOG_SOCKET)) {
        finding_explain(
            f, "journald sends each entry to the syslog daemon, too, which slows it down and");
        finding_explain(f, "may store it again. Without it, that daemon gets no messages of other");
        finding_explain(f, "programs either, unless it reads the journal.");
    } else {
        finding_explain(
            f, "journald also sends each entry to a syslog daemon. None listens, but that");
        finding_explain(f, "alone slows journald down by up to a fifth.");
    }
    finding_journald(d, f, "zz-forwarding.conf", "ForwardToSyslog=no\\n");
}

/* --- Storage --- */

/* True if the test session is in the journal files of DIRECTORY. */
static bool session_is_in(const struct doctor *d, const char *directory)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    struct options options = *d->options;
    struct tally tally = {0};

    options.directory = directory;
    options.name_space = NULL;
    return journal_exists(directory) && d->session[0] && reader_open(&options, &reader) < 0 &&
           stream_read(reader, d->session, NULL, NULL, &tally) >= 0 && tally.ended;
}

static void finding_persistent(const struct doctor *d, struct finding *f)
{
    const char *space = d->journal.name_space;

    if (!file_exists("/var/log/journal")) {
        finding_command(f, "mkdir -p /var/log/journal");
        finding_command(f, "systemd-tmpfiles --create --prefix /var/log/journal");
    }
    finding_journald(d, f, "zz-storage.conf", "Storage=persistent\\n");
    finding_command(f, "journalctl --flush%s%s", *space ? " --namespace=" : "", space);
}

void doctor_check_storage(struct doctor *d, struct finding *f)
{
    const char *storage = d->journald.storage;

    /* What happened counts: journald may have been started with other settings. */
    if (session_is_in(d, d->journal.persistent)) {
        finding_set(f, DOCTOR_OK, "on disk, in %s", d->journal.persistent);
        return;
    }
    if (strcmp(storage, "none") == 0) {
        finding_set(f, DOCTOR_PROBLEM, "Storage=none");
        finding_explain(f, "journald stores nothing.");
    } else if (session_is_in(d, d->journal.runtime) || !journal_exists(d->journal.persistent)) {
        finding_set(f, DOCTOR_PROBLEM, "in memory, in %s", d->journal.runtime);
        finding_explain(f, "Entries are lost when the machine starts again.");
    } else {
        finding_set(f, DOCTOR_WARNING, "not checked: no test session in the journal");
        return;
    }
    finding_persistent(d, f);
}

/* --- Space --- */

/* "3.9 GiB" */
static const char *size_text(uint64_t bytes, char ret[static 32])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double number = (double)bytes;
    size_t i = 0;

    for (; number >= 1024 && i < ARRAY_SIZE(units) - 1; i++)
        number /= 1024;
    snprintf(ret, 32, "%.*f %s", i > 0 && number < 100, number, units[i]);
    return ret;
}

/* Others leave the journal no room: FREE bytes of the file system, of which KEEP are to stay free.
 */
static void finding_disk_full(const struct doctor *d, struct finding *f, uint64_t free,
                              uint64_t keep)
{
    char setting[64], free_text[32], keep_text[32];

    finding_set(f, DOCTOR_PROBLEM, "%s free, but journald leaves %s to others",
                size_text(free, free_text), size_text(keep, keep_text));
    finding_explain(
        f, "journald deletes the oldest entries to make room. Delete other files in the file");
    finding_explain(f, "system of %s, or let journald use more of it:", d->journal.persistent);
    snprintf(setting, sizeof(setting), "SystemKeepFree=%juK\\n", (uintmax_t)(free / 4096));
    finding_journald(d, f, "zz-keep-free.conf", setting);
}

void doctor_check_space(struct doctor *d, struct finding *f)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    char used_text[32], room_text[32];
    uint64_t free, keep, room, used = 0;
    struct options options = *d->options;
    struct statvfs fs;

    options.directory = d->journal.persistent;
    options.name_space = NULL;
    if (!d->journal.readable || !journal_exists(d->journal.persistent) ||
        statvfs(d->journal.persistent, &fs) < 0 || reader_open(&options, &reader) >= 0 ||
        reader_usage(reader, &used) < 0) {
        finding_set(f, DOCTOR_WARNING, "not checked: no journal on disk to read");
        return;
    }
    free = (uint64_t)fs.f_bavail * fs.f_frsize;
    room = journald_room(&d->journald, (uint64_t)fs.f_blocks * fs.f_frsize, free, used, &keep);
    if (free < keep) {
        finding_disk_full(d, f, free, keep);
        return;
    }
    finding_set(f, DOCTOR_OK, "%s used of %s that the journal may take", size_text(used, used_text),
                size_text(room, room_text));
    if (room >= ROOM_LOW)
        return;
    f->status = DOCTOR_WARNING;
    finding_explain(f, "That holds few entries; journald deletes the oldest when it is used up.");
    finding_journald(d, f, "zz-max-use.conf", "SystemMaxUse=1G\\n");
}
