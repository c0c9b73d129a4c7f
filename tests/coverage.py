#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make coverage: what the tests run of src/, in three parts: the unit tests; the scenarios in
which every call fails (system/inject.py); the system tests, on Debian 12, as this needs its gcov.

Prints every line that never ran, with its reason from coverage.reasons if there is one, and the
share of lines and branches. Exits 1 if a line has no reason, or a share is below its target. Needs
root.

    tests/coverage.py [unit] [inject] [system] [report]

measures these parts, by default all; results of the other parts are those of earlier runs, except
for files that have changed since.

A line of coverage.reasons is FILE: FUNCTION: CODE -- REASON, and covers every line CODE in that
function. FILE, below src/, and FUNCTION may have wildcards; with asterisks around it, CODE may be
anywhere in the line. The first line of a statement stands for all its lines. A reason for a line
that does not exist is an error; one for a line that ran is not, since that may depend on timing.
"""

import collections
import datetime
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]
BUILD = TOP / "build/coverage"
FLAGS = ["HARDENING=", "CPPFLAGS=-DCOVERAGE", "CFLAGS=-O0 --coverage -fprofile-update=atomic"]
REASONS = TOP / "tests/coverage.reasons"
LINES_TARGET, BRANCHES_TARGET = 98, 90

Reason = collections.namedtuple("Reason", "file function code reason")


def run(*command, check=True, **options):
    return subprocess.run(command, cwd=TOP, check=check, text=True, **options)


# The parts


def make(part, *words):
    run("make", "-s", "--no-print-directory", f"BUILD=build/coverage/{part}", *FLAGS, *words)


def run_unit():
    make("unit", "-j2", "unit")


def run_inject():
    """Failures do not matter here: make check reports them."""
    inject = "build/coverage/inject"
    alloc = f"{inject}/tests/inject/alloc.o"
    words = f"LDLIBS={alloc}", f"LIBEXECDIR={TOP / inject}"
    make("inject", *words, alloc)
    make("inject", *words, "-j2", "all", f"{inject}/inject")
    with open(BUILD / "inject.log", "w", encoding="utf-8") as log:
        run(sys.executable, "-B", "tests/system/inject.py", "--mode", "once",
            "--programs", str(TOP / inject), check=False, stdout=log)
    return last_line("inject.log")


def run_system():
    """A test may fail here that measures netd itself. Not those that install it anew, without a
    profile; nor those where workers die at every place: a profile's writing has hundreds more."""
    command = ["/usr/bin/python3", "-B", "-m", "pytest", "tests/system", "--release", "bookworm",
               "-q", "--no-header", "--tb=short", "--ignore", "tests/system/test_inject.py",
               "--ignore", "tests/system/test_install.py", "-k", "not at_every_place"]
    variables = ",".join(["BUILD=build/coverage", *FLAGS])
    with open(BUILD / "system.log", "w", encoding="utf-8") as log:
        run(*command, check=False, stdout=log, stderr=subprocess.STDOUT,
            env=os.environ | {"NETD_TEST_COVERAGE": variables})
    return last_line("system.log")


def last_line(log):
    lines = (BUILD / log).read_text(encoding="utf-8").splitlines()
    return lines[-1].strip("= ") if lines else "nothing"


PARTS = {"unit": run_unit, "inject": run_inject, "system": run_system}


def sources():
    """File to the checksum of what stands in it."""
    return {str(file.relative_to(TOP)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(TOP.glob("src/**/*.[ch]"))}


def gcovr(*words):
    """What gcovr says as JSON."""
    command = ["gcovr", "--root", ".", "--filter", "src/", "--exclude-unreachable-branches",
               "--exclude-throw-branches", *words, "-"]
    return json.loads(run(*command, stdout=subprocess.PIPE).stdout)


def measure(part):
    """Leaves the lines and branches in PART.json, with what they are of."""
    print(f"measuring: {part}", flush=True)
    for old in (BUILD / part).rglob("*.gcda"):
        old.unlink()
    BUILD.mkdir(parents=True, exist_ok=True)
    before = sources()
    said = PARTS[part]() or "passed"
    data = gcovr(f"build/coverage/{part}", "--json")
    data["part"] = {"sources": before, "said": said, "time": f"{datetime.datetime.now():%F %R}"}
    (BUILD / f"{part}.json").write_text(json.dumps(data), encoding="utf-8")


# The report


def usable(part):
    """PART.json without the files that have changed; returns the path of what is left."""
    data = json.loads((BUILD / f"{part}.json").read_text(encoding="utf-8"))
    about, now = data.pop("part"), sources()
    same = {file for file, checksum in about["sources"].items() if now.get(file) == checksum}
    changed = [f["file"] for f in data["files"] if f["file"] not in same]
    data["files"] = [f for f in data["files"] if f["file"] in same]
    print(f"{part}, {about['time']}: {about['said']}"
          + (f"; without what has changed since: {' '.join(changed)}" if changed else ""))
    path = BUILD / f"{part}.usable.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def read_reasons():
    reasons = []
    for line in REASONS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            where, reason = line.split(" -- ", 1)
            reasons.append(Reason(*where.split(": ", 2), reason))
    return reasons


def fits(reason, file, function, code):
    pattern = reason.code
    same = (pattern[1:-1] in code if pattern.startswith("*") and pattern.endswith("*")
            else pattern == code)
    return (same and fnmatch.fnmatchcase(file, f"src/{reason.file}")
            and fnmatch.fnmatchcase(function, reason.function))


def function_of(text, number):
    """The function that line NUMBER of TEXT is in: its name stands at a line's beginning, or behind
    the type that does."""
    for line in reversed(text[:number]):
        if found := re.match(r"[a-z].*?(\w+)\(", line):
            return found[1]
    return ""


def uncovered(file, text):
    """The first lines of the statements in FILE that never ran."""
    idle = {line["line_number"] for line in file["lines"]
            if not (line["count"] or line.get("gcovr/noncode") or line.get("gcovr/excluded"))}
    for number in sorted(idle):
        code, before = text[number - 1].strip(), text[number - 2].strip()
        goes_on = number - 1 in idle and not before.endswith((";", "{", "}"))
        if not goes_on and code not in ("{", "}"):
            yield number, code


def explain(files):
    """Prints the lines that never ran. Returns how many have no reason."""
    reasons, missing = read_reasons(), 0
    for file in files:
        text = (TOP / file["file"]).read_text(encoding="utf-8").splitlines()
        for number, code in uncovered(file, text):
            function = function_of(text, number)
            found = [r for r in reasons if fits(r, file["file"], function, code)]
            missing += not found
            print(f"{file['file']}:{number}: {function}: {code}\n"
                  f"    {found[0].reason if found else 'NO REASON'}")
    return missing


def gone():
    """The reasons that are for no line of the source."""
    left = read_reasons()
    for path in TOP.glob("src/**/*.[ch]"):
        file = str(path.relative_to(TOP))
        text = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(text, 1):
            left = [r for r in left
                    if not fits(r, file, function_of(text, number), line.strip())]
    return left


def report():
    parts = [part for part in PARTS if (BUILD / f"{part}.json").exists()]
    files = [word for part in parts for word in ("-a", str(usable(part)))]
    missing, unused = explain(gcovr(*files, "--json")["files"]), gone()
    total = gcovr(*files, "--json-summary")
    for file in sorted(total["files"], key=lambda f: f["filename"]):
        print(f"{file['line_percent']:6.1f} % of {file['line_total']:4} lines, "
              f"{file['branch_percent'] or 0:6.1f} % of {file['branch_total']:4} branches: "
              f"{file['filename']}")
    for reason in unused:
        print(f"coverage.reasons: there is no such line: {reason.file}: {reason.function}: {reason.code}")
    lines, branches = total["line_percent"], total["branch_percent"]
    print(f"{', '.join(parts)}: {lines} % of {total['line_total']} lines (target {LINES_TARGET}), "
          f"{branches} % of {total['branch_total']} branches (target {BRANCHES_TARGET}), "
          f"{missing} lines without a reason")
    return missing or unused or lines < LINES_TARGET or branches < BRANCHES_TARGET


def main():
    words = sys.argv[1:] or list(PARTS)
    BUILD.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if part in words:
            measure(part)
    return 1 if report() else 0


if __name__ == "__main__":
    sys.exit(main())
