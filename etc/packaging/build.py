#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make deb, make rpm: packages from the tarball of make dist, built in a container of the release
in which nothing else can be written to, and which has no network.

    build.py deb --release bookworm build/deb/bookworm
"""

import argparse
import datetime
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/system"))

from box import NSPAWN, RELEASES, mirror

NOBODY = 65534
DEBIAN = SOURCE / "etc/packaging/debian"
# In the version: what the next Debian has is an upgrade.
NUMBERS = dict(zip(RELEASES, ("12", "13")))
# Besides what debian/control names.
TOOLS = "lintian,rpm,rpmlint"

DEB_CHANGELOG = """netd ({version}-1~deb{number}) {release}; urgency=medium

  * Version {version}, see changelog.gz.

 -- {maintainer}  {date:%a, %d %b %Y} 00:00:00 +0000
"""
DEB_BUILD = """
cd /build/netd
dpkg-buildpackage --no-sign
mv ../netd[_-]* /build/output
"""
DEB_CHECK = "lintian --pedantic --display-info --fail-on error,warning /build/output/netd_*.changes"

RPM_CHANGELOG = """
%changelog
* {date:%a %b %d %Y} {maintainer} - {version}-1
- Version {version}, see CHANGELOG.md
"""
# rpm knows of no Debian package, so it cannot check what the build needs.
RPM_BUILD = """
rpmbuild -ba --nodeps --define '_topdir /build' --define '_tmppath /tmp' --define 'debug_package %{nil}' \
    --define '_buildhost build' --define 'use_source_date_epoch_as_buildtime 1' \
    --define 'clamp_mtime_to_source_date_epoch 1' /build/netd.spec
mv RPMS/*/* SRPMS/* /build/output
rpm -qp --qf '[%{=NAME} %{FILEMODES:perms} %{FILENAMES}\n]' output/*.$(uname -m).rpm >output/files
"""
RPM_CHECK = "rpmlint --config /build/rpmlint.toml /build/netd.spec /build/output/*.rpm"


def field(name):
    """A field of debian/control's first paragraph, on one line."""
    text = (DEBIAN / "control").read_text(encoding="utf-8")
    return " ".join(re.search(rf"^{name}:(.*(?:\n .*)*)", text, re.M)[1].split())


def definitions(release):
    """What the changelogs of packages say: version and date have one place, which is elsewhere."""
    names = (SOURCE / "src/common/names.h").read_text(encoding="utf-8")
    version = re.search(r'NETD_VERSION "(.*)"', names)[1]
    changes = (SOURCE / "CHANGELOG.md").read_text(encoding="utf-8")
    date = re.search(rf"^## \[{re.escape(version)}\] - (\S+)$", changes, re.M)[1]
    return {"version": version, "date": datetime.datetime.fromisoformat(date), "release": release,
            "number": NUMBERS[release], "maintainer": field("Maintainer")}


def container(directory, release, log):
    """The root file system of RELEASE with what a build needs; made once."""
    root = directory / f"{release}-build"
    made = directory / f"{release}-build.packages"
    packages = f"{field('Build-Depends')}, {TOOLS}"
    if not made.exists() or made.read_text(encoding="ascii") != packages:
        shutil.rmtree(root, ignore_errors=True)
        satisfy = ('mkdir "$1/build" && chroot "$1" apt-get -q -y -o Acquire::Retries=3 '
                   f"--no-install-recommends satisfy '{field('Build-Depends')}'")
        subprocess.run(["mmdebstrap", "--variant=buildd", f"--include={TOOLS}",
                        '--aptopt=Acquire::Retries "3"', f"--customize-hook={satisfy}", release,
                        root, mirror()], check=True, stdin=subprocess.DEVNULL, stdout=log,
                       stderr=log)
        made.write_text(packages, encoding="ascii")
    return root


def run_inside(root, work, script, environment, log=None):
    """Runs SCRIPT as nobody, with WORK as /build, the only place to write to but /tmp."""
    for path in [work, *work.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    command = [*NSPAWN, "--quiet", "--pipe", "--private-network", "--resolv-conf=off",
               "--timezone=off", "--read-only", "--as-pid2", f"--machine=netd-build-{os.getpid()}",
               "--hostname=build", f"--bind={work}:/build", "-D", root, "--setenv=HOME=/build",
               *(f"--setenv={name}={value}" for name, value in environment.items()),
               "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
               "sh", "-euc", f"cd /build\n{script}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def prepare_deb(work, tarball, values):
    """The source package, unpacked, in WORK/netd."""
    tree = work / "netd"
    tree.mkdir()
    shutil.copy(tarball, work / f"netd_{values['version']}.orig.tar.gz")
    subprocess.run(["tar", "-C", tree, "--strip-components=1", "-xf", tarball], check=True)
    shutil.copytree(DEBIAN, tree / "debian")
    (tree / "debian/changelog").write_text(DEB_CHANGELOG.format(**values), encoding="utf-8")
    return DEB_BUILD, DEB_CHECK, {}


def prepare_rpm(work, tarball, values):
    (work / "SOURCES").mkdir()
    shutil.copy(tarball, work / "SOURCES")
    shutil.copy(SOURCE / "etc/packaging/rpmlint.toml", work)
    spec = (SOURCE / "etc/packaging/netd.spec").read_text(encoding="utf-8")
    spec = spec.replace("@VERSION@", values["version"]) + RPM_CHANGELOG.format(**values)
    (work / "netd.spec").write_text(spec, encoding="utf-8")
    epoch = values["date"].replace(tzinfo=datetime.timezone.utc).timestamp()
    return RPM_BUILD, RPM_CHECK, {"SOURCE_DATE_EPOCH": int(epoch)}


def build(arguments, work, log):
    values = definitions(arguments.release)
    tarball = SOURCE / f"build/netd-{values['version']}.tar.gz"
    root = container(arguments.containers.resolve(), arguments.release, log)
    prepare = {"deb": prepare_deb, "rpm": prepare_rpm}[arguments.kind]
    script, check, environment = prepare(work, tarball, values)
    (work / "output").mkdir()
    for name in ("DEB_BUILD_OPTIONS", "TZ", "LC_ALL"):
        if name in os.environ:
            environment[name] = os.environ[name]
    run_inside(root, work, script, environment, log)
    if not arguments.no_check:
        run_inside(root, work, check, environment)


def main():
    parser = argparse.ArgumentParser(description="Builds packages in a container.")
    parser.add_argument("kind", choices=("deb", "rpm"))
    parser.add_argument("--release", choices=RELEASES, required=True)
    parser.add_argument("--containers", type=pathlib.Path, default=SOURCE / "build/container",
                        help="where containers are kept (default: build/container)")
    parser.add_argument("--no-check", action="store_true", help="no lintian, no rpmlint")
    parser.add_argument("output", type=pathlib.Path, help="directory for the packages and build.log")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        return "build.py: builds in a container: run it as root"
    arguments.containers.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(arguments.output, ignore_errors=True)
    arguments.output.mkdir(parents=True)
    log = arguments.output / "build.log"
    with tempfile.TemporaryDirectory(prefix="netd-build-", dir="/var/tmp") as directory:
        try:
            with log.open("wb") as file:
                build(arguments, pathlib.Path(directory), file)
        except subprocess.CalledProcessError as error:
            print("\n".join(log.read_text(errors="replace").splitlines()[-40:]))
            return f"build.py: {error.cmd[0]} ended with {error.returncode}, see {log}"
        finally:
            for path in sorted(pathlib.Path(directory, "output").glob("*")):
                shutil.move(path, arguments.output)
                os.chown(arguments.output / path.name, 0, 0)
    for path in sorted(arguments.output.glob("*.*")):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
