/* SPDX-License-Identifier: MIT */
#include "common/util.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void close_fd(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}

void free_pointer(void *pointer)
{
    void **p = pointer;

    free(*p);
    *p = NULL;
}

int flush_standard_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    return errno > 0 ? -errno : -EIO;
}

int parse_u64(const char *text, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;

    if (*text == '\0' || (text[0] == '0' && text[1] != '\0'))
        return -EINVAL;
    for (const char *p = text; *p; p++)
        if (*p < '0' || *p > '9')
            return -EINVAL;
    for (const char *p = text; *p; p++) {
        uint64_t digit = (uint64_t)(*p - '0');

        if (value > (max - min_u64(digit, max)) / 10)
            return -ERANGE;
        value = value * 10 + digit;
        if (value > max)
            return -ERANGE;
    }
    *ret = value;
    return 0;
}

char *put_number(char *at, uint64_t n)
{
    if (n >= 10)
        at = put_number(at, n / 10);
    *at = (char)('0' + n % 10);
    return at + 1;
}

void hex_id(const uint8_t id[static SESSION_ID_SIZE], char ret[static SESSION_ID_HEX + 1])
{
    char *at = ret;

    for (size_t i = 0; i < SESSION_ID_SIZE; i++)
        at = put_hex(at, id[i]);
    *at = '\0';
}
