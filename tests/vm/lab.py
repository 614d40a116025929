"""Guests: a kernel of their own (User Mode Linux), in which a daemon may set the clock.

This machine's clock is never set: the programs that could are run by the guest's first process, which runs nothing
outside of a guest.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PACKAGES = Path(os.environ.get("NTPD_VM", ROOT / "target" / "vm"))
OURS = Path(os.environ.get("NTPD_BIN", ROOT / "target" / "debug"))
KERNEL = PACKAGES / "user-mode-linux/usr/bin/linux.uml"
MODULES = PACKAGES / "user-mode-linux/usr/lib/uml/modules"
BUSYBOX = PACKAGES / "busybox-static/bin/busybox"
MEMORY = "256M"
FOLDERS = ["bin", "dev", "etc", "lib", "lib64", "proc", "run", "tmp", "var", "var/lib"]
FILES = {
    "guest": "",
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\nntpd:x:900:900:ntpd:/:/bin/sh\n",
    "etc/group": "root:x:0:\nntpd:x:900:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/resolv.conf": "",
}


def sh(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


class Archive:
    """An initramfs in the kernel's `newc` format."""

    def __init__(self):
        self.parts = []

    def add(self, name, mode, data=b""):
        fields = [len(self.parts) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        self.parts.append(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    def folder(self, name):
        self.add(name, 0o040755)

    def file(self, name, data, mode=0o644):
        self.add(name, 0o100000 | mode, data if isinstance(data, bytes) else data.encode())

    def link(self, name, to):
        self.add(name, 0o120777, to.encode())

    def finish(self):
        self.add("TRAILER!!!", 0)
        return b"".join(self.parts)


class Transcript:
    """What a guest said: values by tag, in order."""

    def __init__(self, text):
        self.text = text
        self.values = {}
        for tag, value in re.findall(r"^@(\S+) ?(.*?)\r?$", text, re.MULTILINE):
            self.values.setdefault(tag, []).append(value)
        if "end" not in self.values:
            raise AssertionError("the guest did not reach its end")

    def lines(self, tag):
        return self.values.get(tag, [])

    def one(self, tag):
        lines = self.lines(tag)
        if len(lines) != 1:
            raise AssertionError(f"not one line of {tag}: {lines}")
        return lines[0]

    def clock(self, tag):
        """The witness's word on the kernel's clock."""
        return json.loads(self.one(tag))

    def clocks(self, tag):
        return [json.loads(line) for line in self.lines(tag)]

    def logged(self, words):
        return [line for line in self.lines("log") if words in line]


class Lab:
    """What all guests share, in a folder that is removed at the end."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="ntpd-vm-"))

    def __enter__(self):
        sh("gcc", "-O2", "-Wall", "-static", "-o", self.dir / "clock", HERE / "clock.c")
        self.base = Archive()
        for folder in FOLDERS:
            self.base.folder(folder)
        for name, text in FILES.items():
            self.base.file(name, text)
        self.base.add("dev/console", 0o020600)
        self.base.file("init", (HERE / "init").read_text(), 0o755)
        self.base.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in sh(BUSYBOX, "--list").split():
            if applet != "busybox":
                self.base.link(f"bin/{applet}", "busybox")
        self.base.file("bin/clock", (self.dir / "clock").read_bytes(), 0o755)
        # Pulses that the kernel makes itself.
        for name in ("pps_core", "pps-ktimer"):
            for module in MODULES.glob(f"*/kernel/drivers/pps/**/{name}.ko"):
                self.base.file(f"lib/{name}.ko", module.read_bytes())
        libraries = set()
        for program in ("ntpd", "ntpctl", "truth"):
            stripped = self.dir / program
            sh("strip", "-o", stripped, OURS / program)
            self.base.file(f"bin/{program}", stripped.read_bytes(), 0o755)
            libraries.update(re.findall(r"(/\S+) \(0x", sh("ldd", stripped)))
        self._libraries(libraries)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir, ignore_errors=True)

    def _libraries(self, libraries):
        known = set(FOLDERS)
        for library in sorted(libraries):
            name = library.lstrip("/")
            for folder in reversed(Path(name).parents[:-1]):
                if str(folder) not in known:
                    known.add(str(folder))
                    self.base.folder(str(folder))
            self.base.file(name, Path(library).read_bytes(), 0o755)

    def boot(self, name, script, seconds=100):
        """Runs a script in a guest of its own and returns what it said."""
        archive = Archive()
        archive.parts = list(self.base.parts)
        archive.file("case", script)
        image = self.dir / f"{name}.cpio"
        image.write_bytes(archive.finish())
        command = [KERNEL, f"mem={MEMORY}", f"initrd={image}", "con=null", "con0=fd:0,fd:1", "quiet", "panic=-1"]
        guest = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, start_new_session=True)
        try:
            out, _ = guest.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(guest.pid, signal.SIGKILL)
            out, _ = guest.communicate()
        finally:
            image.unlink()
        return out.decode(errors="replace")
