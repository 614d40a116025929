#!/usr/bin/env python3
"""A link between two network namespaces that loses packets at random, for machines whose kernel has no netem.

    lossy_link.py NAMESPACE ADDRESS NAMESPACE ADDRESS LOSS

Each end is a TUN device `lossy0` with its address (and /24); this program carries packets between them and drops each with
the probability LOSS (0 to 1), either way. It says `ready`, and runs until it is ended. Loss is seeded: `NTPD_SEED`.
"""

import ctypes
import fcntl
import os
import random
import select
import struct
import subprocess
import sys

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000


def device(namespace, address):
    """The descriptor of a TUN device in a namespace: a device stays where it was made."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"lossy0", IFF_TUN | IFF_NO_PI))
    for words in (["addr", "add", f"{address}/24", "dev", "lossy0"], ["link", "set", "lossy0", "up", "txqueuelen", "10000"]):
        subprocess.run(["ip", *words], check=True)
    return tun


def main():
    one, one_address, other, other_address, loss = sys.argv[1:]
    dice, loss = random.Random(int(os.environ.get("NTPD_SEED", "1"))), float(loss)
    ends = [device(one, one_address), device(other, other_address)]
    to = dict(zip(ends, reversed(ends)))
    print("ready", flush=True)
    while True:
        for end in select.select(ends, [], [])[0]:
            try:
                # As much as there is, so that a burst is not a call of select for each packet.
                while True:
                    packet = os.read(end, 65536)
                    if dice.random() >= loss:
                        os.write(to[end], packet)
            except BlockingIOError:
                pass


if __name__ == "__main__":
    main()
