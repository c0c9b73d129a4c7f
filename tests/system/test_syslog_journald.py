# SPDX-License-Identifier: MIT
"""What tests/syslog.corpus says of local messages, which tests/unit/test-syslog.c holds netd's
parser to, is what journald of this release makes of them."""

import corpus
import journal

FIELDS = ("PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "SYSLOG_TIMESTAMP",
          "MESSAGE")

# One datagram for each line of hex digits. Says who sent them.
SEND = """
import os, socket, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/dev/log")
for line in sys.stdin:
    log.send(bytes.fromhex(line))
print(os.getpid())
"""


def test_journald_reads_local_messages_as_the_corpus_says(box):
    messages = [m for m in corpus.read() if m.local]
    assert len(messages) >= 250
    lines = "".join(m.data.hex() + "\n" for m in messages)
    pid = box.run("python3", "-c", SEND, input=lines).stdout.strip()
    box.run("journalctl", "--sync")
    found = journal.parse(box.run("journalctl", "-q", "-o", "export", "-n", len(messages),
                                  f"_PID={pid}", "_TRANSPORT=syslog", text=False).stdout)
    assert len(found) == len(messages)
    for wanted, entry in zip(messages, found):
        assert {name: entry[name] for name in FIELDS if name in entry} == wanted.fields, wanted.data
