# SPDX-License-Identifier: MIT
"""Metrics: the file, netd-client status and metrics, HTTP; read by programs of others."""

import collections
import contextlib
import json
import re
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from box import SOURCE, wait_for
from traffic import worker

FILE = "/run/netd/metrics.prom"
LISTENERS = """listeners = (
  { name = "lines"; port = 3000; max_sessions = 1; },
  { name = "devices"; port = 3001; format = "syslog"; },
  { name = "local"; path = "/run/netd/in\\"put"; framing = "nul"; },
  { name = "closed"; port = 3002; deny = ("127.0.0.0/8"); }
);
"""
RULES = "/usr/local/share/doc/netd/prometheus-rules.yml"


def parsed(text):
    """{(name, ((label, value), ...)): value}, by the parser of Prometheus' Python client."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type in ("counter", "gauge"), family
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def metrics(netd):
    return parsed(netd.box.run("cat", FILE).stdout)


def value(found, name, **labels):
    return found[f"netd_{name}", tuple(sorted(labels.items()))]


def changed(netd, condition, what):
    """Waits for metrics that fulfil CONDITION, and returns them."""
    def look():
        found = metrics(netd)
        return found if condition(found) else None
    return wait_for(look, what)


def expected(netd):
    """What the journal says that the counters are."""
    counts = collections.Counter()
    for event in netd.events():
        listener = event.get("NETD_LISTENER", b"").decode()
        kind = event.text("NETD_EVENT")
        if kind == "connect":
            counts["sessions_started_total", listener] += 1
        elif kind == "disconnect":
            counts["sessions_ended_total", listener, event.text("NETD_REASON")] += 1
            counts["records_total", listener] += event.number("NETD_RECORDS")
            counts["bytes_total", listener] += event.number("NETD_BYTES")
        elif kind == "refused":
            counts["refused_total", listener, event.text("NETD_REASON")] += 1
    return counts


def counted(found):
    """The same from metrics."""
    counts = collections.Counter()
    names = ("sessions_started_total", "sessions_ended_total", "records_total", "bytes_total",
             "refused_total")
    for (name, labels), number in found.items():
        if name.removeprefix("netd_") in names:
            counts[name.removeprefix("netd_"), *(v for _, v in labels)] += int(number)
    return +counts


# --- The file ---


def test_metrics_are_what_the_journal_has(netd):
    netd.start(config=LISTENERS)
    with netd.connect() as first:
        first.sendall(b"one\ntwo\nhalf")
        wait_for(lambda: len(netd.events(event="data")) == 2, "two records")
        with netd.connect() as second:
            assert netd.answer(second) == "netd error=session-limit\n"
        netd.send(b"<13>app: text\nno syslog\n<13>app: text\n", port=3001)
        netd.box.run("netd-client", "-H", '/run/netd/in"put', "send", "--framing", "nul", "x", "y")
        for _ in range(3):
            with netd.connect(port=3002) as denied:
                assert netd.answer(denied) == "netd error=denied\n"
        found = changed(netd, lambda m: value(m, "refused_total", listener="closed",
                                              reason="denied") == 3, "three clients denied")
        assert value(found, "sessions", listener="lines") == 1
        assert value(found, "records_total", listener="lines") == 2
        assert value(found, "buffer_bytes") > 0
        first.shutdown(1)
        assert netd.receipt(first).records == 3
    found = changed(netd, lambda m: counted(m) == expected(netd), "all of it")
    assert value(found, "sessions", listener="lines") == 0
    assert value(found, "unparsed_total", listener="devices") == 1
    assert value(found, "unparsed_total", listener="lines") == 0
    assert value(found, "worker_starts_total") == 1
    assert value(found, "buffer_limit_bytes") == 64 << 20
    assert value(found, "listener_info", listener="devices", address="127.0.0.1:3001",
                 framing="octet", format="syslog") == 1
    assert value(found, "listener_info", listener="local", address='/run/netd/in"put',
                 framing="nul", format="plain") == 1
    assert netd.box.run("stat", "-c", "%A %F", FILE).stdout == "-rw-r--r-- regular file\n"
    assert netd.box.run("ls", "-A", "/run/netd").stdout.split() == ['in"put', "metrics.prom"]


def test_counters_are_exact_whatever_dies(netd):
    """Workers are killed at any time, and a reload changes the listeners."""
    netd.start(config=LISTENERS)
    last = collections.Counter()
    sessions = 0

    def look():
        nonlocal last
        now = counted(metrics(netd))
        assert all(now[key] >= number for key, number in last.items()), (last, now)
        last = now

    with netd.connect(port=3001) as stays:
        for i in range(6):
            stays.sendall(b"<13>app: before\n" * 50)
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(netd.connect(port=3001)) for _ in range(8)]
                for client in clients:
                    client.sendall(b"<13>app: text\n" * 100)
                netd.box.run("kill", "-9", worker(netd), check=False)
                if i == 3:
                    netd.configure_file(LISTENERS.replace("closed", "other"))
                    netd.reload()
                for client in clients:
                    client.shutdown(1)
                    assert netd.receipt(client).records == 100
                    sessions += 1
            look()
        stays.shutdown(1)
        assert netd.receipt(stays).records == 300
    found = changed(netd, lambda m: counted(m) == expected(netd), "all of it")
    look()
    assert value(found, "records_total", listener="devices") == 100 * sessions + 300
    assert value(found, "sessions_ended_total", listener="devices", reason="eof") == sessions + 1
    assert value(found, "worker_starts_total") == 1 + 6 + 1
    assert value(found, "records_total", listener="closed") == 0  # removed, and still there


def test_waiting_for_the_journal_shows(netd):
    netd.start()
    box = netd.box
    with netd.connect() as client:
        box.run("systemctl", "kill", "-s", "STOP", "systemd-journald.service")
        try:
            client.sendall(b"line\n" * 2000)
            changed(netd, lambda m: value(m, "journal_waiting", cause="full"), "that netd waits")
            said = box.run("netd-client", "status").stdout
            assert re.search(r"Journal: waiting, because of: full; waited [^0]", said), said
            state = json.loads(box.run("netd-client", "status", "--json").stdout)
            assert state["journal_waiting"] == "full" and state["journal_wait_seconds"] > 0
        finally:
            box.run("systemctl", "kill", "-s", "CONT", "systemd-journald.service")
        client.shutdown(1)
        assert netd.receipt(client).records == 2000
    found = changed(netd, lambda m: not value(m, "journal_waiting", cause="full") and
                    value(m, "records_total", listener="") == 2000, "that it waits no more")
    assert value(found, "journal_wait_seconds_total") > 0
    assert "Journal: takes entries; waited " in box.run("netd-client", "status").stdout


def test_a_full_file_system_delays_only_metrics(netd):
    box = netd.box
    directory = "/var/tmp/metrics"
    box.sh(f"mkdir -p {directory}; mount -t tmpfs -o size=8k none {directory}")
    try:
        box.sh(f"head -c 8192 /dev/zero >{directory}/full")
        server = box.popen("netd", "-c", "/dev/null", "-p", "4100", "-o", "text",
                           env={"RUNTIME_DIRECTORY": directory}, stderr=subprocess.PIPE,
                           stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)
        with server:
            said = ""
            while "listening" not in said:
                said += server.stderr.readline()
            assert netd.send(b"one\n", port=4100).records == 1
            assert server.stderr.readline() == \
                f"netd: cannot write {directory}/metrics.prom: No space left on device\n"
            box.sh(f"rm {directory}/full")
            assert netd.send(b"two\n", port=4100).records == 1
            wait_for(lambda: box.run("grep", "-qs", 'records_total{listener=""} 2',
                                     f"{directory}/metrics.prom", check=False).returncode == 0,
                     "the metrics")
            assert box.run("ls", "-A", directory).stdout == "metrics.prom\n"
            box.run("pkill", "-P", server.pid, check=False)
            server.terminate()
    finally:
        box.run("umount", directory)


def test_an_unchanged_file_is_written_again(netd, long):
    """Every 15 seconds: a reader can tell netd from one that hangs. Short: with a shorter watchdog,
    the file is at least there."""
    netd.start()
    written = value(metrics(netd), "written_time_seconds")
    if long:
        changed(netd, lambda m: value(m, "written_time_seconds") > written, "another file")
    assert written <= time.time()


# --- netd-client ---


def test_status_shows_each_listener(netd):
    netd.start(config=LISTENERS)
    netd.send(b"one\ntwo\n")
    changed(netd, lambda m: value(m, "records_total", listener="lines") == 2, "two records")
    result = netd.box.run("netd-client", "status", "--utc")
    assert result.stderr == ""
    assert re.search(r"^  Version: \d+\.\d+\.\d+\n    Since: \S+ \S+ UTC, for ", result.stdout)
    assert "\n   Logged: 2 records, 8 bytes\n Sessions: 0 open, 1 since the start\n" \
        "    Ended: eof 1\n  Refused: none\n   Worker: 0 restarts\n" in result.stdout
    rows = [line.split() for line in result.stdout.split("\n\n")[1].splitlines()[1:]]
    assert [row[:4] for row in rows] == [
        ["lines", "127.0.0.1:3000", "line", "plain"],
        ["devices", "127.0.0.1:3001", "octet", "syslog"],
        ["local", '/run/netd/in"put', "nul", "plain"],
        ["closed", "127.0.0.1:3002", "line", "plain"]]
    assert rows[0][4:] == ["0", "1", "2", "8", "0"]
    state = json.loads(netd.box.run("netd-client", "status", "--json").stdout)
    assert state["journal_waiting"] is None and state["worker_starts"] == 1
    assert [listener["name"] for listener in state["listeners"]] == \
        ["lines", "devices", "local", "closed"]
    assert state["listeners"][0]["records"] == 2
    assert state["listeners"][0]["sessions_ended"]["eof"] == 1
    assert state["listeners"][0]["sockets"] == [
        {"address": "127.0.0.1:3000", "framing": "line", "format": "plain"}]


def test_status_without_netd(box):
    for command in "status", "metrics":
        result = box.run("netd-client", command, check=False)
        assert (result.returncode, result.stdout) == (3, "")
        assert result.stderr == \
            f"netd-client: {FILE}: No such file or directory; is netd running?\n"


@pytest.mark.parametrize("text, status, error", [
    ("netd_written_time_seconds 1795334400\nnetd_build_info{version=\"9\"} 1\n", 1,
     r"not written for \d+ seconds; netd does not respond"),
    ("netd_sessions{\n", 3, "/dev/stdin:1: not a metric"),
    ("# x\nnetd_sessions 1e\n", 3, "/dev/stdin:2: not a metric"),
    ("netd_sessions{listener=\"\\xff\"} x\n", 3, "/dev/stdin:1: not a metric"),
])
def test_status_of_other_files(box, text, status, error):
    result = box.run("netd-client", "status", "/dev/stdin", input=text, check=False)
    assert result.returncode == status and re.search(error, result.stderr), result


def test_status_is_safe_on_a_terminal(box):
    evil = r"\x1b[31m".encode().decode("unicode_escape")
    text = "".join(f"netd_{name} 1\n" for name in (
        f'build_info{{version="{evil}"}}', f'journal_waiting{{cause="{evil}"}}',
        f'records_total{{listener="{evil}"}}', f'refused_total{{listener="a",reason="{evil}"}}',
        f'listener_info{{listener="a",address="{evil}"}}'))
    for arguments in [], ["--json"]:
        result = box.run("netd-client", "status", *arguments, "/dev/stdin", input=text,
                         check=False)
        assert result.returncode == 1 and "\x1b" not in result.stdout
    json.loads(result.stdout)


# --- HTTP ---


@pytest.fixture
def http(netd):
    netd.start()
    netd.box.run("systemctl", "start", "netd-metrics.socket")
    yield netd
    netd.box.run("systemctl", "stop", "netd-metrics.socket")


def ask(netd, request):
    """The answer to the bytes REQUEST: status line, headers, body."""
    with netd.box.connect(9300) as client:
        client.sendall(request)
        head, body = netd.answer(client).split("\r\n\r\n", 1)
    status, *fields = head.split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    assert headers["Connection"] == "close"
    return status.removeprefix("HTTP/1.1 "), headers, body


def test_http_answers(http):
    status, headers, body = ask(http, b"GET /metrics HTTP/1.1\r\nHost: localhost:9300\r\n\r\n")
    assert status == "200 OK"
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(headers["Content-Length"]) == len(body)
    assert parsed(body).keys() == metrics(http).keys()
    status, headers, body = ask(http, b"HEAD /metrics?x=y HTTP/1.0\r\n\r\n")
    assert status == "200 OK" and int(headers["Content-Length"]) > 0 and body == ""
    for request, answer in (
            (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            (b"GET /metricsx HTTP/1.1\r\n\r\n", "404 Not Found"),
            (b"POST /metrics HTTP/1.1\r\n\r\nx", "405 Method Not Allowed"),
            (b"\r\n\r\n", "400 Bad Request"),
            (b"GET\r\n\r\n", "400 Bad Request"),
            (b"GET /metrics\r\n\r\n", "400 Bad Request"),
            (b"GET /metrics HTTP/2\r\n\r\n", "400 Bad Request"),
            (b"\0\r\n\r\n", "400 Bad Request"),
            (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 8192, "431 Request Header Fields Too Large")):
        status, headers, body = ask(http, request)
        assert (status, body) == (answer, answer + "\n")
    http.stop()
    assert ask(http, b"GET /metrics HTTP/1.1\r\n\r\n")[0] == "503 Service Unavailable"


def test_http_leaves_nothing_behind(http):
    """Neither lines in the journal for each request, nor failed units; nor is a probe of the port
    an error."""
    for _ in range(3):
        http.box.run("curl", "-sf", "http://127.0.0.1:9300/metrics")
    with http.box.connect(9300) as probe:
        probe.shutdown(1)
        assert http.answer(probe) == ""
    wait_for(lambda: "netd-metrics@" not in http.box.run("systemctl", "list-units", "--all").stdout,
             "the services to end")
    said = [e for e in http.journal(fields=None)
            if b"netd-metrics@" in e.get("UNIT", e.get("_SYSTEMD_UNIT", b""))]
    assert not said, said


def test_http_units(box):
    units = "netd-metrics.socket", "netd-metrics@x.service"
    result = box.run("systemd-analyze", "verify", "--man=no", *units)
    assert result.stdout + result.stderr == ""
    said = box.run("systemd-analyze", "security", "--offline=yes", "netd-metrics@x.service").stdout
    assert float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1]) <= 0.3
    assert "ListenStream=127.0.0.1:9300\n" in box.run("systemctl", "cat", units[0]).stdout


# --- Programs of others ---


@pytest.fixture
def monitoring(box, long):
    """Installs what only --long uses, from the host's network; nothing of it runs by itself."""
    if long and box.run("sh", "-c", "command -v promtool", check=False).returncode:
        packages = "prometheus", "prometheus-node-exporter"
        box.install_from_mirror(*packages)
        box.run("systemctl", "disable", *packages)
    return long


@contextlib.contextmanager
def running(box, *command):
    with box.popen(*command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                   stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


def fetched(box, url):
    return box.run("curl", "-sf", url, check=False).stdout


RULES_TEST = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'netd_build_info{{instance="a"}}', values: '1x60'}}
      - {{series: 'netd_journal_waiting{{instance="a",cause="full"}}', values: '0x9 1x20 0x30'}}
      - {{series: 'netd_refused_total{{instance="a",listener="l",reason="denied"}}',
         values: '0x9 3x50'}}
      - {{series: 'netd_worker_starts_total{{instance="a"}}', values: '1x9 2+1x5 7x45'}}
      - {{series: 'netd_tls_certificate_not_after_seconds{{instance="a",listener="l"}}',
         values: '1211400x60'}}
    alert_rule_test:
      - {{alertname: NetdWaitsForJournal, eval_time: 9m, exp_alerts: []}}
      - alertname: NetdWaitsForJournal
        eval_time: 12m
        exp_alerts:
          - exp_labels: {{instance: a, severity: critical}}
            exp_annotations:
              summary: netd on a waits for the journal, and its clients wait for netd
      - {{alertname: NetdWaitsForJournal, eval_time: 40m, exp_alerts: []}}
      - {{alertname: NetdRefusesClients, eval_time: 8m, exp_alerts: []}}
      - alertname: NetdRefusesClients
        eval_time: 11m
        exp_alerts:
          - exp_labels: {{instance: a, listener: l, reason: denied, severity: warning}}
            exp_annotations: {{summary: "netd on a refused clients of 'l', denied"}}
      - {{alertname: NetdRefusesClients, eval_time: 30m, exp_alerts: []}}
      - {{alertname: NetdWorkerRestarts, eval_time: 8m, exp_alerts: []}}
      - alertname: NetdWorkerRestarts
        eval_time: 16m
        exp_alerts:
          - exp_labels: {{instance: a, severity: warning}}
            exp_annotations: {{summary: workers of netd on a keep dying}}
      - {{alertname: NetdCertificateEnds, eval_time: 1m, exp_alerts: []}}
      - alertname: NetdCertificateEnds
        eval_time: 40m
        exp_alerts:
          - exp_labels: {{instance: a, listener: l, severity: warning}}
            exp_annotations: {{summary: a certificate of netd on a ends within two weeks}}
      - {{alertname: NetdMissing, eval_time: 50m, exp_alerts: []}}
      - alertname: NetdMissing
        eval_time: 90m
        exp_alerts:
          - exp_labels: {{severity: critical}}
            exp_annotations:
              summary: netd does not run, does not respond, or is not scraped
"""


def test_promtool_accepts_all_of_it(netd, monitoring):
    """Metrics and rules. Short: the rules name only metrics that there are."""
    box = netd.box
    box.sh("openssl req -x509 -newkey rsa:2048 -noenc -subj /CN=x -keyout /run/x.key -out /run/x.pem; "
           "chmod 644 /run/x.key")
    netd.start(config=LISTENERS.replace("listeners = (", """listeners = (
        { name = "tls"; port = 6514; tls = { certificate = "/run/x.pem"; key = "/run/x.key"; }; },"""))
    netd.send(b"<13>app: one\n", port=3001)
    rules = (SOURCE / "etc/prometheus-rules.yml").read_text(encoding="utf-8")
    names = {name for name, _ in metrics(netd)}
    assert set(re.findall(r"\bnetd_\w+", rules)) <= names
    if not monitoring:
        return
    result = box.run("promtool", "check", "metrics",
                     input=box.run("netd-client", "metrics").stdout)
    assert result.stdout + result.stderr == ""
    box.run("promtool", "check", "rules", RULES)
    box.path("/var/tmp/rules-test.yml").write_text(RULES_TEST.format(rules=RULES),
                                                   encoding="utf-8")
    box.run("promtool", "test", "rules", "/var/tmp/rules-test.yml")


def test_prometheus_answers_queries(netd, monitoring):
    """Both ways: node_exporter's textfile collector, and netd-metrics.socket."""
    if not monitoring:
        return
    box = netd.box
    netd.start(config=LISTENERS)
    netd.send(b"<13>app: one\nno syslog\n", port=3001)
    box.run("systemctl", "start", "netd-metrics.socket")
    box.path("/var/tmp/prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{RULES}]
scrape_configs:
  - job_name: netd
    static_configs: [{{targets: ['127.0.0.1:9300', '127.0.0.1:9100']}}]
""", encoding="utf-8")
    box.sh("rm -rf /var/tmp/prometheus")

    def query(text):
        said = box.run("curl", "-sf", "--data-urlencode", f"query={text}",
                       "http://127.0.0.1:9090/api/v1/query", check=False).stdout
        answer = json.loads(said) if said else {"status": "none"}
        if answer["status"] != "success":
            return {}
        return {r["metric"].get("instance", ""): float(r["value"][1])
                for r in answer["data"]["result"]}

    both = {"127.0.0.1:9300", "127.0.0.1:9100"}
    try:
        with running(box, "prometheus-node-exporter", "--collector.disable-defaults",
                     "--collector.textfile", "--collector.textfile.directory=/run/netd"), \
                running(box, "prometheus", "--config.file=/var/tmp/prometheus.yml",
                        "--storage.tsdb.path=/var/tmp/prometheus",
                        "--web.listen-address=127.0.0.1:9090"):
            wait_for(lambda: "netd_records_total" in fetched(box, "http://127.0.0.1:9100/metrics"),
                     "node_exporter")
            assert "node_textfile_scrape_error 0\n" in fetched(box, "http://127.0.0.1:9100/metrics")
            wait_for(lambda: query('netd_records_total{listener="devices"}') ==
                     dict.fromkeys(both, 2.0), "both ways", timeout=60)
            assert query('sum by (instance) (netd_unparsed_total)') == dict.fromkeys(both, 1.0)
            assert query('netd_listener_info{framing="octet"}') == dict.fromkeys(both, 1.0)
            netd.send(b"<13>app: three\n", port=3001)
            wait_for(lambda: query('netd_records_total{listener="devices"}') ==
                     dict.fromkeys(both, 3.0), "one more", timeout=60)
            with netd.connect(port=3002) as denied:
                netd.answer(denied)
            wait_for(lambda: "NetdRefusesClients" in fetched(
                box, "http://127.0.0.1:9090/api/v1/alerts"), "the alert", timeout=60)
    finally:
        box.run("systemctl", "stop", "netd-metrics.socket")
        box.sh("rm -rf /var/tmp/prometheus")
