//! Prints what clients cost a pool: look-ups, key exchanges and packets per client and day, for a table of scenarios.
//!
//! `population [--clients N] [--days N] [--seed N] [--json FILE] [--all]`: Markdown goes to standard output. With `--all`
//! every mode is combined with every loss, lifetime, number of restarts and habit of sleep; that takes some minutes in a
//! release build.

use std::{env, error::Error, fmt::Write as _, fs, process::ExitCode};

use ntpd_tests::sim::population::{CAUSES, Cause, Counts, Incident, ModeName, Offer, Scenario, run};

const MODES: [ModeName; 6] = [
    ModeName::Srv,
    ModeName::Lb,
    ModeName::Classic,
    ModeName::Auto(Offer::Srv),
    ModeName::Auto(Offer::Lb),
    ModeName::Auto(Offer::Classic),
];
const NTS: [ModeName; 2] = [ModeName::Srv, ModeName::Lb];
const LOSSES: [f64; 4] = [0.0, 0.01, 0.05, 0.2];
const TTLS: [u32; 4] = [60, 300, 3_600, 86_400];
const RESTARTS: [(f64, bool); 5] = [(0.0, true), (1.0, true), (1.0, false), (10.0, true), (10.0, false)];
/// When something happens to the pool, in seconds: all have found their longest poll interval by then.
const INCIDENT_AT: f64 = 43_200.0;

struct Options {
    clients: usize,
    days: f64,
    seed: u64,
    json: Option<String>,
    all: bool,
}

struct Bench {
    options: Options,
    json: Vec<String>,
}

fn main() -> ExitCode {
    match options(env::args().skip(1)).map_err(Into::into).and_then(bench) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("population: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { clients: 40, days: 1.0, seed: 1, json: None, all: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--clients" => options.clients = number(&value()?)?,
            "--days" => options.days = number(&value()?)?,
            "--seed" => options.seed = number(&value()?)?,
            "--json" => options.json = Some(value()?),
            "--all" => options.all = true,
            _ => return Err(format!("{word}: accepted: --clients N, --days N, --seed N, --json FILE, --all")),
        }
    }
    let some = options.clients > 0 && options.days > 0.0;
    some.then_some(options).ok_or_else(|| "at least one client and some time are needed".to_owned())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text}: not a number that fits"))
}

fn bench(options: Options) -> Result<(), Box<dyn Error>> {
    let mut bench = Bench { options, json: Vec::new() };
    bench.losses();
    bench.restarts();
    bench.lifetimes();
    bench.resolvers();
    bench.laptops();
    bench.incidents();
    bench.power_cut();
    bench.outages();
    bench.fixed_polls();
    if bench.options.all {
        bench.all();
    }
    if let Some(file) = &bench.options.json {
        fs::write(file, format!("[\n{}\n]\n", bench.json.join(",\n")))?;
    }
    Ok(())
}

impl Bench {
    fn scenario(&self, mode: ModeName) -> Scenario {
        Scenario { clients: self.options.clients, days: self.options.days, ..Scenario::new(mode) }
    }

    fn run(&mut self, table: &str, scenario: &Scenario) -> Counts {
        let counts = run(scenario, self.options.seed);
        self.json.push(json(table, scenario, &counts));
        counts
    }

    fn losses(&mut self) {
        println!("## Loss\n\nPer client, on the first day and on a later one; lifetime 3600 s, no restarts.\n");
        println!(
            "| mode | loss each way | NTP requests | octets, both ways | queries | exchanges | by cause | requests later | exchanges later |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for mode in MODES {
            for loss in LOSSES {
                let scenario = Scenario { loss, days: 1.0, ..self.scenario(mode) };
                let counts = self.run("loss", &scenario);
                // One seed is one run: the longer one begins with the shorter one.
                let longer = self.run("loss", &Scenario { days: 1.0 + self.options.days, ..scenario });
                let later = self.options.days;
                let octets = counts.ntp.request_octets + counts.ntp.reply_octets;
                println!(
                    "| {} | {:.0} % | {:.0} | {:.0} | {:.2} | {:.2} | {} | {:.0} | {:.2} |",
                    mode.label(),
                    100.0 * loss,
                    counts.per_client_day(counts.ntp.requests),
                    counts.per_client_day(octets),
                    counts.per_client_day(counts.dns),
                    counts.per_client_day(counts.all_exchanges()),
                    causes(&counts),
                    counts.per_client_day(longer.ntp.requests - counts.ntp.requests) / later,
                    counts.per_client_day(longer.all_exchanges() - counts.all_exchanges()) / later,
                );
            }
        }
    }

    fn restarts(&mut self) {
        println!(
            "\n## Restarts\n\nPer client and day, the first start left out; 40 members, 8 of them in an answer.\n"
        );
        println!("| mode | members | restarts a day | state | restarts | exchanges | spared | name queries |");
        println!("|---|---|---|---|---|---|---|---|");
        for (mode, members) in MODES.map(|mode| (mode, 40)).into_iter().chain([(ModeName::Srv, 4), (ModeName::Srv, 8)])
        {
            let still = self.run("restarts", &Scenario { members, ..self.scenario(mode) });
            for (restarts, saved) in RESTARTS.into_iter().filter(|(restarts, _)| *restarts > 0.0) {
                let counts = self.run("restarts", &Scenario { members, restarts, saved, ..self.scenario(mode) });
                let starts = counts.per_client_day(counts.restarts);
                println!(
                    "| {} | {members} | {restarts:.0} | {} | {starts:.2} | {:.2} | {:.2} | {:.2} |",
                    mode.label(),
                    if saved { "saved" } else { "lost" },
                    counts.per_client_day(counts.all_exchanges() - still.all_exchanges()),
                    counts.per_client_day(counts.spared),
                    counts.per_client_day(counts.dns.saturating_sub(still.dns)),
                );
            }
        }
    }

    fn lifetimes(&mut self) {
        println!(
            "\n## Lifetime of records\n\nPer client and day, 10 clients to a resolver; 10 restarts a day lose the state.\n"
        );
        println!("| mode | TTL | restarts | queries of clients | of resolvers to the pool | to others |");
        println!("|---|---|---|---|---|---|");
        for mode in [ModeName::Srv, ModeName::Lb, ModeName::Classic] {
            for ttl in TTLS {
                for restarts in [0.0, 1.0, 10.0] {
                    let scenario = Scenario { ttl, restarts, saved: false, ..self.scenario(mode) };
                    let counts = self.run("lifetimes", &scenario);
                    println!(
                        "| {} | {ttl} | {restarts:.0} | {:.2} | {:.2} | {:.2} |",
                        mode.label(),
                        counts.per_client_day(counts.dns),
                        counts.per_client_day(counts.dns_pool),
                        counts.per_client_day(counts.dns_other)
                    );
                }
            }
        }
    }

    fn resolvers(&mut self) {
        println!(
            "\n## Clients behind one resolver\n\nPer client and day, days 2 to 6; one restart a day loses the state.\n"
        );
        println!("| mode | TTL | clients to a resolver | queries of clients | of resolvers to the pool | formula |");
        println!("|---|---|---|---|---|---|");
        for mode in NTS {
            for ttl in [60, 3_600, 86_400] {
                for share in [1_usize, 10, 100] {
                    let first = Scenario {
                        ttl,
                        restarts: 1.0,
                        saved: false,
                        days: 1.0,
                        clients: self.options.clients.max(share),
                        clients_per_resolver: share,
                        // How often the time is asked for makes no difference to names.
                        polls: (10, 10),
                        ..self.scenario(mode)
                    };
                    let before = self.run("resolvers", &first);
                    let counts = self.run("resolvers", &Scenario { days: 6.0, ..first.clone() });
                    let later = |all: u64, one: u64| before.per_client_day(all - one) / 5.0;
                    println!(
                        "| {} | {ttl} | {share} | {:.2} | {:.3} | {:.3} |",
                        mode.label(),
                        later(counts.dns, before.dns),
                        later(counts.dns_pool, before.dns_pool),
                        resolver_formula(&first, later(counts.restarts, before.restarts))
                    );
                }
            }
        }
    }

    fn laptops(&mut self) {
        println!(
            "\n## Laptops\n\nAwake a third of the time, in stretches of an hour on average. Per client and day.\n"
        );
        println!("| mode | loss each way | NTP requests | name queries | key exchanges | by cause |");
        println!("|---|---|---|---|---|---|");
        for mode in [ModeName::Srv, ModeName::Lb, ModeName::Classic] {
            for loss in LOSSES {
                let counts = self.run("laptops", &Scenario { laptops: true, loss, ..self.scenario(mode) });
                println!(
                    "| {} | {:.0} % | {:.0} | {:.2} | {:.2} | {} |",
                    mode.label(),
                    100.0 * loss,
                    counts.per_client_day(counts.ntp.requests),
                    counts.per_client_day(counts.dns),
                    counts.per_client_day(counts.all_exchanges()),
                    causes(&counts)
                );
            }
        }
    }

    fn incidents(&mut self) {
        println!("\n## One member of few\n\n8 members, {} clients: sums over all clients.\n", self.options.clients);
        println!("| mode | what happens | members lost | key exchanges after it | by cause | queries | short |");
        println!("|---|---|---|---|---|---|---|");
        for mode in [ModeName::Srv, ModeName::Lb, ModeName::Classic] {
            for (what, incident) in [
                ("dies", Incident::Dies(0)),
                ("is no longer listed", Incident::Leaves(0)),
                ("loses its cookie keys", Incident::ForgetsKeys(0)),
            ] {
                let incidents = vec![(INCIDENT_AT, incident)];
                let quiet = Scenario { members: 8, ..self.scenario(mode) };
                let before = self.run("incidents", &quiet);
                let counts = self.run("incidents", &Scenario { incidents, ..quiet });
                println!(
                    "| {} | {what} | {} | {} | {} | {} | {} |",
                    mode.label(),
                    counts.lost_members,
                    counts.exchanges_between(43_200, u64::MAX),
                    causes_beyond(&counts, &before),
                    counts.dns.saturating_sub(before.dns),
                    counts.short
                );
            }
        }
    }

    fn power_cut(&mut self) {
        let clients = self.options.clients * 5;
        println!("\n## Power cut\n\n{clients} clients lose power at once and start again within a minute.\n");
        println!(
            "| mode | exchanges per client in 10 min | a second per 1000 clients, in the first minute | queries to the pool per client |"
        );
        println!("|---|---|---|---|");
        for mode in NTS {
            let incidents = vec![(INCIDENT_AT, Incident::PowerCut)];
            let scenario = Scenario { clients, incidents, days: 0.6, ..self.scenario(mode) };
            let counts = self.run("power cut", &scenario);
            let within = counts.exchanges_between(43_200, 43_800);
            println!(
                "| {} | {:.2} | {:.1} | {:.2} |",
                mode.label(),
                ratio(within, clients),
                1_000.0 * ratio(counts.exchanges_between(43_230, 43_290), clients) / 60.0,
                ratio(counts.dns_pool_by_second.range(43_200..).map(|(_, count)| count).sum(), clients)
            );
        }
    }

    fn outages(&mut self) {
        println!("\n## A day of outage\n\nPer client on the day of the outage.\n");
        println!("| mode | what fails | clients | exchanges tried | name queries | short at the end |");
        println!("|---|---|---|---|---|---|");
        for mode in NTS {
            for (what, incident) in
                [("key exchange", Incident::ExchangesFail(true)), ("names", Incident::NamesFail(true))]
            {
                for (which, at) in [("run already", 3_600.0), ("start into it", 0.0)] {
                    let quiet = self.scenario(mode);
                    let counts = self.run("outages", &Scenario { incidents: vec![(at, incident)], ..quiet });
                    let start = if at > 0.0 { 3_600 } else { 0 };
                    println!(
                        "| {} | {what} | {which} | {:.2} | {:.2} | {} |",
                        mode.label(),
                        ratio(counts.exchanges_between(start, u64::MAX), self.options.clients),
                        counts.per_client_day(counts.dns),
                        counts.short
                    );
                }
            }
        }
    }

    /// What `tests/bench/chrony_rekeys.py` has chronyd do, by number of polls.
    fn fixed_polls(&mut self) {
        println!("\n## One member, always polled every 64 s\n");
        println!("| loss each way | requests | exchanges after the first | per 1000 requests | formula |");
        println!("|---|---|---|---|---|");
        for loss in [0.0, 0.05, 0.2, 0.3] {
            let (mode, polls) = (ModeName::Lb, (6, 6));
            let counts =
                self.run("fixed polls", &Scenario { loss, polls, wanted: 1, days: 4.0, ..self.scenario(mode) });
            let later = counts.all_exchanges() - counts.exchanges_for(Cause::Start);
            let lost: f64 = 1.0 - (1.0 - loss) * (1.0 - loss);
            println!(
                "| {:.0} % | {} | {later} | {:.3} | {:.3} |",
                100.0 * loss,
                counts.ntp.requests,
                1_000.0 * counts.per_client_day(later) / counts.per_client_day(counts.ntp.requests),
                1_000.0 * (1.0 - lost) * lost.powi(8)
            );
        }
    }

    fn all(&mut self) {
        println!("\n## Everything\n");
        println!(
            "| mode | loss | TTL | restarts | state | laptop | NTP requests | queries | to the pool | exchanges |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        for mode in MODES {
            for loss in LOSSES {
                for ttl in TTLS {
                    for (restarts, saved) in RESTARTS {
                        for laptops in [false, true] {
                            self.one_of_all(&Scenario { loss, ttl, restarts, saved, laptops, ..self.scenario(mode) });
                        }
                    }
                }
            }
        }
    }

    fn one_of_all(&mut self, scenario: &Scenario) {
        let counts = self.run("all", scenario);
        println!(
            "| {} | {} | {} | {} | {} | {} | {:.0} | {:.2} | {:.2} | {:.2} |",
            scenario.mode.label(),
            scenario.loss,
            scenario.ttl,
            scenario.restarts,
            if scenario.saved { "saved" } else { "lost" },
            if scenario.laptops { "yes" } else { "no" },
            counts.per_client_day(counts.ntp.requests),
            counts.per_client_day(counts.dns),
            counts.per_client_day(counts.dns_pool),
            counts.per_client_day(counts.all_exchanges())
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn ratio(sum: u64, count: usize) -> f64 {
    sum as f64 / count as f64
}

/// Records of the pool that one start asks for: both families of the balancer's address, or services and zone keys.
const POOL_RECORDS: f64 = 2.0;

/// Queries that a resolver sends to the pool, per client and day: a record is asked for, then not for its lifetime, then
/// at the next query, which comes after 1/rate on average.
fn resolver_formula(scenario: &Scenario, starts: f64) -> f64 {
    let clients = f64::from(u32::try_from(scenario.clients_per_resolver).unwrap_or(u32::MAX));
    let rate = clients * starts / Counts::seconds_per_day();
    POOL_RECORDS * starts / (1.0 + rate * f64::from(scenario.ttl))
}

fn causes(counts: &Counts) -> String {
    let named = |(cause, word): &(Cause, &str)| {
        let count = counts.exchanges_for(*cause);
        (count > 0).then(|| format!("{word} {:.2}", counts.per_client_day(count)))
    };
    CAUSES.iter().filter_map(named).collect::<Vec<_>>().join(", ")
}

fn causes_beyond(counts: &Counts, before: &Counts) -> String {
    let named = |(cause, word): &(Cause, &str)| {
        let more = counts.exchanges_for(*cause).saturating_sub(before.exchanges_for(*cause));
        (more > 0).then(|| format!("{word} {more}"))
    };
    CAUSES.iter().filter_map(named).collect::<Vec<_>>().join(", ")
}

fn json(table: &str, scenario: &Scenario, counts: &Counts) -> String {
    let mut by_cause = String::new();
    for (cause, word) in CAUSES {
        let comma = if by_cause.is_empty() { "" } else { ", " };
        let _ = write!(by_cause, "{comma}\"{word}\": {}", counts.exchanges_for(cause));
    }
    let ntp = &counts.ntp;
    format!(
        "{{\"table\": \"{table}\", \"mode\": \"{}\", \"clients\": {}, \"days\": {}, \"members\": {}, \"listed\": {}, \
         \"wanted\": {}, \"ttl\": {}, \"loss\": {}, \"clients_per_resolver\": {}, \"restarts\": {}, \"saved\": {}, \
         \"laptops\": {}, \"incidents\": \"{:?}\", \"restarted\": {}, \"ntp_requests\": {}, \"ntp_replies\": {}, \
         \"request_octets\": {}, \"reply_octets\": {}, \"dns_client\": {}, \"dns_pool\": {}, \"dns_other\": {}, \
         \"exchanges\": {{{by_cause}}}, \"exchanges_done\": {}, \"spared\": {}, \"members_lost\": {}, \"short\": {}, \
         \"cookies_reused\": {}}}",
        scenario.mode.label(),
        scenario.clients,
        scenario.days,
        scenario.members,
        scenario.listed,
        scenario.wanted,
        scenario.ttl,
        scenario.loss,
        scenario.clients_per_resolver,
        scenario.restarts,
        scenario.saved,
        scenario.laptops,
        scenario.incidents,
        counts.restarts,
        ntp.requests,
        ntp.replies,
        ntp.request_octets,
        ntp.reply_octets,
        counts.dns,
        counts.dns_pool,
        counts.dns_other,
        counts.done,
        counts.spared,
        counts.lost_members,
        counts.short,
        counts.cookies_reused,
    )
}
