/* SPDX-License-Identifier: MIT */
#include "netd-client/transfer.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define TICK_USEC      (200 * USEC_PER_MSEC) /* interval of checks for progress */
#define PROGRESS_AFTER USEC_PER_SEC

void transfer_start(struct transfer *t)
{
    t->started = t->moved = now_usec(CLOCK_MONOTONIC);
}

double transfer_seconds(const struct transfer *t)
{
    return (double)(now_usec(CLOCK_MONOTONIC) - t->started) / (double)USEC_PER_SEC;
}

void transfer_note_progress(struct transfer *t)
{
    t->moved = now_usec(CLOCK_MONOTONIC);
}

static void transfer_show_progress(struct transfer *t)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC);
    double megabytes = (double)t->sent / 1e6;

    if (!t->progress || now - t->started < PROGRESS_AFTER || now - t->shown < TICK_USEC)
        return;
    fprintf(stderr, "\r%.1f MB sent, %.1f MB/s \033[K", megabytes, megabytes / transfer_seconds(t));
    t->shown = now;
}

void transfer_hide_progress(struct transfer *t)
{
    if (t->shown > 0)
        fputs("\r\033[K", stderr);
    t->shown = 0;
}

bool transfer_is_stalled(struct transfer *t)
{
    int queued = 0;

    /* Acknowledged bytes count as progress, see SIOCOUTQ in tcp(7). */
    if (ioctl(t->connection.fd, SIOCOUTQ, &queued) == 0 && queued != t->queued)
        transfer_note_progress(t);
    t->queued = queued;
    return t->timeout > 0 && now_usec(CLOCK_MONOTONIC) - t->moved >= t->timeout;
}

int transfer_wait(struct transfer *t, struct pollfd *fds, nfds_t count, bool limited)
{
    bool ticking = t->progress || (limited && t->timeout > 0);

    for (;;) {
        int n = poll(fds, count, ticking ? (int)(TICK_USEC / USEC_PER_MSEC) : -1);

        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        transfer_show_progress(t);
        if (transfer_is_stalled(t) && limited)
            return -ETIMEDOUT;
    }
}

ssize_t transfer_write(struct transfer *t, const char *buffer, size_t size)
{
    ssize_t n = connection_write(&t->connection, buffer, size);

    if (n < 0)
        return n;
    t->sent += (uint64_t)n;
    transfer_note_progress(t);
    transfer_show_progress(t);
    return n;
}
