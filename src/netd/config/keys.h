/* SPDX-License-Identifier: MIT */
/*
 * The keys of a configuration: what each is called, which values it takes, and where they are
 * stored. Used to read a file and to print one.
 */
#pragma once

#include "netd/config/config.h"

/* A string that is valid for a key, and its meaning. */
struct key_choice {
    const char *word; /* NULL ends a list */
    unsigned value;
};

enum key_kind {
    KEY_NUMBER,
    KEY_PORT, /* a number */
    KEY_BOOLEAN,
    KEY_CHOICE,
    KEY_HOST,
    KEY_PATH,
    KEY_MODE, /* permission bits as octal text */
    KEY_NAME,
    KEY_IDENTIFIER,
    KEY_ALLOW, /* list of addresses and networks */
    KEY_DENY,
    KEY_FILE,
    KEY_NAMES, /* list of names and addresses */
    KEY_FINGERPRINTS,
    KEY_TLS, /* group */
    KEY_GROUP,
    KEY_LISTENERS,
};

/* The group of the top level, and the list, that have keys of their own. */
#define SESSIONS_GROUP   "sessions"
#define LISTENERS_LIST   "listeners"
#define SESSIONS_PREFIX  SESSIONS_GROUP "."
#define LISTENERS_PREFIX LISTENERS_LIST "."

/* Keys of the group in a listener have this in front of their names. */
#define TLS_GROUP  "tls"
#define TLS_PREFIX TLS_GROUP "."

/* A key has one name at the top level, "sessions.max" in the group, and one in a listener of the
 * list. Without one of them (NULL) it is not valid there. */
struct config_key {
    const char *path;
    const char *name;
    enum key_kind kind;
    bool of_service;     /* a member of struct service_settings, else of struct listener_config */
    size_t offset, size; /* of the member; 0 where the kind says it all */
    int64_t low, high;   /* of a number */
    const struct key_choice *choices;
};

extern const struct config_key config_keys[];
extern const size_t config_keys_count;

/* The values without any source. */
extern const struct service_settings config_default_service;
extern const struct listener_config config_default_listener;

/* Returns the key called NAME at the top level, or in a listener of the list, or NULL. */
const struct config_key *config_find_key(const char *name, bool in_listener);

/* Stores and returns the value of a number, a boolean or a choice. */
void config_key_store(const struct config_key *key, struct service_settings *service,
                      struct listener_config *listener, uint64_t value);
uint64_t config_key_value(const struct config_key *key, const struct service_settings *service,
                          const struct listener_config *listener);
