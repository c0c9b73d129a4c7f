/* SPDX-License-Identifier: MIT */
/* Who has a port: /proc/net/tcp, proc(5), has the inode of the socket, /proc/PID/fd the process. */
#include "netd-client/doctor.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-login.h>

#define STATE_LISTEN 0x0a

/* Returns the inode of the socket that listens on PORT according to the file PATH, or 0. */
static uint64_t port_inode(const char *path, uint16_t port)
{
    FILE *f = fopen(path, "re");
    char *line CLEANUP(free_pointer) = NULL;
    uint64_t inode, found = 0;
    unsigned local, state;
    size_t size = 0;

    while (f && !found && getline(&line, &size, f) >= 0)
        if (sscanf(line,
                   "%*u: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*x:%*x %*x:%*x %*x %*u %*u %" SCNu64,
                   &local, &state, &inode) == 3 &&
            local == port && state == STATE_LISTEN)
            found = inode;
    if (f)
        fclose(f);
    return found;
}

/* True if the process in DIRECTORY, below /proc, has the socket INODE open. */
static bool process_has_socket(const char *directory, uint64_t inode)
{
    char path[PATH_MAX], target[64], wanted[64];
    bool found = false;
    struct dirent *entry;
    DIR *dir;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%s/fd", directory);
    snprintf(wanted, sizeof(wanted), "socket:[%" PRIu64 "]", inode);
    dir = opendir(path);
    while (dir && !found && (entry = readdir(dir))) {
        n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        found = strcmp(target, wanted) == 0;
    }
    if (dir)
        closedir(dir);
    return found;
}

/* Returns the process that has the socket INODE open, or 0. */
static pid_t port_process(uint64_t inode)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    pid_t pid = 0;

    while (proc && pid == 0 && (entry = readdir(proc)))
        if (isdigit((unsigned char)entry->d_name[0]) && process_has_socket(entry->d_name, inode))
            pid = (pid_t)atoi(entry->d_name);
    if (proc)
        closedir(proc);
    return pid;
}

static void process_name(pid_t pid, char *ret, size_t size)
{
    char path[64];
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    f = fopen(path, "re");
    if (!f || !fgets(ret, (int)size, f))
        snprintf(ret, size, "?");
    ret[strcspn(ret, "\n")] = '\0';
    if (f)
        fclose(f);
}

bool doctor_blame_port(struct finding *f, uint16_t port)
{
    uint64_t inode = port_inode("/proc/net/tcp", port);
    char *unit CLEANUP(free_pointer) = NULL;
    char name[64];
    pid_t pid;

    if (inode == 0)
        inode = port_inode("/proc/net/tcp6", port);
    pid = inode > 0 ? port_process(inode) : 0;
    if (pid <= 0)
        return false;
    process_name(pid, name, sizeof(name));
    if (pid == 1) {
        finding_explain(f, "Port %u is used by a socket unit: see systemctl list-sockets.", port);
        return true;
    }
    /* Fails for a process of no unit. A scope, such as a login, has other processes, too. */
    if (sd_pid_get_unit(pid, &unit) < 0 || !strstr(unit, ".service")) {
        finding_explain(f, "Port %u is used by %s, process %d.", port, name, (int)pid);
        finding_command(f, "kill %d", (int)pid);
    } else {
        finding_explain(f, "Port %u is used by %s of %s.", port, name, unit);
        finding_command(f, "systemctl stop %s", unit);
    }
    return true;
}
