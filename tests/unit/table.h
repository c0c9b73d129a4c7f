/* SPDX-License-Identifier: MIT */
/* A session table with a listener, number 3, and what stands in it. Needs cmocka.h before. */
#pragma once

#include "common/util.h"
#include "netd/session/table.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>

#define CAPACITY 64

static struct table table;

static const struct listener_settings settings = {
    .max_record = 4096, .framing = FRAMING_LINE, .priority = LOG_INFO, .sessions_max = CAPACITY};

/* A socket that listens somewhere on the loopback. */
static inline int listening_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static inline int setup(void **state)
{
    (void)state;
    if (table_create(&table, CAPACITY) < 0)
        return -1;
    table.header->listeners[3].fd = listening_socket();
    table.header->listeners[3].settings = settings;
    return table_attach(&table);
}

static inline int teardown(void **state)
{
    (void)state;
    close_fd(&table.header->listeners[3].fd);
    table_deinit(&table);
    return 0;
}

/* As if the process died here and another one came. */
static inline void restart(void)
{
    int header = fcntl(table.header_fd, F_DUPFD_CLOEXEC, 3);
    int regions = fcntl(table.regions_fd, F_DUPFD_CLOEXEC, 3);

    table_deinit(&table);
    assert_int_equal(table_open(&table, header, regions), 0);
    assert_int_equal(table_attach(&table), 0);
}

/* A session as a worker leaves it in the middle of its life. */
static inline struct session *open_session(uint32_t start, uint32_t end)
{
    struct session *s = table_take(&table);

    assert_non_null(s);
    s->listener = 3;
    s->begin_usec = s->active_usec = now_usec(CLOCK_MONOTONIC);
    s->window = window_make(start, end);
    table_publish(s, SESSION_OPEN);
    return s;
}

/* Bytes of memory that the regions take. */
static inline uint64_t regions_memory(void)
{
    struct stat st;

    assert_int_equal(fstat(table.regions_fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}
