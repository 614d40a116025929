#!/usr/bin/env python3
"""How often a real chronyd exchanges keys, by packet loss, with its poll interval shortened.

`sudo python3 tests/bench/chrony_rekeys.py [--minutes N] [--poll LOG2] [--losses 0,5,20,30]`

One chronyd serves NTS, others ask it, each in a namespace of its own behind a link that loses packets each way. The
clients poll all the time at the shortest interval, so a minute stands for as many polls as an hour or more of a real
one: what counts is exchanges per poll. Restarts with and without saved cookies are counted too. No clock is set: every
chronyd runs with -x, and without the capability.

`NTPD_PEERS` names the folder in which chrony is unpacked.
"""

import argparse
import fcntl
import json
import os
import random
import select
import struct
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))
from lab import CHRONYD, Lab, chrony, chronyc, sh, wait_for  # noqa: E402

# From linux/if_tun.h.
TUNSETIFF = 0x400454CA
IFF_TUN = 1
IFF_NO_PI = 0x1000
# Clients for each loss, so that rare events are seen.
CLIENTS = 8


class Link:
    """A link between the two hosts, in place of the lab's own, that loses packets: a thread carries each from one TUN
    device to the other. Kernels without netem can do that too."""

    def __init__(self, lab):
        self.loss = 0.0
        self.carried = self.dropped = self.octets = 0
        self.random = random.Random(1)
        self.lab = lab
        self.ends = [self._end(host) for host in lab.hosts]
        self.running = True
        self.thread = threading.Thread(target=self._carry, daemon=True)
        self.thread.start()

    def _end(self, host):
        name = f"lossy{os.getpid() % 100000}{host.name}"
        end = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        sh("ip", "link", "set", name, "netns", host.space)
        inside = ["ip", "-n", host.space]
        sh(*inside, "addr", "flush", "dev", "eth0")
        sh(*inside, "addr", "add", f"{host.v4}/24", "dev", name)
        sh(*inside, "link", "set", name, "up")
        return end

    def _carry(self):
        a, b = self.ends
        while self.running:
            for end in select.select(self.ends, [], [], 0.2)[0]:
                packet = os.read(end, 65536)
                if packet[0] >> 4 != 4:
                    continue
                self.carried += 1
                self.octets += len(packet)
                if self.random.random() < self.loss:
                    self.dropped += 1
                else:
                    os.write(b if end == a else a, packet)

    def close(self):
        self.running = False
        self.thread.join()
        for end in self.ends:
            os.close(end)


def stats(host, process):
    """The server's own counts."""
    names = ["ntp-received", "ntp-dropped", "cmd-received", "cmd-dropped", "log-dropped", "ke-accepted", "ke-dropped",
             "nts-received"]
    values = chronyc(host, process, "serverstats").strip().split(",")
    return dict(zip(names, (int(value) for value in values)))


def sent(host, process):
    """Requests that a client has sent, datagrams that it got, and valid replies among them."""
    line = chronyc(host, process, "ntpdata").strip().splitlines()[-1].split(",")
    # The last four columns: sent, received, valid, good.
    total_tx, total_rx, valid = (int(value) for value in line[-4:-1])
    return total_tx, total_rx, valid


def client(lab, number, poll, tag):
    folder = lab.dir / f"chrony-{tag}"
    again = folder.exists()
    text = f"""server a.test nts minpoll {poll} maxpoll {poll}
port 0
ntstrustedcerts {lab.certificates}/ca.pem"""
    if again:
        # The same state, with the cookies that it saved.
        return start_again(lab, folder, tag)
    return chrony(lab.b, text, tag)


def start_again(lab, folder, tag):
    process = lab.b.start(CHRONYD, "-x", "-d", "-f", lab.dir / f"chrony-{tag}.conf", log=f"chrony-{tag}-again.log")
    process.socket = folder / "sock"
    return process


def stop(process):
    process.terminate()
    process.wait(10)


def run_loss(lab, link, loss, minutes, poll):
    """Exchanges and packets of some clients in some minutes."""
    tls = lab.certificates
    tag = f"s{loss}"
    server = chrony(lab.a, f"local stratum 3\nallow all\nntsserverkey {tls}/a.key\nntsservercert {tls}/a.pem", tag)
    wait_for("chronyd to listen", lambda: "LISTEN" in lab.a.run("ss", "-Htln", "sport = :4460", check=False), 20)
    clients = [client(lab, number, poll, f"c{loss}-{number}") for number in range(CLIENTS)]
    time.sleep(3)
    started = time.monotonic()
    link.loss = loss / 100
    time.sleep(60 * minutes)
    seconds = time.monotonic() - started
    link.loss = 0.0
    time.sleep(2)
    after = stats(lab.a, server)
    requests = [sent(lab.b, process) for process in clients]
    authdata = [chronyc(lab.b, process, "authdata").strip().split(",") for process in clients]
    for process in [*clients, server]:
        stop(process)
    result = {
        "loss": loss,
        "seconds": round(seconds),
        "clients": CLIENTS,
        "poll": poll,
        "requests": sum(tx for tx, _, _ in requests),
        "replies": sum(rx for _, rx, _ in requests),
        "received-by-server": after["nts-received"],
        "key-exchanges": after["ke-accepted"],
        # Columns: name, mode, key number, type, length, last, attempts, naks, cookies, cookie length.
        "naks": sum(int(data[-3]) for data in authdata),
        "cookies": [int(data[-2]) for data in authdata],
    }
    result["exchanges-per-1000-requests"] = round(
        1000 * (result["key-exchanges"] - CLIENTS) / max(1, result["requests"]), 3)
    return result


def run_restarts(lab, poll):
    """Exchanges of five restarts: with saved cookies, and without."""
    tls = lab.certificates
    server = chrony(lab.a, f"local stratum 3\nallow all\nntsserverkey {tls}/a.key\nntsservercert {tls}/a.pem", "sr")
    wait_for("chronyd to listen", lambda: "LISTEN" in lab.a.run("ss", "-Htln", "sport = :4460", check=False), 20)
    found = {}
    for kind in ("saved", "lost"):
        tag = f"r-{kind}"
        before = stats(lab.a, server)["ke-accepted"]
        process = client(lab, 0, poll, tag)
        for _ in range(5):
            time.sleep(6)
            stop(process)
            if kind == "lost":
                for file in (lab.dir / f"chrony-{tag}").glob("*.nts"):
                    file.unlink()
            process = client(lab, 0, poll, tag)
        time.sleep(6)
        stop(process)
        found[kind] = stats(lab.a, server)["ke-accepted"] - before
    stop(server)
    return {"starts": 6, "key-exchanges": found}


def octets(lab, link):
    """What one key exchange puts on the wire, both ways, with IP headers."""
    tls = lab.certificates
    server = chrony(lab.a, f"local stratum 3\nallow all\nntsserverkey {tls}/a.key\nntsservercert {tls}/a.pem", "so")
    wait_for("chronyd to listen", lambda: "LISTEN" in lab.a.run("ss", "-Htln", "sport = :4460", check=False), 20)

    before = (link.carried, link.octets)
    # The first request for the time comes with the keys; the next is 2^10 s later.
    process = client(lab, 0, 10, "o")
    time.sleep(4)
    after = (link.carried, link.octets)
    tx, rx, _ = sent(lab.b, process)
    stop(process)
    stop(server)
    return {"octets": after[1] - before[1], "packets": after[0] - before[0], "ntp-requests": tx, "ntp-replies": rx}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--poll", type=int, default=-4)
    parser.add_argument("--losses", default="0,5,20,30")
    options = parser.parse_args()
    print(sh(CHRONYD, "-v").strip(), flush=True)
    with Lab() as lab:
        link = Link(lab)
        for loss in options.losses.split(","):
            print(json.dumps(run_loss(lab, link, int(loss), options.minutes, options.poll)), flush=True)
        print(json.dumps({"restarts": run_restarts(lab, options.poll)}), flush=True)
        print(json.dumps({"one-exchange": octets(lab, link)}), flush=True)
        link.close()


if __name__ == "__main__":
    main()
