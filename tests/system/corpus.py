# SPDX-License-Identifier: MIT
"""The messages of tests/syslog.corpus, and the fields that the journal has of each."""

import re
import typing

from box import SOURCE

# Name in the corpus to name in the journal.
NAMES = {
    "time": "SYSLOG_TIMESTAMP", "host": "NETD_HOSTNAME", "tag": "SYSLOG_IDENTIFIER",
    "pid": "SYSLOG_PID", "msgid": "SYSLOG_MSGID", "data": "SYSLOG_STRUCTURED_DATA",
    "message": "MESSAGE",
}


class Message(typing.NamedTuple):
    local: bool  # could as well be sent to /dev/log, and gives the same fields there
    data: bytes
    format: str
    severity: int
    exact: bool
    clean: bool
    fields: dict  # name in the journal to bytes, PRIORITY as sent


def unescape(text):
    return re.sub(rb"\\(?:x([0-9a-f]{2})|(.))",
                  lambda found: bytes.fromhex(found[1].decode()) if found[1] else found[2], text)


def message(block):
    first, about, *lines = block
    kind, _, text = first.partition(b" ")
    form, priority, *flags = about.decode().split()
    facility, severity = priority.split(".")
    fields = {"PRIORITY": severity.encode()}
    if facility != "0":
        fields["SYSLOG_FACILITY"] = facility.encode()
    for line in lines:
        name, _, value = line.strip(b" ").partition(b"=")
        fields[NAMES[name.decode()]] = unescape(value)
    return Message(kind == b"local", unescape(text), form, int(severity), "exact" in flags,
                   "unclean" not in flags, fields)


def read():
    blocks = []
    for line in (SOURCE / "tests/syslog.corpus").read_bytes().split(b"\n"):
        if line.startswith(b" "):
            blocks[-1].append(line)
        elif line and not line.startswith(b"#"):
            blocks.append([line])
    return [message(block) for block in blocks]
