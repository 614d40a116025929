use ntp_proto::{bootstrap::Judgement, time::UnixTime as Time};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, ServerName, SignatureVerificationAlgorithm};

use super::*;
use crate::{
    error::TlsFault,
    judge::{certificate_fault, to_pki},
    tls::provider,
};

const NAME: &str = "ke1.pool.test";
/// 2030-01-07, within the life of the certificates here.
const GOOD: i64 = 1_894_000_000;
/// 2040-01-07, after it.
const LATE: i64 = 2_209_500_000;

struct World {
    root: CertificateDer<'static>,
    middle: CertificateDer<'static>,
    own: CertificateDer<'static>,
    /// Trusts `root`.
    usual: Verifier,
    /// Trusts another root.
    foreign: Verifier,
    /// Of somebody else.
    other: CertificateDer<'static>,
}

fn authority(name: &str, signer: Option<&Issuer<'_, KeyPair>>) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let mut parameters = CertificateParams::new(vec![]).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, name);
    (parameters.not_before, parameters.not_after) = (date_time_ymd(2029, 1, 1), date_time_ymd(2050, 1, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = match signer {
        None => parameters.self_signed(&key),
        Some(signer) => parameters.signed_by(&key, signer),
    };
    (certificate.unwrap().der().clone(), Issuer::new(parameters, key))
}

impl World {
    fn new() -> Self {
        let (root, root_issuer) = authority("root", None);
        let (middle, middle_issuer) = authority("middle", Some(&root_issuer));
        let (other, _) = authority("other", None);
        let mut parameters = CertificateParams::new(vec![NAME.into()]).unwrap();
        (parameters.not_before, parameters.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2030, 4, 1));
        let own = parameters.signed_by(&KeyPair::generate().unwrap(), &middle_issuer).unwrap().der().clone();
        let trusting = |root: &CertificateDer<'static>| {
            Verifier::new(&TrustRoots::new(vec![root.clone()]).unwrap(), provider()).unwrap()
        };
        Self { usual: trusting(&root), foreign: trusting(&other), root, middle, own, other }
    }

    fn try_with(&self, verifier: &Verifier, records: &[Tlsa], sent: &[&CertificateDer<'static>]) -> Result<(), Error> {
        self.try_as(verifier, records, sent, NAME, GOOD)
    }

    fn try_as(
        &self,
        verifier: &Verifier,
        records: &[Tlsa],
        sent: &[&CertificateDer<'static>],
        name: &str,
        seconds: i64,
    ) -> Result<(), Error> {
        let intermediates: Vec<_> = sent.iter().map(|one| (*one).clone()).collect();
        let name = ServerName::try_from(name).unwrap();
        let presented =
            Presented { end_entity: &self.own, intermediates: &intermediates, name: &name, now: to_pki(seconds) };
        verify(records, verifier, presented).map(|path| assert_eq!(path.is_none(), records[0].usage == Usage::DaneEe))
    }
}

fn selected(selector: u8, certificate: &CertificateDer<'_>) -> Vec<u8> {
    if selector == 0 { certificate.to_vec() } else { der::public_key_info(certificate).unwrap().to_vec() }
}

fn record(usage: u8, selector: u8, matching: u8, certificate: &CertificateDer<'_>) -> Tlsa {
    let selected = selected(selector, certificate);
    let data = match matching {
        0 => selected,
        1 => Sha256::digest(selected).to_vec(),
        _ => Sha512::digest(selected).to_vec(),
    };
    Tlsa::new(usage, selector, matching, data).unwrap()
}

fn fault(error: Error) -> TlsFault {
    let Error::InvalidCertificate(error) = error else { panic!("{error}") };
    certificate_fault(&error, Judgement::At(Time { seconds: 0, nanos: 0 }))
}

/// Every selector with every matching type.
fn forms() -> impl Iterator<Item = (u8, u8)> {
    (0..2).flat_map(|selector| (0..3).map(move |matching| (selector, matching)))
}

#[test]
fn every_form_of_every_usage_vouches_for_what_it_means_and_nothing_else() {
    let world = World::new();
    let sent = [&world.middle, &world.root];
    for (selector, matching) in forms() {
        for (usage, meant, verifier, expected) in [
            (0, &world.root, &world.usual, true),
            (0, &world.middle, &world.usual, true),
            (0, &world.own, &world.usual, false),
            (0, &world.other, &world.usual, false),
            (0, &world.middle, &world.foreign, false),
            (1, &world.own, &world.usual, true),
            (1, &world.middle, &world.usual, false),
            (1, &world.other, &world.usual, false),
            (1, &world.own, &world.foreign, false),
            (2, &world.root, &world.foreign, true),
            (2, &world.middle, &world.foreign, true),
            (2, &world.other, &world.usual, false),
            (3, &world.own, &world.foreign, true),
            (3, &world.middle, &world.usual, false),
            (3, &world.other, &world.usual, false),
        ] {
            let record = record(usage, selector, matching, meant);
            let outcome = world.try_with(verifier, core::slice::from_ref(&record), &sent);
            assert_eq!(outcome.is_ok(), expected, "{record}: {outcome:?}");
        }
    }
}

#[test]
fn what_dns_does_not_vouch_for_is_refused_though_the_web_would_take_it() {
    let world = World::new();
    world.try_with(&world.usual, &[record(1, 1, 1, &world.own)], &[&world.middle]).unwrap();
    for usage in 0..4 {
        for (selector, matching) in forms() {
            let wrong = record(usage, selector, matching, &world.other);
            let error = world.try_with(&world.usual, &[wrong], &[&world.middle]).unwrap_err();
            assert_eq!(fault(error), TlsFault::NotInDns { records: 1 });
        }
    }
}

#[test]
fn only_for_the_certificate_itself_neither_name_nor_date_count() {
    let world = World::new();
    let sent = [&world.middle, &world.root];
    for (usage, meant) in [(0, &world.root), (1, &world.own), (2, &world.root), (3, &world.own)] {
        let records = [record(usage, 1, 1, meant)];
        for (name, seconds) in [("ke2.pool.test", GOOD), (NAME, LATE), (NAME, 1)] {
            let outcome = world.try_as(&world.usual, &records, &sent, name, seconds);
            assert_eq!(outcome.is_ok(), usage == 3, "{usage} {name} {seconds}: {outcome:?}");
            if let Err(error) = outcome {
                let fault = fault(error);
                let named = matches!(
                    fault,
                    TlsFault::WrongName { .. } | TlsFault::Expired { .. } | TlsFault::NotYetValid { .. }
                );
                assert!(named, "{fault}");
            }
        }
    }
}

#[test]
fn any_record_will_do_while_keys_roll_over() {
    let world = World::new();
    let (next, present) = (record(3, 1, 1, &world.other), record(3, 1, 1, &world.own));
    for records in [[next.clone(), present.clone()], [present, next.clone()]] {
        world.try_with(&world.foreign, &records, &[]).unwrap();
    }
    let mixed = [record(2, 0, 1, &world.other), record(1, 1, 1, &world.other), record(0, 1, 2, &world.root)];
    world.try_with(&world.usual, &mixed, &[&world.middle]).unwrap();
    assert!(world.try_with(&world.foreign, &[next], &[]).is_err());
}

#[test]
fn an_authority_must_be_sent_unless_the_record_holds_it() {
    let world = World::new();
    for (selector, matching) in forms() {
        let outcome = world.try_with(&world.foreign, &[record(2, selector, matching, &world.root)], &[&world.middle]);
        assert_eq!(outcome.is_ok(), (selector, matching) == (0, 0), "{selector} {matching}");
        // A root that is trusted anyway need not be sent.
        world.try_with(&world.usual, &[record(0, selector, matching, &world.root)], &[&world.middle]).unwrap();
    }
}

#[test]
fn without_any_root_dns_alone_can_vouch() {
    let world = World::new();
    let nobody = Verifier::without_roots(provider());
    let sent = [&world.middle, &world.root];
    for (usage, meant, expected) in
        [(0, &world.root, false), (1, &world.own, false), (2, &world.root, true), (3, &world.own, true)]
    {
        assert_eq!(world.try_with(&nobody, &[record(usage, 1, 1, meant)], &sent).is_ok(), expected, "{usage}");
    }
}

#[test]
fn records_that_can_vouch_for_nothing_are_told_apart() {
    let own = World::new().own;
    let hash = Sha256::digest(&own).to_vec();
    assert_eq!(Tlsa::new(4, 0, 1, hash.clone()), Err(Unusable::Usage(4)));
    assert_eq!(Tlsa::new(255, 0, 1, hash.clone()), Err(Unusable::Usage(255)));
    assert_eq!(Tlsa::new(3, 2, 1, hash.clone()), Err(Unusable::Selector(2)));
    assert_eq!(Tlsa::new(3, 0, 3, hash.clone()), Err(Unusable::Matching(3)));
    // A hash is none of the forms of `3 0 0`, though it was published so.
    for (selector, matching, data) in [
        (0, 0, hash.clone()),
        (1, 0, hash.clone()),
        (0, 0, own.get(..own.len() - 1).unwrap().to_vec()),
        (0, 0, [own.as_ref(), &[0]].concat()),
        (0, 0, der::public_key_info(&own).unwrap().to_vec()),
        (0, 0, vec![]),
        (0, 1, vec![0; 31]),
        (0, 1, own.to_vec()),
        (1, 2, hash),
        (1, 2, vec![]),
    ] {
        assert_eq!(Tlsa::new(3, selector, matching, data), Err(Unusable::Data), "{selector} {matching}");
    }
    assert!(Tlsa::new(3, 0, 0, own.to_vec()).unwrap().matches(&own));
    assert_eq!(Tlsa::new(3, 0, 0, own.to_vec()).unwrap().to_string(), "3 0 0");
    let unread = CertificateDer::from(vec![0x30, 0]);
    assert!(!record(3, 1, 1, &own).matches(&unread));
}

thread_local! {
    static VERIFIED: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

/// Verifies signatures and counts them.
#[derive(Debug)]
struct Counting(&'static dyn SignatureVerificationAlgorithm);

impl SignatureVerificationAlgorithm for Counting {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        VERIFIED.set(VERIFIED.get() + 1);
        self.0.verify_signature(key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.0.signature_alg_id()
    }
}

#[test]
fn many_records_cost_no_more_signatures_than_one() {
    let mut counting = CryptoProvider::clone(&provider());
    let all = counting.signature_verification_algorithms.all.iter();
    let all = all.map(|one| &*Box::leak(Box::new(Counting(*one))) as &dyn SignatureVerificationAlgorithm).collect();
    counting.signature_verification_algorithms.all = Box::leak(Vec::into_boxed_slice(all));
    let world = World::new();
    let roots = TrustRoots::new(vec![world.root.clone()]).unwrap();
    let verifier = Verifier::new(&roots, Arc::new(counting)).unwrap();
    let cost = |records: &[Tlsa]| {
        VERIFIED.set(0);
        // The chain holds, but for the name.
        world.try_as(&verifier, records, &[&world.middle, &world.root], "else.test", GOOD).unwrap_err();
        VERIFIED.get()
    };
    for (usage, certificate) in [(0, &world.middle), (1, &world.own), (2, &world.middle)] {
        let record = Tlsa::new(usage, 0, 0, certificate.to_vec()).unwrap();
        let one = cost(core::slice::from_ref(&record));
        assert!(one > 0, "{usage}");
        assert_eq!(cost(&vec![record; MAX_RECORDS]), one, "{usage}");
    }
}
