/* SPDX-License-Identifier: MIT */
/*
 * The checks of doctor. Each looks at one thing that decides whether entries arrive in the journal
 * and stay there, and fills in a finding, which is OK when the check begins.
 */
#pragma once

#include "netd-client/connection.h"
#include "netd-client/journald.h"

#include <limits.h>
#include <systemd/sd-bus.h>

enum doctor_status { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_PROBLEM };

#define FINDING_MAX 2048

struct finding {
    enum doctor_status status;
    char text[FINDING_MAX];     /* what was found, on one line */
    char meaning[FINDING_MAX];  /* what that means; lines, each ended by LF */
    char commands[FINDING_MAX]; /* what mends it: commands for a shell, each ended by LF */
};

/* A socket of netd, from its metrics. */
struct doctor_socket {
    char listener[64], address[256], framing[16], format[16];
    bool given;         /* by an option or the environment, not in the metrics */
    uint64_t not_after; /* when its certificate ends, in seconds since the epoch; 0: not TLS */
    struct connection connection; /* for the test session; closed: none */
};

struct doctor {
    const struct options *options; /* given, but for the journal's namespace */
    const char *unit;              /* "netd.service" */
    sd_bus *bus;                   /* NULL: no service manager to ask */
    char *path;                    /* of the unit on the bus */
    char *log_namespace;           /* LogNamespace= of the unit; NULL or "": none */
    bool failed;             /* the service is known not to run, and not to start with a client */
    bool named;              /* the user says which address is tried */
    uint64_t sessions_limit; /* sessions.max; 0: unknown */
    struct journald_settings journald;
    struct journal {
        char name_space[64];                          /* "": the default */
        char persistent[PATH_MAX], runtime[PATH_MAX]; /* directories */
        bool readable;
    } journal;
    char waiting[16]; /* why netd waits for the journal; "": it does not */
    struct doctor_socket *sockets;
    size_t n_sockets, room;
    char session[SESSION_ID_HEX + 1]; /* the test session in the journal, or "" */
};

/* Set what was found, and how bad that is. */
void finding_set(struct finding *f, enum doctor_status status, const char *format, ...)
    PRINTF(3, 4);

/* Add a line to what it means, and a command. */
void finding_explain(struct finding *f, const char *format, ...) PRINTF(2, 3);
void finding_command(struct finding *f, const char *format, ...) PRINTF(2, 3);

/* Adds the command that starts journald anew. */
void finding_restart_journald(const struct doctor *d, struct finding *f);

/*
 * Adds the commands that write SETTINGS, lines for printf(1), to the section [SECTION] of the file
 * NAME in DIRECTORY, a directory of drop-ins. NAME is to sort behind the names of others.
 */
void finding_drop_in(struct finding *f, const char *directory, const char *name,
                     const char *section, const char *settings);

/* The same for journald, and restarts it: it reads its settings only when it starts. */
void finding_journald(const struct doctor *d, struct finding *f, const char *name,
                      const char *settings);

/* doctor-unit.c */

/* Returns the port in ERROR, "... 127.0.0.1:3000: Address already in use", or 0. Pure, as the next
 * one. */
uint16_t doctor_error_port(const char *error);

/*
 * True if a limit of BURST entries in INTERVAL microseconds drops none that netd can log, which is
 * RATE_NEEDED entries a second: more than journald stores on any machine. Above BURST_HIGH the
 * arithmetic of journald's limit overflows. Zero means no limit.
 */
#define RATE_NEEDED 200000
#define BURST_HIGH  80000000
bool doctor_rate_is_enough(uint64_t interval, uint64_t burst);

/* Connects to the service manager, if there is one. */
void doctor_open_bus(struct doctor *d);

/* Adds the command that starts the service anew. */
void finding_restart(const struct doctor *d, struct finding *f);

/* True if the service is active now. */
bool doctor_service_is_active(const struct doctor *d);

void doctor_check_service(struct doctor *d, struct finding *f);
/* True if the unit has LoadCredential=: credentials are loaded only when it starts. */
bool doctor_has_credentials(const struct doctor *d);

void doctor_check_boot(struct doctor *d, struct finding *f);
void doctor_check_rate_limit(struct doctor *d, struct finding *f);
void doctor_check_dropped(struct doctor *d, struct finding *f);
void doctor_check_level(struct doctor *d, struct finding *f);
void doctor_check_open_files(struct doctor *d, struct finding *f);

/* doctor-journal.c */

/* Reads journald's settings. Returns 0 or -ENOMEM. */
int doctor_read_journald(struct doctor *d);

void doctor_check_permission(struct doctor *d, struct finding *f);
void doctor_check_forwarding(struct doctor *d, struct finding *f);
void doctor_check_storage(struct doctor *d, struct finding *f);
void doctor_check_space(struct doctor *d, struct finding *f);

/* doctor-port.c */

/* Says who listens on PORT, and adds the command that stops it. Returns false if nobody was found,
 * which may be for want of permission. */
bool doctor_blame_port(struct finding *f, uint16_t port);

/* doctor-session.c */

/* Whether a certificate that ends at NOT_AFTER is valid for long enough NOW, both in seconds since
 * the epoch. Authorities that renew certificates by themselves do so weeks before. Pure. */
#define CERTIFICATE_WARNING UINT64_C(1209600) /* 14 days */
#define CERTIFICATE_PROBLEM UINT64_C(259200)  /* 3 days */
enum doctor_status doctor_certificate_status(uint64_t not_after, uint64_t now);

/* Reads the metrics, if there are any. Without sockets there, adds the address that OPTIONS and the
 * environment name, or the default. Returns 0 or -ENOMEM. */
int doctor_read_metrics(struct doctor *d);

void doctor_check_address(struct doctor *d, struct finding *f);
void doctor_check_session(struct doctor *d, struct finding *f);
void doctor_check_certificates(struct doctor *d, struct finding *f);
