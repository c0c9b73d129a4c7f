/* SPDX-License-Identifier: MIT */
#include "netd-client/journald.h"

#include "common/util.h"
#include "netd-client/timestamp.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* Bytes that a journal may take however full the file system is. */
#define MIN_USE (16 * MIB)

const struct journald_settings journald_defaults = {
    .storage = "auto",
    .rate_interval = 30 * USEC_PER_SEC,
    .rate_burst = 10000,
    .system_max_use = JOURNALD_UNSET,
    .system_keep_free = JOURNALD_UNSET,
    .max_level_store = LOG_DEBUG,
};

/* --- Values --- */

static void take_boolean(void *ret, const char *value)
{
    static const char *const words[][2] = {{"0", "1"}, {"no", "yes"},     {"n", "y"},
                                           {"f", "t"}, {"false", "true"}, {"off", "on"}};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        for (int j = 0; j < 2; j++)
            if (strcasecmp(value, words[i][j]) == 0)
                *(bool *)ret = j;
}

static void take_storage(void *ret, const char *value)
{
    static const char *const words[] = {"volatile", "persistent", "auto", "none"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(value, words[i]) == 0)
            strcpy(ret, value);
}

static void take_span(void *ret, const char *value)
{
    (void)timespan_parse(value, ret);
}

static void take_number(void *ret, const char *value)
{
    (void)parse_u64(value, UINT32_MAX, ret);
}

/* Bytes, with a factor to the base 1024: "1.5G". */
static void take_size(void *ret, const char *value)
{
    static const char units[] = "BKMGTPE";
    const char *unit;
    char *end;
    double number = strtod(value, &end);

    end += strspn(end, " \t");
    unit = *end ? strchr(units, *end) : units;
    if (end == value || !unit || (*end && end[1]) || !(number >= 0))
        return;
    for (; unit > units; unit--)
        number *= 1024;
    if (number < 0x1p63)
        *(uint64_t *)ret = (uint64_t)number;
}

static void take_level(void *ret, const char *value)
{
    static const char *const words[] = {"emerg",   "alert",  "crit", "err",
                                        "warning", "notice", "info", "debug"};

    (void)parse_u64(value, LOG_DEBUG, ret);
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(value, words[i]) == 0)
            *(uint64_t *)ret = i;
}

#define KEY(key, member, take)                                           \
    {                                                                    \
        (key), offsetof(struct journald_settings, member),               \
            sizeof(((struct journald_settings *)0)->member), take_##take \
    }

static const struct {
    const char *name;
    size_t offset, size;
    void (*take)(void *ret, const char *value); /* does nothing if it is not valid */
} keys[] = {
    KEY("Storage", storage, storage),
    KEY("ForwardToSyslog", forward_to_syslog, boolean),
    KEY("RateLimitIntervalSec", rate_interval, span),
    KEY("RateLimitInterval", rate_interval, span), /* its former name */
    KEY("RateLimitBurst", rate_burst, number),
    KEY("SystemMaxUse", system_max_use, size),
    KEY("SystemKeepFree", system_keep_free, size),
    KEY("MaxLevelStore", max_level_store, level),
};

/* --- Files --- */

/* Removes blanks at both ends of TEXT. */
static char *journald_strip(char *text)
{
    size_t length;

    text += strspn(text, " \t\r");
    length = strlen(text);
    while (length > 0 && strchr(" \t\r", text[length - 1]))
        length--;
    text[length] = '\0';
    return text;
}

void journald_take_line(struct journald_settings *s, char *line, bool defaults)
{
    char *name = journald_strip(line), *value = strchr(name, '=');
    bool comment = *name == '#';

    if (!value || (comment && (!defaults || strncmp(name, "#ForwardToSyslog=", 17) != 0)))
        return;
    *value++ = '\0';
    name = journald_strip(name + comment);
    value = journald_strip(value);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        uint8_t *member = (uint8_t *)s + keys[i].offset;

        if (strcmp(name, keys[i].name) != 0)
            continue;
        /* An empty value restores the default. */
        if (!*value)
            memcpy(member, (const uint8_t *)&journald_defaults + keys[i].offset, keys[i].size);
        else
            keys[i].take(member, value);
    }
}

/* Returns false if PATH cannot be opened. */
static bool journald_read_file(struct journald_settings *s, const char *path, bool defaults)
{
    FILE *f = fopen(path, "re");
    char *line CLEANUP(free_pointer) = NULL;
    size_t size = 0;

    if (!f)
        return false;
    while (getline(&line, &size, f) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        journald_take_line(s, line, defaults);
    }
    fclose(f);
    return true;
}

static const char *journald_base_name(const char *path)
{
    return strrchr(path, '/') + 1;
}

static int journald_compare(const void *a, const void *b)
{
    return strcmp(journald_base_name(*(char *const *)a), journald_base_name(*(char *const *)b));
}

/* True if one of the first COUNT of PATHS has the name of PATH: a file in an earlier directory
 * replaces those of the same name in later ones. */
static bool journald_is_masked(char *const *paths, size_t count, const char *path)
{
    for (size_t i = 0; i < count; i++)
        if (journald_compare(&paths[i], &path) == 0)
            return true;
    return false;
}

static void journald_swap(char **a, char **b)
{
    char *path = *a;

    *a = *b;
    *b = path;
}

int journald_read(struct journald_settings *ret, const char *root, const char *name_space)
{
    static const char *const directories[] = {"/etc", "/run", "/usr/local/lib", "/usr/lib"};
    struct journald_settings s = journald_defaults;
    const char *at = name_space ? "@" : "";
    bool found = false;
    size_t count = 0;
    glob_t drop_ins = {0};
    char path[PATH_MAX];
    int r = 0;

    if (!name_space)
        name_space = "";
    for (size_t i = 0; r != GLOB_NOSPACE && i < ARRAY_SIZE(directories); i++) {
        snprintf(path, sizeof(path), "%s%s/systemd/journald%s%s.conf", root, directories[i], at,
                 name_space);
        found = found || journald_read_file(&s, path, true);
        strcat(path, ".d/*.conf");
        r = glob(path, i > 0 ? GLOB_APPEND : 0, NULL, &drop_ins);
    }
    for (size_t i = 0; i < drop_ins.gl_pathc; i++)
        if (!journald_is_masked(drop_ins.gl_pathv, count, drop_ins.gl_pathv[i]))
            journald_swap(&drop_ins.gl_pathv[count++], &drop_ins.gl_pathv[i]);
    if (count > 0)
        qsort(drop_ins.gl_pathv, count, sizeof(*drop_ins.gl_pathv), journald_compare);
    for (size_t i = 0; i < count; i++)
        (void)journald_read_file(&s, drop_ins.gl_pathv[i], false);
    globfree(&drop_ins);
    if (r == GLOB_NOSPACE)
        return -ENOMEM;
    *ret = s;
    return 0;
}

/* --- Space --- */

uint64_t journald_room(const struct journald_settings *s, uint64_t size, uint64_t free,
                       uint64_t used, uint64_t *ret_keep)
{
    uint64_t most = s->system_max_use, keep = s->system_keep_free, room;

    if (most == JOURNALD_UNSET)
        most = min_u64(size / 10, 4 * GIB);
    if (keep == JOURNALD_UNSET)
        keep = min_u64(size * 3 / 20, 4 * GIB);
    room = used + (free > keep ? free - keep : 0);
    *ret_keep = keep;
    return min_u64(room > MIN_USE ? room : MIN_USE, most);
}
