#!/usr/bin/env python3
"""What a user's key exchange costs nts-pool-lb and nts-pool-ke, in the same run, with the same members and users.

`NTPD_BIN=target/release NTS_POOL_KE=FILE GEODB=FILE.mmdb python3 tests/bench/pool_peer.py [--count N] [--rounds N]`

nts-pool-ke is the balancer of https://github.com/pendulum-project/nts-pool, built from there; the country database that it
demands can be the one in its test data. The set-up is that of pool_drill.py: eight of our members on loopback. In each round
users ask nts-pool-lb, nts-pool-ke and one member directly, in turns; what is told is processor time of the processes.
"""

import argparse
import hashlib
import json
import os
import statistics
import time
from pathlib import Path

from pool_drill import MEMBERS, POOL, TOKEN, Pool, cpu_seconds, sh

SECRET = "a secret of this measurement"


class BothPools(Pool):
    """The drill's pool, and nts-pool-ke in front of the same members."""

    def certify(self, name, file):
        """Certificates for the address too: nts-pool-ke finds members by it."""
        super().certify(name, file)
        (self.dir / "ext").write_text(f"subjectAltName=DNS:{name},IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        sh("openssl", "x509", "-req", "-in", self.dir / "csr", "-CA", self.dir / "ca.pem", "-CAkey", self.dir / "ca.key",
           "-CAcreateserial", "-days", "20", "-extfile", self.dir / "ext", "-out", self.dir / f"{file}.pem")

    def _member(self, number):
        super()._member(number)
        name = f"m{number}.test"
        theirs = hashlib.sha3_256((SECRET + name).encode()).hexdigest()
        self._write(f"{name}.tokens", f"{TOKEN}\n{theirs}\n")

    def start_peer(self):
        servers = [{"uuid": f"m{n}.test", "domain": "127.0.0.1", "port": self.ke_port(n)} for n in range(1, MEMBERS + 1)]
        self._write("servers.json", json.dumps(servers))
        self._write("secret", SECRET + "\n")
        self.peer_port = self.port + 15
        config = self._write("peer.toml", f"""
[observability]
log-level = "error"
[server]
listen = "127.0.0.1:{self.peer_port}"
certificate-chain = "{self.dir}/{POOL}.pem"
private-key = "{self.dir}/{POOL}.key"
max-connections = 400
[backend]
upstream-cas = "{self.dir}/ca.pem"
allowed-protocols = [0]
certificate-chain = "{self.dir}/{POOL}.pem"
private-key = "{self.dir}/{POOL}.key"
key-exchange-servers = "{self.dir}/servers.json"
base-shared-secret = "{self.dir}/secret"
geolocation-db = "{os.environ["GEODB"]}"
""")
        env = {"SSL_CERT_FILE": str(self.dir / "ca.pem")}
        self.peer = self._start([os.environ["NTS_POOL_KE"], "-c", config], "peer.log", env)


def measured(pool, front, count, **where):
    """Processor time in ms an exchange: of who is asked, and of the members behind."""
    behind = [member for member in pool.members.values() if member is not front]
    before = cpu_seconds(front), sum(map(cpu_seconds, behind))
    told = pool.load("--count", count, "--users", 8, **where)
    if told["failed"]:
        raise RuntimeError(told)
    after = cpu_seconds(front), sum(map(cpu_seconds, behind))
    return [1000 * (b - a) / count for a, b in zip(before, after)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--count", type=int, default=5000)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--port", type=int, default=24460)
    options = arguments.parse_args()
    options.debug = False
    with BothPools(options) as pool:
        pool.warm_up()
        pool.start_peer()
        time.sleep(2)
        sides = [
            ("nts-pool-lb", pool.balancer, {}),
            ("nts-pool-ke", pool.peer, {"port": pool.peer_port}),
            ("direct", pool.members["m1.test"], {"number": 1}),
        ]
        for _, front, where in sides:
            measured(pool, front, 500, **where)
        rounds = {name: [] for name, _, _ in sides}
        for turn in range(options.rounds):
            for name, front, where in sides[turn % 3:] + sides[:turn % 3]:
                rounds[name].append(measured(pool, front, options.count, **where))
        print("| who is asked | ms an exchange there | behind it | both | least to most | both / direct |")
        print("|---|---|---|---|---|---|")
        direct = statistics.mean(front for front, _ in rounds["direct"])
        for name, values in rounds.items():
            if name == "direct":
                values = [[front, 0] for front, _ in values]
            front, behind = (statistics.mean(column) for column in zip(*values))
            both = [sum(value) for value in values]
            print(f"| {name} | {front:.3f} | {behind:.3f} | {statistics.mean(both):.3f} | {min(both):.3f} to {max(both):.3f} "
                  f"| {statistics.mean(both) / direct:.2f} |")


if __name__ == "__main__":
    main()
