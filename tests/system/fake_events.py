# SPDX-License-Identifier: MIT
"""Journal files with events of netd, made without netd.

Also with what netd never logs: missing and repeated events, or events of another boot.
Entries are written in the Journal Export Format, which systemd-journal-remote makes a file of; so
trusted fields can be chosen too.
"""

import hashlib
import struct

IDS = {
    "connect": "cf8a2f824a45483794fc0d893bd9b33c",
    "data": "780dde514a934f698d9360e2b7999b2c",
    "disconnect": "9484e171ebb44f1daf42690b105b5810",
    "refused": "883b11a4ab9f46f6b046f5ac05c2b62e",
}
ENDS = {None: b"\n", "crlf": b"\r\n", "none": b"", "continued": b""}
REMOTE = "/lib/systemd/systemd-journal-remote"
BOOT = "0123456789abcdef0123456789abcdef"
START = 1_795_334_400_000_000  # 2026-11-22 08:00:00 UTC


def session_id(number):
    return hashlib.md5(str(number).encode()).hexdigest()


def escape(data):
    """MESSAGE for DATA, or None if it is the same. Handles only ASCII."""
    clean = all(0x20 <= b < 0x7F or b == 9 for b in data)
    return None if clean else b"".join(
        bytes([b]) if 0x20 <= b < 0x7F or b == 9 else b"\\x%02x" % b for b in data)


class Journal:
    """A list of entries; write() makes a journal file of it."""

    def __init__(self, start=START, step=1000, **fields):
        self.entries, self.time, self.step = [], start, step
        self.fields = {"_BOOT_ID": BOOT, "_PID": "100", "_COMM": "netd"} | fields

    def add(self, fields, time=None, **more):
        self.time = time or self.time + self.step
        entry = {
            "__REALTIME_TIMESTAMP": str(self.time),
            "__MONOTONIC_TIMESTAMP": str(self.time - START + 10**9),
        }
        self.entries.append(entry | self.fields | fields | more)

    def event(self, event, session, peer="192.0.2.1:4711", time=None, **more):
        self.add({
            "MESSAGE_ID": IDS[event],
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": "netd",
            "NETD_EVENT": event,
            "NETD_SESSION_ID": session,
            "NETD_PEER": peer,
        }, time, **more)

    def edge(self, event, session, peer="192.0.2.1:4711", **more):
        address, _, port = peer.rpartition(":")
        self.event(event, session, peer, **{
            "MESSAGE": f"{peer} {event}",
            "NETD_PEER_ADDRESS": address.strip("[]"),
            "NETD_PEER_PORT": port,
            "NETD_LOCAL": "127.0.0.1:3000",
        } | more)

    def connect(self, session, **more):
        self.edge("connect", session, **more)

    def data(self, session, data=b"", terminator=None, **more):
        escaped = escape(data)
        fields = {"MESSAGE": data} if escaped is None else {"MESSAGE": escaped, "NETD_DATA": data}
        if terminator:
            fields["NETD_TERMINATOR"] = terminator
        self.event("data", session, **fields | more)

    def disconnect(self, session, records, size, reason="eof", duration=1_500_000, **more):
        self.edge("disconnect", session, **{
            "NETD_RECORDS": str(records),
            "NETD_BYTES": str(size),
            "NETD_REASON": reason,
            "NETD_DURATION_USEC": str(duration),
        } | more)

    def session(self, session, records, reason="eof", **more):
        """A whole session; RECORDS are bytes, or (bytes, terminator)."""
        pieces = [r if isinstance(r, tuple) else (r, None) for r in records]
        self.connect(session, **more)
        for data, terminator in pieces:
            self.data(session, data, terminator, **more)
        sent = stream(pieces)
        count = sum(1 for _, terminator in pieces if terminator != "continued")
        self.disconnect(session, count, len(sent), reason, **more)
        return sent

    def export(self):
        for entry in self.entries:
            lines = []
            for name, value in entry.items():
                value = value if isinstance(value, bytes) else str(value).encode()
                if all(0x20 <= b < 0x7F or b == 9 for b in value):
                    lines.append(b"%s=%s\n" % (name.encode(), value))
                else:
                    lines.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)),
                                                  value))
            yield b"".join(lines) + b"\n"

    def write(self, box, path):
        """Makes the journal file PATH in BOX, and its directory. Returns the directory."""
        directory = path.rpartition("/")[0]
        box.run("mkdir", "-p", directory)
        box.run(REMOTE, "-o", path, "-", input=b"".join(self.export()), text=False, timeout=300)
        return directory


def stream(pieces):
    return b"".join(data + ENDS[terminator] for data, terminator in pieces)
