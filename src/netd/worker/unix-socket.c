/* SPDX-License-Identifier: MIT */
#include "netd/worker/unix-socket.h"

#include "common/util.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Fills in *RET and returns its length. PATH fits: the configuration saw to it. */
static socklen_t unix_socket_address(const char *path, struct sockaddr_un *ret)
{
    size_t length = strnlen(path, sizeof(ret->sun_path) - 1);

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret->sun_path, path, length);
    if (path[0] == '@')
        ret->sun_path[0] = '\0';
    else
        length++; /* NUL */
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

static int unix_socket_identify(const char *path, struct unix_socket_file *ret)
{
    struct stat st;

    *ret = (struct unix_socket_file){0};
    if (path[0] == '@')
        return 0;
    if (lstat(path, &st) < 0)
        return -errno;
    *ret = (struct unix_socket_file){st.st_dev, st.st_ino};
    return S_ISSOCK(st.st_mode) ? 0 : -EEXIST;
}

bool unix_socket_is_there(const char *path, const struct unix_socket_file *file)
{
    struct unix_socket_file now;

    return unix_socket_identify(path, &now) == 0 && now.device == file->device &&
           now.inode == file->inode;
}

void unix_socket_remove(const char *path, const struct unix_socket_file *file)
{
    if (path[0] != '@' && unix_socket_is_there(path, file))
        (void)unlink(path);
}

/* Returns 0 where nobody listens at the socket file, or a negative errno. */
static int unix_socket_probe(const char *path)
{
    CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un sa;
    socklen_t length = unix_socket_address(path, &sa);

    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&sa, length) < 0 && errno == ECONNREFUSED)
        return 0;
    return -EADDRINUSE; /* also where its queue is full, or it is of another type */
}

/* bind(2) with MODE for the file. The umask belongs to the process, which has one thread. */
static int unix_socket_bind_once(int fd, const char *path, uint16_t mode)
{
    struct sockaddr_un sa;
    socklen_t length = unix_socket_address(path, &sa);
    mode_t mask = umask((mode_t)~mode & 0777);
    int r = bind(fd, (struct sockaddr *)&sa, length) < 0 ? -errno : 0;

    (void)umask(mask);
    return r;
}

static int unix_socket_bind(int fd, const char *path, uint16_t mode)
{
    struct unix_socket_file file;
    int r = unix_socket_bind_once(fd, path, mode);

    if (r != -EADDRINUSE || path[0] == '@')
        return r;
    r = unix_socket_identify(path, &file);
    if (r == 0)
        r = unix_socket_probe(path);
    if (r < 0)
        return r;
    unix_socket_remove(path, &file);
    return unix_socket_bind_once(fd, path, mode);
}

int unix_socket_listen(const char *path, uint16_t mode, int backlog, struct unix_socket_file *file)
{
    CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0)
        return -errno;
    r = unix_socket_bind(fd, path, mode);
    if (r == 0)
        r = unix_socket_identify(path, file);
    if (r == 0 && listen(fd, backlog) < 0)
        r = -errno;
    if (r < 0)
        return r;
    r = fd;
    fd = -1;
    return r;
}
