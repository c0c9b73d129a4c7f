# SPDX-License-Identifier: MIT
"""Servers that stand in for netd, and netd-client run against them."""

import contextlib
import os
import socket
import threading

PORT = 4190  # of these servers


def drain(peer):
    """Reads until the client has sent everything. Returns the number of bytes."""
    size = 0
    while piece := peer.recv(1 << 20):
        size += len(piece)
    return size


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def unix_listener(box, path):
    """PATH is that of a file in BOX, or "@" and the name of an abstract socket."""
    listener = box.socket(socket.AF_UNIX)
    if path.startswith("@"):
        listener.bind("\0" + path[1:])
        return listener
    directory, _, name = path.rpartition("/")
    here = os.open(box.path(directory), os.O_PATH)  # the path from here may be too long
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=here)
        listener.bind(f"/proc/self/fd/{here}/{name}")
    finally:
        os.close(here)
    return listener


@contextlib.contextmanager
def server(box, talk, port=PORT, host="127.0.0.1"):
    """Accepts clients one after the other, and calls TALK for each."""
    if host[0] in "/@":
        listener = unix_listener(box, host)
    else:
        listener = box.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    listener.listen()

    def serve():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer, contextlib.suppress(ConnectionError):
                    peer.settimeout(30)
                    talk(peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)


def client(box, *arguments, **options):
    return box.run("netd-client", *arguments, check=False, **options)


def failed(result, status, line):
    """Asserts an error: no output, and one LINE on standard error."""
    assert (result.returncode, result.stdout) == (status, ""), result
    assert result.stderr == f"netd-client: {line}\n"
