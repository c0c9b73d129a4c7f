/* SPDX-License-Identifier: MIT */
#include "netd-client/journald.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

#include <cmocka.h>

#include "common/util.h"

#define GIB (UINT64_C(1) << 30)

static struct journald_settings settings;

static void take(const char *text)
{
    char line[256];

    snprintf(line, sizeof(line), "%s", text);
    journald_take_line(&settings, line, false);
}

static void lines_are_taken(void **state)
{
    (void)state;
    settings = journald_defaults;
    take("[Journal]");
    take("Storage=volatile");
    take(" ForwardToSyslog = On ");
    take("RateLimitIntervalSec=1min 30s");
    take("RateLimitBurst=17");
    take("SystemMaxUse=1.5G");
    take("SystemKeepFree=100");
    take("MaxLevelStore=warning");
    assert_string_equal(settings.storage, "volatile");
    assert_true(settings.forward_to_syslog);
    assert_int_equal(settings.rate_interval, 90 * USEC_PER_SEC);
    assert_int_equal(settings.rate_burst, 17);
    assert_int_equal(settings.system_max_use, GIB + GIB / 2);
    assert_int_equal(settings.system_keep_free, 100);
    assert_int_equal(settings.max_level_store, LOG_WARNING);
    take("MaxLevelStore=7");
    take("SystemKeepFree=2 M");
    assert_int_equal(settings.max_level_store, LOG_DEBUG);
    assert_int_equal(settings.system_keep_free, 2 << 20);
}

static void empty_values_are_the_defaults(void **state)
{
    (void)state;
    lines_are_taken(NULL);
    take("Storage=");
    take("ForwardToSyslog=");
    take("RateLimitInterval=");
    take("RateLimitBurst=");
    take("SystemMaxUse=");
    take("SystemKeepFree=");
    take("MaxLevelStore=");
    assert_memory_equal(settings.storage, "auto", 5);
    strncpy(settings.storage, journald_defaults.storage, sizeof(settings.storage));
    assert_memory_equal(&settings, &journald_defaults, sizeof(settings));
}

static void other_lines_are_ignored(void **state)
{
    static const char *const rows[] = {
        "",
        "Storage",
        "#Storage=none",
        "#ForwardToSyslog=yes",
        ";Storage=none",
        "Storage=disk",
        "storage=none",
        "Storages=none",
        "ForwardToSyslog=perhaps",
        "RateLimitIntervalSec=soon",
        "RateLimitBurst=-1",
        "RateLimitBurst=many",
        "SystemMaxUse=G",
        "SystemMaxUse=-1",
        "SystemMaxUse=1X",
        "SystemMaxUse=1GB",
        "SystemMaxUse=1e30",
        "SystemMaxUse=nan",
        "MaxLevelStore=8",
        "MaxLevelStore=loud",
        "=",
    };

    (void)state;
    settings = journald_defaults;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        take(rows[i]);
        assert_memory_equal(&settings, &journald_defaults, sizeof(settings));
    }
}

/* --- Files --- */

static char root[] = "/tmp/netd-journald-XXXXXX";

/* Writes TEXT to PATH below the root, whose directories are made. */
static void write_file(const char *path, const char *text)
{
    char full[256];
    FILE *f;

    snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *slash = full + sizeof(root); (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void files_are_read(void **state)
{
    char command[64];

    (void)state;
    assert_non_null(mkdtemp(root));
    assert_int_equal(journald_read(&settings, root, NULL), 0);
    assert_memory_equal(&settings, &journald_defaults, sizeof(settings));

    /* The first main file there is; a default from a comment; drop-ins by name, each only once. */
    write_file("/usr/lib/systemd/journald.conf", "[Journal]\nStorage=none\n");
    write_file("/etc/systemd/journald.conf",
               "[Journal]\n#Storage=none\n#ForwardToSyslog=yes\nSystemMaxUse=1G\n");
    write_file("/usr/lib/systemd/journald.conf.d/b.conf", "[Journal]\nSystemMaxUse=2G\n");
    write_file("/etc/systemd/journald.conf.d/a.conf", "[Journal]\nSystemMaxUse=3G\n"
                                                      "RateLimitBurst=3");
    write_file("/usr/lib/systemd/journald.conf.d/c.conf", "[Journal]\nRateLimitBurst=4\n");
    write_file("/run/systemd/journald.conf.d/c.conf", "");
    write_file("/etc/systemd/journald.conf.d/d", "[Journal]\nRateLimitBurst=5\n");
    write_file("/etc/systemd/journald@x.conf.d/d.conf", "[Journal]\nRateLimitBurst=6\n");
    assert_int_equal(journald_read(&settings, root, NULL), 0);
    assert_string_equal(settings.storage, "auto");
    assert_true(settings.forward_to_syslog);
    assert_int_equal(settings.system_max_use, 2 * GIB);
    assert_int_equal(settings.rate_burst, 3);

    assert_int_equal(journald_read(&settings, root, "x"), 0);
    assert_int_equal(settings.rate_burst, 6);
    assert_int_equal(settings.system_max_use, JOURNALD_UNSET);
    snprintf(command, sizeof(command), "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

/* --- Space --- */

static void room_is_what_journald_takes(void **state)
{
    static const struct {
        uint64_t size, free, used, max_use, keep_free; /* 0: unset */
        uint64_t room, keep;
    } rows[] = {
        {10 * GIB, 8 * GIB, 0, 0, 0, GIB, 10 * GIB * 3 / 20},
        {100 * GIB, 80 * GIB, GIB, 0, 0, 4 * GIB, 4 * GIB},
        {100 * GIB, 5 * GIB, GIB, 0, 0, 2 * GIB, 4 * GIB},
        {100 * GIB, GIB, GIB, 0, 0, GIB, 4 * GIB},
        {100 * GIB, GIB, 1, 0, 0, 16 << 20, 4 * GIB},
        {100 * GIB, GIB, GIB, 0, 1, 2 * GIB - 1, 1},
        {100 * GIB, 80 * GIB, GIB, 8 * GIB, 0, 8 * GIB, 4 * GIB},
        {100 * GIB, 80 * GIB, GIB, 100, 0, 100, 4 * GIB},
    };
    uint64_t keep;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        settings = journald_defaults;
        if (rows[i].max_use > 0)
            settings.system_max_use = rows[i].max_use;
        if (rows[i].keep_free > 0)
            settings.system_keep_free = rows[i].keep_free;
        assert_int_equal(journald_room(&settings, rows[i].size, rows[i].free, rows[i].used, &keep),
                         rows[i].room);
        assert_int_equal(keep, rows[i].keep);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_taken),
        cmocka_unit_test(empty_values_are_the_defaults),
        cmocka_unit_test(other_lines_are_ignored),
        cmocka_unit_test(files_are_read),
        cmocka_unit_test(room_is_what_journald_takes),
    };

    return cmocka_run_group_tests_name("client-journald", tests, NULL, NULL);
}
