"""Hosts in network namespaces, with a certificate authority of their own, and programs that run in them.

No clock is ever set: our daemon and chronyd run with -x, and all peers without the capability to set it. Everything
made here is removed at the end.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Programs that must not be found by their own name on the machine are unpacked here, not installed.
PEERS = Path(os.environ.get("NTPD_PEERS", ROOT / "target" / "interop" / "peers"))
OURS = Path(os.environ.get("NTPD_BIN", ROOT / "target" / "debug"))
NEW_KEY = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]


def sh(*command, check=True, **options):
    """Runs a command and returns its output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Host:
    """A network namespace with an address of each family and names for everybody."""

    def __init__(self, lab, name, number):
        self.lab = lab
        self.name = name
        self.space = f"ntpd-it-{os.getpid()}-{name}"
        self.v4 = f"10.89.7.{number}"
        self.v6 = f"fd89:7::{number}"
        self.names = [f"{name}.test", *(f"time{n}.{name}.test" for n in range(1, 4))]
        # What lies here takes the place of what /etc has, for programs that are started afterwards.
        self.etc = Path("/etc/netns") / self.space
        self.programs = []

    def write_etc(self, name, text):
        (self.etc / name).write_text(text)

    def command(self, *words):
        return ["ip", "netns", "exec", self.space, *[str(word) for word in words]]

    def run(self, *words, check=True, **options):
        return sh(*self.command(*words), check=check, **options)

    def start(self, *words, log, shim=True, env=None):
        """Starts a program that must not be able to set the clock."""
        environment = dict(os.environ, **(env or {}))
        guarded = ["setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time", *words]
        if shim:
            guarded = ["env", f"LD_PRELOAD={self.lab.shim}", *guarded]
        out = open(self.lab.dir / log, "w")
        process = subprocess.Popen(self.command(*guarded), stdout=out, stderr=subprocess.STDOUT, env=environment)
        self.programs.append(process)
        return process

    def stop(self):
        for process in self.programs:
            process.terminate()
        for process in self.programs:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.programs = []


class Lab:
    """Hosts at one switch, each also an attribute by its name, and a folder for everything that they write."""

    def __init__(self, *names):
        self.dir = Path(tempfile.mkdtemp(prefix="ntpd-interop-"))
        os.chmod(self.dir, 0o755)
        self.hosts = [Host(self, name, number) for number, name in enumerate(names or ("a", "b"), 1)]
        for host in self.hosts:
            setattr(self, host.name, host)
        self.switch = f"ntpd-it-{os.getpid()}-switch"
        self.shim = self.dir / "noclock.so"
        self.certificates = self.dir / "tls"

    def __enter__(self):
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def build(self):
        """Makes everything that is there when a case begins."""
        sh("gcc", "-O2", "-shared", "-fPIC", "-o", self.shim, ROOT / "tests/interop/noclock.c", "-ldl")
        self._authority()
        sh("ip", "netns", "add", self.switch)
        sh("ip", "-n", self.switch, "link", "add", "switch", "type", "bridge", "mcast_snooping", "0")
        sh("ip", "-n", self.switch, "link", "set", "switch", "up")
        # chronyd asks for names of answers with a dot at the end, which the C library looks for literally.
        names = "".join(f"{host.v4} {' '.join(host.names)} {host.names[0]}.\n" for host in self.hosts)
        for host in self.hosts:
            self.certify(host.name, *host.names)
            sh("ip", "netns", "add", host.space)
            host.etc.mkdir(parents=True)
            host.write_etc("hosts", f"127.0.0.1 localhost\n{names}")
            host.write_etc("resolv.conf", "")
            port = f"to-{host.name}"
            sh("ip", "-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.space)
            sh("ip", "-n", self.switch, "link", "set", port, "master", "switch", "up")
            sh("ip", "-n", host.space, "addr", "add", f"{host.v4}/24", "dev", "eth0")
            sh("ip", "-n", host.space, "addr", "add", f"{host.v6}/64", "dev", "eth0", "nodad")
            sh("ip", "-n", host.space, "link", "set", "lo", "up")
            sh("ip", "-n", host.space, "link", "set", "eth0", "up")

    def __exit__(self, *_):
        for host in self.hosts:
            host.stop()
            sh("ip", "netns", "del", host.space, check=False)
            shutil.rmtree(host.etc, ignore_errors=True)
        sh("ip", "netns", "del", self.switch, check=False)
        if os.environ.get("NTPD_KEEP"):
            print(f"kept: {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def _authority(self):
        tls = self.certificates
        tls.mkdir()
        sh(*NEW_KEY, tls / "ca.key")
        sh("openssl", "req", "-x509", "-new", "-key", tls / "ca.key", "-subj", "/CN=test authority", "-days", "30",
           "-out", tls / "ca.pem")

    def certify(self, tag, *names):
        """A key, TAG.key, and a certificate for these names, TAG.pem."""
        tls = self.certificates
        sh(*NEW_KEY, tls / f"{tag}.ec")
        # PKCS#8 is what every peer reads.
        sh("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", tls / f"{tag}.ec", "-out", tls / f"{tag}.key")
        sh("openssl", "req", "-new", "-key", tls / f"{tag}.key", "-subj", f"/CN={names[0]}", "-out", tls / "csr")
        listed = ",".join(f"DNS:{name}" for name in names)
        (tls / "ext").write_text(f"subjectAltName={listed}\nextendedKeyUsage=serverAuth\n")
        sh("openssl", "x509", "-req", "-in", tls / "csr", "-CA", tls / "ca.pem", "-CAkey", tls / "ca.key",
           "-CAcreateserial", "-days", "20", "-extfile", tls / "ext", "-out", tls / f"{tag}.pem")

    def write(self, name, text, mode=0o600):
        file = self.dir / name
        file.write_text(text)
        os.chmod(file, mode)
        return file

    def log(self, name):
        file = self.dir / name
        return file.read_text() if file.exists() else ""


def wait_for(what, ready, seconds=40):
    """Polls until `ready` returns something true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = ready()
        if value:
            return value
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} s: {what}")


def have(program):
    return program if Path(program).exists() else shutil.which(str(program))


def match(pattern, text):
    return re.search(pattern, text, re.MULTILINE)


def shape(text):
    """A transcript with everything that changes from run to run made alike."""
    text = re.sub(r"[+-]?\d+(\.\d+)?", "0", text)
    text = re.sub(r"\b[0-9A-F]{8}\b", "0", text)
    text = re.sub(r"\b0(ns|us|ms|s)\b", "0s", text)
    text = re.sub(r"\b(slow|fast)\b", "slow", text)
    text = re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3}\b", "Day Mon", text)
    text = re.sub(r"[ \t]+", " ", text).replace("[ ", "[")
    # Which of equals is the best one is chance.
    text = re.sub(r"best source|agrees; [a-z ]+", "used", text)
    return re.sub(r"^\^[*+-]", "^*", text, flags=re.MULTILINE)
