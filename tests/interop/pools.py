#!/usr/bin/env python3
"""Users and members of other makes, with our balancer between them: `pools.py`, as root, with the peers in NTPD_PEERS.

The balancer runs on host a, under the name a.test; the member is ntpd-rs on host b.
"""

import json
import sys
from pathlib import Path

from lab import CHRONYD, NTPD_RS, NTPSEC, OURS, Lab, chrony, chronyc, ntpctl, ours, wait_for

TOKEN = "0123456789abcdef0123456789abcdef"


def member(lab):
    tls = lab.certificates
    config = lab.write("member.toml", f"""
[synchronization]
local-stratum = 1
[observability]
log-level = "debug"
observation-path = "{lab.dir}/member.sock"
[[server]]
listen = "0.0.0.0:123"
[[nts-ke-server]]
listen = "0.0.0.0:4460"
certificate-chain-path = "{tls}/b.pem"
private-key-path = "{tls}/b.key"
accepted-pool-authentication-tokens = ["{TOKEN}"]
""", 0o644)
    return lab.b.start(NTPD_RS, "-c", config, log="member.log")


def balancer(lab):
    lab.write("members.toml", f'[[member]]\nname = "b.test"\naddresses = ["{lab.b.v4}"]\ntoken = "{TOKEN}"\n')
    config = lab.write("lb.toml", settings(lab, "name"))
    lab.write("address.toml", settings(lab, "address"))
    program = lab.a.start(OURS / "nts-pool-lb", "-c", config, log="lb.log", env={"RUST_LOG": "debug"})
    wait_for("the balancer", lambda: (lab.dir / "lb.sock").exists(), 10)
    return config, program


def settings(lab, hand_out):
    tls = lab.certificates
    return f"""
listen = ["0.0.0.0:4460"]
certificate = "{tls}/a.pem"
private-key = "{tls}/a.key"
members = "members.toml"
trust = "file"
trust-file = "{tls}/ca.pem"
allow-private = true
hand-out = "{hand_out}"
control-socket = "{lab.dir}/lb.sock"
[probe]
interval = 2
max-offset = 1.0
"""


def listed(lab, config):
    return lab.a.run(OURS / "nts-pool-lb", "-c", config, "list", check=False)


def chrony_user(lab, directive, tag):
    """chronyd gets keys from the pool, and authentic time from the member with them."""
    user = chrony(lab.a, f"server a.test nts iburst minpoll 1 maxpoll 1\nport 0\n{directive}\n"
                  f"ntstrustedcerts {lab.certificates}/ca.pem", tag)

    def served():
        fields = chronyc(lab.a, user, "authdata").strip().split(",")
        # Name, mode, key, type, length, last, attempts, NAK, cookies, cookie length.
        source = chronyc(lab.a, user, "sources").strip().split(",")
        return fields if len(fields) > 8 and int(fields[8]) == 8 and len(source) > 5 and int(source[5], 8) > 3 else None

    try:
        fields = wait_for(f"chronyd {tag}", served, 30)
    except AssertionError:
        print(lab.log(f"chrony-{tag}.log"), lab.log("lb.log")[-3000:], lab.log("member.log")[-2000:])
        print(chronyc(lab.a, user, "authdata"), chronyc(lab.a, user, "sources"))
        raise
    user.terminate()
    user.wait(5)
    assert int(fields[7]) == 0, f"NAKs: {fields}"
    return f"AEAD {fields[3]}, {fields[4]} bits, {fields[8]} cookies, no NAK"


def ntpsec_user(lab, server):
    config = lab.write("ntpsec.conf", f"nts ca {lab.certificates}/ca.pem\nserver a.test nts iburst minpoll 4\n"
                       "restrict default\nrestrict 127.0.0.1\n", 0o644)
    user = lab.a.start(NTPSEC, "-n", "-c", config, log=f"ntpsec-{server}.log")
    try:
        wait_for("NTPsec", lambda: server in lab.log(f"ntpsec-{server}.log") and "cookies" in lab.log(f"ntpsec-{server}.log"), 30)
    except AssertionError:
        print(lab.log(f"ntpsec-{server}.log"), lab.log("lb.log")[-2000:])
        raise
    user.terminate()
    user.wait(5)
    return next(line for line in lab.log(f"ntpsec-{server}.log").splitlines() if "cookies" in line)


def our_user(lab, server="b.test"):
    """Our daemon in mode `lb`: authenticated time from the member that the pool names."""
    text = f"""
[[pool]]
name = "a.test"
mode = "lb"
count = 1
min-poll = 1
max-poll = 1
[trust]
certificates = "file"
certificate-file = "{lab.certificates}/ca.pem"
"""
    user = ours(lab.a, text, f"user-{server}")

    def served():
        try:
            sources = json.loads(ntpctl(lab.a, user, "--json", "sources"))["sources"]
            cookies = json.loads(ntpctl(lab.a, user, "--json", "authdata"))["sources"]
        except ValueError:
            return None
        good = sources and sources[0]["reach"] > 3 and sources[0]["trust"] == "pki"
        return (sources[0]["name"], cookies[0]["cookies"]) if good and cookies[0]["cookies"] == 8 else None

    try:
        name, cookies = wait_for("our daemon", served, 30)
    except AssertionError:
        print(lab.log(f"ours-user-{server}.log"), lab.log("lb.log")[-2000:])
        raise
    user.terminate()
    user.wait(5)
    assert name == server, name
    return f"{name}, {cookies} cookies"


def main():
    if not NTPD_RS:
        print("skip: without ntpd-rs there is no member")
        return 0
    with Lab() as lab:
        # chronyd asks for names of answers with a dot at the end, which the C library looks for literally.
        for host in lab.hosts:
            hosts = Path("/etc/netns") / host.space / "hosts"
            hosts.write_text(hosts.read_text() + f"{lab.b.v4} b.test.\n")
        member(lab)
        config, program = balancer(lab)
        try:
            wait_for("a measured offset", lambda: any("+0." in l or "-0." in l for l in listed(lab, config).splitlines()), 20)
        finally:
            print(listed(lab, config))
        print("ours:", our_user(lab))
        if CHRONYD:
            print("chronyd:", chrony_user(lab, "", "siv"))
        if NTPSEC:
            print("NTPsec:", ntpsec_user(lab, "b.test"))
        program.terminate()
        program.wait(10)
        lab.a.start(OURS / "nts-pool-lb", "-c", lab.dir / "address.toml", log="lb.log", env={"RUST_LOG": "debug"})
        wait_for("the balancer", lambda: "b.test" in listed(lab, config), 10)
        print("by address, ours:", our_user(lab, lab.b.v4))
        if CHRONYD:
            print("by address, chronyd:", chrony_user(lab, "", "address"))
        if NTPSEC:
            print("by address, NTPsec:", ntpsec_user(lab, lab.b.v4))
    return 0


if __name__ == "__main__":
    sys.exit(main())
