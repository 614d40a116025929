//! The way from a server's certificate to a root, and what it says of the time.

use core::cell::RefCell;

use ntp_proto::bootstrap::Window;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::cert_time::Validity;

/// What a server shows, to be verified at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presented<'a> {
    pub(crate) end_entity: &'a CertificateDer<'a>,
    pub(crate) intermediates: &'a [CertificateDer<'a>],
    pub(crate) name: &'a ServerName<'a>,
    pub(crate) now: UnixTime,
}

/// A verified way to a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// When all its certificates are valid.
    pub(crate) window: Window,
    /// `notBefore` of each.
    pub(crate) signed: Vec<i64>,
    /// It leads to a root that the administrator named.
    pub(crate) pinned: bool,
}

/// Of the ways that are valid now and meant, that which is valid longest. Authorities that change keys or roots let servers
/// send several, and the library would be content with the first. `None` if there is none.
///
/// The name is not looked at. The library bounds how many signatures and ways are tried.
pub(crate) fn longest(
    presented: Presented<'_>,
    provider: &CryptoProvider,
    anchors: &[TrustAnchor<'_>],
    is_meant: &dyn Fn(&VerifiedPath<'_>) -> bool,
    is_pinned: &dyn Fn(&TrustAnchor<'_>) -> bool,
) -> Option<Path> {
    let end_entity = EndEntityCert::try_from(presented.end_entity).ok()?;
    let best: RefCell<Option<Path>> = RefCell::new(None);
    let look = |verified: &VerifiedPath<'_>| {
        if is_meant(verified)
            && let Some(path) = read(presented.end_entity, verified, is_pinned)
        {
            let mut best = best.borrow_mut();
            if best.as_ref().is_none_or(|best| best.window.not_after < path.window.not_after) {
                *best = Some(path);
            }
        }
        // Says that it will not do, to be shown the next.
        Err(webpki::Error::UnknownIssuer)
    };
    let algorithms = provider.signature_verification_algorithms.all;
    let (usage, now) = (KeyUsage::server_auth(), presented.now);
    // Fails always, by intention.
    let _ = end_entity.verify_for_usage(algorithms, anchors, presented.intermediates, now, usage, None, Some(&look));
    best.into_inner()
}

fn read(
    end_entity: &CertificateDer<'_>,
    verified: &VerifiedPath<'_>,
    is_pinned: &dyn Fn(&TrustAnchor<'_>) -> bool,
) -> Option<Path> {
    let own = Validity::of(end_entity)?.window();
    let mut path = Path { window: own, signed: vec![own.not_before], pinned: is_pinned(verified.anchor()) };
    for certificate in verified.intermediate_certificates() {
        let one = Validity::of(&certificate.der())?.window();
        path.window = path.window.and(&one);
        path.signed.push(one.not_before);
    }
    Some(path)
}
