"""A Debian system with chrony below target/interop, and one like it, of which nothing stays, for each test of the packages.

No clock is touched: nothing in there can set it.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from lab import OURS, ROOT, Lab, match, sh

SYSTEM = ROOT / "target/interop/debian"
BUILT = ROOT / "target/deb"


def suite():
    return match(r"VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text()).group(1)


@contextlib.contextmanager
def alone(what):
    """Others may want the same at the same time."""
    what.parent.mkdir(parents=True, exist_ok=True)
    with open(what.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def base_system():
    """A system on which chrony keeps the time, made once."""
    with alone(SYSTEM):
        if SYSTEM.exists():
            return
        new = SYSTEM.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        sh("setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time", "debootstrap", "--variant=minbase",
           "--include=ca-certificates,systemd,systemd-sysv,procps,apparmor,chrony", suite(), new)
        new.rename(SYSTEM)


def build():
    """The packages, from programs that are there already."""
    with alone(BUILT):
        if not list(BUILT.glob("*.changes")) or newer_programs():
            shutil.rmtree(BUILT, ignore_errors=True)
            sh(ROOT / "packaging/build-deb", BUILT, env=dict(os.environ, PROGRAMS=OURS, DEB_BUILD_OPTIONS="noautodbgsym"))
        return {name: next(BUILT.glob(f"{name}_*.deb")) for name in ("ntpd", "nts-pool")}


def newer_programs():
    made = next(BUILT.glob("*.changes")).stat().st_mtime
    inputs = [OURS / "ntpd", OURS / "nts-pool-lb", *(file for file in (ROOT / "packaging").rglob("*") if file.is_file())]
    return any(file.stat().st_mtime > made for file in inputs)


class Machine(Lab):
    """A lab with a server at `b`, and at `a` a system with chrony, of which nothing stays."""

    def build(self):
        super().build()
        base_system()
        self.packages = build()
        layer = self.dir / "layer"
        self.root = self.dir / "root"
        for folder in (layer / "upper", layer / "work", self.root):
            folder.mkdir(parents=True)
        # An overlay may not lie on another, as the folder for temporary files may.
        sh("mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", layer)
        for folder in (layer / "upper", layer / "work"):
            folder.mkdir()
        sh("mount", "-t", "overlay", "overlay", "-o",
           f"lowerdir={SYSTEM},upperdir={layer / 'upper'},workdir={layer / 'work'}", self.root)
        sh("mount", "-t", "proc", "proc", self.root / "proc")
        # Services are enabled, but there is nobody to start them.
        policy = self.root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)

    def __exit__(self, *problem):
        for host in self.hosts:
            host.stop()
        for place in (self.dir / "root/proc", self.dir / "root", self.dir / "layer"):
            sh("umount", "-l", place, check=False)
        super().__exit__(*problem)

    def inside(self, *words):
        return ["setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time", "chroot", self.root, *words]

    def do(self, *words, check=True):
        """Runs a command in the system."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(self.a.command(*self.inside(*words)), capture_output=True, text=True, env=environment)
        if check and done.returncode != 0:
            raise RuntimeError(f"{words}: {done.stdout}{done.stderr}")
        return done

    def install(self, package):
        target = self.root / "root" / package.name
        shutil.copy(package, target)
        return self.do("apt-get", "install", "-qy", "-o", "Dpkg::Options::=--force-confold", f"/root/{package.name}")

    def status(self, package):
        return self.do("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", package, check=False).stdout.strip()
