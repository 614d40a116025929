#!/usr/bin/env python3
"""Says whether two simulators agree on how well the client keeps a clock.

    agree.py OWN.json OTHER.json [CLIENT]

OWN.json is what `accuracy --json` kept, of the virtual world; OTHER.json what run_scenarios.py --json kept, of clknetsim, and CLIENT the name
of the client there (default: ntpd). For each scenario: the median RMS error of both with its 95 % interval, which follows from
order statistics without any distribution, and whether the intervals overlap. At least 30 runs of each are worth comparing.
"""
import json, math, sys


def interval(values):
    """The median and its interval: the ranks between which it lies with 95 % probability (binomial, one half)."""
    v, n = sorted(values), len(values)
    tail, low = 0.0, 0
    while tail + math.comb(n, low) / 2**n <= 0.025:
        tail += math.comb(n, low) / 2**n
        low += 1
    low = max(low - 1, 0)
    return v[low], (v[(n - 1) // 2] + v[n // 2]) / 2, v[n - 1 - low]


def main():
    own, other = (json.load(open(name)) for name in sys.argv[1:3])
    client = sys.argv[3] if len(sys.argv) > 3 else "ntpd"
    print("| scenario | virtual world, us | clknetsim, us | packets | overlap |\n|---|---|---|---|---|")
    apart = []
    for name, runs in own.items():
        theirs = [r for r in other["results"].get(name, {}).get(client, {}).get("runs", []) if "error" not in r]
        if len(theirs) < 2:
            continue
        a, b = interval([r["rms"] for r in runs]), interval([r["rms"] for r in theirs])
        overlap = a[0] <= b[2] and b[0] <= a[2]
        apart += [] if overlap else [name]
        show = lambda i: f"{i[1] * 1e6:.3g} ({i[0] * 1e6:.3g} to {i[2] * 1e6:.3g})"
        packets = [sorted(r[key] for r in of)[len(of) // 2] for of, key in ((runs, "packets"), (theirs, "pkts"))]
        print(f"| {name} | {show(a)} | {show(b)} | {packets[0]:.0f}, {packets[1]:.0f} | {'yes' if overlap else 'no'} |")
    print(f"\n{len(apart)} apart: {', '.join(apart)}" if apart else "\nAll overlap.")
    sys.exit(bool(apart))


if __name__ == "__main__":
    main()
