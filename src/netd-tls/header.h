/* SPDX-License-Identifier: MIT */
/*
 * The PROXY header, version 2, with which netd-tls tells netd about a client
 * (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections by number in header.c).
 * Pure: values in, bytes out.
 */
#pragma once

#include "common/address.h"
#include "netd-tls/identity.h"
#include "netd-tls/interface.h"

struct header {
    struct endpoint peer, local;
    uint32_t listener;
    const char *version, *cipher;    /* printable ASCII; NULL before a handshake is complete */
    const struct identity *identity; /* NULL without a client certificate */
    const char *refused;             /* why the handshake failed, printable ASCII; else NULL */
};

/* Writes HEADER to RET and returns its length. Longer texts than interface.h says are cut. */
size_t header_write(const struct header *header, uint8_t ret[static TLS_HEADER_MAX]);
