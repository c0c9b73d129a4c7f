# SPDX-License-Identifier: MIT
"""The worker dies, at any moment and at every single place: no client notices, no byte is lost."""

import collections
import random
import subprocess
import time

import pytest

import journal
from box import wait_for
from conftest import SOURCE_INSIDE
from crowd import Crowd, Processes, check, sessions
from traffic import port_of, reset, seeded

# Every place


class Death:
    """die.c: workers that die at places of their lives that can be chosen. PID is the supervisor's,
    inside the box."""

    PROGRAM = "/run/netd-test-die"

    def __init__(self, netd, pid):
        netd.box.run("cc", "-O2", "-D_GNU_SOURCE", f"-I{SOURCE_INSIDE}/src", "-o", self.PROGRAM,
                     f"{SOURCE_INSIDE}/tests/system/die.c")
        self.process = netd.box.popen(self.PROGRAM, pid, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)

    def _say(self, *words):
        print(*words, file=self.process.stdin, flush=True)

    def _hear(self):
        line = self.process.stdout.readline()
        assert line, "die.c ended"
        return line.split()

    def _live(self, client, command, places):
        self._say(command, *(number for place in places for number in place))
        assert self._hear() == ["born"]
        wait_for_end = client()  # what it sends is there before the worker does anything
        self._say("live")
        result = wait_for_end()
        self._say("done")
        return result, [int(word) for word in self._hear()]

    def walk(self, client, *places):
        """The places of a worker's life, after others have died at PLACES, while CLIENT() is
        served: what it returns is called to wait for the end."""
        _, changes = self._live(client, "walk", places)
        return [(stop, n) for stop, most in enumerate(changes) for n in range(most + 1)]

    def die(self, client, *places):
        """Has workers die at PLACES. Returns what the client's end returned, and how many did."""
        result, (died,) = self._live(client, "die", places)
        return result, died

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@pytest.fixture
def death(netd):
    made = []

    def make(pid=None):
        made.append(Death(netd, pid or netd.pid))
        return made[-1]

    yield make
    for d in made:
        d.end()


def speaker(netd, data, end=lambda client: client.shutdown(1), **options):
    """A client that sends DATA and ends, in one go."""
    def begin():
        client = netd.connect(timeout=60, **options)
        port = port_of(client)
        client.sendall(data)
        end(client)

        def wait_for_end():
            answer = b""
            while piece := client.recv(4096) if client.fileno() >= 0 else b"":
                answer += piece
            client.close()
            return port, answer
        return wait_for_end
    return begin


# With a CRLF, and a rest that the end of the stream ends.
SHORT = b"one\r\ntwo"
# More than one read: the unfinished line of the first moves to the front of the region.
LONG = (b"a" * 7899 + b"\n") * 4 + b"b" * 2000 + b"\nrest"


def every_place(death, client, *before):
    """Has a worker die at each place of its life, each time with a new client. Returns the
    clients' results."""
    places = death.walk(client, *before)
    results, missed = [], 0
    for place in places:
        result, died = death.die(client, *before, place)
        results.append(result)
        missed += died <= len(before)
    # Behind the end of a life there is only the clock, and how often that ticked differs.
    assert missed < len(places) / 4 + 20, (missed, len(places))
    print(f"{len(places)} places, {missed} of them not met again")
    return results


def check_all(netd, data, results):
    events = sessions(netd)
    for _, answer in results:
        repeats, _ = check(data, answer, events)
        assert repeats == 0


def start(netd, limits):
    netd.start(config=f"sessions: {{ {limits} }};", dropin="[Service]\nWatchdogSec=0\n")


@pytest.mark.parametrize("data", [SHORT, LONG], ids=["short", "long"])
def test_death_at_every_place_of_a_sessions_life(netd, death, data):
    start(netd, "max = 16;")
    check_all(netd, data, every_place(death(), speaker(netd, data)))
