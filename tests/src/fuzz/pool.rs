//! What strangers send to the programs of a pool.

use std::{cell::RefCell, net::IpAddr, path::Path, sync::Arc};

use ntp_proto::{pool::Name, time::Monotonic};
use nts_ke::{
    pool::{FixedKeys, Lists, Support, parse_grant},
    record::{Incoming, Limits},
};
use pool_lb::balance::proxy;
use pool_srv::{
    directory::{Health, parse},
    publish::{
        Candidates, CookieSecret, Counters, LimitSettings, MAX_PLAIN, MAX_UDP, Moment, Responder, Served, Signer,
        State, Transport, Window, Zone, ZoneKey, ZoneSettings,
    },
};

const NOW: u64 = 1_800_000_000;
/// Octets of a query's header.
const HEADER: usize = 12;

const MEMBERS: &str = "[[member]]\nname = \"a.pool.test\"\naddresses = [\"192.0.2.1\", \"2001:db8::1\"]\n\
                       [[member]]\nname = \"b.example\"\nweight = 3\nport = 4461\n";

/// A name server with one signed zone, `pool.test`.
fn responder() -> Responder {
    let name = |text: &str| Name::parse(text).expect("a name");
    let settings = ZoneSettings {
        name: name("pool.test"),
        name_servers: vec![(name("ns.pool.test"), vec![IpAddr::from([192, 0, 2, 53])])],
        addresses: vec![IpAddr::from([192, 0, 2, 80])],
        contact: name("hostmaster.pool.test"),
        targets: 4,
        ttl: 300,
        negative_ttl: 60,
        cds: true,
        list: false,
        transfer_keys: Vec::new(),
        members: "members.toml".into(),
    };
    let directory = parse(Path::new("members.toml"), MEMBERS).expect("a directory");
    let key = ZoneKey::generate().expect("a key");
    let key = Arc::new(ZoneKey::from_pem(Path::new("key"), key.as_bytes()).expect("the same key"));
    let window = Window { inception: NOW - 86_400, expiration: NOW + 86_400 };
    let signer = Signer::new(Arc::clone(&key), settings.origin(), window);
    let zone = Zone::build(&settings, &directory, &[key], signer, 1).expect("a zone");
    let candidates = Arc::new(Candidates::new(&directory, |_| Health::Up));
    let state = Arc::new(State { zones: vec![Served { zone: Arc::new(zone), candidates }], ..State::default() });
    let limit = LimitSettings { rate: 0, slip: 0 };
    Responder::new(state, limit, 1, CookieSecret::new([3; 16]), Arc::new(Counters::default()))
}

thread_local! {
    static RESPONDER: RefCell<Responder> = RefCell::new(responder());
}

pub(super) fn pool_query(bytes: &[u8]) {
    RESPONDER.with_borrow_mut(|responder| {
        let mut out = Vec::new();
        for transport in [Transport::Udp, Transport::Tcp] {
            let moment = Moment { monotonic: Monotonic::default(), unix: NOW };
            out.clear();
            if responder.respond(bytes, IpAddr::from([203, 0, 113, 9]), transport, moment, &mut out) {
                assert!(out.len() >= HEADER && out[..2] == bytes[..2], "an answer to this question");
                assert!(out[2] & 0x80 != 0 && bytes[2] & 0x80 == 0, "answers are answered by nobody");
                let most = if transport == Transport::Tcp { usize::from(u16::MAX) } else { MAX_UDP.max(MAX_PLAIN) };
                assert!(out.len() <= most, "{} octets", out.len());
            }
        }
    });
}

pub(super) fn member_answer(bytes: &[u8]) {
    let mut incoming = Incoming::new(Limits::RESPONSE);
    if incoming.handle_input(bytes) == Ok(true) {
        let keys = FixedKeys { protocol: 0, algorithm: 15, c2s: vec![1; 32].into(), s2c: vec![2; 32].into() };
        if let Ok(accepted) = parse_grant(incoming.records(), &keys) {
            assert!(accepted.algorithm == 15 && (1..=8).contains(&accepted.cookies.len()));
        }
        let lists = Lists { algorithms: true, servers: true, ..Lists::default() };
        let _ = Support::parse(incoming.records(), lists);
    }
}

pub(super) fn proxy_header(bytes: &[u8]) {
    if let Ok(Some(header)) = proxy::parse(bytes) {
        assert!(header.length <= bytes.len());
    }
}

/// Valid inputs to begin with.
pub(super) fn corpus() -> [Vec<u8>; 3] {
    // SRV of `_ntske._tcp.pool.test` with EDNS, DNSSEC and 1232 octets.
    let mut query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01".to_vec();
    query.extend(b"\x06_ntske\x04_tcp\x04pool\x04test\x00\x00\x21\x00\x01");
    query.extend(b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00");
    // The same for the address, with Client Subnet and a cookie.
    let mut tailored = b"\x12\x35\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x04pool\x04test\x00\x00\x01\x00\x01".to_vec();
    tailored.extend(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x17\x00\x08\x00\x07\x00\x01\x18\x00\xc0\x00\x02");
    tailored.extend(b"\x00\x0a\x00\x08cookie78");
    let mut proxied = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    proxied.extend([192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x11, 0x6c]);
    [query, tailored, proxied]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_valid_gets_to_the_bottom() {
        let [query, tailored, proxied] = corpus();
        let mut responder = responder();
        let moment = Moment { monotonic: Monotonic::default(), unix: NOW };
        for query in [query, tailored] {
            let mut out = Vec::new();
            assert!(responder.respond(&query, IpAddr::from([203, 0, 113, 9]), Transport::Udp, moment, &mut out));
            // No error, and records in the answer.
            assert!(out[3] & 15 == 0 && out[7] > 0, "{out:02x?}");
        }
        assert!(matches!(proxy::parse(&proxied), Ok(Some(_))));
    }
}
