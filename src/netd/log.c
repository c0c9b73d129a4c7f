/* SPDX-License-Identifier: MIT */
#include "netd/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static bool log_is_journal;
static unsigned log_dropped;

void log_init(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    log_is_journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
                     fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

/* Returns true if the line was written. A short write is a torn line and counts as written. */
static bool log_write(const char *line, size_t length)
{
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    ssize_t n;

    n = send(STDERR_FILENO, line, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK && poll(&ready, 1, 0) == 1)
        n = write(STDERR_FILENO, line, length);
    return n > 0;
}

void log_line(int level, const char *format, ...)
{
    char line[PATH_MAX + 1024];
    size_t room = sizeof(line) - 1, length; /* one byte is for the LF */
    va_list arguments;
    int n;

    if (log_is_journal)
        n = snprintf(line, room, "<%d>", level);
    else
        n = snprintf(line, room, "netd: ");
    length = (size_t)n;

    va_start(arguments, format);
    n = vsnprintf(line + length, room - length, format, arguments);
    va_end(arguments);
    if (n > 0)
        length += min_size((size_t)n, room - length - 1);

    if (log_dropped > 0 && length + 32 < room) {
        n = snprintf(line + length, room - length, " (%u lines lost before)", log_dropped);
        length += min_size((size_t)n, room - length - 1);
    }
    line[length++] = '\n';

    if (log_write(line, length))
        log_dropped = 0;
    else
        log_dropped++;
}
