/* SPDX-License-Identifier: MIT */
/* Preloaded where valgrind runs netd: it knows no clone(CLONE_FILES), and a fork does as long as no
 * worker dies with sessions that another would go on with. */
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
    errno = ENOSYS; /* netd makes no other call this way, and libraries get over it */
    return -1;
}
