/* SPDX-License-Identifier: MIT */
/*
 * What a row left in the journal.
 *
 *   count NAMESPACE SINCE MATCH...
 *
 * NAMESPACE is "" for the default one, or "*" for all. SINCE is in microseconds since 1970. Prints
 * the number of entries that match and are younger, the bytes of their MESSAGEs, and the times that
 * journald gave to the first and the last, in microseconds.
 */
#include "lines.h"

#include <inttypes.h>
#include <systemd/sd-journal.h>

static void check(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(-r));
    exit(EXIT_FAILURE);
}

static sd_journal *open_namespace(const char *name)
{
    sd_journal *j;

    if (strcmp(name, "*") == 0)
        check(sd_journal_open_namespace(&j, NULL, SD_JOURNAL_ALL_NAMESPACES), "open");
    else
        check(sd_journal_open_namespace(&j, *name ? name : NULL, 0), "open");
    return j;
}

int main(int argc, char **argv)
{
    uint64_t entries = 0, bytes = 0, first = 0, last = 0, since, t;
    const void *data;
    size_t length;
    sd_journal *j;

    if (argc < 4)
        return EXIT_FAILURE;
    since = number(argv[2], 0);
    j = open_namespace(argv[1]);
    for (int i = 3; i < argc; i++)
        check(sd_journal_add_match(j, argv[i], 0), argv[i]);
    check(sd_journal_seek_realtime_usec(j, since), "seek");
    while (sd_journal_next(j) > 0) {
        check(sd_journal_get_realtime_usec(j, &t), "time");
        if (t < since)
            continue;
        if (sd_journal_get_data(j, "MESSAGE", &data, &length) >= 0)
            bytes += length - strlen("MESSAGE=");
        first = entries++ == 0 || t < first ? t : first;
        last = t > last ? t : last;
    }
    sd_journal_close(j);
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", entries, bytes, first, last);
    return 0;
}
