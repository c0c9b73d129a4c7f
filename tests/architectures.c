/* SPDX-License-Identifier: MIT */
/*
 * For the unit tests in qemu-user, which does not know SO_COOKIE: the socket's inode instead, which
 * no other open socket has. To be preloaded.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>

int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    int (*next)(int, int, int, void *, socklen_t *);
    struct stat st;

    if (level != SOL_SOCKET || name != SO_COOKIE) {
        next = (int (*)(int, int, int, void *, socklen_t *))dlsym(RTLD_NEXT, "getsockopt");
        return next(fd, level, name, value, size);
    }
    if (fstat(fd, &st) < 0)
        return -1;
    if (!S_ISSOCK(st.st_mode)) {
        errno = ENOTSOCK;
        return -1;
    }
    *(uint64_t *)value = st.st_ino;
    return 0;
}
