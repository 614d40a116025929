//! A zone as a file, for operators whose own DNS server signs and serves it.

use core::fmt::Write as _;

use rand_core::Rng;

use super::{
    loader::Pool,
    name::WireName,
    record::FIXED,
    targets::{Candidates, fitting},
    zone::{Record, ZoneSettings, plain_records},
};
use crate::directory::{MAX_DRAW, Problem};

/// Octets of a signature by somebody else's key, which may be RSA of 2048 bits.
const OTHER_SIGNATURE: usize = 18 + 256;

/// The service records to publish where they stay until the next time: as many as a signed answer by UDP can hold, at
/// most [`MAX_DRAW`], drawn by weight each time anew. Members that are for some clients only are left out, as long as there are others.
///
/// # Errors
///
/// [`Problem`] if the name of the zone is too long to have any.
pub fn service_records(
    settings: &ZoneSettings,
    candidates: &Candidates,
    random: &mut impl Rng,
) -> Result<Vec<Record>, Problem> {
    let too_long = || Problem::whole(&settings.members, format!("zone {}: its name is too long", settings.name));
    let owner: WireName = settings.service().ok_or_else(too_long)?;
    let targets = candidates.draw_for_all(MAX_DRAW, random);
    let targets = fitting(&owner, FIXED + OTHER_SIGNATURE + settings.origin().wire_len(), targets);
    Ok(targets.into_iter().map(|data| Record { owner: owner.clone(), ttl: settings.ttl, data }).collect())
}

/// A zone file without signatures.
///
/// # Errors
///
/// [`Problem`] if a member cannot be in the zone, or the zone has no name server.
pub fn export(settings: &ZoneSettings, pool: &Pool, now: u64, random: &mut impl Rng) -> Result<String, Problem> {
    if settings.name_servers.is_empty() {
        let accepted = "accepted: such as name-servers = [{ name = \"ns1.example\" }]";
        let what = format!("zone {} has no name-servers; {accepted}", settings.name);
        return Err(Problem::whole(&settings.members, what));
    }
    let serial = u32::try_from(now & u64::from(u32::MAX)).unwrap_or(0);
    let mut records = plain_records(settings, pool.directory(), serial)?;
    records.extend(service_records(settings, &pool.candidates(now), random)?);
    let mut text = String::new();
    for Record { owner, ttl, data } in records {
        // Writing to a string does not fail.
        let _: Result<(), _> = writeln!(text, "{owner}\t{ttl}\tIN\t{data}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use core::str::FromStr as _;

    use chacha20::ChaCha12Rng;
    use hickory_proto::{rr::Name, serialize::txt::Parser};
    use rand_core::SeedableRng as _;

    use super::*;
    use crate::publish::config::Config;

    #[test]
    fn the_file_is_read_by_others_and_its_targets_change() {
        let folder = tempfile::tempdir().unwrap();
        let member = |n: usize| format!("[[member]]\nname = \"ntp{n}.some-organisation.example\"\n");
        let own = "[[member]]\nname = \"ke1.time.example\"\naddresses = [\"192.0.2.1\", \"2001:db8::1\"]\nweight = 60000\n\
                   tlsa = [\"3 1 1 abababababababababababababababababababababababababababababababab\"]\n";
        std::fs::write(folder.path().join("m"), own.to_owned() + &(0..100).map(member).collect::<String>()).unwrap();
        let text = "[[zone]]\nname = \"time.example\"\nmembers = \"m\"\naddresses = [\"192.0.2.80\"]\n\
                    name-servers = [{ name = \"ns1.time.example\", addresses = [\"192.0.2.53\"] }]\n";
        let config = Config::parse(&folder.path().join("c"), text).unwrap();
        let pool = Pool::open(&config.zones[0]).unwrap();
        let mut random = ChaCha12Rng::from_seed([1; 32]);
        let mut export = || export(&config.zones[0].settings, &pool, 1_800_000_000, &mut random).unwrap();
        let first = export();
        assert_ne!(first, export());
        let origin = Name::from_str("time.example.").unwrap();
        let (_, sets) = Parser::new(first.as_str(), None, Some(origin)).parse().unwrap();
        let count = |name: &str, kind: &str| {
            let set = sets.iter().find(|(key, _)| key.name.to_string() == name && key.record_type.to_string() == kind);
            set.map_or(0, |(_, set)| set.records_without_rrsigs().count())
        };
        for (name, kind) in [
            ("time.example.", "SOA"),
            ("time.example.", "NS"),
            ("time.example.", "A"),
            ("ns1.time.example.", "A"),
            ("ke1.time.example.", "AAAA"),
            ("_4460._tcp.ke1.time.example.", "TLSA"),
        ] {
            assert_eq!(count(name, kind), 1, "{name} {kind}: {first}");
        }
        let targets = count("_ntske._tcp.time.example.", "SRV");
        assert!((6..=MAX_DRAW).contains(&targets), "{first}");
        assert!(first.contains("ke1.time.example.\n"), "the heaviest is in: {first}");
    }

    #[test]
    fn members_for_some_clients_are_not_given_to_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let campus = "[[member]]\nname = \"campus.example\"\nprefixes = [\"198.51.100.0/24\"]\nweight = 60000\n";
        let text = "[[zone]]\nname = \"time.example\"\nmembers = \"m\"\n";
        let config = Config::parse(&folder.path().join("c"), text).unwrap();
        let targets = |members: &str| {
            std::fs::write(folder.path().join("m"), members).unwrap();
            let pool = Pool::open(&config.zones[0]).unwrap();
            let mut random = ChaCha12Rng::from_seed([1; 32]);
            let candidates = pool.candidates(1_800_000_000);
            let records = service_records(&config.zones[0].settings, &candidates, &mut random).unwrap();
            records.into_iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
        };
        let with_another = targets(&format!("{campus}[[member]]\nname = \"open.example\"\n"));
        assert!(with_another.len() == 1 && with_another[0].ends_with("open.example."), "{with_another:?}");
        assert_eq!(targets(campus).len(), 1, "an empty set could not be published");
    }
}
