#!/usr/bin/env python3
"""What is shown of our daemon, judged by others: metrics by Prometheus's own tool, reports by a validator of JSON schemas, the
live view by a terminal, the log by the protocol of the journal.

Needs `tests/run` to have unpacked the peers and built the daemon. No clock is touched: every daemon runs with -x.
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from urllib.parse import quote

from cases import case, expect, main
from lab import OURS, PEERS, ROOT, have, match, wait_for
from peers import CHRONYD, chrony_nts_server, ntpctl, ours, synchronized, trust

try:
    import jsonschema
except ImportError:
    # Debian's package is for Debian's own interpreter, which need not be the one that runs this.
    sys.path.append("/usr/lib/python3/dist-packages")
    try:
        import jsonschema
    except ImportError:
        jsonschema = None

PROMETHEUS = have(PEERS / "prometheus/usr/bin/prometheus")
PROMTOOL = have(PEERS / "prometheus/usr/bin/promtool")
SCHEMA = ROOT / "docs/guide/schema/status.json"
REPORTS = {
    "tracking": "TrackingReport", "sources": "SourcesReport", "sourcestats": "SourceStatsReport",
    "selectdata": "SelectDataReport", "authdata": "AuthDataReport", "ntpdata": "NtpDataReport",
    "serverstats": "ServerStatsReport", "activity": "ActivityReport", "pools": "PoolsReport",
}
# Asks from within a network namespace, where the machine's own interpreter runs.
ASK = """
import sys, http.client
connection = http.client.HTTPConnection(sys.argv[1], timeout=10)
connection.request(sys.argv[2], sys.argv[3], headers=dict(pair.split("=", 1) for pair in sys.argv[4:]))
answer = connection.getresponse()
sys.stdout.write(f"{answer.status} {answer.headers.get_content_type()}\\n" + answer.read().decode())
"""


def daemon(lab, tag="watched", listen=None, more="", again=False):
    """Ours, following a chronyd with NTS and a name that does not exist, serving NTP and NTS, and watched."""
    if not again:
        chrony_nts_server(lab.b, f"for-{tag}")
    tls = lab.certificates
    listen = listen or [f"{lab.a.v4}:9975", "127.0.0.1:9975"]
    process = ours(lab.a, f"""{trust(lab)}
[[server]]
address = "{lab.b.names[0]}"
nts = "require"
min-poll = 1
max-poll = 1
[[server]]
address = "nowhere.invalid"
nts = "off"
[[pool]]
name = "{lab.b.names[1]}"
mode = "classic"
nts = "off"
count = 1
[serve]
allow = "all"
[serve.nts]
certificate = "{tls}/a.pem"
private-key = "{tls}/a.key"
[observe]
listen = {json.dumps(listen)}
{more}""", tag)
    wait_for("a clock that is synchronized", lambda: synchronized(lab.a, process))
    return process


def ask(lab, path, at=None, method="GET", **headers):
    """Status and type on one line, and the body."""
    words = [f"{name}={value}" for name, value in headers.items()]
    text = lab.a.run(sys.executable, "-c", ASK, at or f"{lab.a.v4}:9975", method, path, *words, check=False)
    head, _, body = text.partition("\n")
    return head, body


@case
def metrics_are_what_prometheus_reads(lab):
    daemon(lab)
    head, text = ask(lab, "/metrics")
    expect(head == "200 text/plain", "metrics are served", head, text)
    judged = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True)
    expect(judged.returncode == 0 and not judged.stderr and not judged.stdout, "promtool has nothing to say", judged)
    for line in [r"^ntpd_synchronized 1$", r'^ntpd_sources\{state="unresolved"\} 1$',
                 rf'^ntpd_source_info\{{source="{lab.b.names[0]}",address="{lab.b.v4}:\d+",pool="",trust="pki"\}} 1$',
                 r'^ntpd_source_nts_cookies\{source="[^"]+",address="[^"]+"\} [5-8]$',
                 r"^ntpd_server_requests_total \d+$", r"^ntpd_certificate_expiry_timestamp_seconds 1\d{9}$",
                 rf'^ntpd_pool_members\{{pool="{lab.b.names[1]}"\}} 1$']:
        expect(match(line, text), line, text)


@case
def rules_are_what_prometheus_takes(_):
    rules = ROOT / "packaging/prometheus/ntpd.rules.yml"
    for words in (["check", "rules", rules], ["test", "rules", ROOT / "tests/interop/rules.test.yml"]):
        judged = subprocess.run([PROMTOOL, *words], capture_output=True, text=True)
        expect(judged.returncode == 0, words, judged.stdout + judged.stderr)


def expressions(part):
    """What a dashboard, or a part of one, asks Prometheus for."""
    if isinstance(part, dict):
        yield from (part[key] for key in ("expr", "definition") if isinstance(part.get(key), str))
        yield from (found for each in part.values() for found in expressions(each))
    elif isinstance(part, list):
        yield from (found for each in part for found in expressions(each))


def filled_in(expression):
    """As Grafana does it, for all machines there are."""
    series = re.sub(r"^label_values\((.*), (\w+)\)$", r"\1", expression)
    for variable, value in (("$job", ".+"), ("$instance", ".+"), ("$__rate_interval", "5s")):
        series = series.replace(variable, value)
    expect("$" not in series, "a variable that nobody fills in", expression)
    return series


@case
def what_the_dashboard_asks_is_answered(lab):
    process = daemon(lab)
    folder = lab.dir / "prometheus"
    folder.mkdir()
    config = lab.write("prometheus.yml", f"""
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: ["{ROOT}/packaging/prometheus/ntpd.rules.yml"]
scrape_configs: [{{job_name: ntpd, static_configs: [{{targets: ["127.0.0.1:9975"]}}]}}]
""")
    lab.a.start(PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={folder}", "--web.listen-address=127.0.0.1:9976",
                log="prometheus.log", shim=False)
    asked = set(expressions(json.loads((ROOT / "packaging/grafana/ntpd.json").read_text())))
    expect(len(asked) > 20, "expressions of the dashboard", asked)
    silent = set(asked)

    def answer(path):
        head, body = ask(lab, path, at="127.0.0.1:9976")
        return json.loads(body)["data"] if head.startswith("200") else None

    def is_answered(expression):
        data = answer("/api/v1/query?query=" + quote(filled_in(expression)))
        return data and data["result"]

    def all_are_answered():
        silent.difference_update([expression for expression in silent if is_answered(expression)])
        return not silent

    # Starts of the daemon are shown as well.
    wait_for("its first start", lambda: is_answered("ntpd_start_time_seconds"))
    process.terminate()
    process.wait(10)
    daemon(lab, "watched-again", again=True)
    try:
        wait_for("data for everything that is shown", all_are_answered, 60)
    except AssertionError as error:
        raise AssertionError(f"{error}: {silent}: {lab.log('prometheus.log')[-2000:]}") from error
    evaluated = lambda: [rule for group in answer("/api/v1/rules")["groups"] for rule in group["rules"]]
    rules = wait_for("rules that were evaluated", lambda: all(r["health"] != "unknown" for r in evaluated()) and evaluated())
    expect(all(rule["health"] == "ok" for rule in rules), "rules that can be evaluated", rules)


@case
def reports_fit_their_schema(lab):
    if not jsonschema:
        return "not here: python3-jsonschema"
    process = daemon(lab)
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    head, text = ask(lab, "/status.json")
    expect(head == "200 application/json", "reports are served", head, text)
    status = json.loads(text)
    jsonschema.Draft202012Validator(schema).validate(status)
    expect(set(status) == {"daemon", *REPORTS}, "all reports are there", set(status))
    for word, name in REPORTS.items():
        alone = json.loads(ntpctl(lab.a, process, "--json", word))
        only = {"$schema": schema["$schema"], "$ref": f"#/$defs/{name}", "$defs": schema["$defs"]}
        jsonschema.Draft202012Validator(only).validate(alone)
        expect(set(alone) == set(status[word]), "the same report", word, alone, status[word])


@case
def the_page_is_whole_and_nothing_can_be_changed(lab):
    daemon(lab)
    head, page = ask(lab, "/")
    expect(head == "200 text/html" and page.endswith("</html>\n"), "a page", head, page[:500])
    for words in ["Synchronized", lab.b.names[0], "nowhere.invalid", "best source", "NTP requests", lab.b.names[1]]:
        expect(words in page, words, page)
    expect("<script" not in page and "://" not in page, "nothing runs or is loaded", page)
    expect(ask(lab, "/", method="POST")[0].startswith("405"), "nothing is taken")
    expect(ask(lab, "/nothing")[0].startswith("404"), "what is not there")
    expect(ask(lab, "/metrics", at="127.0.0.1:9975", Host="evil.example")[0].startswith("421"), "a name of a stranger")
    expect(ask(lab, "/metrics", at="127.0.0.1:9975", Host="localhost:9975")[0].startswith("200"), "this machine")
    expect(ask(lab, "/metrics", Host="ntp.example")[0].startswith("200"), "a name of the network")


@case
def a_reload_moves_it_and_a_port_that_is_taken_is_told(lab):
    process = daemon(lab)
    config = process.config
    text = config.read_text()
    listener = "import socket; s = socket.create_server(('127.0.0.1', 9976)); print('ready', flush=True); input()"
    taken = subprocess.Popen(lab.a.command(sys.executable, "-c", listener), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        taken.stdout.readline()
        config.write_text(text.replace('"127.0.0.1:9975"', '"127.0.0.1:9976"'))
        said = ntpctl(lab.a, process, "reload")
        expect("127.0.0.1:9976: another program uses this port" in said, "the reason", said)
        expect(ask(lab, "/metrics", at="127.0.0.1:9975")[0].startswith("200"), "what was served is served")
        second = ours(lab.a, "[observe]\nlisten = '127.0.0.1:9976'", "second")
        expect(second.wait(20) == 1, "it does not start")
        said = lab.log("ours-second.log")
        expect("cannot serve metrics and the status page on 127.0.0.1:9976: another program uses this port" in said, said)
    finally:
        taken.communicate(b"\n")
    said = ntpctl(lab.a, process, "reload")
    expect("configuration applied" in said, "now it is free", said)
    expect(ask(lab, "/metrics", at="127.0.0.1:9976")[0].startswith("200"), "it has moved")
    expect(not ask(lab, "/metrics", at="127.0.0.1:9975")[0].startswith("200"), "nobody is there any more")
    expect(ask(lab, "/metrics")[0].startswith("200"), "the other address is as it was")


class Terminal:
    """A window with ntpctl in it."""

    def __init__(self, host, process, *words, width=100, height=20):
        self.parent, child = pty.openpty()
        self.resize(width, height)
        self.child = child
        self.before = termios.tcgetattr(child)
        command = host.command(OURS / "ntpctl", "--socket", process.socket, "watch", *words)
        self.process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = ""

    def resize(self, width, height):
        fcntl.ioctl(self.parent, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def read(self, ready, seconds=20):
        """Reads until `ready` likes what has come."""
        end = time.monotonic() + seconds
        while not ready(self.seen):
            expect(time.monotonic() < end, "the terminal shows it in time", self.seen[-3000:])
            if select.select([self.parent], [], [], 0.2)[0]:
                self.seen += os.read(self.parent, 65536).decode(errors="replace")

    def pictures(self):
        """Complete ones, as their lines."""
        whole = [part.split("\x1b[J")[0] for part in self.seen.split("\x1b[H")[1:] if "\x1b[J" in part]
        plain = lambda line: re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
        return [[plain(line) for line in re.split("\r*\n", picture)] for picture in whole]

    def end(self, how):
        """Ends it, and says whether the terminal is as it was before."""
        how(self)
        self.read(lambda seen: "\x1b[?1049l" in seen)
        status = self.process.wait(10)
        after = termios.tcgetattr(self.child)
        os.close(self.child)
        os.close(self.parent)
        expect(status == 0, "it ends well", status)
        expect(self.seen.rstrip().endswith("\x1b[?7h\x1b[?25h\x1b[?1049l"), "the window is given back", self.seen[-200:])
        expect(after == self.before, "the terminal is as it was", self.before, after)


@case
def the_live_view_fits_the_window_and_leaves_it_clean(lab):
    process = daemon(lab)
    typed = lambda keys: lambda window: os.write(window.parent, keys)
    sent = lambda which: lambda window: window.process.send_signal(which)
    signals = [sent(which) for which in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)]
    for how in (typed(b"q"), typed(b"\x03"), *signals):
        window = Terminal(lab.a, process, "--interval", "0.5")
        window.read(lambda _: len(window.pictures()) >= 3)
        expect(window.seen.startswith("\x1b[?1049h\x1b[?25l"), "a screen of its own", window.seen[:100])
        first = window.pictures()[-1]
        expect(first[0].startswith("synchronized, stratum"), first)
        expect(any(line.startswith("* ") and lab.b.names[0] in line and "▁" in line for line in first), "bars", first)
        expect(all(len(line) <= 100 for line in first) and len(first) <= 20, "it fits", first)
        window.resize(40, 8)
        window.process.send_signal(signal.SIGWINCH)
        fits = lambda picture: len(picture) <= 8 and all(len(line) <= 40 for line in picture)
        window.read(lambda _: fits(window.pictures()[-1]))
        window.end(how)
    process.terminate()
    process.wait(10)


@case
def a_daemon_that_goes_away_is_told_in_the_live_view(lab):
    process = daemon(lab)
    window = Terminal(lab.a, process, "--interval", "0.3")
    window.read(lambda _: window.pictures())
    process.terminate()
    process.wait(10)
    window.read(lambda seen: "no answer now: ntpd is not running" in seen)
    window.end(lambda it: os.write(it.parent, b"q"))
    said = subprocess.run(lab.a.command(OURS / "ntpctl", "--socket", process.socket, "watch"), capture_output=True, text=True)
    expect(said.returncode == 1 and "ntpd is not running" in said.stderr and not said.stdout, "nothing to watch", said)


@case
def without_a_terminal_the_live_view_is_lines(lab):
    process = daemon(lab)
    text = ntpctl(lab.a, process, "watch", "--interval", "0.2", "--count", "3")
    expect(text.count("synchronized, stratum") == 3 and "\x1b" not in text, "three pictures without codes", text)
    text = ntpctl(lab.a, process, "--json", "watch", "--interval", "0.2", "--count", "2")
    looks = [json.loads(line) for line in text.split("\n") if line]
    expect(len(looks) == 2 and looks[0]["tracking"]["synchronized"], "two documents", text)


JOURNAL = """
import ctypes, os, signal, socket, sys
place = "/run/systemd/journal"
os.makedirs(place, exist_ok=True)
os.system("mount -t tmpfs tmpfs " + place)
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind(place + "/socket")
if os.fork():
    os.environ["JOURNAL_STREAM"] = "1:1"
    os.execv(sys.argv[2], sys.argv[2:])
# It ends with the daemon (PR_SET_PDEATHSIG).
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
with open(sys.argv[1], "wb", buffering=0) as out:
    while True:
        out.write(journal.recv(65536) + b"--\\n")
"""


def entries(data):
    """What the journal's native protocol says: NAME=VALUE lines, or a name, a length and that many bytes."""
    found = []
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        if line == b"--":
            found.append(fields)
            fields = {}
        elif b"=" in line:
            name, _, value = line.partition(b"=")
            fields[name.decode()] = value.decode()
        elif line:
            (size,) = struct.unpack("<Q", data[:8])
            fields[line.decode()] = data[8:8 + size].decode()
            data = data[8 + size + 1:]
    return found


@case
def the_journal_gets_fields(lab):
    chrony_nts_server(lab.b, "for-journal")
    folder = lab.dir / "journal"
    folder.mkdir()
    config = lab.write("journal.toml", f"""{trust(lab)}
[[server]]
address = "{lab.b.names[0]}"
nts = "require"
min-poll = 1
max-poll = 1
[[server]]
address = "nowhere.invalid"
nts = "off"
[state]
directory = "{folder}/state"
[control]
socket = "{folder}/control.sock"
""")
    out = folder / "entries"
    out.touch()
    lab.a.start("unshare", "-m", sys.executable, "-c", JOURNAL, out, OURS / "ntpd", "-x", "-c", config, log="journal.log",
                shim=False)
    told = lambda words: [each for each in entries(out.read_bytes()) if words in each.get("MESSAGE", "")]
    selected = wait_for("a source that is selected", lambda: told("selected source"))[0]
    expect(selected["NTPD_SOURCE"] == lab.b.names[0] and selected["PRIORITY"] == "6", selected)
    expect(selected["NTPD_ADDRESS"] in (f"{lab.b.v4}:123", f"[{lab.b.v6}]:123"), selected)
    expect(selected["SYSLOG_IDENTIFIER"] == "ntpd", selected)
    trouble = wait_for("trouble with a name", lambda: told("trouble with this name"))[0]
    expect(trouble["NTPD_SOURCE"] == "nowhere.invalid" and trouble["PRIORITY"] == "4", trouble)
    expect("cannot be resolved" in trouble["NTPD_REASON"], trouble)


if __name__ == "__main__":
    main(chronyd=CHRONYD, prometheus=PROMETHEUS, promtool=PROMTOOL)
