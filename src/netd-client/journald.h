/* SPDX-License-Identifier: MIT */
/*
 * journald's settings as journald.conf(5) has them on disk: systemd-journald takes them when it
 * starts. Those of the kernel command line are not looked at.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define JOURNALD_UNSET UINT64_MAX

struct journald_settings {
    char storage[16];        /* "auto" */
    bool forward_to_syslog;  /* "false" */
    uint64_t rate_interval;  /* microseconds */
    uint64_t rate_burst;     /* entries */
    uint64_t system_max_use; /* bytes, as the following, or JOURNALD_UNSET */
    uint64_t system_keep_free;
    uint64_t max_level_store; /* syslog level */
};

/* The defaults, before any line. */
extern const struct journald_settings journald_defaults;

/*
 * Takes LINE of a file, without its LF, and overwrites it. Anything that journald would ignore is
 * ignored. With DEFAULTS, in the main file, a default that distributions change is taken from the
 * comment that shows it.
 */
void journald_take_line(struct journald_settings *s, char *line, bool defaults);

/*
 * Reads the files below ROOT, "" for the system's, for the journald of NAME_SPACE, or NULL for the
 * default one. A file that cannot be read is skipped. Returns 0 or -ENOMEM.
 */
int journald_read(struct journald_settings *ret, const char *root, const char *name_space);

/*
 * The bytes that the journal may take on a file system of SIZE bytes with FREE bytes left, where it
 * takes USED now; in *RET_KEEP what it leaves to others.
 */
uint64_t journald_room(const struct journald_settings *s, uint64_t size, uint64_t free,
                       uint64_t used, uint64_t *ret_keep);
