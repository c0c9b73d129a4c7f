# SPDX-License-Identifier: MIT
"""Journal entries read back exactly, from `journalctl -o export`."""

import struct

# What events() asks for unless told otherwise; reading every field of 100,000 entries takes long.
FIELDS = (
    "MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "ERRNO", "_PID", "_SYSTEMD_UNIT",
    "NETD_EVENT", "NETD_SESSION_ID", "NETD_PEER", "NETD_PEER_ADDRESS", "NETD_PEER_PORT",
    "NETD_LOCAL", "NETD_REASON", "NETD_RECORDS", "NETD_BYTES", "NETD_DURATION_USEC", "NETD_DATA",
    "NETD_TERMINATOR", "NETD_RESENT", "NETD_FRAME_LENGTH", "NETD_FRAMING", "NETD_LISTENER", "NETD_PEER_PID",
    "NETD_PEER_UID", "NETD_PEER_GID", "NETD_FORMAT", "NETD_SEVERITY", "NETD_HOSTNAME",
    "SYSLOG_FACILITY", "SYSLOG_PID", "SYSLOG_TIMESTAMP", "SYSLOG_MSGID", "SYSLOG_STRUCTURED_DATA",
)

TERMINATORS = {None: b"\n", b"crlf": b"\r\n", b"none": b"", b"continued": b"", b"nul": b"\0",
               b"octet": b"", b"relp": b""}


class Entry(dict):
    """Field name to value, both as the journal has them: str to bytes. A field that the entry has
    twice shows its first value here; PAIRS is the list of all, in order."""

    def __init__(self, pairs):
        super().__init__()
        self.pairs = pairs
        for name, value in pairs:
            self.setdefault(name, value)

    def text(self, name):
        """The value as text, or None."""
        value = self.get(name)
        return None if value is None else value.decode()

    def number(self, name):
        return int(self[name])

    @property
    def record(self):
        """Of a data event: the record as it was sent, without what ended it."""
        if "NETD_DATA" in self:
            return self["NETD_DATA"]
        return FORMATS[self.get("NETD_FORMAT", b"plain")](self)


def _priority(entry):
    severity = entry.get("NETD_SEVERITY", entry["PRIORITY"])
    return b"<%d>" % (int(entry.get("SYSLOG_FACILITY", b"0")) * 8 + int(severity))


def _rfc3164(entry):
    time, tag, message = (entry.get(name) for name in
                          ("SYSLOG_TIMESTAMP", "SYSLOG_IDENTIFIER", "MESSAGE"))
    pid = b"[%s]" % entry["SYSLOG_PID"] if "SYSLOG_PID" in entry else b""
    return b"".join((
        _priority(entry),
        b"" if time is None else time if time.endswith(b" ") else time + b" ",
        entry["NETD_HOSTNAME"] + b" " if "NETD_HOSTNAME" in entry else b"",
        b"" if tag is None else tag + pid + (b": " if message else b":"),
        message))


def _rfc5424(entry):
    header = [entry.get(name, b"-") for name in
              ("SYSLOG_TIMESTAMP", "NETD_HOSTNAME", "SYSLOG_IDENTIFIER", "SYSLOG_PID",
               "SYSLOG_MSGID", "SYSLOG_STRUCTURED_DATA")]
    return b" ".join((_priority(entry) + b"1", *header, *filter(None, [entry["MESSAGE"]])))


# The record that the fields give back, by NETD_FORMAT.
FORMATS = {b"plain": lambda entry: entry.get("MESSAGE", b""), b"rfc3164": _rfc3164,
           b"rfc5424": _rfc5424}


def parse(export):
    """Entries of the Journal Export Format. Anything that is not exactly that is a ValueError."""
    entries, pairs, at = [], [], 0
    while at < len(export):
        end = export.find(b"\n", at)
        if end < 0:
            raise ValueError("the last line has no end")
        if end == at:  # an empty line ends the entry
            if pairs:
                entries.append(Entry(pairs))
            pairs, at = [], end + 1
            continue
        equals = export.find(b"=", at, end)
        if equals >= 0:
            pairs.append((export[at:equals].decode("ascii"), export[equals + 1:end]))
            at = end + 1
            continue
        name = export[at:end].decode("ascii")
        (length,) = struct.unpack_from("<Q", export, end + 1)
        start = end + 9
        value = export[start:start + length]
        if len(value) != length or export[start + length:start + length + 1] != b"\n":
            raise ValueError(f"{name} is cut short")
        pairs.append((name, value))
        at = start + length + 1
    if pairs:
        entries.append(Entry(pairs))
    return entries


def joined(events):
    """What the client sent, byte for byte, from the data events of one session in their order. What
    repeats must be the same bytes again."""
    found, begins = bytearray(), True
    for event in events:
        if event["NETD_EVENT"] != b"data":
            continue
        terminator = event.get("NETD_TERMINATOR")
        piece = event.record + TERMINATORS[terminator]
        # A counted frame's head; what may be a repeat always says it.
        if "NETD_FRAME_LENGTH" in event and "NETD_FRAMING" not in event:
            piece = event["NETD_FRAME_LENGTH"] + b" " + piece
        elif terminator == b"octet" and begins and "NETD_RESENT" not in event:
            piece = b"%d %s" % (len(event.record), piece)
        begins = terminator != b"continued"
        at = event.number("NETD_RESENT") if "NETD_RESENT" in event else len(found)
        repeat = found[at:at + len(piece)]
        assert at <= len(found) and piece.startswith(repeat), event
        found += piece[len(repeat):]
    return bytes(found)
