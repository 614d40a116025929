#!/usr/bin/env python3
"""A pool of eight members under load while something happens to it; and what an exchange costs the balancer.

`NTPD_BIN=target/release python3 tests/bench/pool_drill.py [WHAT ...] [--rate N] [--seconds N] [--count N]`

Everything runs on loopback, on ports from --port on. The members are our ntpd, with -x, without the capability to set the
clock, and without sources of time: they exchange keys all the same. Nobody probes them, so that only what users meet tells
the balancer how they are. After a third of the time it happens:

  add           a member is added to the directory
  drain         a member is drained by command
  kill          a member is killed (SIGKILL)
  stop          a member hangs (SIGSTOP)
  token         the token of all members changes: they accept both, the directory has the new one, they drop the old one
  certificate   the pool's certificate and key are replaced
  beside        another balancer starts beside the first, which is told to stop then (SIGTERM)
  restart       the balancer is told to stop, and another follows; a service manager keeps the port open
  node          one of two balancers is killed; users know the addresses of both

`drills` is all of these; `cpu` compares processor time, in turns: users that ask the pool, and users that ask a member
directly. With --other FILE it compares two binaries of the balancer, in turns.
"""

import argparse
import json
import os
import shutil
import signal
import socket
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
NEXT_TOKEN = "fedcba9876543210fedcba9876543210"
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

    # Lines of the balancer's configuration; where it listens beside loopback; what goes before the command of the balancer, and
    # before those of everybody else.
    more = ""
    elsewhere = []
    around_balancer = []
    around_others = []

    def __init__(self, options, members=MEMBERS, held=False):
        """`members` of them are in the directory; with `held` the port is open before the balancer runs, and after."""
        self.options = options
        self.listed = members
        self.dir = Path(tempfile.mkdtemp(prefix="pool-drill-"))
        self.port = options.port
        self.programs = []
        self.members = {}
        self.token = TOKEN
        self.balancers = []
        self.held = None
        if held:
            # As systemd does it; descriptors below 3 are never free.
            self.held = socket.create_server(("127.0.0.1", self.port), backlog=4096)

    def __enter__(self):
        try:
            self._certificates([POOL, *(f"m{n}.test" for n in range(1, MEMBERS + 1))])
            for number in range(1, MEMBERS + 1):
                self._member(number)
            self.write_members()
            self.start_balancer()
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
        if self.held:
            self.held.close()
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
            self.certify(name, name)

    def certify(self, name, file):
        """A new key and a certificate for it."""
        sh("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.dir / f"{file}.ec")
        private = self.dir / f"{file}.key"
        sh("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", self.dir / f"{file}.ec", "-out", private)
        private.chmod(0o600)
        sh("openssl", "req", "-new", "-key", private, "-subj", f"/CN={name}", "-out", self.dir / "csr")
        (self.dir / "ext").write_text(f"subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\n")
        sh("openssl", "x509", "-req", "-in", self.dir / "csr", "-CA", self.dir / "ca.pem", "-CAkey", self.dir / "ca.key",
           "-CAcreateserial", "-days", "20", "-extfile", self.dir / "ext", "-out", self.dir / f"{file}.pem")

    def _write(self, name, text):
        file = self.dir / name
        file.write_text(text)
        file.chmod(0o600)
        return file

    def _start(self, words, log, env=None, **more):
        with open(self.dir / log, "a") as out:
            process = subprocess.Popen([str(word) for word in words], stdout=out, stderr=subprocess.STDOUT,
                                       env=dict(os.environ, **(env or {})), **more)
        self.programs.append(process)
        return process

    def ke_port(self, number):
        return self.port + 20 + number

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
        guarded = [*self.around_others, "setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"]
        self.members[name] = self._start([*guarded, BIN / "ntpd", "-x", "-c", config], f"{name}.log")

    def write_members(self):
        """The directory, replaced at once."""
        members = "".join(f'[[member]]\nname = "m{n}.test"\noperator = "operator {n}"\naddresses = ["127.0.0.1"]\n'
                          f'port = {self.ke_port(n)}\ntoken = "{self.token}"\n' for n in range(1, self.listed + 1))
        self._write("members.new", members).rename(self.dir / "members.toml")

    def set_tokens(self, *tokens):
        """What all members accept from now on."""
        for name, process in self.members.items():
            self._write(f"{name}.tokens", "".join(token + "\n" for token in tokens))
            process.send_signal(signal.SIGHUP)

    def start_balancer(self, node=0, binary=None):
        """Nodes after the first have ports of their own."""
        name = f"lb{node}" if node else "lb"
        listen = ", ".join(f'"{address}:{self.port + 10 * node}"' for address in ["127.0.0.1", *self.elsewhere])
        config = self._write(f"{name}.toml", f"""
listen = [{listen}]
certificate = "{POOL}.pem"
private-key = "{POOL}.key"
members = "members.toml"
trust = "file"
trust-file = "ca.pem"
allow-private = true
control-socket = "{self.dir}/{name}.sock"
metrics = "127.0.0.1:{self.port + 99 - node}"
{self.more}
[probe]
interval = 0
""")
        env = {"RUST_LOG": "debug" if self.options.debug else "info"}
        words = [*self.around_balancer, binary or BIN / "nts-pool-lb", "-c", config]
        more = {}
        if self.held:
            # sd_listen_fds(3): the first is number 3, and the variable names the process.
            script = f'exec 3<&{self.held.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
            words, more = ["sh", "-c", script, "sh", *words], {"pass_fds": [self.held.fileno()]}
        process = self._start(words, f"{name}.log", env, **more)
        if node == 0:
            self.config = config
            self.balancer = process
        self.balancers.append(process)
        return process

    def await_balancer(self, process):
        """Until it has counted a user, and so has begun to serve."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and process.poll() is None:
            if (self.dir / "lb.log").read_text().count("serving users on") >= len(self.balancers):
                return
            time.sleep(0.02)
        raise RuntimeError(f"the balancer does not start: {(self.dir / 'lb.log').read_text()[-600:]}")

    def reload(self):
        sh(BIN / "nts-pool-lb", "-c", self.config, "reload")

    def load(self, *words, number=None, nodes=1, port=None):
        """Users of the pool, or of one member directly; returns what became of them."""
        name, ports = (POOL, [self.port + 10 * node for node in range(nodes)])
        if number is not None:
            name, ports = f"m{number}.test", [self.ke_port(number)]
        if port is not None:
            ports = [port]
        servers = [word for port in ports for word in ("--server", f"127.0.0.1:{port}")]
        return json.loads(sh(*self.around_others, BIN / "ke_load", *servers, "--name", name, "--roots", self.dir / "ca.pem",
                             *words))

    def warm_up(self):
        """Until all members have served somebody."""
        for _ in range(40):
            time.sleep(0.25)
            try:
                told = self.load("--count", 8 * MEMBERS)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                continue
            if len(told["servers"]) == self.listed and not told["failed"]:
                return
        logs = {file.name: file.read_text()[-600:] for file in self.dir.glob("*.log")}
        raise RuntimeError(f"not all members serve: {told}\n{logs}")

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 99}/metrics", timeout=5) as page:
            lines = [line for line in page.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def tried(metrics):
    """Attempts with members that failed, before or after they had a user's keys."""
    return int(metrics["nts_pool_lb_failovers_total"] + metrics['nts_pool_lb_exchanges_total{result="lost"}'])


VICTIM = "m3.test"


def add(pool):
    pool.listed = MEMBERS
    pool.write_members()


def drain(pool):
    sh(BIN / "nts-pool-lb", "-c", pool.config, "drain", VICTIM)


def kill(pool):
    pool.members[VICTIM].kill()


def stop(pool):
    pool.members[VICTIM].send_signal(signal.SIGSTOP)


def token(pool):
    pool.set_tokens(TOKEN, NEXT_TOKEN)
    time.sleep(2)
    pool.token = NEXT_TOKEN
    pool.write_members()
    pool.reload()
    time.sleep(2)
    pool.set_tokens(NEXT_TOKEN)


def certificate(pool):
    pool.certify(POOL, "next")
    for kind in ("key", "pem"):
        (pool.dir / f"next.{kind}").rename(pool.dir / f"{POOL}.{kind}")


def beside(pool):
    old = pool.balancer
    pool.await_balancer(pool.start_balancer())
    old.terminate()
    old.wait(10)


def restart(pool):
    pool.balancer.terminate()
    pool.balancer.wait(10)
    pool.await_balancer(pool.start_balancer())


def node(pool):
    pool.balancers[1].kill()


DRILLS = [add, drain, kill, stop, token, certificate, beside, restart, node]


def drill(options, happen):
    """Something happens under load."""
    how = happen.__name__
    with Pool(options, members=MEMBERS - 1 if how == "add" else MEMBERS, held=how == "restart") as pool:
        pool.await_balancer(pool.balancer)
        if how == "node":
            pool.start_balancer(1)
        pool.warm_up()
        before = pool.metrics()
        started = time.monotonic()
        hit = {}

        def strike():
            time.sleep(options.seconds / 3)
            hit["at"] = time.monotonic() - started
            happen(pool)
            hit["took"] = time.monotonic() - started - hit["at"]

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

        # A balancer that ends takes what it counted with it.
        counts = how not in ("beside", "restart")
        threads = [threading.Thread(target=work) for work in ((strike, watch) if counts else (strike,))]
        for thread in threads:
            thread.start()
        told = pool.load("--rate", options.rate, "--seconds", options.seconds, "--users", USERS,
                         nodes=2 if how == "node" else 1)
        over.set()
        for thread in threads:
            thread.join()
        if "took" not in hit:
            raise RuntimeError(f"{how} failed")
        total = told["ok"] + told["failed"]
        out = {
            "exchanges": total,
            "failed": told["failed"],
            "failed-percent": round(100 * told["failed"] / max(1, total), 4),
            "failures": told["failures"],
            "served-by-another-address": told["second"],
            "longest-gap": told["gap"],
            # The generator's clock starts some milliseconds after ours.
            "happened-at": round(hit["at"], 2),
            "and-took": round(hit["took"], 2),
            "failures-after": [[round(at - hit["at"], 2), why] for at, why in told["told"]],
            "users-of-each": {name: served["count"] for name, served in told["servers"].items()},
            "wait": told["wait"],
        }
        if counts:
            after = pool.metrics()
            out["balancer"] = {name.removeprefix("nts_pool_lb_"): after[name] - before.get(name, 0) for name in after
                               if "_total" in name and after[name] != before.get(name, 0)}
            out["failed-attempts-after"] = [[round(at - hit["at"], 2), count] for at, count in attempts]
        for end in ("first", "last") if how in ("add", "drain", "kill", "stop") else ():
            served = told["servers"].get("m8.test" if how == "add" else VICTIM, {}).get(end)
            out[f"{end}-user-of-it-after"] = None if served is None else round(served - hit["at"], 3)
        return out


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


def compare(options):
    """Processor time of two binaries of the balancer for each exchange, in turns, in milliseconds."""
    rounds = []
    with Pool(options) as pool:
        pool.await_balancer(pool.balancer)
        other = pool.start_balancer(1, options.other)
        pool.warm_up()

        for number in range(options.repeats + 1):
            used = []
            for process, port in ((pool.balancer, pool.port), (other, pool.port + 10)):
                before = cpu_seconds(process)
                told = pool.load("--count", options.count, "--seconds", 600, "--users", options.users, port=port)
                if told["failed"]:
                    raise RuntimeError(f"failures: {told['failures']}")
                used.append(1000 * (cpu_seconds(process) - before) / told["ok"])
            # The first round makes connections.
            if number:
                rounds.append([round(one, 4) for one in used])
                print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
    ratios = [other / this for this, other in rounds]
    return {"this-ms": statistics.median(this for this, _ in rounds), "other-ms": statistics.median(o for _, o in rounds),
            "other-to-this": {"median": round(statistics.median(ratios), 3), "least": round(min(ratios), 3),
                              "most": round(max(ratios), 3)}, "exchanges-each": options.count}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["drills", "cpu"])
    parser.add_argument("--rate", type=float, default=150)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--users", type=int, default=8, help="at a time, for cpu")
    parser.add_argument("--port", type=int, default=24460)
    parser.add_argument("--debug", action="store_true", help="the balancer's log, with NTPD_KEEP=1")
    parser.add_argument("--other", type=Path, help="another binary of the balancer, for cpu")
    options = parser.parse_args()
    known = {happen.__name__: lambda happen=happen: drill(options, happen) for happen in DRILLS}
    known["cpu"] = lambda: compare(options) if options.other else cpu(options)
    wanted = [name for what in options.what for name in ([d.__name__ for d in DRILLS] if what == "drills" else [what])]
    for what in wanted:
        if what not in known:
            parser.error(f"{what}: accepted: drills, {', '.join(known)}")
        print(json.dumps({what: known[what]()}, indent=1), flush=True)


if __name__ == "__main__":
    main()
