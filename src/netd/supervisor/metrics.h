/* SPDX-License-Identifier: MIT */
/*
 * netd's metrics as a file in the Prometheus text format
 * (https://prometheus.io/docs/instrumenting/exposition_formats/), for node_exporter's textfile
 * collector and netd-client(1).
 *
 * The supervisor writes it: it wakes for the service manager's watchdog anyway, and what it may
 * wait for no client waits for. The runtime directory is a tmpfs, where nothing waits for a device;
 * a full one delays the metrics and nothing else.
 */
#pragma once

#include "netd/session/table.h"

#include <stdio.h>

/* The interval at which the file is written, in microseconds, whether anything has changed or not:
 * a file that is older is of a netd that hangs. */
#define METRICS_INTERVAL_USEC (15 * USEC_PER_SEC)

/* Returns the directory of the file, the first in $RUNTIME_DIRECTORY (systemd.exec(5)), or NULL if
 * there is none: then there is no file. */
const char *metrics_directory(void);

/* Prints all metrics of the table H, which another process may be changing. */
void metrics_print(FILE *stream, const struct table_header *h);

/* Replaces the file in DIRECTORY in one step. Returns 0, or a negative errno with the old file as
 * it was. */
int metrics_write(const char *directory, const struct table_header *h);
