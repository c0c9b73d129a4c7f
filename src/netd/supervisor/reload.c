/* SPDX-License-Identifier: MIT */
#include "netd/supervisor/reload.h"

#include "common/exit-status.h"
#include "common/util.h"
#include "netd/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Values of the signals. The sender of any other might be killed by a reply. */
enum { RELOAD_REQUEST = 0x6e657464, RELOAD_DONE, RELOAD_FAILED };

/* Room for a process's name, LF and NUL included: proc(5). */
#define NAME_ROOM 18

/* Interval at which a waiting process checks that the supervisor still exists. */
#define EXISTS_SEC 1

/* Waits for the reply of SUPERVISOR. */
static int reload_wait(pid_t supervisor, const sigset_t *signals)
{
    const struct timespec interval = {.tv_sec = EXISTS_SEC};
    siginfo_t info;

    for (;;) {
        if (sigtimedwait(signals, &info, &interval) > 0) {
            if (info.si_code == SI_QUEUE && info.si_pid == supervisor)
                return info.si_value.sival_int == RELOAD_DONE ? EXIT_SUCCESS : EXIT_FAILED;
        } else if (kill(supervisor, 0) < 0 && errno == ESRCH) {
            log_error("process %d ended during the reload", (int)supervisor);
            return EXIT_FAILED;
        }
    }
}

/* Reads the name of process PID, "self" for this one, to RET. */
static bool reload_read_name(const char *pid, char ret[static NAME_ROOM])
{
    char path[32];
    FILE *f;
    bool ok;

    snprintf(path, sizeof(path), "/proc/%s/comm", pid);
    f = fopen(path, "re");
    if (!f)
        return false;
    ok = fgets(ret, NAME_ROOM, f) != NULL;
    (void)fclose(f);
    return ok;
}

/* True if SUPERVISOR is visibly not a netd of this user. The signal would kill another program, and
 * have systemd as PID 1 start rescue.target. In the sandbox of netd.service nothing is visible
 * (ProtectProc=). */
static bool reload_is_misdirected(pid_t supervisor)
{
    char pid[16], path[32], name[NAME_ROOM], own[NAME_ROOM];
    struct stat st;

    snprintf(pid, sizeof(pid), "%d", (int)supervisor);
    snprintf(path, sizeof(path), "/proc/%s", pid);
    return reload_read_name(pid, name) && reload_read_name("self", own) && stat(path, &st) == 0 &&
           (strcmp(name, own) != 0 || st.st_uid != geteuid());
}

int reload_request(pid_t supervisor)
{
    const union sigval request = {.sival_int = RELOAD_REQUEST};
    sigset_t signals;

    if (reload_is_misdirected(supervisor)) {
        log_error("process %d is not a netd of this user; see systemctl reload", (int)supervisor);
        return EXIT_FAILED;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGNAL_RELOAD);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    if (sigqueue(supervisor, SIGNAL_RELOAD, request) < 0) {
        log_error("cannot signal process %d: %s", (int)supervisor, strerror(errno));
        return EXIT_FAILED;
    }
    return reload_wait(supervisor, &signals);
}

pid_t reload_requester(const siginfo_t *info)
{
    return info->si_signo == SIGNAL_RELOAD && info->si_code == SI_QUEUE &&
                   info->si_value.sival_int == RELOAD_REQUEST
               ? info->si_pid
               : 0;
}

void reload_answer(pid_t requester, bool done)
{
    const union sigval answer = {.sival_int = done ? RELOAD_DONE : RELOAD_FAILED};

    if (requester > 0)
        (void)sigqueue(requester, SIGNAL_RELOAD, answer); /* it may have gone */
}
