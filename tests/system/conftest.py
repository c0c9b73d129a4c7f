# SPDX-License-Identifier: MIT
"""System tests: netd as installed, on Debian 12 and 13, under a real systemd.

Each release is a container (box.py) in which this source tree was built with the release's own
compiler, and installed. All tests share the two containers; each test restores what it changes. A
test uses the fixture `netd` (daemon.py) and runs on both releases:

    def test_half_line_is_a_record(netd):
        netd.start(config='receipt = true;', env={'SERVER_PORT': 4000})
        receipt = netd.send(b'one\\ntwo', port=4000)
        assert receipt.records == 2
        connect, one, two, disconnect = netd.events(receipt.session)
        assert two['MESSAGE'] == b'two' and two['NETD_TERMINATOR'] == b'none'
        assert netd.received(receipt.session) == b'one\\ntwo'

    def test_client_program(netd):
        netd.start()
        session = netd.box.run('netd-client', 'send', 'hello').stdout.strip()
        wait_for(lambda: netd.show('StatusText').startswith('0 '), 'the session to be over')

- `netd.start()` starts netd with the given configuration, again if it runs; `netd.box` is the
  container: run(), sh(), popen(), connect(), socket(), path().
- `from box import wait_for`: wait for a condition, never for time. No test asserts on timing.
- A test that changes anything else (journald's settings, files) restores it.
- The report of a failed test has netd's log since the test began.
- `pristine` creates another container, without a compiler, see test_quickstart.py.
- A test that cannot run or that hangs fails. None is skipped.
- test_packages.py runs only with --long: make check-packages, make check-long.
- One that is the same on both releases and takes long may name the one on which it runs without
  --long: @pytest.mark.only_on("trixie").
- Tests that go through every place or call try a sample of them, with the fixture `sample`; with
  --long all. The sample differs between the releases, and from run to run; NETD_TEST_SAMPLE=N
  selects one.

Run all of it with `make check`, or, as root, some of it:

    python3 -m pytest tests/system -k NAME --release bookworm

Creating the containers takes a minute or two, so keep them while you work on something:

    export NETD_TEST_KEEP=/var/tmp/my-netd-test    # end: kill -9 $(cat $NETD_TEST_KEEP/*/box.pid)

Later runs use the running containers, and build and install only what has changed in the tree.

`make test` keeps only the file systems, in the directory that NETD_TEST_FILES names, and boots a
copy of them: no container is left running, and every run starts from the same state.
"""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import random
import re
import shutil
import signal

import pytest

from box import RELEASES, SOURCE, Box, Files, copy_source, temporary_directory, wait_for
from daemon import CONFIG, ENVIRONMENT, Netd

SOURCE_INSIDE = "/usr/src/netd"

# Seconds that a test may take without --long. The longest takes a minute on an idle machine.
TIME_LIMIT = 600

Sample = collections.namedtuple("Sample", "every first")
SAMPLE_EVERY = 8
SAMPLE_FIRST = int(os.environ.get("NETD_TEST_SAMPLE", random.randrange(4 * SAMPLE_EVERY)))

# For --sanitize: the directory of the reports. A process that writes one aborts.
REPORTS = "/var/netd-sanitizer"
SANITIZER = f"""[Service]
Environment=ASAN_OPTIONS=log_path={REPORTS}/report
Environment=UBSAN_OPTIONS=log_path={REPORTS}/report:print_stacktrace=1
ReadWritePaths={REPORTS}
# LeakSanitizer attaches to the process.
SystemCallFilter=ptrace
"""


def pytest_addoption(parser):
    parser.addoption("--release", action="append", choices=RELEASES,
                     help="run on this Debian release (may be given again; default: all)")
    parser.addoption("--long", action="store_true",
                     help="run tests that take minutes in full (default: shortened)")
    parser.addoption("--sanitize", action="store_true",
                     help="build netd and netd-client with gcc's sanitizers, and relax the sandbox "
                     "for them; a report fails the test")


def pytest_ignore_collect(collection_path, config):
    """Packages take minutes to build."""
    if collection_path.name == "test_packages.py" and not config.getoption("--long"):
        return True
    return None


def pytest_configure():
    # The fixtures then remove the containers.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def is_of_another_release(item):
    marker = item.get_closest_marker("only_on")
    return marker and item.callspec.params["release"] not in marker.args


def pytest_collection_modifyitems(config, items):
    for item in items:
        for name in ("long", "sample"):
            if name in item.fixturenames:
                item.add_marker(name)
    if not config.getoption("--long"):
        others = [item for item in items if is_of_another_release(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def pytest_generate_tests(metafunc):
    if "release" in metafunc.fixturenames:
        releases = metafunc.config.getoption("--release") or RELEASES
        metafunc.parametrize("release", releases, scope="session")


def time_is_up(*_):
    raise AssertionError(f"still running after {TIME_LIMIT} seconds")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    if not item.config.getoption("--long"):
        signal.signal(signal.SIGALRM, time_is_up)
        signal.alarm(TIME_LIMIT)
    yield
    signal.alarm(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"a test must run or fail, never be skipped: {report.longrepr}"
    netd = item.funcargs.get("netd") if hasattr(item, "funcargs") else None
    if report.failed and netd:
        report.sections.append(("netd.service since the test began", netd.log()))


# The rows of the fault matrix. A test names its rows: test_j4_and_j5_...
ROWS = [f"{letter}{n + 1}" for letter, count in zip("JPCDS", (8, 11, 11, 6, 4))
        for n in range(count)]


def rows_of(name):
    """The rows in the NAME of a test."""
    found = re.match(r"test_([jpcds]\d+(_and_[jpcds]\d+)*)_", name)
    return found[1].upper().split("_AND_") if found else []


def pytest_terminal_summary(terminalreporter, config):
    """Prints how many tests passed for each row, and what --long would have run in full."""
    passed, shortened, sampled = collections.Counter(), set(), 0
    for report in terminalreporter.stats.get("passed", []):
        sampled += "sample" in report.keywords
        for row in rows_of(report.nodeid.rpartition("::")[2]):
            passed[row] += 1
            if "long" in report.keywords:
                shortened.add(row)
    if not passed:
        return
    full = config.getoption("--long")
    terminalreporter.write_line(
        f"fault matrix: {len(passed)} of {len(ROWS)} rows, {sum(passed.values())} tests passed: "
        + " ".join(f"{row}:{passed[row]}" for row in ROWS if row in passed))
    terminalreporter.write_line(
        f"fault matrix: {len(shortened)} rows {'in full' if full else 'shortened'}: "
        + " ".join(row for row in ROWS if row in shortened))
    if sampled and not full:
        terminalreporter.write_line(
            f"every place, every call: {sampled} tests sampled 1 in {SAMPLE_EVERY} "
            f"(NETD_TEST_SAMPLE={SAMPLE_FIRST}); all in make check-long")


def install(box, sanitize=False):
    """Builds the tree inside with warnings as errors, and installs it."""
    copy_source(box.path(SOURCE_INSIDE))
    variables = os.environ.get("NETD_TEST_COVERAGE", "WERROR=1").split(",")
    if sanitize:
        variables.append("SANITIZE=address,undefined")
    box.run("make", "-C", SOURCE_INSIDE, "-j2", *variables, timeout=1200)
    for dropin in extra_dropins(box):
        dropin.unlink(missing_ok=True)
    for path in (CONFIG, ENVIRONMENT):  # a run that was killed may have left its own
        box.path(path).unlink(missing_ok=True)
    box.run("make", "-C", SOURCE_INSIDE, *variables, "install", timeout=120)
    if sanitize:
        prepare_sanitizer(box)
    if "NETD_TEST_COVERAGE" in os.environ:
        prepare_coverage(box)


def extra_dropins(box):
    """Paths of drop-ins of our own; tests create and remove theirs below /etc."""
    for unit in ("netd.service", "netd@.service"):
        yield box.path(f"/usr/local/lib/systemd/system/{unit}.d/extra.conf")


def add_dropins(box, text):
    for dropin in extra_dropins(box):
        dropin.parent.mkdir(exist_ok=True)
        dropin.write_text(text, encoding="ascii")


def prepare_sanitizer(box):
    add_dropins(box, SANITIZER)
    box.sh(f"rm -rf {REPORTS}; mkdir -m 1777 {REPORTS}; systemctl daemon-reload")


def sanitizer_reports(box):
    """Returns the text of all reports, and removes them."""
    found = [path.read_text(encoding="utf-8", errors="replace")
             for path in box.path(REPORTS).glob("*")]
    box.sh(f"rm -f {REPORTS}/*")
    return "\n".join(found)


def prepare_coverage(box):
    """The instrumented programs write beside the object files, as any user and from within the
    sandbox: creates these files in advance, writable for everyone."""
    add_dropins(box, f"[Service]\nReadWritePaths={SOURCE_INSIDE}/build\n")
    box.sh(f"""
        cd {SOURCE_INSIDE}/build
        find . -name '*.gcda' -delete
        find . -name '*.gcno' | sed 's/gcno$/gcda/' | xargs touch
        chmod -R a+rwX .
        systemctl daemon-reload
    """)


def collect_coverage(box):
    """Copies the coverage data to where tests/coverage.py expects it."""
    for dropin in extra_dropins(box):
        dropin.unlink()
    target = SOURCE / "build/coverage/system"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(box.path(f"{SOURCE_INSIDE}/build/coverage"), target)


@contextlib.contextmanager
def or_give_up():
    """Ends the run: without a box every test would fail with the same error."""
    try:
        yield
    except Exception as error:
        pytest.exit(f"no box: {error}", returncode=1)


@pytest.fixture(scope="session")
def files(request):
    """Maps each release to its file systems, which are created in parallel."""
    keep = os.environ.get("NETD_TEST_KEEP") or os.environ.get("NETD_TEST_FILES")
    top = pathlib.Path(keep).resolve() if keep else temporary_directory()
    releases = request.config.getoption("--release") or RELEASES
    made = {release: Files(top / release, release) for release in releases}
    try:
        with or_give_up(), concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(Files.create, made.values()))
        yield made
    finally:
        if not keep:
            shutil.rmtree(top)


@pytest.fixture(scope="session")
def boxes(files, request):
    """Maps each release to its booted container with netd installed."""
    keep = bool(os.environ.get("NETD_TEST_KEEP"))
    roots = {release: f.box for release, f in files.items()}
    if "NETD_TEST_FILES" in os.environ:
        roots = {release: f.copy(f.box, f.directory / "run") for release, f in files.items()}
    made = {release: Box(release, root) for release, root in roots.items()}
    try:
        with or_give_up(), concurrent.futures.ThreadPoolExecutor() as pool:
            for box in made.values():
                if not (keep and box.adopt()):
                    box.boot(keep)
            sanitize = request.config.getoption("--sanitize")
            list(pool.map(lambda box: install(box, sanitize), made.values()))
            for box in made.values():
                Netd(box).reset()
        yield made
        if "NETD_TEST_COVERAGE" in os.environ:
            collect_coverage(made[RELEASES[0]])
    finally:
        if not keep:
            for box in made.values():
                box.kill()
        if "NETD_TEST_FILES" in os.environ:
            for root in roots.values():
                shutil.rmtree(root)


@pytest.fixture
def box(boxes, release):
    """The container of one release."""
    return boxes[release]


@pytest.fixture
def long(request):
    """True with --long: tests that take minutes run in full."""
    return request.config.getoption("--long")


@pytest.fixture
def sample(long, release):
    """Which of all places or calls to try: one in .every, starting at index .first, modulo .every.
    Those of one release are halfway between those of the other. With --long all."""
    if long:
        return Sample(1, 0)
    return Sample(SAMPLE_EVERY, SAMPLE_FIRST + RELEASES.index(release) * SAMPLE_EVERY // 2)


@pytest.fixture
def netd(box, request):
    """netd in one release's container: stopped, with the configuration as installed."""
    netd = Netd(box)
    yield netd
    netd.reset()
    if request.config.getoption("--sanitize"):
        found = sanitizer_reports(box)
        assert not found, found


@pytest.fixture
def peer(box):
    """Runs a program of somebody else's as a service until the test ends. peer(COMMAND, ...,
    port=P) waits until it listens, or has ended with an error."""
    units = []

    def listens(unit, port):
        state = box.run("systemctl", "show", "-p", "ActiveState", "--value", unit).stdout.strip()
        assert state == "active", box.run("journalctl", "-q", "-n30", "-ocat", "-u", unit).stdout
        return not port or box.run("ss", "-Hltn", f"sport = :{port}").stdout

    def start(command, *arguments, port=None, properties=()):
        unit = f"peer-{len(units)}"
        units.append(unit)
        box.run("systemd-run", "-q", "--service-type=exec", f"--unit={unit}",
                *(f"-p{p}" for p in properties), command, *arguments)
        wait_for(lambda: listens(unit, port), f"{command} to listen")
        return unit

    yield start
    for unit in units:
        box.run("systemctl", "stop", unit, check=False)  # the test may have stopped it
        box.run("systemctl", "reset-failed", unit, check=False)


@pytest.fixture
def pristine(files, release):
    """Creates a file system with a minimal Debian, the source tree in /usr/src/netd, and a local
    apt repository of what the build needs. pristine(boot=True) boots it."""
    made = []

    def make(boot=False):
        box = Box(release, files[release].directory / f"pristine-{len(made)}")
        made.append(box)
        files[release].pristine(box.root)
        copy_source(box.path(SOURCE_INSIDE))
        if boot:
            box.boot()
        return box

    yield make
    for box in made:
        box.kill()
        shutil.rmtree(box.root, ignore_errors=True)
