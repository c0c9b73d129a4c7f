/* SPDX-License-Identifier: MIT */
/*
 * The checks of doctor. Each looks at one thing that decides whether entries arrive in the journal
 * and stay there, and fills in a finding, which is OK when the check begins.
 */
#pragma once

#include "netd-client/connection.h"

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
    bool given;                   /* by an option or the environment, not in the metrics */
    struct connection connection; /* for the test session; closed: none */
};

struct doctor {
    const struct options *options; /* given, but for the journal's namespace */
    const char *unit;              /* "netd.service" */
    sd_bus *bus;                   /* NULL: no service manager to ask */
    char *path;                    /* of the unit on the bus */
    bool active;
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

/* doctor-unit.c */

/* Connects to the service manager, if there is one. */
void doctor_open_bus(struct doctor *d);

void doctor_check_service(struct doctor *d, struct finding *f);

/* doctor-session.c */

/* Reads the metrics, if there are any. Without sockets there, adds the address that OPTIONS and the
 * environment name, or the default. Returns 0 or -ENOMEM. */
int doctor_read_metrics(struct doctor *d);

void doctor_check_address(struct doctor *d, struct finding *f);
void doctor_check_session(struct doctor *d, struct finding *f);
