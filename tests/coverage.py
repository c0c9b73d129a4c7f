#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make coverage: what the unit tests, the lives in which every call fails (system/inject.py), and
the system tests run of src/. Prints the share of lines and branches, and every line that never ran with its reason
from coverage.reasons, or without one. Exits 1 when a line has none, or the share is below the
target. Wants gcovr, and root.

coverage.reasons has one line for each: FILE: CODE -- REASON, where CODE is the source line without
its indentation; one that begins and ends with * is for every line that has the part between. A
reason that fits no such line any more is an error, too.
"""

import json
import os
import pathlib
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]
UNIT, LIVES, SYSTEM = "build/coverage/unit", "build/coverage/lives", "build/coverage/system"
FLAGS = ["HARDENING=", "CPPFLAGS=-DCOVERAGE", "CFLAGS=-O0 --coverage -fprofile-update=atomic"]
REASONS = TOP / "tests/coverage.reasons"
LINES_TARGET, BRANCHES_TARGET = 98, 90


def make(build, *words):
    subprocess.run(["make", "-s", "--no-print-directory", f"BUILD={build}", *FLAGS, *words],
                   cwd=TOP, check=True)


def measure(option):
    command = ["gcovr", "--root", ".", "--filter", "src/", "--exclude-unreachable-branches",
               "--exclude-throw-branches", *(d for d in (UNIT, LIVES, SYSTEM) if (TOP / d).exists()), option, "-"]
    result = subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)


def read_reasons():
    reasons = []
    for line in REASONS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            where, reason = line.split(" -- ", 1)
            name, code = where.split(": ", 1)
            reasons.append((name, code, reason))
    return reasons


def fits(pattern, code):
    if pattern.startswith("*") and pattern.endswith("*"):
        return pattern[1:-1] in code
    return pattern == code


def report():
    """Returns the uncovered lines without a reason, and the reasons without a line."""
    reasons, used, missing = read_reasons(), set(), []
    for file in measure("--json")["files"]:
        text = (TOP / file["file"]).read_text(encoding="utf-8").splitlines()
        for line in file["lines"]:
            if line["count"] or line.get("gcovr/noncode") or line.get("gcovr/excluded"):
                continue
            code = text[line["line_number"] - 1].strip()
            if code in ("}", "{", "break;"):
                continue  # belongs to the line above
            found = [r for r in reasons if r[0] == file["file"] and fits(r[1], code)]
            used.update(found)
            where = f"{file['file']}:{line['line_number']}: {code}"
            print(f"{where}\n    {found[0][2] if found else 'NO REASON'}")
            if not found:
                missing.append(where)
    return missing, [r for r in reasons if r not in used]


def run_system_tests():
    """On the older release, whose gcov this machine has. A test may fail here that measures netd."""
    command = ["/usr/bin/python3", "-B", "-m", "pytest", "tests/system", "--release", "bookworm",
               "-q", "--no-header", "--tb=no", "--deselect", "tests/system/test_inject.py"]
    variables = ",".join(["BUILD=build/coverage", *FLAGS])
    subprocess.run(command, cwd=TOP, check=False, env=os.environ | {"NETD_TEST_COVERAGE": variables})


def main():
    if "--only-report" not in sys.argv:
        for old in (TOP / "build/coverage").rglob("*.gcda"):
            old.unlink()
        make(UNIT, "-j2", "unit")
        alloc = f"{LIVES}/tests/inject/alloc.o"
        make(LIVES, f"LDLIBS={alloc}", alloc)
        make(LIVES, f"LDLIBS={alloc}", "-j2", "all", f"{LIVES}/inject")
        # Whether they are right is make check's question.
        subprocess.run([sys.executable, "-B", "tests/system/inject.py", "--mode", "once",
                        "--programs", str(TOP / LIVES)], cwd=TOP, check=False,
                       stdout=subprocess.DEVNULL)
        run_system_tests()
    missing, idle = report()
    total = measure("--json-summary")
    for file in sorted(total["files"], key=lambda f: f["filename"]):
        print(f"{file['line_percent']:6.1f} % of {file['line_total']:4} lines, "
              f"{file['branch_percent'] or 0:6.1f} % of {file['branch_total']:4} branches: "
              f"{file['filename']}")
    lines, branches = total["line_percent"], total["branch_percent"]
    print(f"{lines} % of {total['line_total']} lines (target {LINES_TARGET}), "
          f"{branches} % of {total['branch_total']} branches (target {BRANCHES_TARGET})")
    for _, code, _ in idle:
        print(f"coverage.reasons: this line runs, or is gone: {code}")
    print(f"{len(missing)} lines neither run nor have a reason")
    return 1 if missing or idle or lines < LINES_TARGET or branches < BRANCHES_TARGET else 0


if __name__ == "__main__":
    sys.exit(main())
