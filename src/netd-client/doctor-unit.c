/* SPDX-License-Identifier: MIT */
/* Checks of the unit, which ask the service manager: org.freedesktop.systemd1(5). */
#include "netd-client/doctor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#define MANAGER   "org.freedesktop.systemd1"
#define INTERFACE MANAGER ".Unit"

/* --- The bus --- */

/* Where the service manager itself listens, for root and without dbus-daemon(1). */
static int unit_open_private(sd_bus **ret)
{
    sd_bus *bus = NULL;
    int r = sd_bus_new(&bus);

    if (r >= 0)
        r = sd_bus_set_address(bus, "unix:path=/run/systemd/private");
    if (r >= 0)
        r = sd_bus_start(bus);
    if (r < 0)
        sd_bus_unref(bus);
    else
        *ret = bus;
    return r;
}

void doctor_open_bus(struct doctor *d)
{
    if (sd_booted() <= 0 || (sd_bus_open_system(&d->bus) < 0 && unit_open_private(&d->bus) < 0))
        return;
    sd_bus_set_method_call_timeout(d->bus, d->options->timeout);
    if (sd_bus_path_encode("/org/freedesktop/systemd1/unit", d->unit, &d->path) < 0)
        d->path = NULL;
}

/* Returns the property NAME as text, to be freed by the caller, or NULL. */
static char *unit_text(const struct doctor *d, const char *name)
{
    char *text = NULL;

    if (d->path)
        (void)sd_bus_get_property_string(d->bus, MANAGER, d->path, INTERFACE, name, NULL, &text);
    return text;
}

/* Says that a check needs the service manager. Returns false if it can be asked. */
static bool unit_is_unknown(const struct doctor *d, struct finding *f)
{
    if (d->path)
        return false;
    finding_set(f, DOCTOR_WARNING, "not checked: %s",
                sd_booted() > 0 ? "no connection to the service manager"
                                : "systemd is not running");
    return true;
}

/* --- The service --- */

void doctor_check_service(struct doctor *d, struct finding *f)
{
    char *state CLEANUP(free_pointer) = NULL, *sub CLEANUP(free_pointer) = NULL;
    char *load CLEANUP(free_pointer) = NULL;

    if (unit_is_unknown(d, f))
        return;
    load = unit_text(d, "LoadState");
    state = unit_text(d, "ActiveState");
    sub = unit_text(d, "SubState");
    if (!load || !state || !sub) {
        finding_set(f, DOCTOR_WARNING, "not checked: the service manager does not answer");
        return;
    }
    if (strcmp(load, "loaded") != 0) {
        finding_set(f, DOCTOR_PROBLEM, "%s: %s", d->unit, load);
        finding_explain(f, "The service manager has no such unit.");
        finding_command(f, "systemctl daemon-reload");
        return;
    }
    d->active = strcmp(state, "active") == 0 || strcmp(state, "reloading") == 0;
    finding_set(f, d->active ? DOCTOR_OK : DOCTOR_PROBLEM, "%s is %s (%s)", d->unit, state, sub);
    if (d->active)
        return;
    finding_explain(f, "Clients find nobody to connect to.");
    finding_command(f, "systemctl start %s", d->unit);
}
