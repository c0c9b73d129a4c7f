# SPDX-License-Identifier: MIT
"""Options, environment and configuration file: which wins, exit statuses, and what is said."""

import re

import pytest

from box import SOURCE, wait_for
from traffic import ByHand, complaint, file_inside, served

FILE = "/root/netd-test/netd.conf"


def listens_on(box, *words, env=None):
    with ByHand(box, "-o", "text", *words, env=env) as program:
        return program.ready()


def test_help(box):
    for word in "-h", "--help":
        result = box.run("netd", word)
        assert result.stderr == ""
        for option in ("-c, --config", "-H, --host", "-p, --port", "-o, --output", "-t, --check",
                       "-V, --version", "-h, --help"):
            assert option in result.stdout
        assert max(map(len, result.stdout.splitlines())) <= 80


def test_version(box):
    for word in "-V", "--version":
        result = box.run("netd", word)
        assert re.fullmatch(r"netd \d+\.\d+\.\d+\n", result.stdout) and result.stderr == ""


@pytest.mark.parametrize("redirection, error", [(">&-", "Bad file descriptor"),
                                                (">/dev/full", "No space left on device")])
def test_help_and_version_that_nobody_can_read(box, redirection, error):
    for word in "-h", "-V":
        result = box.run("bash", "-c", f"netd {word} {redirection}", check=False)
        assert (result.returncode, result.stderr) == (1, f"netd: standard output: {error}\n")


USAGE = [  # and the thing that the line names
    (["-x"], "-x"), (["-xt"], "-x"), (["-t", "-x"], "-x"), (["--nonsense"], "--nonsense"),
    (["argument"], "argument"), (["-t", "more"], "more"), (["-c"], "-c"), (["--port"], "--port"),
    (["-to"], "-to"), (["--check=yes"], "--check=yes"), (["two\nlines"], r"two\x0alines"),
    (["--two\nlines"], r"--two\x0alines"), (["-\x1b"], r"-\x1b"), (["-p", "80x"], "--port"),
    (["--h"], "--h"), (["--ho", "127.0.0.1", "--", "b"], "b"), ([""], "''"),
    (["--check", "-xV"], "unknown option '-x'"), (["--che=x"], "'--che=x' takes no value"),
    (["foo"], "unexpected argument 'foo', see --help"), (["--prot"], "unknown option '--prot'"),
    (["--reload"], "--reload"), (["--reload=0"], "--reload: '0' is not a process ID"),
]


def test_wrong_usage(box):
    for words, name in USAGE:
        assert name in complaint(box, *words, status=2), words


def test_the_name_in_front_is_netd_wherever_it_was_started_from(box):
    assert complaint(box, "--nonsense", status=2, program=("/usr/local/sbin/netd",))


def test_check(box):
    with file_inside(box, FILE, 'host = "::1"; port = 4000; sessions: { max = 7; };\n'):
        for words in ["-t"], ["--check"]:
            result = box.run("netd", *words, "-c", FILE)
            assert (result.stdout, result.stderr) == ("", "")
    with file_inside(box, FILE, "port = 4000\nnonsense = 1;\n"):
        assert complaint(box, "-t", "--config", FILE) == f"{FILE}:2: nonsense: unknown key"


def test_check_looks_at_environment_and_options_too(box):
    assert complaint(box, "-t", env={"SERVER_PORT": "x"}).startswith("SERVER_PORT: ")
    assert complaint(box, "-t", "-p", "x", status=2).startswith("--port: ")


def test_check_binds_nothing(netd):
    netd.start()
    assert netd.box.run("netd", "-t").stderr == ""
    served(netd)


def test_more_sessions_than_descriptors_are_a_warning(netd):
    """In -t, at the start and once at each reload; it is no error."""
    config = "\nsessions: { max = 600; };"
    line = "/etc/netd/netd.conf:2: sessions.max: 600 sessions, but the limit of 500 open files " \
           "(LimitNOFILE=) allows 436"
    netd.start(config=config, dropin="[Service]\nLimitNOFILE=500\n")
    assert netd.log().split("\n").count(line) == 1
    result = netd.box.run("prlimit", "--nofile=500", "netd", "-t")
    assert (result.stdout, result.stderr) == ("", f"netd: {line}\n")
    netd.reload()
    wait_for(lambda: "reloaded" in netd.log(), "the reload")
    assert netd.log().split("\n").count(line) == 2
    netd.configure_file("sessions: { max = 436; };")
    assert netd.box.run("prlimit", "--nofile=500", "netd", "-t").stderr == ""


def test_default_address(box):
    assert listens_on(box) == "127.0.0.1:3000"


def test_precedence(box):
    """Default, file, environment, option: each is stronger than the one before."""
    with file_inside(box, FILE, 'host = "127.0.0.2"; port = 4001;\n'):
        file = ("-c", FILE)
        assert listens_on(box, *file) == "127.0.0.2:4001"
        environment = {"SERVER_HOST": "127.0.0.3", "SERVER_PORT": "4002"}
        assert listens_on(box, env=environment) == "127.0.0.3:4002"
        assert listens_on(box, *file, env=environment) == "127.0.0.3:4002"
        assert listens_on(box, *file, env={"SERVER_PORT": "4002"}) == "127.0.0.2:4002"
        assert listens_on(box, *file, env={"SERVER_HOST": "127.0.0.3"}) == "127.0.0.3:4001"
        for words in ["-H", "127.0.0.4", "-p", "4003"], ["--host=127.0.0.4", "--port", "4003"]:
            assert listens_on(box, *file, *words, env=environment) == "127.0.0.4:4003"
        assert listens_on(box, *file, "-p", "4003", env=environment) == "127.0.0.3:4003"


def test_a_bad_value_is_an_error_even_where_a_stronger_one_replaces_it(box):
    with file_inside(box, FILE, "port = 70000;\n"):
        assert complaint(box, "-c", FILE, "-p", "3000").startswith(f"{FILE}:1: port: ")
    assert complaint(box, "-p", "3000", env={"SERVER_PORT": "70000"}).startswith("SERVER_PORT: ")


def test_the_service_reads_its_environment_file(netd):
    netd.start(config="port = 4001;", env={"SERVER_HOST": "127.0.0.9", "SERVER_PORT": "4002"})
    served(netd, host="127.0.0.9", port=4002)
    assert "listening on 127.0.0.9:4002" in netd.log()


@pytest.mark.parametrize("host, connect_to, shown", [
    ("127.0.0.1", "127.0.0.1", "127.0.0.1:4000"), ("::1", "::1", "[::1]:4000"),
    ("localhost", "127.0.0.1", None), ("ip6-localhost", "::1", "[::1]:4000"),
    ("0.0.0.0", "127.0.0.8", "0.0.0.0:4000"), ("[::1]", "::1", "[::1]:4000"),
    ("::", "::1", "[::]:4000"),
])
def test_host(netd, host, connect_to, shown):
    with_names = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
    hosts = netd.box.path("/etc/hosts")
    saved = hosts.read_bytes() if hosts.exists() else None
    hosts.write_text(with_names, encoding="ascii")
    try:
        netd.start(env={"SERVER_HOST": host, "SERVER_PORT": "4000"})
        served(netd, host=connect_to, port=4000)
    finally:
        if saved is None:
            hosts.unlink()
        else:
            hosts.write_bytes(saved)
    if shown:
        assert f"listening on {shown}" in netd.log().split("\n")


def test_example_of_the_manual_works_as_printed(netd):
    page = (SOURCE / "man/netd.conf.5").read_text(encoding="utf-8")
    listeners, config, drop_in = re.findall(r"^\.Bd -literal -offset indent\n(.*?)^\.Ed$", page,
                                            re.M | re.S)
    with file_inside(netd.box, "/root/netd-test/netd.conf", listeners) as path:
        assert netd.box.run("netd", "-t", "-c", path).stderr == ""
    assert "port = 514;" in config and drop_in.startswith("[Service]\n")
    netd.start(config=config, dropin=drop_in)
    for host in "127.0.0.1", "::1":
        served(netd, host=host, port=514)


def test_port_zero_takes_a_free_port_which_the_notice_names(netd):
    netd.start(config="port = 0;")
    assert re.search(r"^ready: version \S+, events go to the journal$", netd.log(), re.M)
    port = int(re.search(r"^listening on 127\.0\.0\.1:(\d+)$", netd.log(), re.M)[1])
    assert port > 1023
    served(netd, port=port)
    notice = [e for e in netd.journal("_SYSTEMD_UNIT=netd.service", fields=None)
              if e["MESSAGE"].startswith(b"listening on")]
    assert len(notice) == 1


def test_it_stays_in_the_foreground_and_stops_in_order(box):
    for name in "INT", "TERM":
        with ByHand(box, "-o", "text", "-p", "0") as program:
            program.ready()
            assert program.process.poll() is None
            program.kill(name)
            assert program.process.communicate(timeout=20) == (b"", b"")
            assert program.process.returncode == 0


def test_stop_of_the_service_is_exit_0(netd):
    netd.start()
    served(netd)
    netd.box.run("systemctl", "stop", "netd")
    assert netd.show("ExecMainStatus") == "0" and netd.show("Result") == "success"


def test_priority(netd):
    for word, level in ("notice", "5"), ("info", "6"), ("debug", "7"):
        netd.start(config=f'priority = "{word}"; sessions: {{ max = 1; }};')
        with netd.connect() as client:
            client.sendall(b"<0>x\n\x00")
            wait_for(lambda: "1 " == netd.show("StatusText")[:2], "the session")
            with netd.connect() as refused:
                assert netd.answer(refused) == "netd error=session-limit\n"
            client.shutdown(1)
            netd.receipt(client)
        kinds = [(e.text("NETD_EVENT"), e.text("PRIORITY")) for e in netd.events()]
        assert kinds[-5:] == [("connect", level), ("data", level), ("refused", level),
                              ("data", level), ("disconnect", level)] or \
            sorted(kinds[-5:]) == sorted([("connect", level), ("data", level), ("data", level),
                                          ("refused", level), ("disconnect", level)])


def test_own_diagnostics_have_a_priority_in_the_journal_and_none_on_a_terminal(netd):
    netd.start(config="nonsense = 1;", check=False)
    said = netd.journal("_SYSTEMD_UNIT=netd.service")
    assert [(e.text("PRIORITY"), e.text("MESSAGE")) for e in said] == \
        [("3", "/etc/netd/netd.conf:1: nonsense: unknown key")]
    assert not re.search("<[0-9]>", netd.box.run("netd", "-t", check=False).stderr)


def test_status_and_readiness(netd):
    netd.start()
    assert netd.show("StatusText").startswith("0 sessions, 0 records logged")
    with netd.connect() as client:
        client.sendall(b"a\nb\n")
        wait_for(lambda: netd.show("StatusText").startswith("1 session, 2 records"), "STATUS=")
        client.shutdown(1)
        netd.receipt(client)
    wait_for(lambda: netd.show("StatusText").startswith("0 sessions, 2 records"), "STATUS=")
    assert netd.show("WatchdogTimestampMonotonic") != "0"


def test_events_name_netd_as_their_sender(netd):
    """Trusted fields: the events come from the service, which is not root."""
    netd.start()
    session = netd.send(b"x\n").session
    for event in netd.events(session, fields=None):
        assert event.text("_SYSTEMD_UNIT") == "netd.service"
        assert event.text("_UID") != "0"
