/* SPDX-License-Identifier: MIT */
/* Preloaded when netd runs under valgrind, which does not support clone(CLONE_FILES). A fork is
 * equivalent unless a worker dies and the next one continues its sessions. */
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

long syscall(long number, ...)
{
    va_list list;
    long a[6];

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_clone && (a[0] & CLONE_FILES))
        return fork();
    errno = ENOSYS; /* netd makes no other calls through syscall(); libraries have a fallback */
    return -1;
}
