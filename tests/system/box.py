# SPDX-License-Identifier: MIT
"""A Debian release with a real systemd as PID 1, in a container of its own.

mmdebstrap creates the file system, systemd-nspawn boots it. Neither a container engine nor systemd
on the host is needed. Each container has a network namespace with only a loopback interface, so
every port is free.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
RELEASES = ("bookworm", "trixie")
DEFAULT_MIRROR = "http://deb.debian.org/debian"

# A minimal system.
BASE_PACKAGES = "systemd systemd-sysv dbus"
# Programs that tests run inside, besides what the build needs (make packages).
TOOL_PACKAGES = ("curl haproxy hitch iproute2 libnginx-mod-stream ncat netcat-openbsd nftables nginx "
                 "openssl procps python3-minimal rsyslog rsyslog-gnutls rsyslog-openssl "
                 "rsyslog-relp socat strace stunnel4 systemd-journal-remote")
# Units of these packages: a test that needs the program runs it itself.
# Programs that cannot be installed beside these, or need not be: extracted in EXTRACTED with the
# libraries that they need. What a release does not have is left out.
EXTRACTED_PACKAGES = "libpython3-stdlib nodejs syslog-ng-core systemd-netlogd"
EXTRACTED = "/opt/netd-test"
EXTRACT = f"""
mkdir -p {EXTRACTED}/packages
cd {EXTRACTED}/packages
found=$(for p in $PACKAGES; do apt-cache pkgnames "$p" | grep -x "$p" || :; done)
apt-get -q -o Acquire::Retries=3 download $(apt-get -s --no-install-recommends install $found |
    awk '/^Inst/ {{ print $2 }}')
for p in *.deb; do dpkg -x "$p" {EXTRACTED}; done
rm *.deb
cp -a {EXTRACTED}/lib/. {EXTRACTED}/usr/lib 2>/dev/null || :
ln -sfn {EXTRACTED}/usr/lib/syslog-ng /usr/lib/syslog-ng
ln -sfn {EXTRACTED}/usr/share/nodejs /usr/share/nodejs
ln -sfn {EXTRACTED}/usr/share/syslog-ng /usr/share/syslog-ng
echo "$PACKAGES" >{EXTRACTED}/extracted
"""
MASKED = "haproxy.service hitch.service nginx.service rsyslog.service stunnel4.service"

# Independent of the host's systemd.
NSPAWN = ["systemd-nspawn", "--register=no", "--keep-unit", "--link-journal=no"]

CLONE_NEWNET = 0x40000000
# The whole environment of a command in a box.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}


def wait_for(condition, what, timeout=30):
    """Calls CONDITION until it returns a true value, and returns that. Tests never just sleep."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {timeout} seconds waiting for: {what}")
        time.sleep(0.02)


def mirror():
    """The Debian mirror that the host's apt uses."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Label: Debian"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return found[0] if found else DEFAULT_MIRROR


def build_packages():
    command = ["make", "-s", "--no-print-directory", "-C", str(SOURCE), "packages"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def copy_source(target):
    """Copies the files that git tracks or would add, but no build products."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.iterdir():
        if old.name != "build":  # tar keeps modification times: make builds only what changed
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    script = """
        git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
            while IFS= read -r -d '' f; do if [ -e "$f" ]; then printf '%s\\0' "$f"; fi; done |
            tar --null -T - -cf - | tar -C "$TARGET" -xf -
    """
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=SOURCE, check=True,
                   env={**os.environ, "TARGET": str(target)})


def cgroup_roots():
    """The cgroup hierarchies that systemd uses: the unified one and name=systemd."""
    with open("/proc/self/mountinfo", encoding="ascii") as mounts:
        for line in mounts:
            before, after = line.split(" - ")
            kind, _, options = after.split()
            if kind == "cgroup2" or "name=systemd" in options.split(","):
                yield pathlib.Path(before.split()[4])


class Files:
    """The file systems of one release, below DIRECTORY: base, never booted and without build
    packages; box, a copy with them installed; and packages, an apt repository of these packages."""

    def __init__(self, directory, release):
        self.release = release
        self.directory = pathlib.Path(directory)
        self.base = self.directory / "base"
        self.box = self.directory / "box"
        self.packages = self.directory / "packages"
        self.log = self.directory / "create.log"

    def create(self):
        self._create()
        self._extract()

    def _extract(self):
        """Also into a box that runs: these are only files."""
        done = self.box / EXTRACTED.lstrip("/") / "extracted"
        if not done.exists() or done.read_text(encoding="ascii") != f"{EXTRACTED_PACKAGES}\n":
            self._run("chroot", self.box, "env", f"PACKAGES={EXTRACTED_PACKAGES}", "sh", "-ec",
                      EXTRACT)

    def _create(self):
        done = self.directory / "created"
        packages = " ".join([*build_packages(), *TOOL_PACKAGES.split()])
        if done.exists() and set(packages.split()) <= set(done.read_text(encoding="ascii").split()):
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
                  f"--machine=netd-{secrets.token_hex(4)}-{self.release}",
                  "--setenv=DEBIAN_FRONTEND=noninteractive"]
        self._run(*inside, "apt-get", "-o", "Acquire::Retries=3", "update")
        self._run(*inside, "apt-get", "-o", "Acquire::Retries=3", "install", "-y",
                  "--no-install-recommends", *packages.split())
        self._run("systemctl", f"--root={self.box}", "mask", *MASKED.split())
        # Persistent, and not limited by the size of a tmpfs.
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
        """Copies base to TARGET; apt there knows only the packages repository."""
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
        self.pid = None  # of the container's PID 1, in the host's namespace
        self._nspawn = None
        self._cgroups = []

    # Start and stop

    def boot(self, keep=False):
        """Call it from the main thread: unless KEEP, the container ends with the calling thread."""
        # Not named by PID: a container may be kept for longer than the kernel takes to reuse one.
        name = f"netd-{secrets.token_hex(4)}-{self.root.parent.name}-{self.root.name}"
        # In a shared cgroup, the systemd of each container would take the others' processes for
        # its own.
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
        """Uses a container that an earlier run left running. Returns False if there is none."""
        try:
            words = self.root.with_name(self.root.name + ".pid").read_text(encoding="ascii")
            self.pid = int(words.split()[1])
            return os.path.samefile(f"/proc/{self.pid}/root/", self.root) and self._is_up()
        except (OSError, ValueError, IndexError):
            return False

    def _find_init(self):
        """The child of nspawn that is PID 1 inside; others are helpers."""
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
        # "degraded": a unit of the distribution failed, which does not matter here.
        state = self.run("systemctl", "is-system-running", "--wait", check=False, timeout=300)
        return state.stdout.strip() in ("running", "degraded")

    def kill(self):
        """Kills all processes in its cgroups, also if it never came up."""
        if self._nspawn:
            self._nspawn.kill()
            self._nspawn.wait()
        for cgroup in self._cgroups:
            wait_for(lambda top=cgroup: self._empty(top), f"{cgroup} to be empty")

    @staticmethod
    def _empty(top):
        """Kills the processes in the cgroup TOP and removes it. Returns False until it is gone."""
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
        """The command line that runs COMMAND inside. COMMAND is killed when nsenter ends."""
        variables = [f"{k}={v}" for k, v in {**ENVIRONMENT, **(env or {})}.items()]
        return ["nsenter", "-t", str(self.pid), "-a", "-r", "setpriv", "--pdeathsig", "KILL",
                "env", "-i", *variables, *map(str, command)]

    def run(self, *command, check=True, env=None, text=True, timeout=60, **options):
        """subprocess.run() inside, with output captured as text. A failure shows the output."""
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
        """Runs a shell script inside, with -eu; returns its standard output."""
        return self.run("bash", "-euo", "pipefail", "-c", script, **options).stdout

    def popen(self, *command, env=None, **options):
        """subprocess.Popen() inside; killing the process kills the command."""
        return subprocess.Popen(self.command(*command, env=env), **options)

    def install_from_mirror(self, *packages):
        """Installs PACKAGES through the host's network. Services in them are not started."""
        policy = self.path("/usr/sbin/policy-rc.d")
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        policy.chmod(0o755)
        shutil.copy("/etc/resolv.conf", self.path("/etc/resolv.conf"))
        self.path("/etc/apt/sources.list.d/mirror.list").write_text(
            f"deb {mirror()} {self.release} main\n", encoding="ascii")
        script = f"""
            apt-get -q -o Acquire::Retries=3 update
            apt-get -q -y -o Acquire::Retries=3 install --no-install-recommends {" ".join(packages)}
        """
        # Not in its network namespace.
        subprocess.run(["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-p", "-r", "env", "-i",
                        f"PATH={ENVIRONMENT['PATH']}", "DEBIAN_FRONTEND=noninteractive", "sh", "-ec",
                        script], check=True, stdin=subprocess.DEVNULL, timeout=600)
        policy.unlink()

    # Files and network

    def path(self, inside):
        """The path on the host of INSIDE, which is absolute and not on a mount of the container."""
        return self.root / inside.lstrip("/")

    @contextlib.contextmanager
    def network(self):
        """Sockets created in this context belong to the container's network namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", "rb") as own, \
                open(f"/proc/{self.pid}/ns/net", "rb") as theirs:
            if libc.setns(theirs.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if libc.setns(own.fileno(), CLONE_NEWNET):
                    os.abort()  # the rest would run in the wrong network

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
