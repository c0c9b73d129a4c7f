/* SPDX-License-Identifier: MIT */
#include "netd/session/rules.h"

#include "common/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static size_t rules_size(const struct table_rules *rules)
{
    return rules->access.ranges * sizeof(struct access_range);
}

/* Writes the ranges to a new memfd. Returns its descriptor, not close-on-exec for a reload hands it
 * over, or a negative errno. */
static int rules_write(const struct access_range *ranges, size_t size)
{
    CLEANUP(close_fd) int fd = memfd_create("netd-rules", 0);
    ssize_t n;
    int r = fd;

    if (fd < 0)
        return -errno;
    n = write(fd, ranges, size);
    if (n != (ssize_t)size)
        return n < 0 ? -errno : -ENOSPC;
    fd = -1;
    return r;
}

int rules_make(struct table_rules *ret, const struct access_rule *rules, size_t count)
{
    CLEANUP(free_pointer) struct access_rule *copy = NULL;
    CLEANUP(free_pointer) struct access_range *ranges = NULL;
    struct table_rules made = {.fd = -1};
    char error[ACCESS_ERROR_MAX];
    int r;

    if (count == 0) {
        *ret = made;
        return 0;
    }
    copy = calloc(count, sizeof(*copy));
    ranges = calloc(ACCESS_RANGES_MAX(count), sizeof(*ranges));
    if (!copy || !ranges)
        return -ENOMEM;
    memcpy(copy, rules, count * sizeof(*copy));
    r = access_build(&made.access, ranges, copy, count, error);
    if (r < 0)
        return r;
    r = rules_write(ranges, rules_size(&made));
    if (r < 0)
        return r;
    made.fd = r;
    *ret = made;
    return 0;
}

void rules_close(struct table_rules *rules)
{
    if (rules->access.ranges > 0)
        close_fd(&rules->fd);
    *rules = (struct table_rules){.fd = -1};
}

void rules_unmap(struct table *t)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        struct mapped_rules *rules = &t->rules[i];

        if (rules->ranges)
            (void)munmap((void *)(uintptr_t)rules->ranges,
                         rules->access.ranges * sizeof(*rules->ranges));
        *rules = (struct mapped_rules){0};
    }
}

int rules_map(struct table *t)
{
    rules_unmap(t);
    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        const struct table_listener *l = &t->header->listeners[i];
        struct stat st;
        void *p;

        if (l->fd < 0 || l->rules.access.ranges == 0)
            continue;
        if (fstat(l->rules.fd, &st) < 0 || (uint64_t)st.st_size != rules_size(&l->rules))
            return -EUCLEAN;
        p = mmap(NULL, rules_size(&l->rules), PROT_READ, MAP_SHARED, l->rules.fd, 0);
        if (p == MAP_FAILED)
            return -errno;
        t->rules[i] = (struct mapped_rules){p, l->rules.access};
    }
    return 0;
}

bool rules_allow(const struct table *t, uint32_t listener, const struct endpoint *peer)
{
    const struct mapped_rules *rules = &t->rules[listener];

    return !rules->ranges || access_allows(&rules->access, rules->ranges, peer);
}
