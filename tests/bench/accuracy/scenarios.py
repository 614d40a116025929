"""The scenarios, and what each is for clknetsim: delays of links, the oscillator and events, as its expressions."""

H, D = 3600, 86400

def jit(base, j):                      # base delay + exponential jitter
    return f"(+ {base:g} (* {j:g} (exponential)))"
def gate(t):                           # 0 before simulated time t, then 1
    return f"(min 1.0 (max 0.0 (* 1e3 (+ time {-t:g}))))"
def window(a, b):
    return f"(* {gate(a)} (+ 1.0 (* -1.0 {gate(b)})))"
def prob(p):                           # 1 with probability p, else 0
    return f"(max 0.0 (min 1.0 (* 1e9 (+ {p:g} (* -1.0 (uniform))))))"
def lossy(expr, p):                    # a negative delay drops the packet
    return f"(+ {expr} (* -1e4 {prob(p)}))"
def wander(f0, w, *extra):             # constant + random walk FM (per sqrt(s)) + extra terms
    return f"(+ {f0:g} (sum (* {w:g} (normal)))" + "".join(" " + e for e in extra) + ")"
def fstep(t, df):                      # frequency step of df at second t
    return f"(* {df / 2:g} (+ 1.0 (* -1.0 (pulse {t} 1000000000))))"
def link(up, down=None):
    return (up, down or up)

WANBASE = [0.008, 0.012, 0.018, 0.025]
def wan(j, jd=None):
    return [link(jit(b, j), jit(b, jd or j)) for b in WANBASE]

# A scenario: desc, links (one (up, down) pair per server), freq, offset, dur, settle,
# optional poll=(min,max), extra=[config lines; {c} = client node], events=[(name, t0, t1)]
SCENARIOS = {}
def sc(name, **k):
    SCENARIOS[name] = k

sc("lan-hwts", desc="LAN, hardware-timestamp-like: 20us + 1us exp, poll fixed 1 s, 4 h",
   links=[link(jit(20e-6, 1e-6))], freq=wander(10e-6, 1e-9), offset=0.001,
   dur=4 * H, settle=H, poll=(0, 0))
sc("lan", desc="LAN: 100us + 50us exp, adaptive poll, 24 h",
   links=[link(jit(100e-6, 50e-6))], freq=wander(20e-6, 1e-9), offset=0.01, dur=D, settle=4 * H)
sc("lan-poll4", desc="as lan, poll fixed 16 s",
   links=[link(jit(100e-6, 50e-6))], freq=wander(20e-6, 1e-9), offset=0.01, dur=D, settle=4 * H,
   poll=(4, 4))
sc("lan-wander", desc="as lan, wander 1e-8/sqrt(s) (no temperature control)",
   links=[link(jit(100e-6, 50e-6))], freq=wander(20e-6, 1e-8), offset=0.01, dur=D, settle=4 * H)
sc("wan", desc="Internet, 4 servers: 8..25 ms + 1 ms exp, 24 h",
   links=wan(1e-3), freq=wander(-15e-6, 1e-9), offset=0.02, dur=D, settle=4 * H)
sc("wan-asym", desc="Internet, 4 servers: jitter 1 ms up, 10 ms down, 24 h",
   links=wan(1e-3, 10e-3), freq=wander(-15e-6, 1e-9), offset=0.02, dur=D, settle=4 * H)
_wifi = lambda b: lossy(f"(+ {b:g} (* 3e-3 (exponential)) (* 50e-3 (exponential) {prob(0.2)}))", 0.05)
sc("wifi", desc="Wi-Fi/mobile, 4 servers: +3 ms exp, 20 % spikes of 50 ms exp, 5 % loss each way, wander 3e-9, 24 h",
   links=[link(_wifi(b)) for b in WANBASE], freq=wander(25e-6, 3e-9), offset=0.05, dur=D, settle=4 * H)
sc("cold-lan", desc="cold start 0.1 s, +50 ppm, LAN 100us + 50us exp, 1 h",
   links=[link(jit(100e-6, 50e-6))], freq=wander(50e-6, 1e-9), offset=0.1, dur=H, settle=H // 2)
sc("cold-wan", desc="cold start 10 s, -100 ppm, 4 servers 1 ms exp, 1 h",
   links=wan(1e-3), freq=wander(-100e-6, 1e-9), offset=10, dur=H, settle=H // 2)
sc("cold-far", desc="cold start 1000 s, +100 ppm, 1 server 20 ms + 5 ms exp, 1 h",
   links=[link(jit(20e-3, 5e-3))], freq=wander(100e-6, 1e-9), offset=1000, dur=H, settle=H // 2)
sc("temp-step", desc="LAN 50us exp, +1 ppm frequency step at 12 h, 24 h",
   links=[link(jit(100e-6, 50e-6))], freq=wander(20e-6, 1e-9, fstep(12 * H, 1e-6)), offset=0.01,
   dur=D, settle=4 * H, events=[("2 h after the step", 12 * H, 14 * H)])
sc("falseticker", desc="wan, server 1 jumps by +100 ms at 12 h, 24 h",
   links=wan(1e-3), freq=wander(-15e-6, 1e-9), offset=0.02, dur=D, settle=4 * H,
   extra=["node1_step = (* 0.1 (equal 0.1 (sum 1.0) %d))" % (12 * H)],
   events=[("2 h after the jump", 12 * H, 14 * H)])
sc("outage", desc="wan, all packets lost 12 h..18 h, 24 h",
   links=[link(f"(+ {jit(b, 1e-3)} (* -1e4 {window(12 * H, 18 * H)}))") for b in WANBASE],
   freq=wander(-15e-6, 1e-9), offset=0.02, dur=D, settle=4 * H,
   events=[("outage", 12 * H, 18 * H), ("2 h after return", 18 * H, 20 * H)])
sc("asym-step", desc="wan, path from server 1 gets +8 ms one way at 12 h, 24 h",
   links=[link(jit(WANBASE[0], 1e-3), f"(+ {jit(WANBASE[0], 1e-3)} (* 8e-3 {gate(12 * H)}))")]
         + wan(1e-3)[1:],
   freq=wander(-15e-6, 1e-9), offset=0.02, dur=D, settle=4 * H,
   events=[("after the change", 12 * H, D)])
def bell(base, j):                     # Erlang-4: rounded at the minimum, standard deviation j
    return f"(+ {base:g} (* {j / 2:g} (+ (exponential) (exponential) (exponential) (exponential))))"
sc("wan-bell", desc="wan with bell-shaped jitter (Erlang-4, 1 ms std) instead of exponential, 24 h",
   links=[link(bell(b, 1e-3)) for b in WANBASE], freq=wander(-15e-6, 1e-9), offset=0.02, dur=D,
   settle=4 * H)
_bias = [3e-3, -2e-3, 1e-3, -4e-3]     # true error of each path = half the one-way difference
sc("pool-bias", desc="4 servers with fixed path asymmetry errors +3, -2, +1, -4 ms, jitter 1 ms, 24 h",
   links=[link(jit(0.015 + b, 1e-3), jit(0.015 - b, 1e-3)) for b in _bias],
   freq=wander(-15e-6, 1e-9), offset=0.02, dur=D, settle=4 * H)
sc("long-7d", desc="wan for 7 days, quiet oscillator 3e-10, 1 ppm daily cycle and 0.02 ppm 30 min cycle",
   links=wan(1e-3), freq=wander(-15e-6, 3e-10, "(* 1e-6 (sine 86400))", "(* 2e-8 (sine 1800))"),
   offset=0.02, dur=7 * D, settle=D)

def config_text(s):
    n, c = len(s["links"]), len(s["links"]) + 1
    out = [f"node{c}_freq = {s['freq']}", f"node{c}_offset = {s['offset']:g}"]
    for i, (up, down) in enumerate(s["links"], 1):
        out += [f"node{c}_delay{i} = {up}", f"node{i}_delay{c} = {down}"]
    out += [l.replace("{c}", str(c)) for l in s.get("extra", [])]
    return "\n".join(out) + "\n"

# Scenarios that nothing was tuned for; chronyd's figures for them stand in chronyd.json as those of the others.
def erlang(base, j, n):                # n exponential waits, standard deviation j
    each = " ".join(["(exponential)"] * n)
    return f"(+ {base:g} (* {j / n ** 0.5:g} (+ {each} 0.0)))"
def spiky(expr, p, mean):
    return f"(+ {expr} (* {mean:g} (exponential) {prob(p)}))"
sc("mobile", desc="modem, 4 servers: +30 ms there, +40 ms back, bell-shaped 6 and 12 ms, 5 % spikes of 150 ms, 2 % loss, wander 5e-9, 24 h",
   links=[link(lossy(spiky(erlang(b + 0.03, 6e-3, 2), 0.05, 0.15), 0.02),
               lossy(spiky(erlang(b + 0.04, 12e-3, 2), 0.05, 0.15), 0.02)) for b in WANBASE],
   freq=wander(-40e-6, 5e-9), offset=0.3, dur=D, settle=4 * H)
sc("office", desc="LAN: 300us + 120us exp, 0.2 ppm cycle of 40 min, wander 2e-9, 24 h",
   links=[link(jit(300e-6, 120e-6))], freq=wander(8e-6, 2e-9, "(* 2e-7 (sine 2400))"), offset=0.01, dur=D, settle=4 * H)
sc("near-and-far", desc="one server 150us + 80us exp, three 12..25 ms + bell-shaped 2 ms, wander 2e-9, 24 h",
   links=[link(jit(150e-6, 80e-6))] + [link(erlang(b, 2e-3, 2)) for b in WANBASE[1:]],
   freq=wander(12e-6, 2e-9), offset=0.02, dur=D, settle=4 * H)
sc("two-servers", desc="two servers with path errors of +1 and -1 ms, 600us exp, 24 h",
   links=[link(jit(0.006, 6e-4), jit(0.004, 6e-4)), link(jit(0.010, 6e-4), jit(0.012, 6e-4))],
   freq=wander(-15e-6, 1e-9), offset=0.02, dur=D, settle=4 * H)
sc("loaded", desc="wan, bell-shaped 4 ms both ways, 10 % spikes of 20 ms, wander 2e-9, 24 h",
   links=[link(spiky(erlang(b, 4e-3, 6), 0.1, 0.02)) for b in WANBASE],
   freq=wander(30e-6, 2e-9), offset=0.02, dur=D, settle=4 * H)
sc("swing", desc="wan, 3 ppm cycle of 12 h, 0.05 ppm cycle of 15 min, -2 ppm step at 50000 s, 24 h",
   links=wan(1e-3), freq=wander(-5e-6, 1e-9, "(* 3e-6 (sine 43200))", "(* 5e-8 (sine 900))", fstep(50000, -2e-6)),
   offset=0.02, dur=D, settle=4 * H)
