use ntp_proto::bootstrap::MAX_SIGNED;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};

use super::*;
use crate::{
    sct::tests::{extension, wrapped},
    tls::provider,
    verify::TrustRoots,
};

const NAME: &str = "ke1.pool.test";
const DAY: i64 = 86_400;
/// 2030-01-07, within the life of the server's certificate here.
const GOOD: i64 = 1_894_000_000;
/// 2030-01-01 and 2030-04-01, its life.
const LIFE: Window = Window { not_before: 1_893_456_000, not_after: 1_901_232_000 };
/// 2029-01-01.
const Y2029: i64 = 1_861_920_000;

type Date = (i32, u8, u8);
type Certificate = CertificateDer<'static>;

struct Authority {
    certificate: Certificate,
    parameters: CertificateParams,
    key: Vec<u8>,
}

impl Authority {
    fn new(name: &str, life: (Date, Date), by: Option<&Self>) -> Self {
        Self::with_key(name, life, by, &KeyPair::generate().unwrap())
    }

    fn with_key(name: &str, life: (Date, Date), by: Option<&Self>, key: &KeyPair) -> Self {
        let mut parameters = parameters(vec![], life);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        let certificate = match by {
            None => parameters.self_signed(key),
            Some(by) => parameters.signed_by(key, &by.issuer()),
        };
        Self { certificate: certificate.unwrap().der().clone(), parameters, key: key.serialize_der() }
    }

    fn key(&self) -> KeyPair {
        KeyPair::try_from(self.key.clone()).unwrap()
    }

    fn issuer(&self) -> Issuer<'static, KeyPair> {
        Issuer::new(self.parameters.clone(), self.key())
    }

    /// A server's certificate.
    fn sign(&self, life: (Date, Date), change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut parameters = parameters(vec![NAME.into()], life);
        change(&mut parameters);
        parameters.signed_by(&KeyPair::generate().unwrap(), &self.issuer()).unwrap().der().clone()
    }
}

fn parameters(names: Vec<String>, (begin, end): (Date, Date)) -> CertificateParams {
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.not_before = date_time_ymd(begin.0, begin.1, begin.2);
    parameters.not_after = date_time_ymd(end.0, end.1, end.2);
    parameters
}

const LONG: (Date, Date) = ((2025, 1, 1), (2050, 1, 1));
const MIDDLE: (Date, Date) = ((2029, 1, 1), (2035, 1, 1));
const OWN: (Date, Date) = ((2030, 1, 1), (2030, 4, 1));

struct World {
    root: Authority,
    middle: Authority,
    own: Certificate,
}

impl World {
    fn new() -> Self {
        Self::with(|parameters| parameters.custom_extensions = vec![extension(&[(0, 1_893_459_600_123)])])
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let root = Authority::new("root", LONG, None);
        let middle = Authority::new("middle", MIDDLE, Some(&root));
        let own = middle.sign(OWN, change);
        Self { root, middle, own }
    }

    fn try_with(&self, sent: &[&Certificate], records: &[Tlsa], judgement: Judgement) -> Outcome {
        let roots = TrustRoots::new(vec![self.root.certificate.clone()]).unwrap();
        try_as(NAME, &roots, &self.own, sent, records, judgement)
    }

    fn try_at(&self, judgement: Judgement) -> Outcome {
        self.try_with(&[&self.middle.certificate], &[], judgement)
    }
}

/// What a session would see: whether it goes on, and what it knows of the time.
struct Outcome {
    result: Result<(), TlsFault>,
    chain: Option<Chain>,
}

impl Outcome {
    /// The chain of a session that goes on.
    fn good(self) -> Chain {
        self.result.unwrap();
        self.chain.unwrap()
    }

    /// The fault of a session of which nothing is known.
    fn bad(self) -> TlsFault {
        assert_eq!(self.chain, None);
        self.result.unwrap_err()
    }
}

fn try_as(
    name: &str,
    roots: &TrustRoots,
    own: &Certificate,
    sent: &[&Certificate],
    records: &[Tlsa],
    judgement: Judgement,
) -> Outcome {
    let judge = Judge::new(Verifier::new(roots, provider()).unwrap(), records, judgement);
    let intermediates: Vec<_> = sent.iter().map(|one| (*one).clone()).collect();
    let name = ServerName::try_from(name).unwrap();
    // What the library says of the time does not matter.
    let result = judge.verify_server_cert(own, &intermediates, &name, &[], to_pki(0)).map(|_| ());
    let fault = |error: Error| {
        let Error::InvalidCertificate(error) = error else { panic!("{error}") };
        certificate_fault(&error, judgement)
    };
    Outcome { result: result.map_err(fault), chain: judge.chain().cloned() }
}

fn at(seconds: i64) -> Judgement {
    Judgement::At(UnixTime { seconds, nanos: 0 })
}

/// A clock that nobody believes, and what is known for certain.
fn later(now: i64, floor: i64) -> Judgement {
    Judgement::Deferred { now, floor }
}

/// Clocks that are wrong by years or by days, or not at all; the floor is that of a program of 2026.
fn clocks() -> [(i64, i64); 5] {
    let floor = 1_767_225_600;
    [
        (0, floor),
        (LIFE.not_before - 2 * DAY, floor),
        (GOOD, floor),
        (LIFE.not_after + 2 * DAY, floor),
        (GOOD + 3653 * DAY, floor),
    ]
}

#[test]
fn whatever_the_clock_says_a_chain_is_verified_and_says_when_it_is_valid() {
    let world = World::new();
    let expected = Chain {
        window: LIFE,
        signed: vec![1_893_459_600, LIFE.not_before, Y2029],
        records: Vec::new(),
        life: 90 * DAY + 1,
        key: Sha256::digest(der::public_key_info(&world.own).unwrap()).into(),
        pinned: false,
    };
    for (now, floor) in clocks() {
        assert_eq!(world.try_at(later(now, floor)).good(), expected);
    }
    assert_eq!(world.try_at(at(GOOD)).good(), expected);
}

#[test]
fn where_only_dates_are_wrong_the_session_fails_with_what_was_signed() {
    let world = World::new();
    let expected = world.try_at(at(GOOD)).good();
    for (now, _) in clocks() {
        let outcome = world.try_at(at(now));
        let judged_at = UnixTime { seconds: now, nanos: 0 };
        match outcome.result {
            Ok(()) => assert_eq!(now, GOOD),
            Err(TlsFault::NotYetValid { judged_at: told, .. }) => {
                assert!(now < LIFE.not_before && told == judged_at);
            }
            Err(fault) => {
                let not_after = UnixTime { seconds: LIFE.not_after, nanos: 0 };
                assert_eq!(fault, TlsFault::Expired { not_after, judged_at });
            }
        }
        assert_eq!(outcome.chain.unwrap(), expected);
    }
}

#[test]
fn everything_else_is_asked_at_whatever_time() {
    let (world, foreign) = (World::new(), Authority::new("foreign", LONG, None));
    let strangers = TrustRoots::new(vec![foreign.certificate]).unwrap();
    let purpose = World::with(|parameters| {
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let mut narrow = Authority::new("narrow", MIDDLE, Some(&world.root));
    narrow.parameters.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("elsewhere.test".into())],
        excluded_subtrees: vec![],
    });
    let constrained = narrow.parameters.signed_by(&narrow.key(), &world.root.issuer()).unwrap().der().clone();
    let not_there = narrow.sign(OWN, |_| {});
    let roots = TrustRoots::new(vec![world.root.certificate.clone()]).unwrap();
    let mut forged = world.own.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Certificate::from(forged);
    let middle = [&world.middle.certificate];
    for (now, floor) in clocks() {
        for judgement in [at(now), later(now, floor)] {
            let wrong = try_as("ke2.pool.test", &roots, &world.own, &middle, &[], judgement);
            let stranger = try_as(NAME, &strangers, &world.own, &middle, &[], judgement);
            let purpose = purpose.try_at(judgement);
            let constraint = try_as(NAME, &roots, &not_there, &[&constrained], &[], judgement);
            let forged = try_as(NAME, &roots, &forged, &middle, &[], judgement);
            for outcome in [&wrong, &stranger, &purpose, &constraint, &forged] {
                assert!(outcome.result.is_err() && outcome.chain.is_none());
            }
            if judgement != at(now) {
                assert!(matches!(wrong.bad(), TlsFault::WrongName { .. }));
                assert_eq!((stranger.bad(), purpose.bad()), (TlsFault::UnknownIssuer, TlsFault::WrongPurpose));
                assert!(matches!(constraint.bad(), TlsFault::Certificate(_)));
                assert!(matches!(forged.bad(), TlsFault::Certificate(_)));
            }
        }
    }
}

#[test]
fn what_is_expired_at_the_floor_is_refused() {
    let world = World::new();
    for now in [0, GOOD, i64::MAX] {
        assert_eq!(world.try_at(later(now, LIFE.not_after)).good().window, LIFE);
        let floor = LIFE.not_after + 1;
        let fault = world.try_at(later(now, floor)).bad();
        let time = |seconds| UnixTime { seconds, nanos: 0 };
        assert_eq!(fault, TlsFault::ExpiredAtFloor { not_after: time(LIFE.not_after), floor: time(floor) });
        assert_eq!(
            fault.to_string(),
            "certificate expired on 2030-04-01T00:00:00Z, and it is 2030-04-01T00:00:01Z at least"
        );
    }
    // An authority between, too.
    let root = Authority::new("root", LONG, None);
    let middle = Authority::new("middle", ((2029, 1, 1), (2030, 2, 1)), Some(&root));
    let world = World { own: middle.sign(OWN, |_| {}), root, middle };
    let end = 1_896_134_400;
    assert_eq!(world.try_at(later(0, end)).good().window, Window { not_after: end, ..LIFE });
    let fault = world.try_at(later(0, end + 1)).bad();
    assert!(matches!(fault, TlsFault::ExpiredAtFloor { not_after, .. } if not_after.seconds == end), "{fault}");
}

#[test]
fn certificates_that_are_never_valid_together_do_not_hide_those_that_are() {
    let root = Authority::new("root", LONG, None);
    let key = KeyPair::generate().unwrap();
    let by_root = |begin, end| Authority::with_key("middle", (begin, end), Some(&root), &key);
    // All of one authority with one key: expired before the server's certificate began, soon to expire, good for long, and
    // not valid before the server's certificate is expired.
    let old = by_root((2026, 1, 1), (2029, 12, 31));
    let short = by_root((2029, 1, 1), (2030, 2, 1));
    let good = by_root((2029, 6, 1), (2035, 1, 1));
    let next = by_root((2030, 5, 1), (2040, 1, 1));
    let unrelated = Authority::new("unrelated", ((2010, 1, 1), (2012, 1, 1)), None);
    let world = World { own: good.sign(OWN, |_| {}), root, middle: good };
    let all = [&old, &short, &world.middle, &next, &unrelated].map(|one| &one.certificate);
    for (now, floor) in clocks() {
        for turn in 0..all.len() {
            let mut sent = all;
            sent.rotate_left(turn);
            let chain = world.try_with(&sent, &[], later(now, floor)).good();
            // The longest of those that are valid.
            assert_eq!((chain.window, chain.signed), (LIFE, vec![LIFE.not_before, 1_874_966_400]), "{now} {turn}");
        }
        // Late in the life of the server's certificate nothing else is.
        let floor = 1_900_000_000;
        let sent = [&unrelated.certificate, &short.certificate, &next.certificate, &old.certificate];
        let fault = world.try_with(&sent, &[], later(now, floor)).bad();
        assert!(matches!(fault, TlsFault::ExpiredAtFloor { .. } | TlsFault::NotYetValid { .. }), "{fault}");
    }
    let pair = [&old.certificate, &next.certificate];
    let fault = world.try_with(&pair, &[], later(0, 0)).bad();
    assert!(matches!(fault, TlsFault::Expired { .. } | TlsFault::NotYetValid { .. }), "{fault}");
}

/// Neither all that is shown nor the server's certificate alone tells when: only the authority's beginning does.
#[test]
fn an_authority_may_be_valid_for_a_part_of_the_time() {
    let root = Authority::new("root", LONG, None);
    let middle = Authority::new("middle", ((2030, 2, 1), (2030, 3, 1)), Some(&root));
    let unrelated = Authority::new("unrelated", ((2010, 1, 1), (2012, 1, 1)), None);
    let world = World { own: middle.sign(OWN, |_| {}), root, middle };
    let part = Window { not_before: 1_896_134_400, not_after: 1_898_553_600 };
    for (now, floor) in clocks() {
        for sent in [[&unrelated, &world.middle], [&world.middle, &unrelated]] {
            let chain = world.try_with(&sent.map(|one| &one.certificate), &[], later(now, floor)).good();
            assert_eq!((chain.window, chain.evidence()), (part, part.not_before));
        }
    }
}

#[test]
fn times_to_be_tried_are_few_and_within_the_life_of_the_certificate() {
    let root = Authority::new("root", LONG, None);
    let own = root.sign(OWN, |_| {});
    let intermediates: Vec<_> = (1..MAX_CHAIN_CERTIFICATES)
        .map(|day| root.sign(((2030, 2, u8::try_from(day).unwrap()), (2030, 2, 27)), |_| {}))
        .chain([CertificateDer::from(vec![1])])
        .collect();
    let name = ServerName::try_from(NAME).unwrap();
    let presented = Presented { end_entity: &own, intermediates: &intermediates, name: &name, now: to_pki(0) };
    for (now, floor) in clocks().into_iter().chain([(0, i64::MIN), (i64::MAX, GOOD), (i64::MIN, LIFE.not_after)]) {
        let times = candidates(presented, &LIFE, now, floor);
        assert!(!times.is_empty() && times.len() <= MAX_TRIES, "{times:?}");
        assert!(times.iter().all(|at| LIFE.contains(*at, 0) && *at >= floor), "{times:?}");
    }
    // From 2030-02-07 on all are valid, and no other time is better.
    assert_eq!(candidates(presented, &LIFE, 0, 0), [1_896_652_800]);
}

#[test]
fn certificates_that_are_never_valid_together_are_not_tried_for_ever() {
    let root = Authority::new("root", LONG, None);
    let own = root.sign(OWN, |_| {});
    let name = ServerName::try_from(NAME).unwrap();
    let count = |lives: &[(Date, Date)], now| {
        let intermediates: Vec<_> = lives.iter().map(|life| root.sign(*life, |_| {})).collect();
        let presented = Presented { end_entity: &own, intermediates: &intermediates, name: &name, now: to_pki(0) };
        candidates(presented, &LIFE, now, 0).len()
    };
    // One after the other, and each with the next one.
    let february = |from, until| ((2030, 2, from), (2030, 2, until));
    let apart: Vec<_> = (1..8).map(|week| february(3 * week, 3 * week + 2)).collect();
    let chained: Vec<_> = (1..8).map(|week| february(3 * week, 3 * week + 4)).collect();
    for now in [0, LIFE.not_before, GOOD, LIFE.not_after, i64::MAX] {
        assert_eq!(count(&apart, now), MAX_TRIES);
        assert_eq!(count(&chained, now), MAX_TRIES);
        // An authority that has changed its key or its root.
        assert!(count(&[MIDDLE, LONG], now) == 1 && count(&[february(1, 20), february(10, 27)], now) == 1);
        assert_eq!(count(&[], now), 1);
        // What is never valid together with the server's certificate costs nothing.
        assert_eq!(count(&[((2010, 1, 1), (2012, 1, 1)), ((2031, 1, 1), (2032, 1, 1)), MIDDLE], now), 1);
    }
}

#[test]
fn times_in_the_certificate_are_bounded() {
    let after = u64::try_from(LIFE.not_after + 1).unwrap() * 1000;
    let entries: Vec<_> = (0..20).map(|second| (0, (1_893_459_600 + second) * 1000)).chain([(0, after)]).collect();
    let world = World::with(|parameters| parameters.custom_extensions = vec![extension(&entries)]);
    let chain = world.try_at(later(0, 0)).good();
    assert!(chain.signed.len() <= MAX_SIGNED);
    assert_eq!(chain.evidence(), 1_893_459_607);
    // Nothing was signed when it had expired already.
    let world = World::with(|parameters| parameters.custom_extensions = vec![extension(&[(0, after)])]);
    assert_eq!(world.try_at(later(0, 0)).good().evidence(), LIFE.not_before);
    let world = World::with(|parameters| parameters.custom_extensions = vec![wrapped(&[0xff; 40])]);
    assert_eq!(world.try_at(at(GOOD)).good().signed, [LIFE.not_before, Y2029]);
}

#[test]
fn roots_that_the_administrator_named_are_told_apart() {
    let world = World::new();
    let foreign = Authority::new("foreign", LONG, None);
    let pinned = |named: &[&Authority], others: &[&Authority]| {
        let certificates = |of: &[&Authority]| of.iter().map(|one| one.certificate.clone()).collect::<Vec<_>>();
        let junk = CertificateDer::from(vec![1]);
        let roots = TrustRoots::pinning([vec![junk], certificates(named)].concat(), certificates(others)).unwrap();
        try_as(NAME, &roots, &world.own, &[&world.middle.certificate], &[], later(0, 0)).good().pinned
    };
    assert!(pinned(&[&world.root], &[]) && pinned(&[&foreign, &world.root], &[&world.root]));
    assert!(!pinned(&[], &[&world.root]) && !pinned(&[&foreign], &[&world.root]));
}

#[test]
fn records_vouch_at_whatever_time_and_ask_what_they_ask() {
    let world = World::new();
    let nobody = TrustRoots::new(vec![Authority::new("foreign", LONG, None).certificate]).unwrap();
    let sent = [&world.middle.certificate, &world.root.certificate];
    let web = TrustRoots::new(vec![world.root.certificate.clone()]).unwrap();
    for (usage, meant, roots) in [
        (0, &world.middle.certificate, &web),
        (0, &world.root.certificate, &web),
        (1, &world.own, &web),
        (2, &world.root.certificate, &nobody),
        (2, &world.middle.certificate, &nobody),
        (3, &world.own, &nobody),
    ] {
        let record = Tlsa::new(usage, 0, 0, meant.to_vec()).unwrap();
        let other = Tlsa::new(2, 0, 1, vec![5; 32]).unwrap();
        for (now, floor) in clocks() {
            for records in [[record.clone(), other.clone()], [other.clone(), record.clone()]] {
                let chain = try_as(NAME, roots, &world.own, &sent, &records, later(now, floor)).good();
                let own = (LIFE, 90 * DAY + 1, 1_893_459_600);
                let expected = if usage == 3 { (Window::ALWAYS, 0, i64::MIN) } else { own };
                assert_eq!((chain.window, chain.life, chain.evidence()), expected, "{usage} {now}");
                assert!(!chain.pinned);
                let outcome = try_as("ke2.pool.test", roots, &world.own, &sent, &records, later(now, floor));
                assert_eq!(outcome.result.is_ok(), usage == 3);
                let outcome = try_as(NAME, roots, &world.own, &sent, &records, later(now, LIFE.not_after + 1));
                assert_eq!(outcome.result.is_ok(), usage == 3);
            }
            let outcome = try_as(NAME, roots, &world.own, &sent, std::slice::from_ref(&other), later(now, floor));
            assert_eq!(outcome.bad(), TlsFault::NotInDns { records: 1 });
        }
    }
}

/// A fault of dates with one record must not be hidden by another fault with the other, or it could not be mended.
#[test]
fn of_several_faults_that_of_dates_is_named() {
    let world = World::new();
    let nobody = TrustRoots::new(vec![Authority::new("foreign", LONG, None).certificate]).unwrap();
    let sent = [&world.middle.certificate, &world.root.certificate];
    let by_web = Tlsa::new(1, 0, 0, world.own.to_vec()).unwrap();
    let by_authority = Tlsa::new(2, 0, 0, world.root.certificate.to_vec()).unwrap();
    for records in [[by_web.clone(), by_authority.clone()], [by_authority, by_web]] {
        let outcome = try_as(NAME, &nobody, &world.own, &sent, &records, at(0));
        assert!(matches!(outcome.result, Err(TlsFault::NotYetValid { .. })));
        assert_eq!(outcome.chain.unwrap().window, LIFE);
    }
}

#[test]
fn a_chain_too_long_is_not_looked_at() {
    let world = World::new();
    let sent = vec![&world.middle.certificate; MAX_CHAIN_CERTIFICATES];
    assert_eq!(world.try_with(&sent, &[], later(0, 0)).bad(), TlsFault::ChainTooLong);
    world.try_with(&sent[1..], &[], later(0, 0)).good();
}

#[test]
fn what_ends_before_it_begins_is_malformed_and_not_merely_expired() {
    let backwards = ((2030, 4, 1), (2030, 1, 1));
    let root = Authority::new("root", LONG, None);
    let middle = Authority::new("middle", LONG, Some(&root));
    let own = World { own: middle.sign(backwards, |_| {}), root, middle };
    let root = Authority::new("root", LONG, None);
    let middle = Authority::new("middle", backwards, Some(&root));
    let between = World { own: middle.sign(OWN, |_| {}), root, middle };
    for judgement in [at(0), at(GOOD), at(LIFE.not_after + DAY), later(0, 0), later(GOOD, GOOD)] {
        assert_eq!(own.try_at(judgement).bad(), TlsFault::NeverValid, "{judgement:?}");
    }
    for judgement in [at(GOOD), later(0, 0), later(GOOD, GOOD)] {
        assert_eq!(between.try_at(judgement).bad(), TlsFault::NeverValid, "{judgement:?}");
    }
    assert!(TlsFault::NeverValid.to_string().ends_with("it is malformed and never valid"));
}
