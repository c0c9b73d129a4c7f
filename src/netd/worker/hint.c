/* SPDX-License-Identifier: MIT */
#include "netd/worker/hint.h"

#include "netd/log.h"
#include "netd/protocol/detect.h"
#include "netd/worker/listener.h"

bool hints_check(struct hints *hints, const struct table_listener *l, const struct session *s,
                 const uint8_t *data, size_t length, uint64_t now)
{
    enum detected detected = detect_beginning(data, length);
    uint64_t *next = &hints->next_usec[s->listener];
    char peer[ENDPOINT_TEXT_MAX], address[128];
    const char *advice;

    if (detected == DETECTED_NOTHING || now < *next)
        return false;
    advice = detect_advice(detected, s->framing);
    if (!advice)
        return false;
    *next = now + HINT_USEC;
    endpoint_format(&s->peer, peer);
    listener_format(l, address);
    log_warning("%s: a client (%s) seems to send %s", address, peer, advice);
    return true;
}
