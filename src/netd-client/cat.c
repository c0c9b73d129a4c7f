/* SPDX-License-Identifier: MIT */
/* cat: write what the client sent, byte for byte, and report missing data. */
#include "netd-client/output.h"
#include "netd-client/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define BUFFER_SIZE ((size_t)256 * 1024)

static int cat_write(void *userdata, const char *data, size_t length)
{
    (void)userdata;
    if (fwrite(data, 1, length, stdout) == length)
        return 0;
    return errno ? -errno : -EIO;
}

static int cat_fail_sums(const char *id, const char *what, const struct tally *tally)
{
    char records[COUNT_TEXT_MAX], bytes[COUNT_TEXT_MAX];

    output_count(tally->expected.records, "record", records);
    output_count(tally->expected.bytes, "byte", bytes);
    return client_fail(EXIT_FAILED,
                       "session %s: %s: %" PRIu64 " of %s, %" PRIu64 " of %s are in the journal",
                       id, what, tally->records, records, tally->bytes, bytes);
}

static int cat_conclude(const char *id, const struct tally *tally, bool quiet)
{
    if (tally_adds_up(tally))
        return EXIT_SUCCESS;
    switch (tally_verdict(tally)) {
    case VERDICT_OPEN:
        return quiet ? EXIT_SUCCESS
                     : client_fail(EXIT_SUCCESS, "session %s is open: this is what there is so far",
                                   id);
    case VERDICT_NO_END:
        return client_fail(EXIT_FAILED, "session %s: no end: more may be missing", id);
    case VERDICT_NO_BEGINNING:
        return cat_fail_sums(id, "no beginning", tally);
    case VERDICT_SURPLUS:
        return cat_fail_sums(id, "surplus", tally);
    default:
        return cat_fail_sums(id, "gap", tally);
    }
}

int cat_run(const struct options *options, char **arguments, int count)
{
    struct reader *reader CLEANUP(reader_freep) = NULL;
    char id[SESSION_ID_HEX + 1];
    struct tally tally;
    int r;

    (void)count;
    r = session_open(options, arguments[0], true, &reader, id);
    if (r >= 0)
        return r;
    setvbuf(stdout, NULL, _IOFBF, BUFFER_SIZE);
    r = stream_read(reader, id, cat_write, NULL, &tally);
    if (ferror(stdout))
        return EXIT_FAILED; /* main() reports it */
    if (r < 0)
        return session_fail_journal(r);
    return cat_conclude(id, &tally, options->quiet);
}
