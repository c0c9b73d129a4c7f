# SPDX-License-Identifier: MIT
"""Configuration and commands in the manual and the README: tests run exactly these."""

import re

from box import SOURCE


def blocks(section, page="netd.8"):
    """The literal blocks of a SECTION of a manual page."""
    text = (SOURCE / "man" / page).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^\.Sh {section}\n(.*?)^(?=\.Sh |\Z)", text, re.M | re.S)
    found = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", section, re.M | re.S)
    assert not re.search(r"\\[^e]|^\.", "".join(found), re.M)
    return [block.replace("\\e", "\\") for block in found]


def files(section):
    """The blocks that begin with the name of a file as a comment: name to text."""
    found = {}
    for block in blocks(section):
        if name := re.match(r"# (/\S+)\n", block):
            assert name[1] not in found
            found[name[1]] = block
    return found


def commands(section, prompt):
    """The commands behind a PROMPT, as one script."""
    lines, more = [], False
    for line in "".join(blocks(section)).splitlines():
        if re.match(r"# /\S+$", line):
            more = False
        elif line.startswith(f"{prompt} "):
            more = True
            lines.append(line[2:])
        elif more and line.startswith("  "):
            lines.append(line)
        else:
            more = False
    return "\n".join(lines) + "\n"


def in_readme(text):
    """True if the README has TEXT as an indented block."""
    readme = (SOURCE / "README.md").read_text(encoding="utf-8")
    return "".join(f"    {line}\n" if line else "\n" for line in text.splitlines()) in readme
