/* SPDX-License-Identifier: MIT */
/*
 * libconfig 1.5 leaks a string that its grammar does not want. netd reads its configuration in a
 * process that exits afterwards; LeakSanitizer is told about it here, valgrind in
 * tests/valgrind/libconfig.supp.
 */
#pragma once

const char *__lsan_default_suppressions(void); /* NOLINT(bugprone-reserved-identifier) */

const char *__lsan_default_suppressions(void) /* NOLINT(bugprone-reserved-identifier) */
{
    return "leak:libconfig.so\n";
}
