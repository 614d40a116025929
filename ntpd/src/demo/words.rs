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

/// What runs.
pub(super) fn setting(stage: &Stage) -> String {
    let mut text = "All of this runs in one process, on loopback, with keys made just now:\n".to_owned();
    let mut line = |place: &str, port: u16, what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {place:<22} port {port:<5}  {what}");
    };
    let servers =
        format!("{} NTP servers, {} to {}; the last one is {LIE} s off", stage.count(), host(1), host(SERVERS));
    line(&format!("{} to {}", address(1), address(SERVERS)), stage.ntp_port, &servers);
    let certified = match stage.plan.certified {
        Certified::Host => "each with a certificate for its own name",
        Certified::Pool => "all with one certificate for the pool's name, and one key",
        Certified::Address => "each with a certificate for its own address",
    };
    line("", stage.members_ke_port(), &format!("their key exchange, {certified}"));
    if stage.plan.balanced {
        line(
            &stage.leads_to(),
            stage.ke_port(),
            "nts-pool-lb, the pool's balancer, with a certificate for the pool's name",
        );
    }
    let dns = "nts-pool-srv, the pool's DNS: a zone that is signed (DNSSEC)";
    line(&NAME_SERVER.to_string(), stage.name_server.port(), dns);
    let mode = stage.plan.mode;
    let told = if mode == PoolModeName::Auto { String::new() } else { format!(" and `mode = \"{}\"`", mode.name()) };
    let ppm = FREQUENCY.to_ppm();
    let _ = writeln!(
        text,
        "The client is told `pool = \"{POOL}\"`{told}. Its clock is {OFFSET} s wrong and {ppm} ppm fast."
    );
    text
}

/// What the client finds by the name, and what follows from it.
pub(super) fn finding(plan: &Plan, found: &Lookup) -> String {
    let mut text = format!("What {POOL} offers, as `ntpctl lookup` finds it:\n");
    let mut line = |what: &str, found: &str| {
        let _ = writeln!(text, "  {what:<16} {found}");
    };
    let services = &found.nts_services;
    let proven = if services.state == RecordState::Secure { "proven by DNSSEC" } else { "not to be used" };
    line("service records", &format!("{}, {proven}", services.count));
    let servers = || found.targets.iter().map(|target| &target.server);
    let pinned = servers().filter(|server| !server.tlsa.records.is_empty()).count();
    let exchanged = servers().filter(|server| server.exchange.is_some()).count();
    line("  their targets", &format!("{pinned} are pinned by TLSA records (DANE), {exchanged} exchange keys"));
    line("addresses", &found.addresses.join(", "));
    if plan.balanced {
        let exchange = match (&found.itself.exchange, &found.itself.problem) {
            (Some(exchange), _) => format!("the balancer had {} make the cookies", exchange.ntp_server),
            (None, problem) => problem.clone().unwrap_or_default(),
        };
        line("key exchange", &exchange);
    }
    line(
        "so",
        match plan.mode {
            PoolModeName::Auto => "service records come first: each target is a server of its own (mode \"srv\")",
            PoolModeName::Srv => "as it is told, each target of the records is a server of its own",
            PoolModeName::Lb => "as it is told, the balancer is asked for one server after the other",
            PoolModeName::SharedCert => "as it is told, each address exchanges keys under the pool's name",
            PoolModeName::IpCert => "as it is told, each address exchanges keys under that address",
            PoolModeName::Classic => "as it is told, each address is asked for the time, and nobody vouches for it",
        },
    );
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
    format!("{:>3} s  servers: {sources}, used: {used}; clock off by {error:+.6} s", elapsed.as_secs())
}

/// What else can be done as long as it stays up.
pub(super) fn invitation(stage: &Stage) -> String {
    let folder = stage.folder.path("");
    let folder = folder.display();
    let (dns, ke_port) = (stage.name_server, stage.ke_port());
    let mut text = format!(
        "\nStaying up until interrupted. From elsewhere on this machine:\n  \
           dig @{} -p {} _ntske._tcp.{POOL} SRV +dnssec\n",
        dns.ip(),
        dns.port()
    );
    if stage.plan.balanced {
        let _ = writeln!(text, "  nts-pool-lb -c {folder}{BALANCER_CONFIG} list");
    }
    let _ = writeln!(
        text,
        "  any NTS client for which {POOL} is {}: key exchange at port {ke_port}, authority {folder}ca.pem",
        stage.leads_to()
    );
    text
}
