/* SPDX-License-Identifier: MIT */
/*
 * When an allocation of its own fails, libconfig crashes or ends the process. In a program that was
 * executed for a reload all sessions would go with it. So a child reads the configuration.
 */
#pragma once

#include "netd/config/config.h"

/*
 * config_load() in a child that is gone when this returns. Where it dies of it, or there can be
 * none, this returns -ENOMEM with a line in ERROR; else what config_load() does.
 */
int config_load_apart(struct config *ret, const struct config_input *input,
                      char error[static CONFIG_ERROR_MAX]);
