# SPDX-License-Identifier: MIT
"""What the manual and the README say, held against the sources and a run."""

import re
from xml.etree import ElementTree

from box import SOURCE

README = (SOURCE / "README.md").read_text(encoding="utf-8")

CALL = re.compile(r'\blog_(?:error|warning|notice|info)\(\s*((?:"(?:[^"\\]|\\.)*"|[A-Z][A-Z_0-9a-z]*'
                  r'|\s+)+)')
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"|\b[A-Z]\w*')


def messages():
    """What the daemon's programs log: the pieces of text between what is filled in."""
    for folder in "netd", "netd-tls":
        for path in sorted((SOURCE / "src" / folder).rglob("*.c")):
            for call in CALL.findall(path.read_text(encoding="utf-8")):
                # A macro among the literals, such as PRIu64, is filled in, too.
                text = "".join(m[1] if m[1] is not None else "%s" for m in LITERAL.finditer(call))
                pieces = [piece for piece in re.split(r"%[-0-9.*lz]*[a-zA-Z]?", text)
                          if len(piece.strip(" :'()")) > 3]
                if pieces:
                    yield path.name, pieces


def diagnostics():
    """The messages in DIAGNOSTICS, one a line, as people see them."""
    page = (SOURCE / "man/netd.8").read_text(encoding="utf-8")
    (section,) = re.findall(r"^\.Sh DIAGNOSTICS\n(.*?)^\.Sh ", page, re.M | re.S)
    blocks = " ".join(" ".join(b.split()) + "\n"
                      for b in re.findall(r"^\.Bd.*?\n(.*?)^\.Ed", section, re.M | re.S))
    items = "\n".join(re.findall(r"^\.It (.*)", section, re.M))
    return (blocks + items).replace("\\(dq", '"').replace("\\&", "")


def test_every_message_is_explained():
    known, found = diagnostics(), list(messages())
    assert len(found) > 30
    missing = [f"{name}: {' ... '.join(pieces)}" for name, pieces in found
               if not re.search(".*".join(map(re.escape, pieces)), known)]
    assert not missing, "not in netd(8), DIAGNOSTICS:\n" + "\n".join(missing)


def test_the_picture_is_from_a_run(box):
    drawn = box.run("python3", "/usr/src/netd/tests/picture.py", "/usr/src/netd/build/netd").stdout
    kept = (SOURCE / "tests/picture.svg").read_text(encoding="utf-8")
    for svg in drawn, kept:
        texts = [e.text for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("text")]
        assert [t for t in texts if t.startswith("data ")] == ["data one", "data two", "data three"]
        assert "worker died of signal 9 (Killed); its sessions continue" in texts
        assert texts[-1].endswith(" records=3 bytes=14 end=eof")
    assert "![" in README and "](tests/picture.svg)" in README
