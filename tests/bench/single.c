/* SPDX-License-Identifier: MIT */
/*
 * netd in one process, as it would be without a supervisor: a worker that nobody watches, and that
 * nobody follows. What the supervisor costs is the difference. Configured by /etc/netd/netd.conf.
 */
#include "lines.h"

#include "netd/config/config.h"
#include "netd/output/journal.h"
#include "netd/worker/listener.h"
#include "netd/worker/worker.h"

#include <signal.h>

int main(void)
{
    static struct config config;
    struct config_input input = {.file = "/etc/netd/netd.conf"};
    char config_error[CONFIG_ERROR_MAX] = "", listener_error[LISTENER_ERROR_MAX] = "";
    struct listener_endpoints endpoints;
    struct table table;
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGNAL_COMMAND);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if (config_load(&config, &input, config_error) < 0 ||
        table_create(&table, config.service.sessions_max + TABLE_LINGERING) < 0 ||
        listener_resolve(&config.listeners[0], false, &endpoints, listener_error) < 0 ||
        listeners_configure(&table, config.listeners, config.rules, &endpoints, 1, listener_error) <
            0) {
        fprintf(stderr, "%s%s\n", config_error, listener_error);
        return EXIT_FAILURE;
    }
    table.header->settings = config.service;
    return worker_run(&table, OUTPUT_JOURNAL, JOURNAL_SOCKET, NO_UNCLAIMED);
}
