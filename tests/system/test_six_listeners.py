# SPDX-License-Identifier: MIT
"""One netd with a listener of each kind, all under load, while workers die and listeners come and
go: every byte is stored, every receipt is true, and each entry says where its client came from."""

import contextlib
import re
import ssl
import threading
import time

from box import wait_for
from crowd import Client, Processes, RECEIPT, check
from traffic import port_of, seeded

UNIX = "/run/netd/input"
TLS_PORT = 6514
DIRECTORY = "/run/netd-test-haproxy"

ALWAYS = """
  { name = "line"; port = 3000; },
  { name = "nul"; port = 3001; framing = "nul"; max_record = 64; },
  { name = "octet"; port = 3002; framing = "octet"; max_record = 64; },
  { name = "proxied"; port = 3004; proxy = true; allow = ("127.0.0.1"); }"""
SOMETIMES = f""",
  {{ name = "raw"; port = 3003; framing = "raw"; }},
  {{ name = "local"; path = "{UNIX}"; mode = "0600"; }}"""

HAPROXY = f"""
defaults
  mode tcp
  timeout connect 10s
  timeout client 10m
  timeout server 10m
frontend tls
  bind 127.0.0.1:{TLS_PORT} ssl crt {DIRECTORY}/server.pem ca-file {DIRECTORY}/ca.pem verify required
  default_backend netd
backend netd
  server netd 127.0.0.1:3004 send-proxy-v2-ssl-cn check inter 200ms
"""

# A CA; a server's certificate with its key; a client's, and its key.
CERTIFICATES = f"""
rm -rf {DIRECTORY}; mkdir {DIRECTORY}; cd {DIRECTORY}
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=test-ca -days 2
for name in localhost client.example; do
  openssl req -newkey rsa:2048 -nodes -keyout $name.key -out $name.csr -subj /CN=$name
  openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $name.crt -days 2
done
cat localhost.crt localhost.key >server.pem
"""


def config(*names):
    """With the listeners that come and go, or with NAMES instead."""
    more = "".join(f',\n  {{ name = "{name}"; port = {port}; }}' for name, port in names)
    return f"listeners = ({ALWAYS}{more or SOMETIMES}\n);\n"


@contextlib.contextmanager
def haproxy(box):
    """Yields a function that connects through it with a client certificate."""
    box.sh(CERTIFICATES)
    box.sh(f"cat >{DIRECTORY}/haproxy.cfg", input=HAPROXY)
    files = {name: box.sh(f"cat {DIRECTORY}/{name}")
             for name in ("ca.pem", "client.example.crt", "client.example.key")}
    context = ssl.create_default_context(cadata=files["ca.pem"])
    context.check_hostname = False
    own = box.root.parent / "client.pem"
    own.write_text(files["client.example.crt"] + files["client.example.key"], encoding="ascii")
    context.load_cert_chain(own)

    def connect(timeout):
        return context.wrap_socket(box.connect(TLS_PORT, timeout=timeout))

    process = box.popen("haproxy", "-db", "-f", f"{DIRECTORY}/haproxy.cfg")
    try:
        wait_for(lambda: f":{TLS_PORT} " in box.sh("ss -Hltn"), "haproxy")
        yield connect
    finally:
        process.kill()
        process.wait()
        own.unlink()


class Short(threading.Thread):
    """Sessions one after the other, each of a few records. As a Client each has .sent, .answer."""

    def __init__(self, netd, listener, framing="line", connect=None, **options):
        super().__init__(daemon=True)
        self.make = lambda number: Client(netd, number, pause=0.002, framing=framing,
                                          connect=connect, **options)
        self.listener, self.done, self.error = listener, [], None
        self.over = threading.Event()
        self.start()

    def run(self):
        try:
            while not self.over.is_set():
                client = self.make(1000 + len(self.done))
                peer = port_of(client.socket)
                client.over.wait(0.01)
                client.over.set()
                client.join(180)
                assert not client.is_alive() and client.error is None, client.error
                self.done.append((self.listener, peer, client))
        except Exception as error:  # pylint: disable=broad-except
            self.error = error


def check_origin(own, listener, peer):
    """Each entry of a session names its listener and peer, and the certificate's name."""
    for event in own:
        assert event.text("NETD_LISTENER") == listener
        assert event.text("NETD_PEER") == (f"127.0.0.1:{peer}" if peer else "unix")
        if event.text("NETD_EVENT") == "data":
            continue
        assert ("NETD_PROXY" in event) == (listener == "proxied")
        assert event.get("NETD_TLS_NAME") == (b"client.example" if listener == "proxied" else None)


def test_p1_six_listeners_under_load_kills_and_reloads(netd, long):
    """With --long 50 kills and 20 reloads."""
    kills, reloads = (50, 20) if long else (8, 4)
    netd.start(config=config())
    processes, rnd, killed = Processes(netd), seeded("six"), None
    begin = time.monotonic()
    with haproxy(netd.box) as through_haproxy, contextlib.ExitStack() as stack:
        places = [("line", {"port": 3000}), ("nul", {"port": 3001, "framing": "nul"}),
                  ("octet", {"port": 3002, "framing": "octet"}),
                  ("proxied", {"connect": through_haproxy}),
                  ("raw", {"port": 3003}), ("local", {"path": UNIX})]
        clients, count = [], 0

        def add(listener, options):
            nonlocal count
            client = Client(netd, count, **options)
            count += 1
            stack.callback(client.over.set)
            peer = None if "path" in options else port_of(client.socket)
            clients.append((listener, peer, client))

        for _ in range(3):
            for listener, options in places:
                add(listener, options)
        short = [Short(netd, listener, **options) for listener, options in places[:4]]
        for one in short:
            stack.callback(one.over.set)
        done = 0
        for i in range(kills):
            if i * reloads // kills >= done:
                extra = [(f"extra-{done}", 3100 + done)] if done % 2 == 0 else []
                netd.configure_file(config(*extra))
                netd.reload()
                for name, port in extra:
                    add(name, {"port": port})
                if not extra:  # they are open again
                    for listener, options in places[4:]:
                        add(listener, options)
                done += 1
            processes.worker(other_than=killed)
            time.sleep(rnd.random() * 0.2)
            killed = processes.kill_worker()
        assert done == reloads
        for one in short:
            one.over.set()
        for _, _, client in clients:
            client.over.set()
        for one in short:
            one.join(180)
            assert not one.is_alive() and one.error is None, one.error
            clients += one.done
        for _, _, client in clients:
            client.join(180)
            assert not client.is_alive() and client.error is None, client.error
    seconds = time.monotonic() - begin
    check_all(netd, clients)
    assert netd.log().count("worker died of signal 9") == kills
    assert processes.supervisor == Processes(netd).supervisor
    sessions = {listener: sum(1 for name, _, _ in clients if name == listener)
                for listener, _, _ in clients}
    print(f"{kills} kills, {reloads} reloads in {seconds:.0f} s; {len(clients)} sessions, "
          f"{sum(len(client.sent) for _, _, client in clients)} bytes; {sessions}")


def check_all(netd, clients):
    events = {}
    for event in netd.events(fields=None):
        events.setdefault(event.text("NETD_SESSION_ID"), []).append(event)
    found = set()
    for listener, peer, client in clients:
        repeats, _ = check(client.sent, client.answer, events)
        assert repeats == 0
        session = RECEIPT.fullmatch(client.answer)[1].decode()
        found.add(session)
        check_origin(events[session], listener, peer)
    assert found == set(events)  # haproxy's health checks have no events
    verified = netd.box.run("netd-client", "verify", *sorted(found)).stdout
    assert len(re.findall(r" ok ", verified)) == len(found)
