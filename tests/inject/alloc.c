/* SPDX-License-Identifier: MIT */
/*
 * Linked into a test build of either program, before all libraries: every allocation, including
 * those of libraries, first asks inject.c whether it is to fail.
 */
#include "inject.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool asking;

__attribute__((constructor)) static void begin(void)
{
    asking = syscall(SYS_prctl, INJECT_PRCTL, INJECT_BEGIN, 0, 0, 0) == 0;
}

/* What follows is only the profiler's output. */
__attribute__((destructor)) static void end(void)
{
    asking = false;
    syscall(SYS_prctl, INJECT_PRCTL, INJECT_END, 0, 0, 0);
}

#ifdef COVERAGE
void __gcov_dump(void);

/* gcc calls this for execv(3), to write the profile so far. */
int __gcov_execv(const char *path, char *const *argv);
int __gcov_execv(const char *path, char *const *argv)
{
    end();
    __gcov_dump();
    begin();
    return (int)syscall(SYS_execve, path, argv, environ);
}

/* _exit(2) would not write the profile. */
void _exit(int status)
{
    end();
    __gcov_dump();
    for (;;)
        (void)syscall(SYS_exit_group, status);
}
#endif

/* True when this allocation is to fail. */
static bool fails(void)
{
    int saved = errno;
    bool to_fail;

    if (!asking)
        return false;
    to_fail = syscall(SYS_prctl, INJECT_PRCTL, INJECT_ALLOCATE, 0, 0, 0) < 0 && errno == ENOMEM;
    errno = to_fail ? ENOMEM : saved;
    return to_fail;
}

/* The next definition of NAME: a sanitizer's or the C library's. */
#define NEXT(type, name)   \
    static type (*next)(); \
    if (!next)             \
    *(void **)(&next) = dlsym(RTLD_NEXT, #name)

void *malloc(size_t size)
{
    NEXT(void *, malloc);
    return fails() ? NULL : next(size);
}

void *calloc(size_t n, size_t size)
{
    NEXT(void *, calloc);
    return fails() ? NULL : next(n, size);
}

void *realloc(void *p, size_t size)
{
    NEXT(void *, realloc);
    return fails() ? NULL : next(p, size);
}

void *reallocarray(void *p, size_t n, size_t size)
{
    NEXT(void *, reallocarray);
    return fails() ? NULL : next(p, n, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    NEXT(int, posix_memalign);
    return fails() ? ENOMEM : next(ret, alignment, size);
}

/* Those of a sanitizer do not call malloc(). */
char *strdup(const char *s)
{
    NEXT(char *, strdup);
    return fails() ? NULL : next(s);
}

char *strndup(const char *s, size_t n)
{
    NEXT(char *, strndup);
    return fails() ? NULL : next(s, n);
}

/* lsan_interface.h: the dynamic linker does not free what it allocates in dlopen(3), by which
 * libsystemd loads what decompresses the journal. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:/ld-linux";
}
