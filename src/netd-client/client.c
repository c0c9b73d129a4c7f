/* SPDX-License-Identifier: MIT */
#include "netd-client/client.h"

#include "common/escape.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Maximum length of an error line. User input (a path, a name) takes at most half of it. */
#define LINE_MAX_BYTES 8192

int client_fail(int status, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    fflush(stdout);
    fputs("netd-client: ", stderr);
    escape_write(stderr, line, strlen(line));
    fputc('\n', stderr);
    return status;
}
