# SPDX-License-Identifier: MIT
"""The ways into the journal that are compared. Each is a unit, or a few, whose rate limit is lifted
in the way that works (LogRateLimitIntervalSec=0 does not)."""

import dataclasses

PORT = 3100
TOOLS = "/usr/src/netd/build/bench"

SERVICE = """
[Service]
Type=exec
LogRateLimitIntervalSec=1ms
LogRateLimitBurst=1000000
LimitNOFILE=524288
"""

# Lines, or syslog messages, with the address of who sent them. The queue is what takes input and
# omjournal apart: one thread reads, one writes. Larger queues only hold more in memory, and more
# workers break the order.
RSYSLOG_CONF = """
global(workDirectory="/var/spool/rsyslog" maxMessageSize="64k"%s)
module(load="omjournal")
template(name="entry" type="list") {
%s}
ruleset(name="journal" queue.type="FixedArray" queue.size="10000" queue.dequeueBatchSize="1000"
        queue.workerThreads="1") {
    action(type="omjournal"%s)
}
module(load="%s"%s)
input(type="%s" port="%d" ruleset="journal"%s)
"""

# The fields of an entry: of a line, and those that netd stores of a syslog message. Without a
# template they are the raw message, a priority made of facility and severity, and the tag as it
# came.
RSYSLOG_LINE = """\
    property(name="rawmsg" outname="MESSAGE")
    constant(value="rsyslog" outname="SYSLOG_IDENTIFIER")
    constant(value="6" outname="PRIORITY")
    property(name="fromhost-ip" outname="PEER")
"""
RSYSLOG_SYSLOG = """\
    property(name="msg" outname="MESSAGE")
    property(name="syslogseverity" outname="PRIORITY")
    property(name="syslogfacility" outname="SYSLOG_FACILITY")
    property(name="programname" outname="SYSLOG_IDENTIFIER")
    property(name="procid" outname="SYSLOG_PID")
    property(name="timestamp" outname="SYSLOG_TIMESTAMP")
    property(name="msgid" outname="SYSLOG_MSGID")
    property(name="hostname" outname="NETD_HOSTNAME")
    property(name="protocol-version" outname="NETD_FORMAT")
    property(name="fromhost-ip" outname="PEER")
"""

# Certificates, ECDSA on P-256.
TLS = "/run/bench-tls"
CERTIFICATES = f"""
mkdir -p {TLS}
cd {TLS}
new='openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30'
$new -subj /CN=authority -keyout ca.key -out ca.pem
for name in server client; do
    $new -CA ca.pem -CAkey ca.key -extensions usr_cert -subj "/CN=$name" \
        -addext "subjectAltName=DNS:$name" -keyout $name.key -out $name.crt
    cat $name.crt $name.key >$name.pem
done
chmod 644 server.*
"""

# Addresses that nobody here has, and the one that everybody has.
RULES = ", ".join(['"127.0.0.0/8"', *(f'"10.{i // 250}.{i % 250}.0/24"' for i in range(9999))])

# What one writes first.
NODE = """
const net = require('net'), readline = require('readline');
net.createServer(socket => {
    const peer = `${socket.remoteAddress}:${socket.remotePort}`;
    readline.createInterface({ input: socket })
        .on('line', line => process.stdout.write(`${peer} ${line}\\n`))
        .on('close', () => socket.end());
    socket.on('error', () => {});
}).listen(%d, '127.0.0.1');
"""


@dataclasses.dataclass
class Row:
    name: str
    title: str
    attributed: str  # what an entry says of where it came from
    start: str  # units to start
    processes: str  # beginnings of the names of the units whose processes count
    match: str
    port: int = PORT
    program: str = "load"  # that sends
    load: tuple = ()  # its options
    files: dict = dataclasses.field(default_factory=dict)
    clients: bool = True  # False: the unit itself is what writes
    stream: bool = False  # the entries' number and size are the server's choice: bytes are counted
    instances: int = 0  # of netd, each with a journal namespace of its own
    stop: str = ""  # what to stop besides START

    @property
    def namespaces(self):
        return [f"netd-{i + 1}" for i in range(self.instances)]


def _writer(name, title, mode, lines, size):
    unit = f"bench-{name}.service"
    return Row(name, title, "session, peer", unit, unit, "NETD_EVENT=data", clients=False, files={
        f"/run/systemd/system/{unit}": f"{SERVICE}ExecStart={TOOLS}/entries {mode} {lines} {size}\n",
    })


def _server(name, title, attributed, command, **options):
    unit = f"bench-{name}.service"
    files = {f"/run/systemd/system/{unit}": f"{SERVICE}ExecStart={command}\n",
             **options.pop("files", {})}
    return Row(name, title, attributed, unit, unit, f"_SYSTEMD_UNIT={unit}", files=files, **options)


def _rsyslog(name, title, module, fields=RSYSLOG_LINE, files="", module_options="", of_input="",
             **options):
    """rsyslog with an input MODULE, and a template with FIELDS or that of omjournal."""
    text = RSYSLOG_CONF % (files, fields or RSYSLOG_LINE, ' template="entry"' if fields else "",
                           module, module_options, module, PORT, of_input)
    row = _server(name, title, "address, syslog fields" if fields != RSYSLOG_LINE else "address",
                  "/usr/sbin/rsyslogd -n -iNONE -f /run/bench/rsyslog.conf",
                  files={"/run/bench/rsyslog.conf": text}, **options)
    # Not what rsyslog writes of itself.
    return dataclasses.replace(row, match=f"{row.match} _TRANSPORT=journal")


def _netd(name, title, config="", **options):
    return Row(name, title, "session, peer", "netd.service", "netd.service", "NETD_EVENT=data",
               files={"/etc/netd/netd.conf": f"port = {PORT};\n{config}"}, **options)


def _single():
    row = _server("single", "netd without its supervisor", "session, peer", f"{TOOLS}/single",
                  files={"/etc/netd/netd.conf": f"port = {PORT};\n"})
    return dataclasses.replace(row, match="NETD_EVENT=data")


def instances(count):
    # The services too: the sockets alone would start them with the first connection.
    units = " ".join(f"netd@{i + 1}.socket netd@{i + 1}.service" for i in range(count))
    dropin = f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{PORT}\n"
    return Row(f"netd-x{count}", f"netd, {count} instances, 100 connections", "session, peer", units,
               "netd@", "NETD_EVENT=data", load=("-c", 100), instances=count,
               stop="netd@*.service",
               files={"/etc/netd/netd.conf": "",
                      "/run/systemd/system/netd@.socket.d/bench.conf": dropin})


def make(lines, size, ceiling="batch"):
    """The rows, in the order of the table; CEILING: what its program writes."""
    return [
        _writer("ceiling", "ceiling: the same entries, nothing else", ceiling, lines, size),
        _netd("netd", "netd, one connection"),
        _single(),
        _netd("netd-100", "netd, 100 connections", load=("-c", 100)),
        _netd("netd-raw", "netd, framing raw, reads of 32 KiB",
              'framing = "raw";\nmax_record = 32768;\n', load=("-r",), stream=True),
        instances(2),
        _rsyslog("rsyslog", "rsyslog, imptcp and omjournal", "imptcp",
                 module_options=' threads="1"', of_input=' supportOctetCountedFraming="off"'),
        _server("socat", "socat, text to journald's stream", "nothing",
                f"/usr/bin/socat -u -b 65536 TCP-LISTEN:{PORT},reuseaddr,fork STDOUT"),
        Row("accept", "socket unit with Accept=yes and cat", "unit instance: peer",
            "bench-accept.socket", "bench-accept@", "_COMM=cat", stop="bench-accept@*.service",
            files={
                "/run/systemd/system/bench-accept.socket":
                    f"[Socket]\nListenStream=127.0.0.1:{PORT}\nAccept=yes\nMaxConnections=10000\n"
                    "Backlog=4096\nTriggerLimitIntervalSec=0\n",
                "/run/systemd/system/bench-accept@.service":
                    f"{SERVICE}ExecStart=/bin/cat\nStandardInput=socket\nStandardOutput=journal\n",
            }),
        _server("node", "Node.js, net and readline", "peer, in the text",
                "/usr/bin/node /run/bench/server.js", files={"/run/bench/server.js": NODE % PORT}),
        _writer("sendv", "sd_journal_sendv() in a loop", "sendv", lines, size),
    ]


def _listeners(count):
    each = (f'{{ name = "l{i}"; port = {PORT + i}; }}' for i in range(count))
    files = {"/etc/netd/netd.conf": f"listeners = ({', '.join(each)});\n"}
    row = _netd(f"netd-l{count}", f"netd, 100 connections, listeners: {count}",
                load=("-c", 100, "-l", count))
    return dataclasses.replace(row, files=files)


def make_listeners():
    """Listeners of all kinds, beside one of lines."""
    unix = _netd("netd-unix", "netd, unix socket", load=("-u", "/run/netd/bench"))
    unix.files["/etc/netd/netd.conf"] = (
        'listeners = ({ name = "local"; path = "/run/netd/bench"; });\n')
    return [
        _netd("netd", "netd, one connection"),
        unix,
        _netd("netd-octet", "netd, counted frames", 'framing = "octet";\n', load=("-o",)),
        _listeners(1),
        _listeners(64),
    ]


def make_syslog():
    """Syslog of both formats in counted frames, beside rsyslog."""
    return [
        _netd("netd", "netd, the same bytes as plain frames", 'framing = "octet";\n', load=("-y",)),
        _netd("netd-syslog", "netd, syslog", 'format = "syslog";\n', load=("-y",)),
        _rsyslog("rsyslog", "rsyslog, imtcp and omjournal", "imtcp", fields="", load=("-y",)),
        _rsyslog("rsyslog-fields", "rsyslog, with the fields of netd", "imtcp", RSYSLOG_SYSLOG,
                 load=("-y",)),
    ]


def make_relp():
    """Syslog over RELP, with omrelp's window and a larger one; entries with the same fields."""
    return [row for window, title in ((128, ""), (1024, ", window of 1,024")) for row in (
        _netd(f"netd-{window}", f"netd, RELP{title}", 'framing = "relp";\nformat = "syslog";\n',
              program="relp", load=("-W", window)),
        _rsyslog(f"rsyslog-{window}", f"rsyslog, imrelp and omjournal{title}", "imrelp",
                 RSYSLOG_SYSLOG, of_input=' maxDataSize="64k"', program="relp",
                 load=("-W", window)))]


def _haproxy(name, title, recipe, verify=False, **options):
    """RECIPE: the files of netd(8)."""
    text = recipe["/etc/haproxy/haproxy.cfg"]
    for old, new in (("/etc/haproxy\n", f"{TLS}\n"), (":::6514 v4v6", f"127.0.0.1:{PORT}"),
                     ("crt netd.pem", "crt server.pem")):
        assert old in text
        text = text.replace(old, new)
    if not verify:
        text = text.replace(" ca-file ca.pem verify required", "")
    unit = f"bench-{name}.service"
    both = f"netd.service {unit}"
    return Row(name, title, "session, peer", both, both, "NETD_EVENT=data",
               files={"/etc/netd/netd.conf": 'format = "syslog";\n' +
                      recipe["/etc/netd/netd.conf"],
                      "/run/bench/haproxy.cfg": text,
                      f"/run/systemd/system/{unit}": f"{SERVICE}ExecStart=/usr/sbin/haproxy -db "
                                                     "-f /run/bench/haproxy.cfg\n"}, **options)


def _netd_tls(name, title, verify=False, **options):
    ca = f' client_ca = "{TLS}/ca.pem";' if verify else ""
    row = _netd(name, title, **options)
    row.files["/etc/netd/netd.conf"] = (
        f'format = "syslog";\nlisteners = ({{ name = "tls"; port = {PORT}; tls = '
        f'{{ certificate = "{TLS}/server.crt"; key = "{TLS}/server.key";{ca} }}; }});\n')
    return row


def make_tls(recipe):
    """Syslog over TLS: in TLS records of 16 KiB, in one each, of a hundred connections."""
    files = (' defaultNetstreamDriverCAFile="{0}/ca.pem" defaultNetstreamDriverCertFile='
             '"{0}/server.crt" defaultNetstreamDriverKeyFile="{0}/server.key"').format(TLS)
    driver = (' maxSessions="2000" streamDriver.name="ossl" streamDriver.mode="1"'
              ' streamDriver.authMode="anon"')
    made = []
    for suffix, title, load in (("", "", ()), ("-each", ", a TLS record each", ("-m",)),
                                ("-100", ", 100 connections", ("-c", 100))):
        load = ("-y", "-t", *load)
        made += [
            _netd_tls(f"netd{suffix}", f"netd{title}", load=load),
            _haproxy(f"haproxy{suffix}", f"haproxy and netd{title}", recipe, load=load),
            _rsyslog(f"rsyslog{suffix}", f"rsyslog, imtcp with ossl{title}", "imtcp",
                     RSYSLOG_SYSLOG, files=files, module_options=driver, load=load),
        ]
    return made


def make_handshakes(recipe):
    """Without and with certificates of clients."""
    plain, client = ("-y", "-t"), ("-y", "-C", f"{TLS}/client.pem")
    return [
        _netd_tls("netd", "netd", load=plain),
        _haproxy("haproxy", "haproxy and netd", recipe, load=plain),
        _netd_tls("netd-client", "netd, client certificates", verify=True, load=client),
        _haproxy("haproxy-client", "haproxy and netd, client certificates", recipe, verify=True,
                 load=client),
    ]


def make_rules():
    """Short sessions with 10,000 access rules."""
    row = _netd("netd-rules", "netd, 10,000 access rules")
    row.files["/etc/netd/netd.conf"] = (
        f'listeners = ({{ name = "rules"; port = {PORT}; allow = ({RULES}); }});\n')
    return row


def make_against(revision, old, new):
    """netd of two source trees, in the same unit, with one and with 100 connections."""
    def rows(name, title, tree):
        command = f"{tree}/build/netd -c /run/bench/netd.conf"
        files = {"/run/bench/netd.conf": f"port = {PORT};\n"}
        for suffix, what, load in ("", "one connection", ()), ("-100", "100 connections", ("-c", 100)):
            row = _server(name + suffix, f"{title}, {what}", "session, peer", command, load=load,
                          files=files)
            yield dataclasses.replace(row, match="NETD_EVENT=data")

    return [*rows("new", "netd", new), *rows("old", f"netd at {revision}", old)]
