# SPDX-License-Identifier: MIT
"""System tests: netd as a user has it, on Debian 12 and 13, with a real systemd.

Each release is a container (box.py) in which the sources of this tree were built with the release's
own compiler, and installed. All tests share the two; each test leaves its box as it found it. A test
takes the fixture `netd` (daemon.py) and gets run on both releases:

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

- `netd.start()` stops what runs and starts anew in the configuration given; `netd.box` is the
  container: run(), sh(), popen(), connect(), socket(), path().
- `from box import wait_for`: wait for a condition, never for time. No test asserts on timing.
- A test that leaves something else changed (journald's settings, files) puts it back itself.
- On failure the report has netd's journal since the test's beginning.
- `pristine` makes another container that has never seen a compiler, see test_install.py.
- What cannot run fails, and what hangs too. Nothing is skipped.
- What walks through every place or call takes part of them, with the fixture `sample`, and all with
  --long. Each run takes another part; NETD_TEST_SAMPLE=N takes one again.

Run all of it with `make check`, or, as root, some of it:

    python3 -m pytest tests/system -k NAME --release bookworm

Making the containers takes a minute or two, so keep them while you work on something:

    export NETD_TEST_KEEP=/var/tmp/my-netd-test    # end: kill -9 $(cat $NETD_TEST_KEEP/*/box.pid)

Later runs then use them as they are, and build and install what has changed in the tree.

make test keeps their file systems alone, in NETD_TEST_FILES, and boots a copy: no container stays
behind, and each run begins with the same.
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

from box import RELEASES, SOURCE, Box, Files, copy_source, temporary_directory
from daemon import Netd

SOURCE_INSIDE = "/usr/src/netd"

# Seconds for a test, but with --long. The longest takes a minute on an idle machine.
TIME_LIMIT = 900

Sample = collections.namedtuple("Sample", "every first")
SAMPLE_EVERY = 4
SAMPLE_FIRST = int(os.environ.get("NETD_TEST_SAMPLE", random.randrange(SAMPLE_EVERY)))

# For --sanitize. What a process finds stops it, and stands in a file here.
REPORTS = "/var/netd-sanitizer"
SANITIZER = f"""[Service]
Environment=ASAN_OPTIONS=log_path={REPORTS}/report
Environment=UBSAN_OPTIONS=log_path={REPORTS}/report:print_stacktrace=1
ReadWritePaths={REPORTS}
# How LeakSanitizer looks at a process.
SystemCallFilter=ptrace
"""


def pytest_addoption(parser):
    parser.addoption("--release", action="append", choices=RELEASES,
                     help="run on this Debian release (may be given again; default: all)")
    parser.addoption("--long", action="store_true",
                     help="let tests that need minutes have them (default: shortened)")
    parser.addoption("--sanitize", action="store_true",
                     help="netd and netd-client with gcc's sanitizers, in a sandbox that lets them; "
                     "no test may leave a report")


def pytest_configure():
    # So that the containers get torn down then, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        for name in ("long", "sample"):
            if name in item.fixturenames:
                item.add_marker(name)


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


# Rows of the fault matrix: those that there are, and those that a test names: test_j4_and_j5_...
ROWS = [f"{letter}{n + 1}" for letter, count in zip("JPCDS", (8, 11, 11, 6, 4))
        for n in range(count)]


def rows_of(name):
    """The rows in the NAME of a test."""
    found = re.match(r"test_([jpcds]\d+(_and_[jpcds]\d+)*)_", name)
    return found[1].upper().split("_AND_") if found else []


def pytest_terminal_summary(terminalreporter, config):
    """How many tests of which rows passed; which of them would take longer with --long, and which
    took a sample."""
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
    box.run("make", "-C", SOURCE_INSIDE, *variables, "install", timeout=120)
    if sanitize:
        prepare_sanitizer(box)
    if "NETD_TEST_COVERAGE" in os.environ:
        prepare_coverage(box)


def extra_dropins(box):
    """Not where tests put theirs and remove the directory."""
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
    """All that is there, which is then gone."""
    found = [path.read_text(encoding="utf-8", errors="replace")
             for path in box.path(REPORTS).glob("*")]
    box.sh(f"rm -f {REPORTS}/*")
    return "\n".join(found)


def prepare_coverage(box):
    """What ran is written down beside the objects, by services that may write nowhere else, and by
    any user: so the files are there already, for everybody."""
    add_dropins(box, f"[Service]\nReadWritePaths={SOURCE_INSIDE}/build\n")
    box.sh(f"""
        cd {SOURCE_INSIDE}/build
        find . -name '*.gcda' -delete
        find . -name '*.gcno' | sed 's/gcno$/gcda/' | xargs touch
        chmod -R a+rwX .
        systemctl daemon-reload
    """)


def collect_coverage(box):
    """Copies it to where tests/coverage.py looks."""
    for dropin in extra_dropins(box):
        dropin.unlink()
    target = SOURCE / "build/coverage/system"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(box.path(f"{SOURCE_INSIDE}/build/coverage"), target)


@contextlib.contextmanager
def or_give_up():
    """Without a box no test can run, and one error says it as well as hundreds."""
    try:
        yield
    except Exception as error:
        pytest.exit(f"no box: {error}", returncode=1)


@pytest.fixture(scope="session")
def files(request):
    """Release to its file systems, made at the same time."""
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
    """Release to its booted box with netd installed."""
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
    """True when tests that need minutes shall have them."""
    return request.config.getoption("--long")


@pytest.fixture
def sample(long):
    """Which of all places or calls to try: one in .every, beginning with number .first. All in the
    long run."""
    return Sample(1, 0) if long else Sample(SAMPLE_EVERY, SAMPLE_FIRST % SAMPLE_EVERY)


@pytest.fixture
def netd(box, request):
    """netd in one release's container, not started, with the configuration that it came with."""
    netd = Netd(box)
    netd.reset()
    yield netd
    netd.reset()
    if request.config.getoption("--sanitize"):
        found = sanitizer_reports(box)
        assert not found, found


@pytest.fixture
def pristine(files, release):
    """Makes a directory with a Debian that never had a compiler, the source tree in
    /usr/src/netd, and apt served from a folder: pristine() to enter it, pristine(boot=True) for a
    booted Box."""
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
