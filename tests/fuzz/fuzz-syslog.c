/* SPDX-License-Identifier: MIT */
/*
 * Any record: its texts are separate parts of it, it is restored exactly if the parser says so, and
 * severities that only trusted clients may use do not reach the priority.
 */
#include "netd/protocol/syslog.h"

#include "../unit/syslog-check.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct syslog s, trusted;

    syslog_parse(&s, data, size, false);
    MUST(syslog_is_sound(&s, data, size));
    MUST(s.priority == (s.fields.severity < 3 ? 3 : s.fields.severity));
    syslog_parse(&trusted, data, size, true);
    MUST(trusted.priority == s.fields.severity && trusted.exact == s.exact);
    MUST(trusted.fields.message.data == s.fields.message.data);
    return 0;
}
