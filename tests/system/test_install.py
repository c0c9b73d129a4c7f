# SPDX-License-Identifier: MIT
"""make, make install, make uninstall."""

import re
import subprocess

import pytest

from box import SOURCE

TREE = "/usr/src/netd"


def make(box, *words, **options):
    return box.run("make", "-C", TREE, *words, timeout=300, **options).stdout


def install(box, *words, **options):
    """Installs what is built. With other variables than the last time it would be built anew."""
    return make(box, "-o", "all", "install", *words, **options)


def files(box, directory):
    return set(box.sh(f"cd {directory} && find . -type f").split())


@pytest.fixture
def directory(box):
    """An empty directory in the box."""
    path = box.sh("mktemp -d").strip()
    yield path
    box.sh(f"rm -rf {path}")


EXPECTED = {
    "./usr/sbin/netd": "755",
    "./usr/bin/netd-client": "755",
    "./usr/libexec/netd-tls": "755",
    "./usr/lib/systemd/system/netd.service": "644",
    "./usr/lib/systemd/system/netd.socket": "644",
    "./usr/lib/systemd/system/netd@.service": "644",
    "./usr/lib/systemd/system/netd@.service.d/instance.conf": "644",
    "./usr/lib/systemd/system/netd@.socket": "644",
    "./usr/lib/systemd/system/netd-metrics.socket": "644",
    "./usr/lib/systemd/system/netd-metrics@.service": "644",
    "./usr/lib/systemd/catalog/netd.catalog": "644",
    "./usr/share/doc/netd/netd.conf": "644",
    "./usr/share/doc/netd/prometheus-rules.yml": "644",
    "./usr/share/doc/netd/socket-only.conf": "644",
    "./usr/share/man/man8/netd.8": "644",
    "./usr/share/man/man5/netd.conf.5": "644",
    "./usr/share/man/man1/netd-client.1": "644",
    "./usr/share/man/man7/netd.journal-fields.7": "644",
    "./usr/share/bash-completion/completions/netd-client": "644",
    "./usr/share/fish/vendor_completions.d/netd-client.fish": "644",
    "./usr/share/zsh/site-functions/_netd-client": "644",
    "./etc/netd/netd.conf": "644",
    "./etc/default/netd": "644",
}


def test_install_puts_every_file_in_its_place(box, directory):
    install(box, f"DESTDIR={directory}", "PREFIX=/usr")
    found = dict(line.split() for line in
                 box.sh(f"cd {directory} && find . -type f -printf '%p %m\\n'").splitlines())
    assert found == EXPECTED


def test_the_umask_does_not_reach_what_is_installed(box, directory):
    box.sh(f"umask 077; make -s -C {TREE} -o all install DESTDIR={directory} PREFIX=/usr")
    assert not box.sh(f"find {directory}/* ! -perm -o=r").strip()


def test_unit_files_and_manual_pages_name_the_chosen_paths(box, directory):
    install(box, f"DESTDIR={directory}", "PREFIX=/opt/netd", "SYSCONFDIR=/opt/etc",
            "UNITDIR=/opt/units")
    assert "./opt/netd/libexec/netd-tls" in files(box, directory)
    unit = box.sh(f"cat {directory}/opt/units/netd.service")
    assert "ExecStart=/opt/netd/sbin/netd\n" in unit
    assert "ExecReload=/opt/netd/sbin/netd --reload $MAINPID\n" in unit
    assert "ExecPaths=/opt/netd/sbin -/opt/netd/libexec " in unit
    assert "BindReadOnlyPaths=/opt/netd/sbin -/opt/netd/libexec " in unit
    assert "EnvironmentFile=-/opt/etc/default/netd\n" in unit
    assert "/usr/local/sbin" not in unit
    pages = box.sh(f"cat {directory}/opt/netd/share/man/man*/*")
    assert "# cp /opt/netd/share/doc/netd/socket-only.conf " in pages
    assert ".It Pa /opt/etc/netd/netd.conf\n" in pages
    assert "/usr/local" not in pages
    assert not re.search("(?<!/opt)/etc/(netd|default)", pages)


@pytest.mark.only_on("bookworm")
def test_the_program_uses_the_chosen_directories(box, directory):
    make(box, f"BUILD={directory}/build", f"SYSCONFDIR={directory}/etc",
         f"LIBEXECDIR={directory}/libexec", f"{directory}/build/netd")
    box.sh(f"mkdir -p {directory}/etc/netd; echo 'nonsense = 1;' >{directory}/etc/netd/netd.conf")
    result = box.run(f"{directory}/build/netd", "-t", check=False)
    assert result.returncode == 78
    assert f"{directory}/etc/netd/netd.conf:1: " in result.stderr
    box.sh(f"""echo 'listeners = ({{ name = "x"; tls = {{ certificate = "x"; key = "x"; }}; }});' \
        >{directory}/etc/netd/netd.conf""")
    result = box.run(f"{directory}/build/netd", "-t", check=False)
    assert f"{directory}/libexec/netd-tls: No such file or directory" in result.stderr


def test_a_changed_configuration_survives_install_and_uninstall(box, directory):
    words = (f"DESTDIR={directory}", "PREFIX=/usr")
    install(box, *words)
    box.sh(f"echo 'port = 4000;' >>{directory}/etc/netd/netd.conf")
    install(box, *words)
    assert box.sh(f"tail -n1 {directory}/etc/netd/netd.conf") == "port = 4000;\n"
    make(box, "uninstall", *words)
    assert files(box, directory) == {"./etc/netd/netd.conf"}


def test_uninstall_removes_what_install_put_there(box, directory):
    words = (f"DESTDIR={directory}", "PREFIX=/usr")
    install(box, *words)
    box.sh(f"touch {directory}/usr/sbin/other")
    make(box, "uninstall", *words)
    assert files(box, directory) == {"./usr/sbin/other"}
    assert box.sh(f"find {directory} -name 'netd*'") == ""
    make(box, "uninstall", *words)  # once more is no error


def test_systemd_hears_of_it_only_without_destdir(box, directory):
    box.sh(f"""
        mkdir {directory}/bin
        for program in systemctl journalctl; do
            printf '#!/bin/sh\\necho "$0 $*" >>{directory}/calls\\n' >{directory}/bin/$program
            chmod +x {directory}/bin/$program
        done
    """)
    path = {"PATH": f"{directory}/bin:/usr/sbin:/usr/bin"}
    words = (f"DESTDIR={directory}/root",)
    install(box, *words, env=path)
    make(box, "uninstall", *words, env=path)
    assert files(box, directory) & {"./calls"} == set()
    words = (f"PREFIX={directory}/usr", f"SYSCONFDIR={directory}/etc")
    install(box, *words, env=path)
    make(box, "uninstall", *words, env=path)
    calls = box.sh(f"cat {directory}/calls").replace(f"{directory}/bin/", "").splitlines()
    assert calls == ["systemctl daemon-reload", "journalctl --update-catalog",
                     "systemctl -q disable netd.service netd.socket netd@.service netd@.socket "
                     "netd-metrics.socket netd-metrics@.service",
                     "systemctl -q stop netd.socket netd.service netd@* netd-metrics*",
                     "systemctl daemon-reload", "journalctl --update-catalog"]


def test_a_new_install_replaces_the_running_program_safely(netd):
    """The file is a new one: writing into the old one would fail, or crash what runs."""
    netd.start()
    before = netd.box.sh("stat -c %i /usr/local/sbin/netd")
    install(netd.box)
    assert netd.box.sh("stat -c %i /usr/local/sbin/netd") != before
    assert netd.send(b"still here\n").records == 1


def test_uninstall_stops_what_runs(netd):
    netd.start(config="port = 4000;")
    netd.box.run("systemctl", "enable", "netd.service", "netd.socket", "netd@2.socket")
    netd.box.run("systemctl", "start", "netd@1.socket", "netd@1.service")
    try:
        for _ in range(2):  # once more is no error
            said = netd.box.run("make", "-C", TREE, "uninstall")
            assert "Error" not in said.stdout and said.stderr == ""
            assert netd.box.sh("systemctl list-units --all --plain --no-legend 'netd*'") == ""
        # conftest.py's own drop-ins stay.
        assert netd.box.sh("find /etc/systemd /etc/fish /usr/local ! -type d ! -name extra.conf"
                           " -path '*netd*'") == ""
        assert "netd" not in netd.box.run("journalctl", "--list-catalog").stdout
    finally:
        netd.box.run("systemctl", "stop", "netd@1.socket", "netd@1.service", check=False)
        install(netd.box)


@pytest.mark.parametrize("target", ["install", "uninstall"])
def test_an_ordinary_user_is_told_what_to_do(box, directory, target):
    """In one line, before anything is built or removed; with folders of his own it works."""
    def as_nobody(*words):
        return box.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "make", "-C",
                       TREE, *words, check=False, timeout=300)

    before = files(box, "/usr/local")
    result = as_nobody(target)
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == (
        "no permission to write to /usr/local/sbin: run make as root, or set DESTDIR, or PREFIX and"
        " SYSCONFDIR")
    assert len(result.stderr.splitlines()) == 2  # the other is make's own
    assert files(box, "/usr/local") == before
    box.sh(f"chmod 777 {directory}")
    for where in (f"DESTDIR={directory}/root",), (f"PREFIX={directory}/local",
                                                  f"SYSCONFDIR={directory}/etc"):
        result = as_nobody("-o", "all", target, *where)
        assert result.returncode == 0 and result.stderr == "", result


def test_the_reference_is_there_beside_a_changed_configuration(box, directory):
    words = (f"DESTDIR={directory}", "PREFIX=/usr")
    box.sh(f"mkdir -p {directory}/etc/netd && echo 'port = 4000;' >{directory}/etc/netd/netd.conf")
    install(box, *words)
    assert box.sh(f"cat {directory}/etc/netd/netd.conf") == "port = 4000;\n"
    box.sh(f"cmp {TREE}/etc/netd.conf {directory}/usr/share/doc/netd/netd.conf")


def test_fish_finds_its_completion(box, directory):
    """fish 3.6 of Debian 12 looks in /usr/share and /etc/fish, and not below /usr/local."""
    for prefix in "/usr", "/usr/local":
        install(box, f"DESTDIR={directory}{prefix}", f"PREFIX={prefix}")
        found = box.sh(f"cd {directory}{prefix} && find . -name netd-client.fish").split()
        assert found[0] in ("./usr/share/fish/vendor_completions.d/netd-client.fish",
                            "./etc/fish/completions/netd-client.fish") and len(found) == 1


def test_a_packages_prefix_works(netd):
    """PREFIX=/usr in earnest, sandbox and reload included."""
    make(netd.box, "uninstall")
    try:
        install(netd.box, "PREFIX=/usr")
        netd.start()
        assert netd.box.sh(f"readlink /proc/{netd.pid}/exe") == "/usr/sbin/netd\n"
        netd.reload()
        session = netd.box.run("netd-client", "send", "packaged").stdout.strip()
        assert netd.received(session) == b"packaged\n"
    finally:
        make(netd.box, "uninstall", "PREFIX=/usr")
        install(netd.box)


def test_a_packagers_flags_are_added(box, directory):
    said = make(box, "-n", "V=1", f"BUILD={directory}", "CC=my-cc", "CFLAGS=-O1 -DmyC",
                "CPPFLAGS=-DmyCPP", "LDFLAGS=-Wl,-myLD", "HARDENING=-myhardening")
    compiled = [line for line in said.splitlines() if " -c -o " in line]
    linked = [line for line in said.splitlines() if re.match(r"my-cc .*/netd(-client)? ", line)]
    assert len(compiled) > 10 and len(linked) == 2
    for line in compiled:
        assert all(word in line for word in ("my-cc ", "-O1", "-DmyC ", "-DmyCPP", "-std=gnu11",
                                             "-Wall", "-myhardening"))
        assert "-O2" not in line and "_FORTIFY_SOURCE" not in line
    for line in linked:
        assert "-Wl,-myLD" in line and "-myhardening" in line and "relro" not in line


def test_flags_from_the_environment_count(box, directory):
    said = make(box, "-n", "V=1", f"BUILD={directory}", env={"CFLAGS": "-DmyC", "CC": "my-cc"})
    assert "my-cc " in said and "-DmyC" in said and "-O2" not in said


def test_other_flags_build_anew_and_the_same_flags_do_not(box, directory):
    build = (f"BUILD={directory}", f"{directory}/libcommon.a")
    make(box, *build)
    assert " CC " not in make(box, *build)
    assert " CC " in make(box, *build, "CPPFLAGS=-DOTHER")


@pytest.mark.parametrize("program", ["sbin/netd", "bin/netd-client"])
def test_programs_are_hardened(box, program):
    elf = box.sh(f"readelf -hldsW /usr/local/{program}")
    assert re.search(r"Type:\s+DYN", elf)  # position-independent
    assert "GNU_RELRO" in elf and re.search(r"FLAGS.*(BIND_NOW|NOW)", elf)
    assert not re.search(r"GNU_STACK.*RWE", elf)
    assert "__stack_chk_fail" in elf
    assert re.search(r"__\w+_chk@", elf)  # _FORTIFY_SOURCE


def version():
    return re.search(r'NETD_VERSION "([^"]+)"',
                     (SOURCE / "src/common/names.h").read_text(encoding="utf-8"))[1]


def test_the_version_is_the_same_everywhere(box):
    assert box.sh("netd -V").split()[-1] == version()
    assert box.sh("netd-client --version").split()[-1] == version()
    for name in "README.md", "man/netd.8":
        shown = re.findall(r"[Vv]ersion:? (\d+\.\d+\.\d+)",
                           (SOURCE / name).read_text(encoding="utf-8"))
        assert set(shown) == {version()}, name


def test_a_release_makes_the_same_release(box, directory):
    """Without git, as the copy of the tree in the box; and with the files that git tracks."""
    make(box, "dist")
    tarball = f"build/netd-{version()}.tar.gz"
    box.sh(f"tar -C {directory} -xf {TREE}/{tarball}")
    tree = f"{directory}/netd-{version()}"
    box.sh(f"touch -d yesterday {tree}/*; umask 077; TZ=Asia/Tokyo make -s -C {tree} dist")
    box.sh(f"cmp {TREE}/{tarball} {tree}/{tarball}")
    packed = set(box.sh(f"cd {tree} && find . ! -type d -printf '%P\n'").splitlines())
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached"]
    tracked = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=True)
    assert packed >= set(tracked.stdout.splitlines())

    box.sh(f"sed -i 's/^## \\[{version()}\\] - .*/## [{version()}] - unreleased/' {tree}/CHANGELOG.md")
    result = box.run("make", "-C", tree, "dist", check=False)
    assert result.stderr.startswith(f"CHANGELOG.md: no date of version {version()} ")
