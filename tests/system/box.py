# SPDX-License-Identifier: MIT
"""A Debian release with a real systemd as PID 1, in a container of its own.

mmdebstrap makes the file system, systemd-nspawn boots it. Nothing else is needed: no container
engine, and no systemd on the machine that runs the tests. The network of a box is its own and has
loopback only, so every box can use every port.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
RELEASES = ("bookworm", "trixie")
DEFAULT_MIRROR = "http://deb.debian.org/debian"

# What a machine has before it ever met netd.
BASE_PACKAGES = "systemd systemd-sysv dbus"
# What tests run inside, besides what builds netd (make packages).
TOOL_PACKAGES = ("iproute2 procps python3-minimal netcat-openbsd nftables socat strace "
                 "systemd-journal-remote")

# Nothing of this machine is needed for it or changed by it.
NSPAWN = ["systemd-nspawn", "--register=no", "--keep-unit", "--link-journal=no"]

CLONE_NEWNET = 0x40000000
# Of the caller's environment, a command in a box gets this and nothing else.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}


def wait_for(condition, what, timeout=30):
    """Calls CONDITION until it returns something true, and returns that. Tests never just sleep."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} seconds in vain for: {what}")
        time.sleep(0.02)


def mirror():
    """The Debian mirror that this machine's apt uses."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Label: Debian"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return found[0] if found else DEFAULT_MIRROR


def build_packages():
    command = ["make", "-s", "--no-print-directory", "-C", str(SOURCE), "packages"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def copy_source(target):
    """Copies what git knows of or would add: no build product of this machine gets in."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.iterdir():
        if old.name != "build":  # with the times kept, make builds only what has changed
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    script = """
        git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' f; do if [ -e "$f" ]; then printf '%s\\0' "$f"; fi; done |
            tar --null -T - -cf - | tar -C "$TARGET" -xf -
    """
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=SOURCE, check=True,
                   env={**os.environ, "TARGET": str(target)})


def cgroup_roots():
    """Where a container's systemd keeps its cgroups: the unified hierarchy, and the named one."""
    with open("/proc/self/mountinfo", encoding="ascii") as mounts:
        for line in mounts:
            before, after = line.split(" - ")
            kind, _, options = after.split()
            if kind == "cgroup2" or "name=systemd" in options.split(","):
                yield pathlib.Path(before.split()[4])


class Files:
    """The file systems of one release, below DIRECTORY: base, never booted and without any build
    package; box, a copy with them; and packages, an apt repository of what the copy got."""

    def __init__(self, directory, release):
        self.release = release
        self.directory = pathlib.Path(directory)
        self.base = self.directory / "base"
        self.box = self.directory / "box"
        self.packages = self.directory / "packages"
        self.log = self.directory / "create.log"

    def create(self):
        done = self.directory / "created"
        packages = " ".join([*build_packages(), *TOOL_PACKAGES.split()])
        if done.exists() and done.read_text(encoding="ascii") in ("", packages):
            return
        if (self.directory / "box.pid").exists():
            raise RuntimeError(f"{self.directory} has other packages than tests need now: end its "
                               "container and remove it")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self._run("mmdebstrap", "--variant=minbase", "--aptopt=Acquire::Retries \"3\"",
                  "--include=" + BASE_PACKAGES.replace(" ", ","), self.release, self.base, mirror())
        self.copy(self.base, self.box)
        inside = [*NSPAWN, "--quiet", "--pipe", "--resolv-conf=copy-host", "-D", self.box,
                  f"--machine=netd-{os.getpid()}-{self.release}",
                  "--setenv=DEBIAN_FRONTEND=noninteractive"]
        self._run(*inside, "apt-get", "-o", "Acquire::Retries=3", "update")
        self._run(*inside, "apt-get", "-o", "Acquire::Retries=3", "install", "-y",
                  "--no-install-recommends", *packages.split())
        # Kept across reboots, and not bound by the size of a tmpfs.
        (self.box / "var/log/journal").mkdir(exist_ok=True)
        self.packages.mkdir()
        for package in (self.box / "var/cache/apt/archives").glob("*.deb"):
            package.rename(self.packages / package.name)
        self._run("sh", "-c", "dpkg-scanpackages --multiversion . >Packages", cwd=self.packages)
        done.write_text(packages, encoding="ascii")

    def copy(self, source, target):
        shutil.rmtree(target, ignore_errors=True)
        self._run("cp", "-a", "--reflink=auto", source, target)
        return target

    def pristine(self, target):
        """A copy of base, to be booted, whose apt has only the packages repository."""
        self.copy(self.base, target)
        shutil.copytree(self.packages, target / "var/packages")
        sources = target / "etc/apt/sources.list"
        sources.write_text("deb [trusted=yes] file:/var/packages ./\n", encoding="ascii")

    def _run(self, *command, cwd=None):
        with open(self.log, "ab") as log:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, cwd=cwd,
                                    stderr=subprocess.STDOUT, check=False)
        if result.returncode:
            tail = self.log.read_text(errors="replace").splitlines()[-20:]
            raise RuntimeError("\n".join([f"failed: {command}", *tail]))


class Box:
    def __init__(self, release, root):
        self.release = release
        self.root = pathlib.Path(root)
        self.console = self.root.with_name(self.root.name + ".console")
        self.pid = None  # of the container's PID 1, seen from here
        self._nspawn = None
        self._cgroups = []

    # Life

    def boot(self, keep=False):
        """To be called from the main thread: the container shuts down with the thread that started
        it, unless KEEP."""
        name = f"netd-{os.getpid()}-{self.root.parent.name}-{self.root.name}"
        # Without cgroups of their own, all containers would share one tree, and each systemd
        # would count the others' processes as its own.
        self._cgroups = [root / name for root in cgroup_roots()]
        for cgroup in self._cgroups:
            cgroup.mkdir(exist_ok=True)
        enter = 'for c in $CGROUPS; do echo $$ >"$c/cgroup.procs"; done; exec "$@"'
        command = ["sh", "-c", enter, "sh"]
        if not keep:
            command += ["setpriv", "--pdeathsig", "TERM"]
        command += [*NSPAWN, "--private-network", "--resolv-conf=off", "--timezone=off",
                    f"--machine={name[:60]}", "--hostname=netd", "-D", str(self.root), "--boot"]
        environment = {**os.environ, "CGROUPS": " ".join(map(str, self._cgroups))}
        with open(self.console, "wb") as console:
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console,
                                            stderr=subprocess.STDOUT, env=environment,
                                            start_new_session=True)
        self.pid = wait_for(self._find_init, f"PID 1 of {name}")
        self.root.with_name(self.root.name + ".pid").write_text(f"{self._nspawn.pid} {self.pid}\n",
                                                                encoding="ascii")
        try:
            wait_for(self._is_up, f"{name} to boot", timeout=300)
        except AssertionError as error:
            console = self.console.read_text(errors="replace").splitlines()[-40:]
            raise AssertionError("\n".join([str(error), *console])) from None

    def adopt(self):
        """Takes over a container that an earlier run has kept. False: there is none."""
        try:
            words = self.root.with_name(self.root.name + ".pid").read_text(encoding="ascii")
            self.pid = int(words.split()[1])
            return os.path.samefile(f"/proc/{self.pid}/root/", self.root) and self._is_up()
        except (OSError, ValueError, IndexError):
            return False

    def _find_init(self):
        """Of nspawn's children, some of which are helpers, the one that is PID 1 inside."""
        if self._nspawn.poll() is not None:
            raise RuntimeError("systemd-nspawn: " + self.console.read_text(errors="replace"))
        children = pathlib.Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        for child in children.read_text(encoding="ascii").split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = pathlib.Path(f"/proc/{child}/status").read_text(encoding="ascii")
                if re.search(r"^Name:\tsystemd$(?s:.*)^NSpid:\t\d+\t1$", status, re.M):
                    return int(child)
        return None

    def _is_up(self):
        # A unit of the distribution that fails is none of netd's business.
        state = self.run("systemctl", "is-system-running", "--wait", check=False, timeout=300)
        return state.stdout.strip() in ("running", "degraded")

    def kill(self):
        """At once, and all that is in its cgroups, even when it never came up."""
        if self._nspawn:
            self._nspawn.kill()
            self._nspawn.wait()
        for cgroup in self._cgroups:
            wait_for(lambda top=cgroup: self._empty(top), f"{cgroup} to be empty")

    @staticmethod
    def _empty(top):
        """Kills what is in the cgroup TOP, and removes it. False: not all is dead yet."""
        for directory, _, _ in os.walk(top, topdown=False):
            path = pathlib.Path(directory)
            for pid in filter(None, map(int, (path / "cgroup.procs").read_text().split())):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                path.rmdir()
        return not top.exists()

    # Commands

    def command(self, *command, env=None):
        """The words that run COMMAND inside. It dies with the process that entered for it."""
        variables = [f"{k}={v}" for k, v in {**ENVIRONMENT, **(env or {})}.items()]
        return ["nsenter", "-t", str(self.pid), "-a", "-r", "setpriv", "--pdeathsig", "KILL",
                "env", "-i", *variables, *map(str, command)]

    def run(self, *command, check=True, env=None, text=True, timeout=60, **options):
        """subprocess.run() inside: output captured, as text. A failure shows what was said."""
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        if options["stdin"] is None:
            del options["stdin"]
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        result = subprocess.run(self.command(*command, env=env), check=False, timeout=timeout,
                                text=text, **options)
        if check and result.returncode:
            raise AssertionError(f"{self.release}: {' '.join(map(str, command))} ended with "
                                 f"{result.returncode}\n{result.stdout}\n{result.stderr}")
        return result

    def sh(self, script, **options):
        """A piece of shell inside, with -eu; returns its standard output."""
        return self.run("bash", "-euo", "pipefail", "-c", script, **options).stdout

    def popen(self, *command, env=None, **options):
        """subprocess.Popen() inside, in the background; killing it kills the command."""
        return subprocess.Popen(self.command(*command, env=env), **options)

    # Files and network

    def path(self, inside):
        """The path from here of INSIDE, an absolute path that is no mount of the container."""
        return self.root / inside.lstrip("/")

    @contextlib.contextmanager
    def network(self):
        """Sockets made in here belong to the container's network, and stay there for good."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", "rb") as own, \
                open(f"/proc/{self.pid}/ns/net", "rb") as theirs:
            if libc.setns(theirs.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if libc.setns(own.fileno(), CLONE_NEWNET):
                    os.abort()  # nothing after this would be where it believes to be

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        with self.network():
            return socket.socket(family, kind)

    def connect(self, port=3000, host="127.0.0.1", timeout=30):
        """A TCP connection to HOST, an IPv4 or IPv6 address, from inside the container."""
        s = self.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        s.settimeout(timeout)
        try:
            s.connect((host, port))
        except BaseException:
            s.close()
            raise
        return s


def temporary_directory():
    return pathlib.Path(tempfile.mkdtemp(prefix="netd-test-", dir=os.environ.get("TMPDIR",
                                                                                "/var/tmp")))
