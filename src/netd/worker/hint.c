/* SPDX-License-Identifier: MIT */
#include "netd/worker/hint.h"

#include "netd/log.h"
#include "netd/protocol/detect.h"
#include "netd/worker/listener.h"

/* Logs a warning, at most one a listener in HINT_USEC: WHAT, and TEXT behind it. */
static bool hints_warn(struct hints *hints, const struct table_listener *l, const struct session *s,
                       const char *what, const char *text, uint64_t now)
{
    uint64_t *next = &hints->next_usec[s->listener];
    char peer[ENDPOINT_TEXT_MAX], address[128];

    if (now < *next)
        return false;
    *next = now + HINT_USEC;
    endpoint_format(&s->peer, peer);
    listener_format(l, address);
    log_warning("%s: a client (%s) %s%s", address, peer, what, text);
    return true;
}

bool hints_check(struct hints *hints, const struct table_listener *l, const struct session *s,
                 const uint8_t *data, size_t length, uint64_t now)
{
    enum detected detected = detect_beginning(data, length);
    const char *advice = detect_advice(detected, s->framing);

    /* Behind a PROXY header the next one is the client's own, and no key accepts it. */
    if (!advice || (detected == DETECTED_PROXY && l->settings.proxy))
        return false;
    return hints_warn(hints, l, s, "seems to send ", advice, now);
}

bool hints_bad_header(struct hints *hints, const struct table_listener *l, const struct session *s,
                      const char *why, uint64_t now)
{
    return hints_warn(hints, l, s, "sent no valid PROXY header: ", why, now);
}
