"""Scenarios by chance: `scenarios(seed, count)` are the same for the same seed, and nothing was tuned for any of them."""

import math
import random

from scenarios import D, H, SCENARIOS, erlang, fstep, gate, jit, link, lossy, prob, sc, spiky, wander, window

# How packets wait, for a shortest way of `base` seconds and a usual wait of `wait`.
QUEUES = {
    "exponential": jit,
    "two waits": lambda base, wait: erlang(base, wait, 2),
    "four waits": lambda base, wait: erlang(base, wait, 4),
    "eight waits": lambda base, wait: erlang(base, wait, 8),
    "uniform": lambda base, wait: f"(+ {base:g} (* {wait * 3.4:g} (uniform)))",
    "two levels": lambda base, wait: f"(+ {base:g} (* {wait:g} (exponential)) (* {wait * 4:g} {prob(0.5)}))",
    "by day": lambda base, wait: f"(+ {base:g} (* {wait:g} (exponential) (+ 1.05 (sine {D}))))",
    "often none": lambda base, wait: f"(+ {base:g} (* {wait / 20:g} (exponential)) (* {wait * 5:g} (exponential) {prob(0.3)}))",
}


def scenarios(seed, count):
    """Takes the place of the scenarios by name."""
    SCENARIOS.clear()
    for number in range(count):
        sc(f"{seed}-{number}", **scenario(random.Random(f"{seed}/{number}")))


def between(chance, low, high):
    """Equally likely in each decade."""
    return math.exp(chance.uniform(math.log(low), math.log(high)))


def scenario(chance):
    pick = chance.choice
    count, queue = pick([1, 1, 2, 3, 4, 4, 5]), pick([*QUEUES, "exponential"])
    way = between(chance, 50e-6, 1e-3) if chance.random() < 0.35 else between(chance, 3e-3, 60e-3)
    share, fuller = between(chance, 0.02, 0.5), pick([1, 1, 1, between(chance, 1.5, 10)])
    spikes, spike = pick([0, 0, 0.03, 0.1, 0.25]), between(chance, 3, 30)
    loss, crooked = pick([0, 0, 0.01, 0.05, 0.15]), pick([0, 0, 0.02, 0.1])
    event = pick([None] * 5 + ["outage", "route", "server", "two routes"])
    duration, settle = (2 * H, H // 2) if chance.random() < 0.15 else (D, 4 * H)
    middle = duration // 2

    def path(first):
        base = way * between(chance, 0.5, 2) * (0.1 if count > 1 and chance.random() < 0.1 else 1)
        wait, bias = base * share * between(chance, 0.7, 1.4), base * crooked * chance.uniform(-1, 1)
        there, back = QUEUES[queue](base + bias, wait), QUEUES[queue](base - bias, wait * fuller)
        if spikes:
            there, back = (spiky(one, spikes, wait * spike) for one in (there, back))
        if event == "route" and first:
            back = f"(+ {back} (* {base * pick([-0.3, 0.3, 1]):g} {gate(middle)}))"
        if event == "two routes":
            back = f"(+ {back} (* {base * 0.3:g} (max 0.0 (min 1.0 (* 1e6 (sine {pick([1800, 7200, 20000])}))))))"
        if event == "outage":
            there = f"(+ {there} (* -1e4 {window(middle, middle + duration // 8)}))"
        if loss:
            there, back = lossy(there, loss), lossy(back, loss)
        return link(there, back)

    cycles = [(between(chance, 1e-8, 2e-6), between(chance, 600, D)) for _ in range(pick([0, 0, 1, 2]))]
    walk, jump = between(chance, 1e-10, 2e-8), pick([-1, 1]) * between(chance, 1e-7, 5e-6)
    changes = [f"(* {size:g} (sine {period:.0f}))" for size, period in cycles]
    jumps = chance.random() < 0.2
    if jumps:
        changes.append(fstep(int(chance.uniform(0.2, 0.8) * duration), jump))
    found = {"links": [path(number == 0) for number in range(count)], "dur": duration, "settle": settle}
    found["freq"] = wander(chance.uniform(-80e-6, 80e-6), walk, *changes)
    found["offset"] = pick([-1, 1]) * between(chance, 1e-4, 20)
    poll = chance.randint(3, 10) if chance.random() < 0.25 else None
    if poll:
        found["poll"] = (poll, poll)
    if event == "server" and count >= 3:
        found["extra"] = [f"node1_step = (* {way * pick([-3, 1, 5]):g} (equal 0.1 (sum 1.0) {middle}))"]
    found["desc"] = ", ".join(
        [f"{count} servers {way * 1e3:.2g} ms away, waits {queue} of {share:.2g} of that, {fuller:.1f} times as long back"]
        + [f"{100 * spikes:.0f} % spikes"] * bool(spikes)
        + [f"{100 * loss:.0f} % loss"] * bool(loss)
        + [f"ways crooked by {100 * crooked:.0f} %"] * bool(crooked)
        + [f"walk {walk:.1g}"]
        + [f"{size * 1e6:.2g} ppm in {period / 60:.0f} min" for size, period in cycles]
        + [f"jump of {jump * 1e6:.2g} ppm"] * jumps
        + [f"poll {poll}"] * bool(poll)
        + [f"{event} in the middle"] * bool(event)
        + [f"{duration // H} h"]
    )
    return found
