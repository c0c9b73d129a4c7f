/* SPDX-License-Identifier: MIT */
#include "common/util.h"

#include <errno.h>
#include <stdlib.h>

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

int parse_u64(const char *text, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;

    if (*text == '\0')
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

void hex_id(const uint8_t id[static 16], char ret[static 33])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < 16; i++) {
        ret[2 * i] = digits[id[i] >> 4];
        ret[2 * i + 1] = digits[id[i] & 15];
    }
    ret[32] = '\0';
}
