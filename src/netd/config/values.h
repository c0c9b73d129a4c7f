/* SPDX-License-Identifier: MIT */
/*
 * Checks and stores one value at a time. Every function returns 0, or -EINVAL with one line that
 * begins with WHERE in the error; *LISTENER and the configuration are then untouched.
 */
#pragma once

#include "netd/config/keys.h"

/* Text from a user, as much of it as a message shows. */
#define SHOWN       "%.40s%s"
#define SHOW(value) (value), strlen(value) > 40 ? "..." : ""

/* Where values are stored, and errors. */
struct config_target {
    struct config *config;
    struct listener_config *listener; /* of CONFIG's, or its defaults */
    char *error;                      /* CONFIG_ERROR_MAX bytes */
};

int config_set_number(const struct config_target *t, const struct config_key *key,
                      const char *where, int64_t value);

/* A port from the environment or an option. */
int config_set_port(const struct config_target *t, const char *where, const char *text);

/* Any key that is a string in a file. */
int config_set_text(const struct config_target *t, const struct config_key *key, const char *where,
                    const char *text);

/* Appends a rule to those of the listener, which must be the last one that has any. Without WHERE:
 * the line is in WHY. */
int config_add_rule(const struct config_target *t, const struct config_key *key, const char *text,
                    char why[static ACCESS_ERROR_MAX]);

/* Appends TEXT to a list of KEY, which is the last one that has been begun. The line is in WHY. */
int config_add_text(const struct config_target *t, const struct config_key *key, const char *text,
                    char why[static ACCESS_ERROR_MAX]);

/* Stores a copy of TEXT in C. Returns its offset, or 0 if there is no room. */
uint32_t config_store_text(struct config *c, const char *text);

/* Remembers WHERE as the origin of a value. */
void config_set_origin(char origin[static CONFIG_ORIGIN_MAX], const char *where);
