//! What a name offers, in words, and as a configuration of chrony.

use std::fmt::Write as _;

use super::{Exchange, Lookup, Offer, RecordState, Records, Server, Tlsa};
use crate::{
    config::{NTP_PORT, NTS_KE_PORT},
    observe::table,
};

impl Lookup {
    /// In words, for a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        line(&mut out, 0, &self.name);
        line(&mut out, 1, &format!("service records for NTS: {}", records(&self.nts_services)));
        for target in &self.targets {
            let who = format!("priority {}, weight {}: {}", target.priority, target.weight, address(&target.server));
            line(&mut out, 2, &who);
            server(&mut out, 3, &target.server);
        }
        line(&mut out, 1, &format!("key exchange with {}", address(&self.itself)));
        server(&mut out, 2, &self.itself);
        line(&mut out, 1, &format!("service records for plain NTP: {}", records(&self.plain_services)));
        for target in &self.plain_targets {
            let who =
                format!("priority {}, weight {}: {} port {}", target.priority, target.weight, target.name, target.port);
            line(&mut out, 2, &who);
        }
        let addresses = match (&self.address_problem, self.addresses.is_empty()) {
            (_, false) => self.addresses.join(", "),
            (Some(problem), true) => without(problem, &self.name),
            (None, true) => "none".to_owned(),
        };
        line(&mut out, 1, &format!("addresses: {addresses}"));
        line(&mut out, 1, &format!("in all: {}", self.verdict()));
        table::printable(&out) + "\n"
    }

    /// What follows, in a sentence.
    fn verdict(&self) -> String {
        match self.offer {
            Offer::SrvPool => {
                let working = self.targets.iter().filter(|target| target.server.exchange.is_some()).count();
                let servers = if working == 1 { "one NTS server" } else { "NTS servers" };
                format!("a pool of {working} {servers} by service records (mode \"srv\")").replace("1 one", "one")
            }
            Offer::LbPool => "a pool of NTS servers behind one key exchange (mode \"lb\")".to_owned(),
            Offer::NtsServer => "a single NTS server".to_owned(),
            Offer::Plain => match self.why_not_plain() {
                Some(why) => format!("no NTS that can be used, and plain NTP is not to be: {why}"),
                None => "no NTS; plain NTP was not tried (`ntpd query` does)".to_owned(),
            },
            Offer::Nothing => "nothing".to_owned(),
        }
    }

    /// A configuration of chrony that uses what is offered; comments say what it cannot use.
    #[must_use]
    pub fn to_chrony(&self) -> String {
        let mut out = format!("# {}: {}\n", self.name, self.verdict());
        if matches!(self.nts_services.state, RecordState::Insecure | RecordState::Bogus | RecordState::Failed) {
            line(&mut out, 0, &format!("# service records for NTS are not used: {}", records(&self.nts_services)));
        }
        match self.offer {
            Offer::SrvPool => {
                for target in &self.targets {
                    match &target.server.exchange {
                        Some(exchange) => nts(&mut out, &target.server, exchange),
                        None => refused(&mut out, &target.server),
                    }
                }
            }
            Offer::LbPool | Offer::NtsServer => {
                if let Some(exchange) = &self.itself.exchange {
                    nts(&mut out, &self.itself, exchange);
                }
            }
            Offer::Plain if !self.is_usable() => {
                for target in &self.targets {
                    refused(&mut out, &target.server);
                }
                if let Some(problem) = &self.itself.problem {
                    line(&mut out, 0, &format!("# {problem}"));
                }
            }
            Offer::Plain if self.plain_targets.is_empty() => {
                let word = if self.addresses.len() > 1 { "pool" } else { "server" };
                line(&mut out, 0, &format!("{word} {} iburst", self.name));
            }
            Offer::Plain => {
                for target in &self.plain_targets {
                    let port = if target.port == NTP_PORT { String::new() } else { format!(" port {}", target.port) };
                    line(&mut out, 0, &format!("server {} iburst{port}", target.name));
                }
            }
            Offer::Nothing => {}
        }
        table::printable(&out) + "\n"
    }
}

fn nts(out: &mut String, server: &Server, exchange: &Exchange) {
    if exchange.valid_until_unix_seconds.is_none() {
        line(
            out,
            0,
            "# vouched for by DNS alone: chrony will only take its certificate if an authority it knows signed it",
        );
    }
    let port = if server.port == NTS_KE_PORT { String::new() } else { format!(" ntsport {}", server.port) };
    line(out, 0, &format!("server {} iburst nts{port}", server.name));
}

fn refused(out: &mut String, server: &Server) {
    line(out, 0, &format!("# {}", server.problem.as_deref().unwrap_or("no keys")));
}

fn records(records: &Records) -> String {
    let state = match records.state {
        RecordState::Secure => "signed (DNSSEC)",
        RecordState::Present => "found",
        RecordState::None => return "none".to_owned(),
        RecordState::Insecure => "not signed (DNSSEC), so not used",
        RecordState::Bogus => "forged or broken (DNSSEC), so not used",
        RecordState::Failed => "no answer",
    };
    match &records.problem {
        Some(problem) => {
            let why = problem.split_once(": ").map_or(problem.as_str(), |(_, why)| why);
            format!("{state}: {why}")
        }
        None => format!("{}, {state}", records.count),
    }
}

fn server(out: &mut String, depth: usize, server: &Server) {
    line(out, depth, &format!("TLSA records: {}", tlsa(&server.tlsa)));
    let Some(exchange) = &server.exchange else {
        let problem = server.problem.as_deref().unwrap_or("no keys");
        return line(out, depth, &format!("key exchange: {}", without(problem, &server.name)));
    };
    let Exchange { trust, ntp_server, ntp_addresses, algorithm, .. } = exchange;
    let addresses = ntp_addresses.join(", ");
    line(out, depth, &format!("key exchange: done; NTP server {ntp_server} ({addresses}), {algorithm}"));
    let dates = exchange.valid_until_unix_seconds.map_or_else(
        || "DNS alone vouches for it, its dates do not count".to_owned(),
        |until| format!("valid until {}", table::date_of(until)),
    );
    line(out, depth, &format!("certificate: accepted, trust {trust}, {dates}"));
}

fn tlsa(tlsa: &Tlsa) -> String {
    let mut parts = Vec::new();
    match tlsa.state {
        "secure" if tlsa.records.is_empty() => parts.push("signed, but none can be used".to_owned()),
        "secure" => parts.push(format!("signed: {}", tlsa.records.join(", "))),
        "absent" => parts.push("none, which is proven (DNSSEC)".to_owned()),
        "insecure" => parts.push("not looked for, the name is not signed (DNSSEC)".to_owned()),
        "bogus" => parts.push("forged or kept back; the server is refused".to_owned()),
        other => parts.push(other.to_owned()),
    }
    parts.extend(tlsa.problems.iter().cloned());
    parts.join("; ")
}

fn address(server: &Server) -> String {
    format!("{} port {}", server.name, server.port)
}

/// A problem without the name it begins with.
fn without(problem: &str, name: &str) -> String {
    problem.strip_prefix(&format!("{name}: ")).unwrap_or(problem).to_owned()
}

fn line(out: &mut String, depth: usize, text: &str) {
    // Writing to a string cannot fail. A line of the answer is one line here, whatever it holds.
    let _ = writeln!(out, "{}{}", "  ".repeat(depth), text.replace(['\n', '\r'], " "));
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Plain, Target},
        *,
    };

    fn exchange(trust: &'static str, until: Option<i64>) -> Exchange {
        Exchange {
            trust,
            ntp_server: "a.example".into(),
            ntp_addresses: vec!["192.0.2.1".into(), "[2001:db8::1]:1123".into()],
            algorithm: "AES-SIV-CMAC-256".into(),
            valid_from_unix_seconds: until.map(|_| 1_893_456_000),
            valid_until_unix_seconds: until,
        }
    }

    fn server(name: &str, port: u16, exchange: Option<Exchange>) -> Server {
        let problem =
            exchange.is_none().then(|| format!("{name}: nobody listens at TCP port {port} (is it an NTS server?)"));
        let tlsa = Tlsa { state: "insecure", records: vec![], problems: vec![] };
        Server { name: name.into(), port, tlsa, nobody_listens: exchange.is_none(), exchange, problem }
    }

    fn lookup(offer: Offer) -> Lookup {
        let records = |state| Records { state, count: 0, problem: None };
        Lookup {
            name: "time.example".into(),
            port: 4460,
            nts_services: records(RecordState::None),
            targets: vec![],
            itself: server("time.example", 4460, None),
            plain_services: records(RecordState::None),
            plain_targets: vec![],
            addresses: vec!["192.0.2.1".into(), "192.0.2.2".into()],
            address_problem: None,
            offer,
        }
    }

    fn srv() -> Lookup {
        let mut good = server("a.example", 4446, Some(exchange("dane", None)));
        good.tlsa = Tlsa { state: "secure", records: vec!["3 1 1".into()], problems: vec!["unknown usage 9".into()] };
        let target = |priority, server| Target { priority, weight: 5, server };
        Lookup {
            nts_services: Records { state: RecordState::Secure, count: 2, problem: None },
            targets: vec![target(1, good), target(2, server("b.example", 4460, None))],
            ..lookup(Offer::SrvPool)
        }
    }

    #[test]
    fn everything_found_is_shown() {
        assert_eq!(
            srv().to_text(),
            "time.example\n  \
               service records for NTS: 2, signed (DNSSEC)\n    \
                 priority 1, weight 5: a.example port 4446\n      \
                   TLSA records: signed: 3 1 1; unknown usage 9\n      \
                   key exchange: done; NTP server a.example (192.0.2.1, [2001:db8::1]:1123), AES-SIV-CMAC-256\n      \
                   certificate: accepted, trust dane, DNS alone vouches for it, its dates do not count\n    \
                 priority 2, weight 5: b.example port 4460\n      \
                   TLSA records: not looked for, the name is not signed (DNSSEC)\n      \
                   key exchange: nobody listens at TCP port 4460 (is it an NTS server?)\n  \
               key exchange with time.example port 4460\n    \
                 TLSA records: not looked for, the name is not signed (DNSSEC)\n    \
                 key exchange: nobody listens at TCP port 4460 (is it an NTS server?)\n  \
               service records for plain NTP: none\n  \
               addresses: 192.0.2.1, 192.0.2.2\n  \
               in all: a pool of one NTS server by service records (mode \"srv\")\n"
        );
    }

    #[test]
    fn chrony_is_told_what_it_can_use() {
        let srv = srv().to_chrony();
        assert!(srv.ends_with(
            "server a.example iburst nts ntsport 4446\n\
             # b.example: nobody listens at TCP port 4460 (is it an NTS server?)\n"
        ));
        assert!(srv.contains("# vouched for by DNS alone"), "{srv}");
        let mut single = lookup(Offer::NtsServer);
        single.itself = server("time.example", 4460, Some(exchange("pki", Some(1_901_232_000))));
        let problem = Some("_ntske._tcp.time.example: service records are not signed".into());
        single.nts_services = Records { state: RecordState::Insecure, count: 0, problem };
        assert_eq!(
            single.to_chrony(),
            "# time.example: a single NTS server\n\
             # service records for NTS are not used: not signed (DNSSEC), so not used: service records are not signed\n\
             server time.example iburst nts\n"
        );
        assert!(single.to_text().contains("valid until Mon Apr 01 00:00:00 2030"), "{}", single.to_text());
        let mut plain = lookup(Offer::Plain);
        assert!(plain.to_chrony().ends_with("\npool time.example iburst\n"));
        let target = |name: &str, port| Plain { priority: 0, weight: 0, name: name.into(), port };
        plain.plain_targets = vec![target("a.example", 123), target("b.example", 1123)];
        assert!(plain.to_chrony().ends_with("\nserver a.example iburst\nserver b.example iburst port 1123\n"));
        assert_eq!(lookup(Offer::Nothing).to_chrony(), "# time.example: nothing\n");
    }

    #[test]
    fn plain_ntp_is_not_for_names_whose_nts_is_kept_back() {
        let comments = |lookup: &Lookup| lookup.to_chrony().lines().all(|line| line.starts_with('#'));
        for (state, usable) in [
            (RecordState::Bogus, false),
            (RecordState::Failed, false),
            (RecordState::Insecure, false),
            (RecordState::None, true),
            (RecordState::Secure, false),
        ] {
            let mut plain = lookup(Offer::Plain);
            plain.nts_services.state = state;
            plain.nts_services.count = usize::from(state == RecordState::Secure);
            assert_eq!((plain.is_usable(), comments(&plain)), (usable, !usable), "{state:?}");
            let target = Plain { priority: 0, weight: 0, name: "a.example".into(), port: 123 };
            plain.plain_targets = vec![target];
            assert_eq!((plain.is_usable(), comments(&plain)), (usable, !usable), "{state:?}");
            assert_eq!(plain.to_text().contains("plain NTP is not to be: "), !usable, "{state:?}");
            // Whoever has NTS all the same has it.
            let mut single = lookup(Offer::NtsServer);
            single.itself = server("time.example", 4460, Some(exchange("pki", Some(1_901_232_000))));
            single.nts_services.state = state;
            assert_eq!((single.is_usable(), comments(&single)), (true, false), "{state:?}");
        }
        let mut forged = lookup(Offer::Plain);
        forged.itself.tlsa.state = "bogus";
        assert_eq!((forged.is_usable(), comments(&forged)), (false, true));
    }

    #[test]
    fn a_plain_line_is_for_names_without_nts_and_all_others_are_told_why() {
        let mut unsigned = lookup(Offer::Plain);
        let problem = Some("_ntske._tcp.time.example: service records are not signed".into());
        unsigned.nts_services = Records { state: RecordState::Insecure, count: 0, problem };
        assert_eq!(
            unsigned.to_chrony(),
            "# time.example: no NTS that can be used, and plain NTP is not to be: its service records for NTS are not \
             signed (DNSSEC)\n\
             # service records for NTS are not used: not signed (DNSSEC), so not used: service records are not signed\n\
             # time.example: nobody listens at TCP port 4460 (is it an NTS server?)\n"
        );
        let mut expired = lookup(Offer::Plain);
        (expired.itself.nobody_listens, expired.itself.problem) =
            (false, Some("time.example: certificate expired".into()));
        let text = expired.to_chrony();
        assert!(!expired.is_usable() && text.lines().all(|line| line.starts_with('#')), "{text}");
        assert!(
            text.contains("its key exchange is there and gives no keys now\n# time.example: certificate exp"),
            "{text}"
        );
        // Signed records whose servers are all down now.
        let down = Lookup { offer: Offer::Plain, ..srv() };
        let down = Lookup {
            targets: down
                .targets
                .into_iter()
                .map(|target| Target { server: server("b.example", 4460, None), ..target })
                .collect(),
            ..down
        };
        let text = down.to_chrony();
        assert!(!down.is_usable() && text.lines().all(|line| line.starts_with('#')), "{text}");
        assert!(text.contains("no server of its service records gives keys now"), "{text}");
        assert_eq!(text.matches("# b.example: nobody listens").count(), 2, "{text}");
    }

    #[test]
    fn every_state_of_dns_has_its_words() {
        for (state, expected) in [
            ("absent", "none, which is proven (DNSSEC)"),
            ("bogus", "forged or kept back; the server is refused; why"),
            ("unknown", "unknown; why"),
        ] {
            let problems = if state == "absent" { vec![] } else { vec!["why".to_owned()] };
            assert_eq!(tlsa(&Tlsa { state, records: vec![], problems }), expected);
        }
        for (state, expected) in [
            (RecordState::Bogus, "forged or broken (DNSSEC), so not used: x"),
            (RecordState::Failed, "no answer: x"),
            (RecordState::None, "none"),
        ] {
            assert_eq!(records(&Records { state, count: 0, problem: Some("_ntske._tcp.a: x".into()) }), expected);
        }
    }

    #[test]
    fn what_others_say_stays_on_its_line() {
        let mut hostile = lookup(Offer::NtsServer);
        let exchange = Exchange { ntp_server: "a\nserver evil.example\u{1b}[2J".into(), ..exchange("pki", Some(0)) };
        hostile.itself = server("time.example", 4460, Some(exchange));
        let text = hostile.to_text();
        assert!(!text.contains('\u{1b}') && !text.lines().any(|line| line.starts_with("server")), "{text}");
    }
}
