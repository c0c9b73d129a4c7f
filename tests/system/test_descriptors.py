# SPDX-License-Identifier: MIT
"""Clients take every descriptor that they can get: netd keeps enough for itself."""

import contextlib

from box import wait_for

LIMIT = 100
DROP_IN = f"[Service]\nLimitNOFILE={LIMIT}\n"


def open_sessions(netd):
    return int(netd.show("StatusText").split()[0])


def test_clients_do_not_take_the_descriptors_that_netd_needs(netd):
    """STATUS= and WATCHDOG=1 take a descriptor, and so do another worker and the journal's socket.
    Supervisor and worker have one table of them."""
    netd.start(dropin=DROP_IN)
    pid = netd.pid
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(netd.connect()) for _ in range(LIMIT + 20)]
        for client in clients:
            client.sendall(b"one\n")
        count = wait_for(lambda: open_sessions(netd), "STATUS= to count them")
        assert LIMIT // 4 <= count < LIMIT
        assert "out of file descriptors or memory; pausing accept" in netd.log()

        worker = netd.box.run("pgrep", "-P", str(pid)).stdout.strip()
        netd.box.run("kill", "-KILL", worker)
        netd.reload()
        wait_for(lambda: "reloaded" in netd.log(), "the reload")

        for client in clients:
            client.sendall(b"two\n")
            client.shutdown(1)
        for client in clients:
            assert netd.receipt(client)[1:] == (2, 8, "eof")
    assert netd.pid == pid
