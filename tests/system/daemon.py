# SPDX-License-Identifier: MIT
"""netd as installed in a container: start it with any configuration, connect, read its events."""

import collections
import re
import socket

import journal

UNIT_DIRECTORY = "/etc/systemd/system"
CONFIG = "/etc/netd/netd.conf"
ENVIRONMENT = "/etc/default/netd"

Receipt = collections.namedtuple("Receipt", "session records bytes end")


class Netd:
    """One object for each test, from the fixture of the same name. netd is not started yet."""

    def __init__(self, box):
        self.box = box
        self._saved = {path: box.path(path).read_bytes() for path in (CONFIG, ENVIRONMENT)}
        last = box.run("journalctl", "-q", "-n1", "-o", "export", text=False).stdout
        self.since = journal.parse(last)[0].text("__CURSOR")
        self._started = False  # the previous test's teardown has stopped it

    # The unit

    def configure(self, config=None, env=None, dropin=None, socket_dropin=None):
        """Prepares the next start. CONFIG is the text of netd.conf, ENV a dict for
        /etc/default/netd, DROPIN and SOCKET_DROPIN drop-ins for netd.service and netd.socket.
        None: as installed."""
        self.configure_file(config)
        lines = "".join(f"{k}={v}\n" for k, v in (env or {}).items()).encode()
        self.box.path(ENVIRONMENT).write_bytes(lines if env else self._saved[ENVIRONMENT])
        changed = [self._drop_in("netd.service", dropin),
                   self._drop_in("netd.socket", socket_dropin)]
        if any(changed):
            self.box.run("systemctl", "daemon-reload")

    def configure_file(self, config=None):
        """Writes only netd.conf, for example for a reload."""
        if config is None:
            config = self._saved[CONFIG]
        elif isinstance(config, str):
            config = config.encode()
        self.box.path(CONFIG).write_bytes(config)

    def _drop_in(self, unit, text):
        path = self.box.path(f"{UNIT_DIRECTORY}/{unit}.d/test.conf")
        if text == (path.read_text(encoding="utf-8") if path.exists() else None):
            return False
        if text is None:
            path.unlink()
            path.parent.rmdir()
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return True

    def start(self, config=None, env=None, dropin=None, socket=False, socket_dropin=None,
              check=True):
        """Stops netd if this started it, configures it, and starts netd.service, or with SOCKET
        netd.socket. Returns the result when the unit is active, or without CHECK has failed."""
        if self._started:
            self.stop()
        self._started = True
        self.configure(config, env, dropin, socket_dropin)
        unit = "netd.socket" if socket else "netd.service"
        result = self.box.run("systemctl", "start", unit, check=False)
        if check and result.returncode:
            raise AssertionError(f"{result.stderr}\n{self.log()}")
        return result

    def stop(self):
        self.box.run("systemctl", "stop", "netd.socket", "netd.service")
        self.box.run("systemctl", "reset-failed", "netd.socket", "netd.service", check=False)

    def reload(self, check=True):
        return self.box.run("systemctl", "reload", "netd.service", check=check)

    def show(self, name, unit="netd.service"):
        return self.box.run("systemctl", "show", "-p", name, "--value", unit).stdout.rstrip("\n")

    @property
    def pid(self):
        """The supervisor's process id inside the container; 0 if netd does not run."""
        return int(self.show("MainPID"))

    def reset(self):
        """Stops netd and restores the configuration as installed."""
        self.stop()
        self.configure()

    # Clients

    def connect(self, port=3000, host="127.0.0.1", timeout=30, path=None):
        """A connection to HOST and PORT, or to the unix socket PATH, "@" for an abstract one."""
        if not path:
            return self.box.connect(port, host, timeout)
        # Abstract names belong to the container's network, files to its file system; /run is a
        # mount of its own inside, which is reached through the container's PID 1.
        name = "\0" + path[1:] if path[0] == "@" else f"/proc/{self.box.pid}/root{path}"
        s = self.box.socket(socket.AF_UNIX)
        s.settimeout(timeout)
        try:
            s.connect(name)
        except BaseException:
            s.close()
            raise
        return s

    def send(self, data, port=3000, host="127.0.0.1", timeout=60):
        """Sends DATA in one session; returns the receipt."""
        with self.connect(port, host, timeout) as client:
            client.sendall(data)
            client.shutdown(1)
            return self.receipt(client)

    @staticmethod
    def answer(client):
        """Everything that netd sends until the connection ends, as text."""
        answer = b""
        while piece := client.recv(4096):
            answer += piece
        return answer.decode("ascii")

    @classmethod
    def receipt(cls, client):
        answer = cls.answer(client)
        line = re.fullmatch(r"netd session=([0-9a-f]{32}) records=(\d+) bytes=(\d+) end=([a-z]+)\n",
                            answer)
        assert line, f"not a receipt: {answer!r}"
        return Receipt(line[1], int(line[2]), int(line[3]), line[4])

    # The journal

    def journal(self, *matches, fields=journal.FIELDS, everything=False):
        """The entries since the test began, filtered by MATCHES as for journalctl. FIELDS=None
        reads all fields. EVERYTHING: since the journal's beginning."""
        command = ["journalctl", "-q", "-o", "export"]
        # With matches, --after-cursor of systemd 252 loses the first one that matches.
        if not everything:
            command += ["--cursor", self.since]
        if fields:
            command += ["--output-fields=" + ",".join(fields)]
        self.box.run("journalctl", "--sync")
        found = journal.parse(self.box.run(*command, *matches, text=False, timeout=300).stdout)
        return [e for e in found if everything or e.text("__CURSOR") != self.since]

    def events(self, session=None, event=None, **options):
        """netd's events in journal order, optionally of one session or one kind (connect, ...)."""
        matches = [f"NETD_SESSION_ID={session}"] if session else []
        if event:
            matches.append(f"NETD_EVENT={event}")
        kinds = ("connect", "data", "disconnect", "refused")
        return self.journal(*matches or [f"NETD_EVENT={kind}" for kind in kinds], **options)

    def received(self, session):
        """What the client of SESSION sent, byte for byte, rebuilt from the journal."""
        return journal.joined(self.events(session, "data"))

    def log(self):
        """Messages of netd, and of systemd about netd, since the test began."""
        entries = self.journal("_SYSTEMD_UNIT=netd.service", "+", "UNIT=netd.service",
                               "+", "UNIT=netd.socket")
        return "\n".join(e["MESSAGE"].decode(errors="backslashreplace") for e in entries
                         if "NETD_EVENT" not in e)
