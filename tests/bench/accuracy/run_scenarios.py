#!/usr/bin/env python3
"""Runs NTP clients in clknetsim, all with the same oscillators, and compares their errors. README.md says what is needed.

    run_scenarios.py --clknetsim DIR --server-chronyd PATH --client ntpd.json --client chrony.json [options]

In a scenario, servers are nodes 1 to n (chronyd as a perfect stratum 1), and the client is node n+1. A client is a JSON file:
`name`; `cmd`; `preload`, what is preloaded before clknetsim.so; `template`, its configuration, in which lines that begin with
`@server ` are repeated for every server; `poll`, what stands for {poll} where a scenario fixes the poll interval.
In `cmd` and `preload` {conf}, {dir}, {ntpd}, {chronyd} and {shim} are filled in, in `template` {addr}, {poll} and {dir}.
"""

import argparse
import concurrent.futures as cf
import json
import math
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import random_scenarios
from scenarios import H, SCENARIOS, config_text

HERE = Path(__file__).resolve().parent
NETWORK = "192.168.123."
CAP_SYS_TIME = 25
# How long an error has to stay below a bound until it counts as having got there, in seconds.
HOLD = 1800
ENDED = (0, -signal.SIGTERM)


def give_up_the_clock():
    """Starts again without the right to set this machine's clock, which a client would do that ran without clknetsim."""
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    if not int(status["CapEff"], 16) >> CAP_SYS_TIME & 1:
        return
    if "ACCURACY_AGAIN" in os.environ:
        sys.exit("run_scenarios.py: the right to set the clock is still there after setpriv")
    os.environ["ACCURACY_AGAIN"] = "1"
    guard = ["setpriv", "--bounding-set=-sys_time", "--inh-caps=-sys_time", "--no-new-privs"]
    os.execvp(guard[0], [*guard, sys.executable, *sys.argv])


def build_shim(folder):
    """The library that lets our daemon run in clknetsim."""
    shim = Path(folder) / "clkshim.so"
    source = HERE / "clkshim.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-o", shim, source, "-ldl"], check=True)
    return str(shim)


# ---- one run


def client_conf(client, scenario, folder):
    """The client's configuration for a scenario."""
    count, poll = len(scenario["links"]), ""
    if scenario.get("poll"):
        poll = client.get("poll", "").replace("{min}", str(scenario["poll"][0])).replace("{max}", str(scenario["poll"][1]))

    def fill(line, address=""):
        return line.replace("{addr}", address).replace("{poll}", poll).replace("{dir}", folder)

    out, block = [], []
    for line in [*client["template"].split("\n"), ""]:
        if line.startswith("@server "):
            block.append(line.removeprefix("@server "))
            continue
        out += [fill(part, f"{NETWORK}{server}") for server in range(1, count + 1) for part in block]
        block = []
        out.append(fill(line))
    return "\n".join(out)


class Run:
    """The programs and files of one run."""

    def __init__(self, options, scenario):
        self.options, self.scenario = options, scenario
        self.dir = tempfile.mkdtemp(prefix="sim-", dir=options.tmp)
        self.client_node = len(scenario["links"]) + 1
        keep_out = ("LISTEN_FDS", "NOTIFY_SOCKET")
        self.env = {name: value for name, value in os.environ.items() if name not in keep_out}
        self.programs, self.logs = [], []

    def path(self, name):
        return f"{self.dir}/{name}"

    def spawn(self, command, node, preload, log):
        # Set for the program alone: whatever else is started with it would be a node of its own.
        env = dict(self.env, LD_PRELOAD=preload, CLKNETSIM_NODE=str(node), CLKNETSIM_SOCKET=self.path("sock"))
        self.logs.append(open(self.path(log), "w"))
        program = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=self.logs[-1], stderr=subprocess.STDOUT, cwd=self.dir
        )
        self.programs.append(program)
        return program

    def run(self, client, seed):
        options, library = self.options, f"{self.options.clknetsim}/clknetsim.so"
        Path(self.path("sim.conf")).write_text(config_text(self.scenario))
        Path(self.path("client.conf")).write_text(client_conf(client, self.scenario, self.dir))
        # A date after every build: it is the era of the clock.
        self.env.update(CLKNETSIM_RANDOM_SEED=str(seed), CLKNETSIM_START_DATE="1800000000", LC_ALL="C")
        for node in range(1, self.client_node):
            conf = self.path(f"server{node}.conf")
            lines = ["local stratum 1", "allow", "cmdport 0", "bindcmdaddress /", f"pidfile {self.path(f'server{node}.pid')}"]
            Path(conf).write_text("\n".join(lines) + "\n")
            self.spawn([options.server_chronyd, "-d", "-f", conf], node, library, f"log.{node}")
        filled = {"conf": self.path("client.conf"), "dir": self.dir, "ntpd": options.ntpd, "chronyd": options.server_chronyd}
        command = [word.format(**filled) for word in shlex.split(client["cmd"])]
        preload = ":".join([client["preload"].format(shim=options.shim), library] if client.get("preload") else [library])
        program = self.spawn(command, self.client_node, preload, "log.client")
        began = time.time()
        simulator = [f"{options.clknetsim}/clknetsim", "-s", self.path("sock"), "-l", str(self.scenario["dur"])]
        for option, name in ("-o", "offset"), ("-f", "freq"), ("-g", "raw"), ("-p", "packets"):
            simulator += [option, self.path(name)]
        simulator += [self.path("sim.conf"), str(self.client_node)]
        done = subprocess.run(simulator, env=self.env, cwd=self.dir, capture_output=True, text=True, timeout=options.timeout)
        if done.returncode != 0:
            raise RuntimeError(f"clknetsim: {done.stderr[-200:]}")
        # A program ends with the simulation.
        if program.wait(20) not in ENDED:
            raise RuntimeError(f"the client ended with {program.returncode}")
        return dict(metrics(self.dir, self.scenario, self.client_node), wall=time.time() - began)

    def close(self):
        for program in self.programs:
            if program.poll() is None:
                program.terminate()
        for program in self.programs:
            try:
                program.wait(5)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
        for log in self.logs:
            log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def run_one(options, name, client, seed):
    """What one client made of one scenario, or `error`."""
    run = Run(options, SCENARIOS[name])
    try:
        return run.run(client, seed)
    except Exception as error:
        log = Path(run.path("log.client"))
        return {"error": f"{error} | {log.read_text()[-400:] if log.exists() else ''}"}
    finally:
        if options.keep:
            kept = Path(options.keep) / f"{name}.{client['name']}.{seed}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(run.dir, kept, ignore=lambda _, names: [n for n in names if n in ("sock", "control.sock")])
        run.close()


# ---- what came out


def column(path):
    with open(path) as lines:
        return [float(line.rsplit("\t", 1)[-1]) for line in lines]


def converged(offsets, bound):
    """The first second from which the error stays within `bound` for HOLD seconds, or to the end; None if there is none."""
    start = None
    for second, offset in enumerate(offsets):
        if abs(offset) > bound:
            start = None
        elif start is None:
            start = second
        elif second - start >= HOLD:
            return start
    return start if start is not None and len(offsets) - start >= 300 else None


def rms(values):
    return math.sqrt(sum(v * v for v in values) / len(values)) if values else float("nan")


def metrics(folder, scenario, client_node):
    """Errors are those of every simulated second after the time to settle; units are seconds."""
    offsets, rates = column(f"{folder}/offset"), column(f"{folder}/freq")
    settle, duration = scenario["settle"], scenario["dur"]
    if len(offsets) < duration:
        raise RuntimeError(f"the log ends after {len(offsets)} of {duration} seconds")
    sent = []
    with open(f"{folder}/packets") as lines:
        for line in lines:
            words = line.split("\t")
            if int(words[1]) == client_node and words[5] == "123":
                sent.append(float(words[0]))
    if not sent:
        raise RuntimeError("the client sent nothing")
    settled = offsets[settle:duration]
    sizes = sorted(abs(value) for value in settled)
    found = {"rms": rms(settled), "max": sizes[-1], "p95": sizes[int(len(sizes) * 0.95)]}
    found |= {"mean": sum(settled) / len(settled), "frms": rms(rates[settle:duration])}
    found |= {"pkts": len(sent), "pkts_1h": sum(at < H for at in sent), "end1h": rms(offsets[1800:3600])}
    found |= {f"c{name}": converged(offsets, bound) for name, bound in [("10ms", 1e-2), ("1ms", 1e-3), ("100us", 1e-4)]}
    for name, since, until in scenario.get("events", []):
        window = offsets[since:until]
        found[f"ev:{name}"] = {"rms": rms(window), "max": max(abs(value) for value in window)}
    return found


def median(values):
    """A run that never converged counts as infinity."""
    return statistics.median(math.inf if value is None else value for value in values)


def summarize(runs):
    good = [run for run in runs if "error" not in run]
    out = {"n": len(runs), "failed": len(runs) - len(good)}
    if not good:
        return out
    for key in good[0]:
        if key.startswith("ev:"):
            out[key] = {part: median(run[key][part] for run in good) for part in good[0][key]}
        else:
            out[key] = median(run[key] for run in good)
    return out | {"rms_lo": min(run["rms"] for run in good), "rms_hi": max(run["rms"] for run in good)}


# ---- reporting


def si(value):
    for scale, unit in (1, "s"), (1e-3, "ms"), (1e-6, "us"):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def seconds(value):
    return "never" if value is None or value == math.inf else f"{value:.0f}"


def row(client, found, events):
    if "rms" not in found:
        return f"| {client} | FAILED {found['failed']}/{found['n']} |"
    cells = [client, f"{si(found['rms'])} ({si(found['rms_lo'])} .. {si(found['rms_hi'])})", si(found["p95"]), si(found["max"])]
    cells += [f"{found['frms'] * 1e6:.3g}", *(seconds(found[key]) for key in ("c10ms", "c1ms", "c100us"))]
    cells += [f"{found['pkts']:.0f}", *(f"{si(found[f'ev:{event}']['rms'])} / {si(found[f'ev:{event}']['max'])}" for event in events)]
    failed = f" ({found['failed']} runs failed)" if found["failed"] else ""
    return f"| {' | '.join(cells)} |{failed}"


def table(results, clients):
    out = []
    for name, scenario in SCENARIOS.items():
        if name not in results:
            continue
        events = [event[0] for event in scenario.get("events", [])]
        head = ["client", "RMS (range over seeds)", "p95", "max", "freq RMS ppm", "to 10 ms", "to 1 ms", "to 100 us", "packets"]
        head += [f"{event}: RMS / max" for event in events]
        out += [f"\n### {name}: {scenario['desc']}\n", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        out += [row(client, results[name][client]["median"], events) for client in clients if client in results[name]]
    return "\n".join(out) + "\n"


def ratios(results, ours, theirs):
    """Of two clients, geometric means over the seeds of both of what they have in each scenario, the worst first."""
    keys, rows = ("rms", "p95", "max", "pkts"), []
    for name, found in results.items():
        runs = [{run["seed"]: run for run in found[client]["runs"] if "error" not in run} for client in (ours, theirs)]
        both = [(one, runs[1][seed]) for seed, one in runs[0].items() if seed in runs[1]]
        if both:
            rows.append((name, [statistics.geometric_mean(a[key] / b[key] for a, b in both) for key in keys]))
    rows.sort(key=lambda row: -row[1][0])
    out = [f"\n### {ours} / {theirs}\n", "| scenario | RMS | p95 | max | packets | |", "|---|---|---|---|---|---|"]
    out += [f"| {name} | {' | '.join(f'{of:.2f}' for of in row)} | {SCENARIOS[name]['desc']} |" for name, row in rows if name in SCENARIOS]
    means = [statistics.geometric_mean(row[place] for _, row in rows) for place in range(len(keys))]
    out.append(f"| all | {' | '.join(f'{of:.2f}' for of in means)} | {sum(row[0] > 1 for _, row in rows)} of {len(rows)} above 1 |")
    return "\n".join(out) + "\n"


def finite(value):
    """RFC 8259 has no infinity: what never happened is null."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def arguments():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--clknetsim", required=True, type=os.path.abspath, help="directory with clknetsim and clknetsim.so")
    parser.add_argument("--server-chronyd", required=True, type=os.path.abspath, help="chronyd of the servers, and {chronyd}")
    parser.add_argument("--ntpd", type=os.path.abspath, default=HERE.parents[2] / "target/release/ntpd", help="{ntpd}")
    parser.add_argument("--client", action="append", default=[], metavar="[NAME=]SPEC.json", help="with another name")
    parser.add_argument("--scenarios", default="all", help="names with commas between, or all")
    parser.add_argument("--random", nargs=2, type=int, metavar=("SEED", "COUNT"), help="so many scenarios by chance instead")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one run")
    parser.add_argument("--tmp", type=os.path.abspath, help="where runs have their files")
    parser.add_argument("--keep", type=os.path.abspath, help="directory that receives the files of every run")
    parser.add_argument("--merge", action="append", default=[], help="results of earlier, to be shown alongside")
    parser.add_argument("--json", type=os.path.abspath, help="write results here")
    parser.add_argument("--list", action="store_true", help="name the scenarios and run nothing")
    return parser.parse_args()


def read_client(argument):
    name, _, path = argument.rpartition("=")
    client = json.loads((Path(path) if Path(path).exists() else HERE / path).read_text())
    return client | ({"name": name} if name else {})


def merge(files):
    """Results of earlier runs."""
    results = {}
    for file in files:
        for name, clients in json.loads(Path(file).read_text())["results"].items():
            results.setdefault(name, {}).update(clients)
    return results


def main():
    options = arguments()
    if options.random:
        random_scenarios.scenarios(*options.random)
    names = list(SCENARIOS) if options.scenarios == "all" else options.scenarios.split(",")
    if options.list:
        print("\n".join(f"{name:12} {SCENARIOS[name]['desc']}" for name in names))
        return
    give_up_the_clock()
    for needed in [f"{options.clknetsim}/clknetsim", f"{options.clknetsim}/clknetsim.so", options.server_chronyd, options.ntpd]:
        if not os.access(needed, os.R_OK):
            sys.exit(f"run_scenarios.py: {needed} is missing; README.md says what is needed")
    clients = [read_client(client) for client in options.client]
    for folder in filter(None, [options.tmp, options.keep]):
        os.makedirs(folder, exist_ok=True)
    results, began = merge(options.merge), time.time()
    jobs = [(n, c, seed) for n in names for c in clients for seed in range(options.first_seed, options.first_seed + options.seeds)]
    runs = {}
    with tempfile.TemporaryDirectory(prefix="sim-shim-") as folder, cf.ThreadPoolExecutor(options.jobs) as pool:
        options.shim = build_shim(folder)
        work = {pool.submit(run_one, options, n, client, seed): (n, client["name"], seed) for n, client, seed in jobs}
        for done in cf.as_completed(work):
            name, client, seed = work[done]
            found = done.result()
            runs.setdefault((name, client), []).append(found | {"seed": seed})
            if "error" in found:
                print(f"{name} {client} seed {seed}: {found['error']}", file=sys.stderr)
    for (name, client), found in runs.items():
        found.sort(key=lambda run: run["seed"])
        results.setdefault(name, {})[client] = {"median": summarize(found), "runs": found}
    order = dict.fromkeys([client for by in results.values() for client in by])
    print(table(finite(results), order))
    if len(clients) == 2:
        print(ratios(results, *(client["name"] for client in clients)))
    if options.json:
        described = {name: {"desc": SCENARIOS[name]["desc"], "config": config_text(SCENARIOS[name])} for name in names}
        Path(options.json).write_text(json.dumps({"scenarios": described, "results": finite(results)}, indent=1))
    print(f"{len(jobs)} runs in {time.time() - began:.0f} s", file=sys.stderr)
    sys.exit(any("error" in run for found in runs.values() for run in found))


if __name__ == "__main__":
    main()
