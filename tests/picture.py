#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Draws what becomes of a session when netd's worker is killed: tests/picture.py build/netd >FILE.

All of it is from a run of this netd: process IDs, times, entries and the receipt. The client keeps one
connection; what it sends while no worker is there waits in the kernel.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

WIDTH, TOP, STEP = 900, 92, 34
CLIENT, WORKER, JOURNAL = 150, 400, 520  # x
BLUE, RED, GREY = "#4477aa", "#bb3333", "#666666"


class Run:
    """netd, and what happened in order: (microseconds, who, text)."""

    def __init__(self, program):
        self.begin = time.monotonic()
        self.happened = []
        self.netd = subprocess.Popen([program, "-c", "/dev/null", "-H", "127.0.0.1", "-p", "0",
                                      "-o", "text"], text=True, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT)
        self.port = int(self.wait(r"listening on 127.0.0.1:(\d+)"))

    def add(self, who, text):
        self.happened.append((int((time.monotonic() - self.begin) * 1e6), who, text))

    def wait(self, pattern):
        """The next line that has PATTERN, and its first group; entries and messages become part of
        the picture."""
        for line in self.netd.stdout:
            entry = re.match(r"\S+ [0-9a-f]{32} (.*)", line)
            if entry:
                self.add("journal", re.sub(r" 127.0.0.1:\d+( disconnected:)?", "", entry[1]))
            elif "died" in line:
                self.add("netd", line.strip().replace("netd: ", ""))
            found = re.search(pattern, line)
            if found:
                return found[1] if found.groups() else None
        raise SystemExit(f"netd ended before: {pattern}")

    def worker(self):
        children = pathlib.Path(f"/proc/{self.netd.pid}/task/{self.netd.pid}/children")
        while True:
            for pid in children.read_text(encoding="ascii").split():
                return int(pid)

    def tell(self):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            self.add("client", "connects")
            self.send(client, "one")
            self.wait(" data one")
            old = self.worker()
            self.add("kill", f"kill -9 {old}")
            os.kill(old, signal.SIGKILL)
            self.send(client, "two")
            self.wait(" data two")
            new = self.worker()
            assert new != old
            self.send(client, "three")
            self.wait(" data three")
            client.shutdown(socket.SHUT_WR)
            receipt = client.makefile().readline().strip()
            self.wait(" disconnect ")
            self.add("client", "receives its receipt")
        assert "records=3 bytes=14 end=eof" in receipt
        self.netd.terminate()
        assert self.netd.wait(30) == 0
        return old, new, receipt

    def send(self, client, text):
        client.sendall(text.encode() + b"\n")
        self.add("client", f"sends “{text}”")


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


def draw(happened, old, new, receipt):
    happened = sorted(happened)
    rows = {i: TOP + STEP * i for i in range(len(happened))}
    bottom = rows[len(happened) - 1]
    first = happened[0][0]
    out = []

    def text(x, y, words, more=""):
        out.append(f'<text x="{x}" y="{y}"{more}>{escaped(words)}</text>')

    def line(x, begin, end, colour, width):
        out.append(f'<path d="M{x} {begin}V{end}" stroke="{colour}" stroke-width="{width}"/>')

    killed = next(i for i, h in enumerate(happened) if h[1] == "kill")
    back = next(i for i, h in enumerate(happened) if i > killed and h[1] == "journal")
    text(10, 24, "One session, while netd's worker is killed", ' font-size="16"')
    text(CLIENT, 56, "client", ' text-anchor="middle" font-weight="bold"')
    text(WORKER, 56, "worker", ' text-anchor="middle" font-weight="bold"')
    text(JOURNAL, 56, "events", ' font-weight="bold"')
    line(CLIENT, TOP - 10, bottom + 10, BLUE, 6)
    line(WORKER, TOP - 22, rows[killed] - 4, BLUE, 14)
    line(WORKER, rows[back] - 12, bottom + 10, BLUE, 14)
    text(WORKER + 14, TOP - 12, f"process {old}", f' fill="{GREY}" font-size="11"')
    text(WORKER + 14, rows[back] + 14, f"process {new}", f' fill="{GREY}" font-size="11"')
    for i, (when, who, what) in enumerate(happened):
        y = rows[i] + 4
        text(62, y, f"{(when - first) / 1000:.1f} ms", f' text-anchor="end" fill="{GREY}" font-size="11"')
        if who == "client":
            out.append(f'<circle cx="{CLIENT}" cy="{rows[i]}" r="6" fill="{BLUE}"/>')
            text(CLIENT + 14, y, what)
        elif who == "journal":
            text(JOURNAL, y, what, ' font-family="monospace"')
        else:
            text(WORKER + 14 if who == "kill" else JOURNAL, y, what, f' fill="{RED}"')
    text(CLIENT + 14, bottom + 34, receipt, ' font-family="monospace" font-size="12"')
    height = bottom + 56
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="sans-serif" font-size="13" fill="#111111" role="img">\n'
            "<title>The client sends one, two and three; the worker is killed after one; all three "
            "are logged once, and the client's connection stays.</title>\n"
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(out) + "\n</svg>\n")


def main():
    run = Run(sys.argv[1])
    try:
        old, new, receipt = run.tell()
    finally:
        run.netd.kill()
    texts = [what for _, who, what in run.happened if who == "journal"]
    assert [t for t in texts if t.startswith("data ")] == ["data one", "data two", "data three"]
    sys.stdout.write(draw(run.happened, old, new, receipt))


main()
