# SPDX-License-Identifier: MIT
"""What the other tests rely on: the reader of the Journal Export Format, and the box's network."""

import json
import pathlib
import re
import statistics

import pytest

import journal
from box import SOURCE, wait_for
from conftest import ROWS, rows_of

ONE = b"__CURSOR=a\nMESSAGE=one\n\n"


def binary(name, value):
    return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"


def test_every_row_of_the_fault_matrix_has_a_test():
    names = [name for path in pathlib.Path(__file__).parent.glob("test_*.py")
             for name in re.findall(r"^def (test_\w+)\(", path.read_text("utf-8"), re.M)]
    assert {row for name in names for row in rows_of(name)} == set(ROWS)


def test_entries_are_separated_by_empty_lines():
    assert [e["MESSAGE"] for e in journal.parse(ONE + b"MESSAGE=two=2\n\n\nMESSAGE=\n")] == [
        b"one", b"two=2", b""]
    assert journal.parse(b"") == []


def test_binary_values_may_hold_anything():
    value = b"a\n\nMESSAGE=x\n\0\xff"
    first, second = journal.parse(binary(b"NETD_DATA", value) + b"\n" + ONE)
    assert first["NETD_DATA"] == first.record == value
    assert second.pairs == [("__CURSOR", b"a"), ("MESSAGE", b"one")]


def test_a_field_twice_shows_in_pairs():
    (entry,) = journal.parse(b"A=1\nA=2\n")
    assert entry["A"] == b"1" and entry.pairs == [("A", b"1"), ("A", b"2")]


@pytest.mark.parametrize("export", [b"A=1", binary(b"A", b"value")[:-1],
                                    b"A\n" + (9).to_bytes(8, "little") + b"value\n"])
def test_truncated_export_is_an_error(export):
    with pytest.raises(ValueError):
        journal.parse(export)


def test_joined_puts_the_ends_back():
    def data(**fields):
        return journal.Entry([("NETD_EVENT", b"data"),
                              *((k, v) for k, v in fields.items())])
    events = [journal.Entry([("NETD_EVENT", b"connect"), ("MESSAGE", b"hello")]),
              data(MESSAGE=b"a"), data(MESSAGE=b"b", NETD_TERMINATOR=b"crlf"),
              data(MESSAGE=b"c", NETD_TERMINATOR=b"continued"),
              data(MESSAGE=b"\\x00", NETD_DATA=b"\0", NETD_TERMINATOR=b"none")]
    assert journal.joined(events) == b"a\nb\r\nc\0"


def test_the_first_entry_after_the_start_is_not_lost(netd):
    """journalctl --after-cursor of systemd 252 skips it."""
    netd.box.sh("logger -t first-entry one; logger -t first-entry two")
    found = netd.journal("SYSLOG_IDENTIFIER=first-entry")
    assert [e["MESSAGE"] for e in found] == [b"one", b"two"]


def test_a_killed_command_dies_inside(box):
    with box.popen("sleep", "98765") as command:
        def running():
            return box.run("pgrep", "-f", "^sleep 98765$", check=False).stdout
        wait_for(running, "the command to run")
        command.kill()
    wait_for(lambda: not running(), "the command to die")


def test_boxes_have_loopback_only(box):
    assert "UP" in box.sh("ip -br link show lo")
    assert len(box.sh("ip -br link").splitlines()) == 1


def test_the_readme_has_the_tables_of_the_bench():
    def tables(name):
        text = (SOURCE / name).read_text(encoding="utf-8")
        return sorted(re.findall(r"<!-- bench: \w+ -->.*?<!-- end -->", text, re.S))

    shown = tables("README.md")
    assert len(shown) == 5 and shown == tables("tests/bench/results/bench.md")


def test_the_manual_has_the_figures_of_the_bench():
    """Records a second, as a share of those without the setting, on both releases."""
    data = json.loads((SOURCE / "tests/bench/results/bench.json").read_text(encoding="utf-8"))

    def rate(runs):
        return statistics.median(run["records_per_second"] for run in runs)

    shares = {name: [rate(of[name]) / rate(of["as in every row"]) for of in data["tuning"].values()]
              for name in next(iter(data["tuning"].values()))}
    del shares["as in every row"]
    lines = [f".It Cm {name} Ta {first:.2f} Ta {second:.2f}\n"
             for name, (first, second) in shares.items()]
    first, second = (rate(of["netd-x2"]) / rate(of["netd-100"])
                     for of in data["rows"]["results"].values())
    lines.append(f".It two instances, see below Ta {first:.2f} Ta {second:.2f}\n")
    assert "".join(lines) in (SOURCE / "man/netd.8").read_text(encoding="utf-8")
