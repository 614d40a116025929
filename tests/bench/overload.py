#!/usr/bin/env python3
"""What becomes of users if more come than the balancer can serve, and if the network loses packets.

`NTPD_BIN=target/release python3 tests/bench/overload.py [WHAT ...] [--seconds N] [--rounds N]`

The set-up is that of pool_drill.py. The balancer has a processor for itself, and users and members have the other. For
`load` its certificate is RSA-4096, which costs the balancer much and users little, so that one processor can offer three
times what another can take.

  load      exchanges begin at 0.5, 1, 2 and 3 times the rate that the balancer reaches with as many users as it likes
  workers   what one worker and two reach, ECDSA, with everybody on the same two processors
  ntp       NTP requests, plain and with NTS, at the same shares of what each server answers at most: our ntpd and, if CHRONYD
            names it, chronyd, in turns. Each has one thread and a quarter of a processor, so that another can offer three times
            as many
  loss      200 users a second over a link that loses none, 1 % and 5 % of packets each way; as root, with /dev/net/tun
"""

import argparse
import json
import os
import statistics
import subprocess
import threading
import time
from pathlib import Path

from pool_drill import BIN, POOL, USERS, Pool, cpu_seconds, sh

SHARES = (0.5, 1, 2, 3)
LOSSES = (0, 0.01, 0.05)
LOSSY_RATE = 200
# Requests a second that no server answers all of.
MOST = 400_000


class Apart(Pool):
    """The balancer on a processor of its own."""

    more = "workers = 1"
    around_balancer = ["taskset", "-c", "0"]
    around_others = ["taskset", "-c", "1"]

    def certify(self, name, file):
        super().certify(name, file)
        if name != POOL:
            return
        sh("openssl", "req", "-new", "-newkey", "rsa:4096", "-nodes", "-keyout", self.dir / f"{file}.key", "-subj", f"/CN={name}",
           "-out", self.dir / "csr")
        (self.dir / f"{file}.key").chmod(0o600)
        (self.dir / "ext").write_text(f"subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\n")
        sh("openssl", "x509", "-req", "-in", self.dir / "csr", "-CA", self.dir / "ca.pem", "-CAkey", self.dir / "ca.key",
           "-CAcreateserial", "-days", "20", "-extfile", self.dir / "ext", "-out", self.dir / f"{file}.pem")


def resident(process):
    """MiB of memory."""
    line = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


class Watch:
    """The most memory that a process takes meanwhile."""

    def __init__(self, process):
        self.process, self.over, self.most = process, threading.Event(), 0
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.over.wait(0.2):
            self.most = max(self.most, resident(self.process))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def row(told, seconds, **more):
    waits = lambda which: {name: round(1000 * value, 1) for name, value in told[which].items() if name != "p999"}
    return {"served-a-second": round(told["ok"] / seconds), "failed": told["failed"], "served-ms": waits("wait"),
            "failed-ms": waits("failed-wait"), "failures": told["failures"], **more}


def load(options):
    with Apart(options) as pool:
        pool.warm_up()
        rounds = []
        for _ in range(options.rounds):
            told = pool.load("--seconds", options.seconds, "--users", 64)
            capacity = told["ok"] / told["seconds"]
            levels = {}
            for share in SHARES:
                before = cpu_seconds(pool.balancer)
                with Watch(pool.balancer) as watch:
                    told = pool.load("--rate", share * capacity, "--seconds", options.seconds, "--users", 10_000)
                # A user that comes at the end may be served later: what counts is what was served in all that time.
                levels[share] = row(told, told["seconds"], **{
                    "offered-a-second": round(share * capacity), "came-a-second": round((told["ok"] + told["failed"]) / options.seconds),
                    "memory-MiB": round(watch.most, 1), "took-s": round(told["seconds"], 1),
                    "balancer-cpu": round((cpu_seconds(pool.balancer) - before) / told["seconds"], 2)})
            rounds.append({"capacity": round(capacity), **levels})
            print(json.dumps(rounds[-1], indent=1), flush=True)
        goodput = [each[3]["served-a-second"] / each[1]["served-a-second"] for each in rounds]
        return {"goodput-3-to-1": [round(value, 3) for value in goodput], "median": round(statistics.median(goodput), 3)}


def workers(options):
    """Exchanges for each second of the balancer's own processor time, and by the clock."""
    out = {}
    for count in (1, 2):
        kind = type("Workers", (Pool,), {"more": f"workers = {count}"})
        with kind(options) as pool:
            pool.warm_up()
            rounds = []
            for _ in range(options.rounds):
                before = cpu_seconds(pool.balancer)
                told = pool.load("--seconds", options.seconds, "--users", 64)
                rounds.append([told["ok"] / told["seconds"], told["ok"] / (cpu_seconds(pool.balancer) - before)])
            by_clock, by_processor = (statistics.median(column) for column in zip(*rounds))
            out[f"{count} workers"] = {"a-second": round(by_clock), "a-second-of-its-processor-time": round(by_processor)}
    return out


class Far(Pool):
    """Its users are in another namespace, behind a link."""

    more = '[limits]\nper-host = 10000\nper-network = 10000\nburst = 1000000\ninterval = 0.001\n'
    elsewhere = ["10.88.7.1"]

    def __init__(self, options, spaces, loss):
        super().__init__(options)
        self.spaces = spaces
        words = ["python3", Path(__file__).with_name("lossy_link.py"), spaces[0], "10.88.7.1", spaces[1], "10.88.7.2", loss]
        self.link = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)
        self.programs.append(self.link)
        if self.link.stdout.readline().strip() != "ready":
            raise RuntimeError("no link")

    def far_load(self, *words):
        where = ["ip", "netns", "exec", self.spaces[1]]
        return json.loads(sh(*where, Path(os.environ.get("NTPD_BIN", "target/release")).resolve() / "ke_load", "--server",
                             f"10.88.7.1:{self.port}", "--name", POOL, "--roots", self.dir / "ca.pem", *words))


def loss(options):
    """Runs itself again in a namespace of its own, so that nothing of this touches the machine's network."""
    spaces = [f"overload-{os.getpid()}-{end}" for end in ("pool", "users")]
    try:
        for space in spaces:
            sh("ip", "netns", "add", space)
            sh("ip", "-n", space, "link", "set", "lo", "up")
        words = ["ip", "netns", "exec", spaces[0], "python3", __file__, "loss-inside", "--seconds", options.seconds]
        return json.loads(sh(*words, "--spaces", *spaces))["loss-inside"]
    finally:
        for space in spaces:
            sh("ip", "netns", "del", space)


def loss_inside(options):
    out = {}
    for part in LOSSES:
        with Far(options, options.spaces, part) as pool:
            pool.warm_up()
            told = pool.far_load("--rate", LOSSY_RATE, "--seconds", options.seconds, "--users", USERS)
            waits = {name: round(1000 * value, 1) for name, value in told["wait"].items()}
            out[f"{part:.0%}"] = {"served": told["ok"], "failed": told["failed"], "ms": waits, "failures": told["failures"]}
    return out


class Servers(Apart):
    """NTP servers in the place of the pool, with programs beside them that take most of their processor."""

    def __enter__(self):
        self._certificates(["m1.test"])
        for _ in range(3):
            self.start(["taskset", "-c", "1", "sh", "-c", "while :; do :; done"], "beside.log")
        return self

    def start(self, words, log):
        return self._start(words, log)

    def start_ours(self):
        ntp, ke = self.port + 1, self.port + 2
        config = self._write("ours.toml", f"""
[serve]
listen = ["127.0.0.1:{ntp}"]
allow = ["127.0.0.0/8"]
rate-limit = false
threads = 1
[serve.nts]
listen = ["127.0.0.1:{ke}"]
certificate = "{self.dir}/m1.test.pem"
private-key = "{self.dir}/m1.test.key"
[state]
directory = "{self.dir}/state"
[control]
socket = "{self.dir}/control.sock"
""")
        return self.start([*GUARDED, BIN / "ntpd", "-x", "-c", config], "ours.log"), ntp, ke

    def start_chronyd(self):
        ntp, ke = self.port + 3, self.port + 4
        self.dir.chmod(0o755)
        config = self._write("chrony.conf", f"""
local stratum 3
allow all
bindaddress 127.0.0.1
port {ntp}
cmdport 0
bindcmdaddress /
pidfile {self.dir}/chronyd.pid
ntsport {ke}
ntsprocesses 0
ntsserverkey {self.dir}/m1.test.key
ntsservercert {self.dir}/m1.test.pem
""")
        return self.start([*GUARDED, os.environ["CHRONYD"], "-x", "-d", "-u", "root", "-F", "0", "-f", config], "chrony.log"), ntp, ke

    def offer(self, ntp, ke, rate, nts):
        words = ["--ke", f"127.0.0.1:{ke}", "--name", "m1.test", "--roots", self.dir / "ca.pem"] if nts else []
        return json.loads(sh("taskset", "-c", "0", BIN / "ntp_load", "--server", f"127.0.0.1:{ntp}", "--rate", rate,
                             "--seconds", self.options.seconds, *words))


GUARDED = ["taskset", "-c", "1", "setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-sys_time"]


def ntp(options):
    with Servers(options) as servers:
        running = {"ntpd": servers.start_ours()}
        if os.environ.get("CHRONYD"):
            running["chronyd"] = servers.start_chronyd()
        time.sleep(3)
        out = {}
        for nts in (False, True):
            for number in range(options.rounds):
                for name, (process, port, ke) in running.items():
                    # More than any can answer shows how many it can.
                    told = servers.offer(port, ke, MOST, nts)
                    capacity = told["answered"] / told["seconds"]
                    levels = {"capacity": round(capacity)}
                    for share in SHARES:
                        before = cpu_seconds(process)
                        told = servers.offer(port, ke, share * capacity, nts)
                        took = cpu_seconds(process) - before
                        levels[share] = {
                            "offered-a-second": round(told["sent"] / told["seconds"]),
                            "answered-a-second": round(told["answered"] / told["seconds"]),
                            "ms": {which: round(1000 * value, 2) for which, value in told["wait"].items()},
                            "us-of-its-processor": round(1e6 * took / max(1, told["answered"]), 2),
                            "memory-MiB": round(resident(process), 1)}
                    key = f"{name}, {'NTS' if nts else 'plain'}"
                    out.setdefault(key, []).append(levels)
                    print(key, json.dumps(levels), flush=True)
        return {key: {"goodput-3-to-1": [round(each[3]["answered-a-second"] / each[1]["answered-a-second"], 3) for each in rounds]}
                for key, rounds in out.items()}


KNOWN = {"load": load, "workers": workers, "ntp": ntp, "loss": loss, "loss-inside": loss_inside}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="*", default=["load", "workers", "ntp", "loss"], help=", ".join(list(KNOWN)[:4]))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=24460)
    parser.add_argument("--spaces", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.debug = False
    for what in options.what:
        if what not in KNOWN:
            parser.error(f"{what}: accepted: {', '.join(list(KNOWN)[:4])}")
        print(json.dumps({what: KNOWN[what](options)}, indent=1), flush=True)


if __name__ == "__main__":
    main()
