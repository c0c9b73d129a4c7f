/* SPDX-License-Identifier: MIT */
/* Listening unix sockets (unix(7)): bound to a file, or with "@" in front to an abstract name. */
#pragma once

#include "netd/session/table.h"

/*
 * Binds a new socket to PATH, a file with the permission bits MODE from the first moment on, and
 * listens. A socket file at which nobody listens any more is replaced. Returns the descriptor,
 * non-blocking and without close-on-exec, with *FILE filled in (zero for an abstract name), or a
 * negative errno: -EADDRINUSE where somebody listens there, -EEXIST where the file is not a socket.
 */
int unix_socket_listen(const char *path, uint16_t mode, int backlog, struct unix_socket_file *file);

/* True if PATH still is FILE, or an abstract name. */
bool unix_socket_is_there(const char *path, const struct unix_socket_file *file);

/* Removes PATH if it still is FILE. */
void unix_socket_remove(const char *path, const struct unix_socket_file *file);
