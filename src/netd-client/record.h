/* SPDX-License-Identifier: MIT */
/* The record of a data event, from the fields that netd stored it in. Pure. */
#pragma once

#include "netd-client/reader.h"

/* Severity of EVENT as its sender said it, 0 to 7; 6 if EVENT does not have a valid one. */
int record_severity(const struct event *event);

/* True if EVENT has the fields of a syslog record, not one that is plain. */
bool record_is_syslog(const struct event *event);

/* True if EVENT is a data event that the options --identifier, --hostname and --priority select. */
bool record_is_selected(const struct event *event, const struct options *options);

/* True if the record of EVENT is not one of its fields, but can be restored from several. */
bool record_needs_rebuild(const struct event *event);

/* Writes the record of such an EVENT to RET, but not more than SIZE bytes, and returns its length;
 * see syslog_rebuild(). */
size_t record_rebuild(const struct event *event, void *ret, size_t size);
