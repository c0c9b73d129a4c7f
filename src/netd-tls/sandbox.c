/* SPDX-License-Identifier: MIT */
#include "netd-tls/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define SANDBOX_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define SANDBOX_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define SANDBOX_ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SANDBOX_ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define SANDBOX_ARCH AUDIT_ARCH_S390X
#endif

/* Sanitizers make system calls of their own. */
#if defined(__SANITIZE_ADDRESS__)
#undef SANDBOX_ARCH
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#undef SANDBOX_ARCH
#endif
#endif

#ifdef SANDBOX_ARCH

/* The lower half of a system call's argument N. */
#define ARGUMENT(n)                                            \
    (offsetof(struct seccomp_data, args) + UINT64_C(8) * (n) + \
     (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0))

#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, (what))
#define DENY         RETURN(SECCOMP_RET_ERRNO | EPERM)

/* Skips the next N instructions if the value loaded is not VALUE, or has a bit of MASK. */
#define UNLESS_EQUAL(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (n))
#define IF_ANY(mask, n)        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (uint32_t)(mask), (n), 0)

#define ALLOW(name) UNLESS_EQUAL(SYS_##name, 1), RETURN(SECCOMP_RET_ALLOW)

/* Allowed if argument N is VALUE, or has no bit of MASK. */
#define ALLOW_IF_EQUAL(name, n, value)                                      \
    UNLESS_EQUAL(SYS_##name, 4), LOAD(ARGUMENT(n)), UNLESS_EQUAL(value, 1), \
        RETURN(SECCOMP_RET_ALLOW), DENY
#define ALLOW_WITHOUT(name, n, mask) \
    UNLESS_EQUAL(SYS_##name, 4), LOAD(ARGUMENT(n)), IF_ANY(mask, 1), RETURN(SECCOMP_RET_ALLOW), DENY

static const struct sock_filter filter[] = {
    LOAD(offsetof(struct seccomp_data, arch)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SANDBOX_ARCH, 1, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    LOAD(offsetof(struct seccomp_data, nr)),
    /* In the order of how often they are made. */
    ALLOW(recvfrom),
    ALLOW(sendto),
    ALLOW(read),
    ALLOW(write),
#ifdef SYS_epoll_wait
    ALLOW(epoll_wait),
#endif
    ALLOW(epoll_pwait),
    ALLOW(epoll_ctl),
    ALLOW(accept4),
    ALLOW(connect),
    ALLOW(shutdown),
    ALLOW(close),
    ALLOW(getsockname),
    ALLOW_IF_EQUAL(socket, 0, AF_UNIX),
    ALLOW_IF_EQUAL(ioctl, 1, SIOCOUTQ),
/* log_line() */
#ifdef SYS_poll
    ALLOW(poll),
#endif
    ALLOW(ppoll),
    /* memory */
    ALLOW(brk),
    ALLOW(munmap),
    ALLOW(mremap),
    ALLOW(madvise),
    ALLOW_WITHOUT(mmap, 2, PROT_EXEC),
    ALLOW_WITHOUT(mprotect, 2, PROT_EXEC),
    /* libc and OpenSSL */
    ALLOW(clock_gettime),
    ALLOW(gettimeofday),
#ifdef SYS_time
    ALLOW(time),
#endif
    ALLOW(getrandom),
    ALLOW(getpid),
    ALLOW(futex),
    ALLOW(restart_syscall),
    ALLOW(rt_sigreturn),
    /* the end, abort(3) included */
    ALLOW(rt_sigprocmask),
    ALLOW(rt_sigaction),
    ALLOW(gettid),
    ALLOW(tgkill),
    ALLOW(exit),
    ALLOW(exit_group),
    DENY,
};

static int sandbox_filter(void)
{
    const struct sock_fprog program = {
        .len = sizeof(filter) / sizeof(filter[0]),
        .filter = (struct sock_filter *)(uintptr_t)filter,
    };

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

#else

static int sandbox_filter(void)
{
    return 0;
}

#endif

int sandbox_enter(void)
{
    if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return sandbox_filter();
}
