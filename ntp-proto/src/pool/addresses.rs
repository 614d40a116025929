//! Members from the addresses of one name, each an NTS server of its own: those that share a certificate for the name,
//! and those that have one for their address. Both addresses of a host with two families would pass for two servers, so
//! members have one family as long as there are enough of it.

use std::net::{IpAddr, SocketAddr};

use super::{
    Answer, KeyExchange, MAX_MEMBERS, MAX_SHUNNED, Name, Negotiated, Question,
    listed::{List, ListedPool},
};
use crate::time::Monotonic;

/// Most addresses that are kept of one answer: few enough that all of them and a full set of members can be shunned.
pub const MAX_ADDRESSES: usize = MAX_SHUNNED - 2 * MAX_MEMBERS;

/// What the certificate of each server must be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certificate {
    /// The name of the pool, the same for all.
    OfName,
    /// The server's own address.
    OfAddress,
}

/// Members from key exchanges with each address of a name.
pub type AddressPool = ListedPool<Addresses>;

/// The addresses of a name.
#[derive(Clone, Debug)]
pub struct Addresses {
    name: Name,
    port: u16,
    certificate: Certificate,
}

impl Addresses {
    /// Keys are exchanged at `port` of each address of `name`.
    #[must_use]
    pub const fn new(name: Name, port: u16, certificate: Certificate) -> Self {
        Self { name, port, certificate }
    }

    /// What the certificate of each server must be for.
    #[must_use]
    pub const fn certificate(&self) -> Certificate {
        self.certificate
    }
}

impl List for Addresses {
    type Place = SocketAddr;
    type Key = SocketAddr;

    const WHAT: &'static str = "addresses";

    /// Pools answer with a few addresses of many, each time with others.
    const WHOLE: usize = 0;

    fn question(&self) -> Question {
        Question::Addresses { name: self.name.clone(), port: self.port }
    }

    fn read(&mut self, answer: Answer) -> Result<(Vec<SocketAddr>, Monotonic), &'static str> {
        match answer {
            Answer::Addresses { mut addresses, until } => {
                addresses.truncate(MAX_ADDRESSES);
                Ok((addresses, until))
            }
            Answer::NoRecord => Err("addresses: there are none"),
            Answer::Failed(_) | Answer::Insecure | Answer::Bogus | Answer::Services { .. } | Answer::KeyExchange(_) => {
                Err("addresses: no answer")
            }
        }
    }

    fn key(at: &SocketAddr) -> SocketAddr {
        *at
    }

    fn address(at: &SocketAddr) -> Option<IpAddr> {
        Some(at.ip())
    }

    fn exchange(&self, at: &SocketAddr) -> KeyExchange {
        let server = match self.certificate {
            Certificate::OfName => self.name.clone(),
            Certificate::OfAddress => Name::from(at.ip()),
        };
        KeyExchange { server, port: at.port(), addresses: Some(vec![*at]), validated: false, denied: Vec::new() }
    }

    /// Servers that share a name are told apart by their addresses, and each is the one at the address that gave the
    /// keys.
    fn interpret(&self, at: &SocketAddr, mut server: Negotiated) -> Negotiated {
        if server.ntp_server.trim_end_matches('.').eq_ignore_ascii_case(self.name.as_str()) {
            server.ntp_server = at.ip().to_string();
            if let Some(own) = server.addresses.iter().find(|address| address.ip() == at.ip()).copied() {
                server.addresses = vec![own];
            }
        }
        server
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::{
        ids::Trust,
        pool::{Failure, Member, Output, PoolMode, QuestionId},
    };

    const START: Monotonic = Monotonic::from_nanos(1);

    fn pool(certificate: Certificate) -> AddressPool {
        let mut pool = AddressPool::new(Addresses::new(Name::parse("time.example").unwrap(), 4460, certificate), 1);
        pool.set_target(2);
        pool
    }

    fn addresses() -> Answer {
        let addresses = ["192.0.2.1:4460", "[2001:db8::1]:4460", "192.0.2.3:4460"];
        let addresses = addresses.map(|text| text.parse().unwrap()).to_vec();
        Answer::Addresses { addresses, until: START + Duration::from_secs(300) }
    }

    fn negotiated(name: &str, addresses: &[&str]) -> Answer {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Answer::KeyExchange(Negotiated { ntp_server: name.to_owned(), addresses, trust: Trust::Pki })
    }

    fn asks(pool: &mut AddressPool) -> (QuestionId, Question) {
        match pool.poll_output() {
            Output::Ask(id, question) => (id, question),
            other @ (Output::Join(_) | Output::Timeout(..)) => panic!("{other:?}"),
        }
    }

    /// Answers the next question, which must be a key exchange, and returns whom it was asked of.
    fn exchange(pool: &mut AddressPool, answer: Answer) -> KeyExchange {
        let (id, question) = asks(pool);
        pool.handle_answer(START, id, answer);
        let Question::KeyExchange(exchange) = question else { panic!("{question:?}") };
        exchange
    }

    fn joined(pool: &mut AddressPool) -> Member {
        match pool.poll_output() {
            Output::Join(member) => member,
            other @ (Output::Ask(..) | Output::Timeout(..)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_address_is_asked_under_the_name_or_under_itself() {
        for (certificate, names) in
            [(Certificate::OfName, ["time.example"; 2]), (Certificate::OfAddress, ["192.0.2.1", "192.0.2.3"])]
        {
            let mut pool = pool(certificate);
            let (id, question) = asks(&mut pool);
            assert_eq!(question, Question::Addresses { name: Name::parse("time.example").unwrap(), port: 4460 });
            pool.handle_answer(START, id, addresses());
            // Two of one family: the third may be one of them.
            for (name, at) in names.iter().zip(["192.0.2.1:4460", "192.0.2.3:4460"]) {
                let ntp = at.replace("4460", "123");
                let exchange = exchange(&mut pool, negotiated(name, &[&ntp]));
                assert_eq!(exchange.server.as_str(), *name);
                assert_eq!(exchange.addresses, Some(vec![at.parse().unwrap()]));
                let member = joined(&mut pool);
                assert_eq!(member.label, member.addresses[0].ip().to_string());
                assert_eq!(member.addresses, [ntp.parse().unwrap()]);
            }
            assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
            assert_eq!(pool.members(), 2);
        }
        let mut pool = pool(Certificate::OfAddress);
        let (id, _) = asks(&mut pool);
        let addresses = vec!["[2001:db8::1]:4460".parse().unwrap()];
        pool.handle_answer(START, id, Answer::Addresses { addresses, until: START + Duration::from_secs(300) });
        let exchange = exchange(&mut pool, negotiated("2001:db8::1", &["[2001:db8::1]:123"]));
        assert_eq!((exchange.server.as_str(), joined(&mut pool).label.as_str()), ("2001:db8::1", "2001:db8::1"));
    }

    #[test]
    fn servers_that_name_the_pool_are_those_that_gave_the_keys() {
        let mut pool = pool(Certificate::OfName);
        let (id, _) = asks(&mut pool);
        pool.handle_answer(START, id, addresses());
        let all = ["192.0.2.1:123", "[2001:db8::1]:123", "192.0.2.3:123"];
        exchange(&mut pool, negotiated("Time.Example.", &all));
        assert_eq!(joined(&mut pool).addresses, ["192.0.2.1:123".parse().unwrap()]);
        // Another NTP server for both of the others: one member.
        exchange(&mut pool, negotiated("ntp.example", &["198.51.100.1:123"]));
        assert_eq!(joined(&mut pool).label, "ntp.example");
        pool.set_target(3);
        exchange(&mut pool, negotiated("NTP.example", &["198.51.100.2:123"]));
        let Output::Timeout(Some(_), why) = pool.poll_output() else { panic!("it counts twice") };
        assert_eq!(why, "next look for members");
    }

    #[test]
    fn an_address_that_gives_no_keys_is_left_alone() {
        let mut pool = pool(Certificate::OfName);
        let (id, _) = asks(&mut pool);
        pool.handle_answer(START, id, addresses());
        let first = exchange(&mut pool, Answer::Failed(Failure::Connect));
        let second = exchange(&mut pool, negotiated("time.example", &["[2001:db8::1]:123"]));
        assert_ne!(first.addresses, second.addresses);
        joined(&mut pool);
        exchange(&mut pool, negotiated("time.example", &["192.0.2.3:123"]));
        joined(&mut pool);
        assert_eq!(pool.poll_output(), Output::Timeout(None, "enough members"));
    }
}
