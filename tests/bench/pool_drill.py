#!/usr/bin/env python3
"""A pool of eight members under load, one of which is killed; and what an exchange costs the balancer.

`NTPD_BIN=target/release python3 tests/bench/pool_drill.py [drill|stop|cpu ...] [--rate N] [--seconds N] [--count N]`

Everything runs on loopback, on ports from --port on. The members are our ntpd, with -x, without the capability to set the
clock, and without sources of time: they exchange keys all the same. Nobody probes them, so that only what users meet tells
the balancer how they are. `drill` kills a member (SIGKILL) after a third of the time, `stop` lets it hang (SIGSTOP) instead.
`cpu` compares processor time, in turns: users that ask the pool, and users that ask a member directly.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("NTPD_BIN", ROOT / "target" / "release"))
MEMBERS = 8
TOKEN = "0123456789abcdef0123456789abcdef"
POOL = "pool.test"
# The clock ticks of /proc/PID/stat.
TICK = os.sysconf("SC_CLK_TCK")
# Users under way at a time: as many as hang for some seconds at the usual rate.
USERS = 1000


def sh(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def cpu_seconds(process):
    """User and system time of a process and all its threads."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Pool:
    """The balancer and its members, in a folder of their own."""

    def __init__(self, options):
        self.options = options
        self.dir = Path(tempfile.mkdtemp(prefix="pool-drill-"))
        self.port = options.port
        self.programs = []
        self.members = {}

    def __enter__(self):
        try:
            self._certificates([POOL, *(f"m{n}.test" for n in range(1, MEMBERS + 1))])
            for number in range(1, MEMBERS + 1):
                self._member(number)
            self._balancer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.programs:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.programs:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if os.environ.get("NTPD_KEEP"):
            print(f"kept: {self.dir}", file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def _certificates(self, names):
        """ECDSA P-256 throughout."""
        key = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]
        sh(*key, self.dir / "ca.key")
        sh("openssl", "req", "-x509", "-new", "-key", self.dir / "ca.key", "-subj", "/CN=test authority", "-days", "30",
           "-out", self.dir / "ca.pem")
        for name in names:
            sh(*key, self.dir / f"{name}.ec")
            private = self.dir / f"{name}.key"
            sh("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", self.dir / f"{name}.ec", "-out", private)
            private.chmod(0o600)
            sh("openssl", "req", "-new", "-key", private, "-subj", f"/CN={name}", "-out", self.dir / "csr")
            (self.dir / "ext").write_text(f"subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\n")
            sh("openssl", "x509", "-req", "-in", self.dir / "csr", "-CA", self.dir / "ca.pem", "-CAkey",
               self.dir / "ca.key", "-CAcreateserial", "-days", "20", "-extfile", self.dir / "ext", "-out",
               self.dir / f"{name}.pem")

    def _write(self, name, text):
        file = self.dir / name
        file.write_text(text)
        file.chmod(0o600)
        return file

    def _start(self, words, log, env=None):
        with open(self.dir / log, "w") as out:
            process = subprocess.Popen([str(word) for word in words], stdout=out, stderr=subprocess.STDOUT,
                                       env=dict(os.environ, **(env or {})))
        self.programs.append(process)
        return process

    def ke_port(self, number):
        return self.port + number

    def _member(self, number):
        name = f"m{number}.test"
        ntp = self.port + 100 + number
        folder = self.dir / name
        folder.mkdir(mode=0o700)
        tokens = self._write(f"{name}.tokens", TOKEN + "\n")
        config = self._write(f"{name}.toml", f"""
[serve]
listen = ["127.0.0.1:{ntp}"]
allow = ["127.0.0.0/8"]
[serve.nts]
listen = ["127.0.0.1:{self.ke_port(number)}"]
certificate = "{self.dir}/{name}.pem"
private-key = "{self.dir}/{name}.key"
ntp-server = "{name}"
ntp-port = {ntp}
pool-tokens = "{tokens}"
[state]
directory = "{folder}/state"
[control]
socket = "{folder}/control.sock"
[log]
format = "text"
""")
        guarded = ["setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"]
        self.members[name] = self._start([*guarded, BIN / "ntpd", "-x", "-c", config], f"{name}.log")

    def _balancer(self):
        members = "".join(f'[[member]]\nname = "m{n}.test"\noperator = "operator {n}"\naddresses = ["127.0.0.1"]\n'
                          f'port = {self.ke_port(n)}\ntoken = "{TOKEN}"\n' for n in range(1, MEMBERS + 1))
        self._write("members.toml", members)
        config = self._write("lb.toml", f"""
listen = ["127.0.0.1:{self.port}"]
certificate = "{POOL}.pem"
private-key = "{POOL}.key"
members = "members.toml"
trust = "file"
trust-file = "ca.pem"
allow-private = true
control-socket = "{self.dir}/lb.sock"
metrics = "127.0.0.1:{self.port + 99}"
[probe]
interval = 0
""")
        self.config = config
        env = {"RUST_LOG": "debug" if self.options.debug else "info"}
        self.balancer = self._start([BIN / "nts-pool-lb", "-c", config], "lb.log", env)

    def load(self, *words, number=None):
        """Users of the pool, or of one member directly; returns what became of them."""
        name, port = (POOL, self.port) if number is None else (f"m{number}.test", self.ke_port(number))
        command = [BIN / "ke_load", "--server", f"127.0.0.1:{port}", "--name", name, "--roots", self.dir / "ca.pem", *words]
        return json.loads(sh(*command))

    def warm_up(self):
        """Until all members have served somebody."""
        for _ in range(40):
            time.sleep(0.25)
            try:
                told = self.load("--count", 8 * MEMBERS)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                continue
            if len(told["servers"]) == MEMBERS and not told["failed"]:
                return
        logs = {file.name: file.read_text()[-600:] for file in self.dir.glob("*.log")}
        raise RuntimeError(f"not all members serve: {told}\n{logs}")

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 99}/metrics", timeout=5) as page:
            lines = [line for line in page.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def state_of(self, name):
        """As the balancer lists it."""
        listed = sh(BIN / "nts-pool-lb", "-c", self.config, "list")
        found = re.search(rf"^.*\b{re.escape(name)}\b.*$", listed, re.MULTILINE)
        return found.group(0) if found else listed


def tried(metrics):
    """Attempts with members that failed, before or after they had a user's keys."""
    return int(metrics["nts_pool_lb_failovers_total"] + metrics['nts_pool_lb_exchanges_total{result="lost"}'])


def drill(options, how):
    """Something happens to one of the members under load."""
    victim = "m3.test"
    with Pool(options) as pool:
        pool.warm_up()
        before = pool.metrics()
        started = time.monotonic()
        hit = {}

        def strike():
            time.sleep(options.seconds / 3)
            pool.members[victim].send_signal(how)
            hit["at"] = time.monotonic() - started

        over = threading.Event()
        attempts = []

        def watch():
            """When the balancer tried somebody who failed, to a quarter of a second."""
            counted = tried(before)
            while not over.wait(0.25):
                now = tried(pool.metrics())
                if now > counted:
                    attempts.append([time.monotonic() - started, now - counted])
                counted = now

        threads = [threading.Thread(target=work) for work in (strike, watch)]
        for thread in threads:
            thread.start()
        told = pool.load("--rate", options.rate, "--seconds", options.seconds, "--users", USERS)
        over.set()
        for thread in threads:
            thread.join()
        after = pool.metrics()
        counters = {name.removeprefix("nts_pool_lb_"): after[name] - before.get(name, 0) for name in after
                    if "_total" in name and after[name] != before.get(name, 0)}
        total = told["ok"] + told["failed"]
        last = told["servers"].get(victim, {}).get("last")
        return {
            "signal": how.name,
            "exchanges": total,
            "failed": told["failed"],
            "failed-percent": round(100 * told["failed"] / max(1, total), 4),
            "failures": told["failures"],
            # The generator's clock starts some milliseconds after ours.
            "struck-at": round(hit["at"], 2),
            "failures-after-the-strike": [[round(at - hit["at"], 2), why] for at, why in told["told"]],
            "failed-attempts-after-the-strike": [[round(at - hit["at"], 2), count] for at, count in attempts],
            "last-user-of-it-after-the-strike": None if last is None else round(last - hit["at"], 3),
            "users-of-each": {name: served["count"] for name, served in told["servers"].items()},
            "wait": told["wait"],
            "balancer": counters,
            "listed": pool.state_of(victim),
        }


def cpu(options):
    """Processor time for each exchange, in milliseconds and as ratios."""
    rounds = []
    with Pool(options) as pool:
        pool.warm_up()
        everybody = [pool.balancer, *pool.members.values()]

        def spent(**words):
            before = [cpu_seconds(process) for process in everybody]
            told = pool.load("--count", options.count, "--seconds", 600, "--users", options.users, **words)
            if told["failed"]:
                raise RuntimeError(f"failures: {told['failures']}")
            used = [1000 * (cpu_seconds(process) - old) / told["ok"] for process, old in zip(everybody, before)]
            return used[0], sum(used[1:]), told["ok"] / told["seconds"]

        for _ in range(options.repeats):
            idle, direct, direct_rate = spent(number=1)
            balancer, members, rate = spent()
            rounds.append({
                "direct-ms": round(direct, 4),
                "balancer-ms": round(balancer, 4),
                "members-ms": round(members, 4),
                "balancer-idle-ms": round(idle, 4),
                "balancer-to-direct": round(balancer / direct, 3),
                "total-to-direct": round((balancer + members) / direct, 3),
                "exchanges-per-second": [round(direct_rate), round(rate)],
            })
            print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
    median = {key: statistics.median(each[key] for each in rounds) for key in rounds[0] if key != "exchanges-per-second"}
    return {"rounds": rounds, "median": median, "exchanges-each": options.count}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["drill", "cpu"], help="drill, stop and cpu")
    parser.add_argument("--rate", type=float, default=150)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--users", type=int, default=8, help="at a time, for cpu")
    parser.add_argument("--port", type=int, default=24460)
    parser.add_argument("--debug", action="store_true", help="the balancer's log, with NTPD_KEEP=1")
    options = parser.parse_args()
    known = {"drill": lambda: drill(options, signal.SIGKILL), "stop": lambda: drill(options, signal.SIGSTOP),
             "cpu": lambda: cpu(options)}
    for what in options.what:
        if what not in known:
            parser.error(f"{what}: accepted: {', '.join(known)}")
        print(json.dumps({what: known[what]()}, indent=1), flush=True)


if __name__ == "__main__":
    main()
