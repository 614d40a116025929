//! What vouches for a key-exchange server, before it is even connected to.

use ntp_proto::{ids::Trust, pool::KeyExchange};

use super::Cause;
use crate::{config::Require, resolve::TlsaAnswer};

/// What will vouch for the server if its certificate is accepted, or why it is not even to be tried.
pub(super) fn of(question: &KeyExchange, tlsa: &TlsaAnswer, require: Require) -> Result<Trust, Cause> {
    if let TlsaAnswer::Bogus(why) = tlsa {
        return Err(Cause::Forged(why.clone()));
    }
    let trust = if !tlsa.records().is_empty() {
        Trust::Dane
    } else if question.validated || tlsa.is_signed() {
        Trust::Dnssec
    } else {
        Trust::Pki
    };
    match require.missing(trust) {
        Some(word) => Err(Cause::Missing(word, instead(tlsa))),
        None => Ok(trust),
    }
}

fn instead(tlsa: &TlsaAnswer) -> String {
    match tlsa {
        TlsaAnswer::Secure { unusable, .. } => match unusable.first() {
            Some(why) => format!("none of its {} TLSA records can be used: {why}", unusable.len()),
            None => "it has no TLSA records".to_owned(),
        },
        TlsaAnswer::Absent => "it has no TLSA records".to_owned(),
        TlsaAnswer::Insecure => "its name is not signed".to_owned(),
        TlsaAnswer::Bogus(why) | TlsaAnswer::Unknown(why) => format!("nothing is known of that: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use ntp_proto::pool::Name;
    use nts_ke::dane::{Tlsa, Unusable};

    use super::*;

    #[test]
    fn each_requirement_is_met_or_named() {
        let record = Tlsa::new(3, 1, 1, vec![0; 32]).unwrap();
        let records = TlsaAnswer::Secure { records: vec![record], unusable: vec![], signatures: None };
        let useless = TlsaAnswer::Secure { records: vec![], unusable: vec![Unusable::Data], signatures: None };
        let unknown = TlsaAnswer::Unknown("no answer in 4 s".to_owned());
        let (none, dnssec) = (Require::default(), Require { dnssec: true, dane: false });
        let (dane, both) = (Require { dnssec: false, dane: true }, Require { dnssec: true, dane: true });
        let ask = |validated, tlsa: &TlsaAnswer, require| {
            let server = Name::parse("ke.test").unwrap();
            let question = KeyExchange { server, port: 4460, addresses: None, validated, denied: vec![] };
            match of(&question, tlsa, require) {
                Ok(trust) => trust.name().to_owned(),
                Err(Cause::Missing(word, instead)) => format!("{word}: {instead}"),
                Err(Cause::Forged(why)) => format!("forged: {why}"),
                Err(other) => panic!("{other:?}"),
            }
        };
        for validated in [false, true] {
            for require in [none, dnssec, dane, both] {
                assert_eq!(ask(validated, &records, require), "dane");
                let bogus = TlsaAnswer::Bogus("x".to_owned());
                assert_eq!(ask(validated, &bogus, require), "forged: x");
            }
            for (tlsa, dnssec_there, instead) in [
                (&TlsaAnswer::Absent, true, "it has no TLSA records"),
                (
                    &useless,
                    true,
                    "none of its 1 TLSA records can be used: its data is not what its matching type asks for",
                ),
                (&TlsaAnswer::Insecure, validated, "its name is not signed"),
                (&unknown, validated, "nothing is known of that: no answer in 4 s"),
            ] {
                let found = if dnssec_there { "dnssec" } else { "pki" };
                assert_eq!(ask(validated, tlsa, none), found);
                let missing = |word| format!("{word}: {instead}");
                assert_eq!(
                    ask(validated, tlsa, dnssec),
                    if dnssec_there { found.to_owned() } else { missing("dnssec") }
                );
                assert_eq!(ask(validated, tlsa, dane), missing("dane"));
                assert_eq!(ask(validated, tlsa, both), missing(if dnssec_there { "dane" } else { "dnssec" }));
            }
        }
    }
}
