//! What is said while it runs.

use std::{fmt::Write as _, time::Duration};

use super::{
    outcome::true_error,
    plan::{Certified, LIE, NAME_SERVER, POOL, Plan, SERVERS, address, host},
    pool::BALANCER_CONFIG,
    stage::Stage,
    visitor::{FREQUENCY, OFFSET},
};
use crate::{
    client::Client,
    config::PoolModeName,
    lookup::{Lookup, RecordState},
};

/// A place, its port, and what is there.
fn place(text: &mut String, place: &str, port: u16, what: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  {place:<22} port {port:<5}  {what}");
}

/// What runs.
pub(super) fn setting(stage: &Stage) -> String {
    let mut text = format!("All of this runs in one process, on loopback, with keys made just now:\n");
    let all = format!("{} to {}", address(1), address(SERVERS));
    let servers = if stage.plan.has_members() { format!(", {} to {}", host(1), host(SERVERS)) } else { String::new() };
    place(
        &mut text,
        &all,
        stage.ntp_port,
        &format!("{} NTP servers{servers}; the last one is {LIE} s off", stage.count()),
    );
    if let Some(port) = stage.members_ke_port() {
        let whose = match stage.plan.certified {
            Certified::Host => "its own name",
            Certified::Pool => "the pool's name, all the same one",
            Certified::Address | Certified::Nothing => "its own address",
        };
        place(&mut text, "", port, &format!("their key exchange, each with a certificate for {whose}"));
    }
    if let Some(port) = stage.ke_port().filter(|_| stage.plan.has_members()) {
        place(
            &mut text,
            &stage.leads_to(),
            port,
            "nts-pool-lb, the pool's balancer, with a certificate for the pool's name",
        );
    }
    place(
        &mut text,
        &NAME_SERVER.to_string(),
        stage.name_server.port(),
        "nts-pool-srv, the pool's DNS, signed (DNSSEC)",
    );
    let mode = stage.plan.mode;
    let told = if mode == PoolModeName::Auto { String::new() } else { format!(" and `mode = \"{}\"`", mode.name()) };
    let _ = write!(
        text,
        "The client is told `pool = \"{POOL}\"`{told}. Its clock is {OFFSET} s wrong and {} ppm fast.\n",
        FREQUENCY.to_ppm()
    );
    text
}

/// What the client finds by the name, and what follows from it.
pub(super) fn finding(plan: &Plan, found: &Lookup) -> String {
    let mut text = format!("What {POOL} offers, as `ntpctl lookup` finds it:\n");
    let mut line = |what: &str, found: &str| {
        let _ = writeln!(text, "  {what:<22} {found}");
    };
    let signed = found.nts_services.state == RecordState::Secure;
    let count = found.nts_services.count;
    line(
        "service records",
        &if signed { format!("{count}, proven by DNSSEC") } else { "none that can be used".to_owned() },
    );
    let servers = || found.targets.iter().map(|target| &target.server);
    let pinned = servers().filter(|server| !server.tlsa.records.is_empty()).count();
    let exchanged = servers().filter(|server| server.exchange.is_some()).count();
    line("  their targets", &format!("{pinned} with TLSA records (DANE), {exchanged} exchange keys"));
    line(
        "key exchange itself",
        &match &found.itself.exchange {
            Some(exchange) => format!("the balancer answers; it sent us to {}", exchange.ntp_server),
            None => found.itself.problem.clone().unwrap_or_default(),
        },
    );
    let follows = match plan.mode {
        PoolModeName::Auto => "service records come first: each target is a server of its own",
        PoolModeName::Srv => "as `mode` says, each target of the records is a server of its own",
        PoolModeName::Lb => "as `mode` says, the balancer is asked for one server after the other",
        PoolModeName::SharedCert | PoolModeName::IpCert | PoolModeName::Classic => "",
    };
    line("so", follows);
    text
}

/// How it goes.
pub(super) fn progress(client: &mut Client, elapsed: Duration) -> String {
    let (mut sources, mut used) = (0, 0);
    client.for_each_source(|report, _| {
        sources += 1;
        used += usize::from(report.verdict.is_used());
    });
    let error = true_error(client);
    format!("{:>3} s  {sources} servers, {used} used; clock off by {error:+.6} s", elapsed.as_secs())
}

/// What else can be done as long as it stays up.
pub(super) fn invitation(stage: &Stage) -> String {
    let folder = stage.folder.path("");
    let folder = folder.display();
    let mut text = format!("\nStaying up until interrupted. Its files are in {folder}\n");
    let dns = stage.name_server;
    let kind = if stage.plan.has_members() { format!("_ntske._tcp.{POOL} SRV") } else { format!("{POOL} A") };
    let _ = writeln!(text, "  dig @{} -p {} {kind} +dnssec", dns.ip(), dns.port());
    if stage.plan.has_members() {
        let _ = writeln!(text, "  nts-pool-lb -c {folder}{BALANCER_CONFIG} list");
    }
    let at = match stage.ke_port() {
        Some(port) => format!("exchange keys at TCP port {port} and trust {folder}ca.pem"),
        None => format!("ask UDP port {}", stage.ntp_port),
    };
    let _ = writeln!(text, "  any client: {POOL} is {}; {at}", stage.leads_to());
    text
}

/// What the balancer did.
pub(super) fn balanced(stage: &Stage) -> String {
    stage.balanced().map(|users| format!("\nthe balancer has handed on {users} key exchanges\n")).unwrap_or_default()
}
