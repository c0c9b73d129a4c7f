/* SPDX-License-Identifier: MIT */
/*
 * What netd and netd-tls agree on. netd-tls is a child of the supervisor that terminates TLS: it
 * accepts on the TLS listeners, makes the handshakes, and carries each session's bytes to an
 * internal unix listener of netd's, and netd's answers back.
 *
 * Start: netd executes NETD_TLS_PROGRAM with these descriptors, and no others that must stay open:
 *
 *   TLS_FD_SETTINGS   a memfd as tls_settings_create() makes it
 *   TLS_FD_CONTROL    one end of a stream socketpair, see below
 *   TLS_FD_COUNTERS   a memfd of at least sizeof(struct tls_counters), shared by all netd-tls of a
 *                     service, so that counters outlive each of them (not with --check)
 *   above             the listening sockets that the settings name, bound and listening already
 *                     (not with --check). The parent keeps its own descriptors of them: across a
 *                     restart or reload no connection in their queues is lost.
 *
 * standard error is where log_line() of netd/log.h writes. All else is closed at the start. With
 * the only argument "--check" netd-tls loads all certificates, keys and CAs, answers and ends.
 *
 * Control: netd-tls writes exactly one line, then nothing more:
 *
 *   "ready\n"                    all files are good; without --check it accepts connections now
 *   "error LISTENER TEXT\n"      TEXT has no control characters and at most TLS_ERROR_MAX bytes,
 *                                names the file and says what OpenSSL said of it. LISTENER is the
 * id of the listener in the settings, or "-" for an error of no listener. The exit status is
 * EXIT_CONFIG (78) for what the administrator mends, else EXIT_FAILED.
 *
 * With --check a certificate that has expired is an error. Otherwise it is a warning on standard
 * error, since a netd-tls started again after a crash had better serve it than nothing.
 *
 * The parent writes single bytes, enum tls_command; end of file means TLS_END. netd-tls exits with
 * status 0 when its last session has ended after TLS_DRAIN or TLS_STOP, and at once at TLS_END.
 *
 * Each connection to the internal listener begins with a PROXY header, version 2 (at most
 * TLS_HEADER_MAX bytes), with client and local address, the TLS part (PP2_TYPE_SSL: version,
 * common name, cipher, verification result) and the TLVs of enum tls_tlv. All its texts are
 * printable ASCII: other bytes stand in them as \xNN, or as \NN in a subject (RFC 4514).
 *
 *   - A session: its bytes follow. netd writes one byte of any value, the greeting, before it reads
 *     anything, and then its answers. If the greeting cannot be written (EPIPE), the session's end
 *     is a reset. A worker that does not know whether its predecessor wrote the greeting must find
 *     out (from what the kernel wrote to the table), and not write a second one.
 *   - netd-tls always leaves the last byte it was sent unread until the client has sent
 *     close_notify: an orderly end is a plain end of file. If the client went away without
 *     close_notify, or netd-tls died, close(2) finds that byte unread, and netd gets all bytes and
 *     then ECONNRESET (unix(7); recvmmsg(2) reports the error before the bytes, as with TCP).
 *     The kernel reports that once. A worker whose predecessor may have got it can tell all the
 *     same: netd-tls keeps its end open until netd has closed or shut down its own, so that an end
 *     of file together with EPOLLHUP is no orderly end.
 *   - What netd writes is sent to the client until netd closes or shuts down its side; then the
 *     client gets close_notify.
 *   - A refusal: the header has TLS_TLV_REFUSED, and then comes the end of file. No session
 *     follows, and no greeting need be written.
 *
 * netd should check with SO_PEERCRED that the peer's process is the netd-tls it started: anybody
 * may connect to an abstract socket.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/* May be set with make LIBEXECDIR=DIR. */
#ifndef LIBEXECDIR
#define LIBEXECDIR "/usr/local/libexec"
#endif
#define NETD_TLS_PROGRAM LIBEXECDIR "/netd-tls"

enum { TLS_FD_SETTINGS = 3, TLS_FD_CONTROL, TLS_FD_COUNTERS, TLS_FD_FIRST };

#define TLS_LISTENERS_MAX    64
#define TLS_COUNTERS_MAX     128
#define TLS_NAMES_MAX        256  /* client_names of a listener */
#define TLS_FINGERPRINTS_MAX 1024 /* client_fingerprints of a listener */
#define TLS_FINGERPRINT_SIZE 32   /* SHA-256, bytes */
#define TLS_ERROR_MAX        4608 /* a path and a sentence */
#define TLS_HEADER_MAX       2048

/* What the parent writes to the control socket. */
enum tls_command {
    TLS_DRAIN = 'd', /* accept no more; go on with handshakes and sessions (reload) */
    TLS_STOP = 's',  /* accept no more, end what has not become a session; netd ends the sessions */
    TLS_END = 'e',   /* exit now */
};

/* TLVs of the PROXY header beside the TLS part (types 0xE0 to 0xEF are free for applications). */
enum tls_tlv {
    TLS_TLV_LISTENER = 0xe0,    /* 4 bytes, network order: id of the listener */
    TLS_TLV_SUBJECT = 0xe1,     /* subject of the client's certificate, RFC 4514 */
    TLS_TLV_NAME = 0xe2,        /* its DNS name or address that client_names has, else its first */
    TLS_TLV_FINGERPRINT = 0xe3, /* its SHA-256 in 64 lower-case hex digits */
    TLS_TLV_REFUSED = 0xe4,     /* the handshake failed: the reason in words */
};

/* Highest lengths of the texts, longer ones are cut; the common name has 64 characters at most. */
#define TLS_SUBJECT_MAX 512
#define TLS_NAME_MAX    255
#define TLS_REFUSED_MAX 255

/* One listener, as netd describes it. */
struct tls_listener_settings {
    uint32_t id;       /* below TLS_LISTENERS_MAX; no two alike */
    uint32_t counters; /* which of struct tls_counters are its own; others may share them */
    int32_t fd;        /* its number in netd-tls, TLS_FD_FIRST or more; -1 with --check */
    uint8_t min_minor; /* lowest version of TLS: 2 or 3, for 1.2 and 1.3 */
    struct sockaddr_un internal; /* where netd's internal listener is */
    socklen_t internal_length;
    /* Absolute paths; CLIENT_CA is NULL where no certificate from a CA is asked for. */
    const char *certificate, *key, *client_ca;
    const char *const *client_names; /* DNS names, *.DOMAIN, and addresses */
    uint32_t n_client_names;
    const uint8_t (*client_fingerprints)[TLS_FINGERPRINT_SIZE];
    uint32_t n_client_fingerprints;
};

struct tls_settings {
    uint32_t connections_max; /* connections at the same time, handshakes included */
    uint32_t handshakes_max;  /* of these without a session yet; beyond, the oldest are ended */
    uint32_t handshake_timeout_ms; /* from accept(2) to the end of the handshake */
    uint32_t linger_timeout_ms;    /* that a client has to close after close_notify was sent */
    uint32_t refusals_per_second;  /* reported at most; all are counted */
    uint32_t n_listeners;
    struct tls_listener_settings listeners[TLS_LISTENERS_MAX];
};

/* Usual values. */
#define TLS_HANDSHAKES_MAX       1000
#define TLS_HANDSHAKE_TIMEOUT_MS 10000
#define TLS_LINGER_TIMEOUT_MS    2000
#define TLS_REFUSALS_PER_SECOND  5

/* Results of a handshake. */
enum tls_result {
    TLS_COMPLETE,
    TLS_FAILED,  /* alert, no common version, bad certificate, no TLS at all */
    TLS_CLOSED,  /* the client went away */
    TLS_TIMEOUT, /* handshake_timeout_ms */
    TLS_EVICTED, /* more than handshakes_max */
    TLS_RESULTS,
};

#define TLS_RESULT_NAMES                                     \
    {                                                        \
        "complete", "failed", "closed", "timeout", "evicted" \
    }

/* Written by netd-tls with atomic additions, read by netd, which may reset them between two starts.
 * In the session table by its descriptor: layout.awk. */
struct tls_counters {
    struct tls_listener_counters {
        uint64_t handshakes[TLS_RESULTS];
        uint64_t refusals_unreported; /* that were counted, but not reported to netd */
        int64_t not_after; /* end of the certificate, seconds since 1970; 0: none loaded yet */
    } listeners[TLS_COUNTERS_MAX];
};

/*
 * Writes SETTINGS to a new memfd, with close-on-exec, sealed against all change. Returns its
 * descriptor, or a negative errno: -EINVAL if a number or a length is beyond its limit above.
 */
int tls_settings_create(const struct tls_settings *settings);

/*
 * Reads what tls_settings_create() wrote to FD, with every count, range and string checked. Returns
 * 0 with *RET, all of it one piece of memory to be freed with free(3), or a negative errno:
 * -EPROTONOSUPPORT if another version wrote it, -EBADMSG if it is malformed.
 */
int tls_settings_load(struct tls_settings **ret, int fd);
