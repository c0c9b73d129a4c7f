/* SPDX-License-Identifier: MIT */
/* The record of a data event, from the fields that netd stored it in. Pure. */
#pragma once

#include "netd-client/reader.h"

/* Severity of EVENT as its sender said it, 0 to 7; 6 if EVENT does not have a valid one. */
int record_severity(const struct event *event);

/* True if the record of EVENT is not one of its fields, but can be restored from several. */
bool record_needs_rebuild(const struct event *event);

/* Writes the record of such an EVENT to RET, but not more than SIZE bytes, and returns its length;
 * see syslog_rebuild(). */
size_t record_rebuild(const struct event *event, void *ret, size_t size);
