//! Updates of a zone on somebody else's server (RFC 2136), signed with a key shared with it (RFC 8945).

use core::{fmt, time::Duration};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode, UpdateMessage as _},
    rr::{DNSClass, Name, RData, Record as Sent, RecordType, rdata::NULL},
};
use rand_core::Rng;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    config::{PublishSettings, ZoneConfig},
    export::service_records,
    loader::{Pool, remark},
    name::WireName,
    now,
    published::Published,
    record::kind,
    targets::Candidates,
    zone::{Record, member_records},
};
use crate::{
    directory::{Directory, Member, Problem},
    tsig::{Verifier, refusal},
};

/// Most records in one message.
const MAX_RECORDS: usize = 400;

/// How long the server is believed to have what it was sent: then all of it is sent again, changed or not.
const BELIEVED: Duration = Duration::from_secs(3_600);

/// How long a server may take for one update.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often an update is tried when the server does not answer, and the pause after the first time.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Why an update did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// The server cannot be reached, or does not answer: it can be tried again.
    Unreachable(String),
    /// The server refuses.
    Refused(String),
    /// The answer is not the server's, or is no answer.
    Untrusted(String),
    /// We cannot say what we want.
    Ours(String),
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the server cannot be reached or does not do it now: {why}"),
            Self::Refused(why) => write!(f, "the server refuses: {why}"),
            Self::Untrusted(why) => write!(f, "the answer cannot be trusted: {why}"),
            Self::Ours(why) => write!(f, "no update can be made: {why}"),
        }
    }
}

impl core::error::Error for UpdateError {}

/// The owner and type of a set of records.
pub(super) type SetKey = (WireName, u16);

/// Sets by owner and type: each replaces what the server has, an empty one takes it away.
pub(super) type Sets = BTreeMap<SetKey, Vec<Record>>;

/// What a zone's sets should be; those in `before` that should be no more are empty.
pub(super) fn sets(records: Vec<Record>, before: &BTreeSet<SetKey>) -> Sets {
    let mut sets: Sets = before.iter().map(|key| (key.clone(), Vec::new())).collect();
    for record in records {
        sets.entry((record.owner.clone(), record.data.kind())).or_default().push(record);
    }
    sets
}

/// The sets that are not as they were sent before.
fn changed(sets: &Sets, before: &Sets) -> Sets {
    let is_new = |(key, records): &(&SetKey, &Vec<Record>)| before.get(*key) != Some(*records);
    sets.iter().filter(is_new).map(|(key, records)| (key.clone(), records.clone())).collect()
}

fn name(name: &WireName) -> Result<Name, UpdateError> {
    Name::from_ascii(name.to_string()).map_err(|error| UpdateError::Ours(format!("{name}: {error}")))
}

/// Messages that replace sets, each set within one message, so that no reader sees half of it. First comes what service
/// records lead to, then these, then what they lead to no more is taken away. The mark of the list comes last: as long as not
/// all of the list is there, it has the mark of another.
pub(super) fn messages(zone: &WireName, sets: &Sets, random: &mut impl Rng) -> Result<Vec<Message>, UpdateError> {
    let mut messages: Vec<Message> = Vec::new();
    let mut ordered: Vec<_> = sets.iter().collect();
    ordered.sort_by_key(|((_, kind), records)| (*kind == kind::TXT, records.is_empty(), *kind == kind::SRV));
    for ((owner, kind), records) in ordered {
        let room = |message: &Message| message.updates().len().saturating_add(records.len()) < MAX_RECORDS;
        if !messages.last().is_some_and(room) {
            let id = u16::try_from(random.next_u64() & 0xffff).unwrap_or(0);
            let mut message = Message::new(id, MessageType::Query, OpCode::Update);
            let mut query = Query::query(name(zone)?, RecordType::SOA);
            query.set_query_class(DNSClass::IN);
            message.add_zone(query);
            messages.push(message);
        }
        let Some(message) = messages.last_mut() else { continue };
        // RFC 2136 section 2.5.2: delete a set.
        let mut delete = Sent::update0(name(owner)?, 0, RecordType::from(*kind));
        delete.dns_class = DNSClass::ANY;
        message.add_update(delete);
        for record in records {
            let code = RecordType::from(*kind);
            let data = RData::Unknown { code, rdata: NULL::with(record.data.to_wire()) };
            message.add_update(Sent::from_rdata(name(owner)?, record.ttl, data));
        }
    }
    Ok(messages)
}

/// Publishes one zone; remembers what it published, over restarts too, so that it can take it back.
#[derive(Debug)]
pub struct Publisher {
    config: ZoneConfig,
    publish: PublishSettings,
    pool: Pool,
    /// The last members that the zone can hold.
    directory: Arc<Directory>,
    published: Published,
    /// What the server has because of us, and since when that is believed.
    sent: Option<(Sets, Instant)>,
}

impl Publisher {
    /// A publisher for a zone; `None` if the configuration names no server for it.
    ///
    /// # Errors
    ///
    /// What is wrong with the members, or with the file of what was published before.
    pub fn new(config: &ZoneConfig, pool: Pool) -> Result<Option<Self>, Problem> {
        let Some(publish) = config.publish.clone() else { return Ok(None) };
        member_records(&config.settings, pool.directory())?;
        let published = Published::open(&publish.state, &config.settings.origin())?;
        remark(&config.settings, pool.directory());
        let directory = Arc::clone(pool.directory());
        Ok(Some(Self { config: config.clone(), publish, pool, directory, published, sent: None }))
    }

    /// Reads changed files again; the last members that can be published stay in force.
    ///
    /// # Errors
    ///
    /// What is wrong with the members' file.
    pub fn refresh(&mut self) -> Result<bool, Problem> {
        let changed = self.pool.refresh()?;
        if changed {
            member_records(&self.config.settings, self.pool.directory())?;
            remark(&self.config.settings, self.pool.directory());
            self.directory = Arc::clone(self.pool.directory());
        }
        Ok(changed)
    }

    /// The records that the zone is to have because of us.
    fn records(&self, now: u64, random: &mut impl Rng) -> Result<(Vec<Record>, usize), Problem> {
        let settings = &self.config.settings;
        let mut records = member_records(settings, &self.directory)?;
        let health = |member: &Member| self.pool.health(member, now);
        let targets = service_records(settings, &Candidates::new(&self.directory, health), random)?;
        let count = targets.len();
        records.extend(targets);
        Ok((records, count))
    }

    /// Brings the zone up to date; how many service records it has now.
    ///
    /// # Errors
    ///
    /// [`UpdateError`]; sets that were sent before it are published, and none by half.
    pub async fn publish(&mut self, random: &mut impl Rng) -> Result<usize, UpdateError> {
        let settings = &self.config.settings;
        let ours = |problem: Problem| UpdateError::Ours(problem.to_string());
        let (records, count) = self.records(now::unix(), random).map_err(ours)?;
        // What certificates are pinned to belongs to members whose names lie in the zone, as do their addresses.
        let sets = sets(records, self.published.sets());
        // Written before it is sent: who is stopped in between knows of too much, which does no harm.
        self.published.set(sets.keys().cloned().collect()).map_err(ours)?;
        let sent = self.sent.take().filter(|(_, since)| since.elapsed() < BELIEVED);
        let (before, since) = sent.unwrap_or_else(|| (Sets::new(), Instant::now()));
        for message in messages(&settings.origin(), &changed(&sets, &before), random)? {
            self.send(message).await?;
        }
        let present: Sets = sets.into_iter().filter(|(_, records)| !records.is_empty()).collect();
        self.published.set(present.keys().cloned().collect()).map_err(ours)?;
        self.sent = Some((present, since));
        Ok(count)
    }

    async fn send(&self, message: Message) -> Result<(), UpdateError> {
        let mut tries = 1;
        loop {
            match timeout(PATIENCE, self.exchange(message.clone())).await {
                Ok(Err(UpdateError::Unreachable(_))) | Err(_) if tries < TRIES => {
                    sleep(PAUSE * tries).await;
                    tries += 1;
                }
                Ok(result) => return result,
                Err(_) => {
                    return Err(UpdateError::Unreachable(format!("{}: within {PATIENCE:?}", self.publish.server)));
                }
            }
        }
    }

    async fn exchange(&self, message: Message) -> Result<(), UpdateError> {
        let PublishSettings { server, key, .. } = &self.publish;
        let ours = |error: String| UpdateError::Ours(error);
        let id = message.id;
        let (request, mut verifier) = Verifier::sign(key, message, now::unix()).map_err(ours)?;
        let length = u16::try_from(request.len()).map_err(|_| ours("too long".to_owned()))?;
        let broken = |error: std::io::Error| UpdateError::Unreachable(format!("{server}: {error}"));
        let mut stream = TcpStream::connect(server).await.map_err(broken)?;
        stream.write_all(&[&length.to_be_bytes(), request.as_slice()].concat()).await.map_err(broken)?;
        let length = stream.read_u16().await.map_err(broken)?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await.map_err(broken)?;
        let parsed = Message::from_vec(&answer).map_err(|error| UpdateError::Untrusted(error.to_string()))?;
        if parsed.id != id {
            return Err(UpdateError::Untrusted("it answers something else".to_owned()));
        }
        if parsed.response_code != ResponseCode::NoError {
            return Err(refused(&parsed, self.config.settings.name.as_str(), key.name.as_str()));
        }
        verifier.handle_message(&answer, parsed.signature().is_some()).map(drop).map_err(UpdateError::Untrusted)
    }
}

/// What a server's refusal means (RFC 2136 section 2.2), and where to look.
fn refused(answer: &Message, zone: &str, key: &str) -> UpdateError {
    let code = answer.response_code;
    if code == ResponseCode::ServFail {
        return UpdateError::Unreachable("SERVFAIL: its own log says why".to_owned());
    }
    UpdateError::Refused(if code == ResponseCode::NotZone {
        format!("NOTZONE: a name does not lie in {zone}")
    } else if code == ResponseCode::NotImp {
        "NOTIMP: it takes no updates".to_owned()
    } else {
        refusal(answer, key, &format!("update {zone}"))
    })
}

#[cfg(test)]
mod tests {
    use chacha20::ChaCha12Rng;
    use ntp_proto::pool;
    use rand_core::SeedableRng as _;

    use super::*;
    use crate::publish::{Data, config::Config};

    fn record(owner: &str, address: u32) -> Record {
        let owner = WireName::of(&pool::Name::parse(owner).unwrap());
        Record { owner, ttl: 60, data: Data::A(address.into()) }
    }

    #[test]
    fn sets_are_replaced_whole_and_gone_ones_taken_away() {
        let zone = WireName::of(&pool::Name::parse("time.example").unwrap());
        let mut random = ChaCha12Rng::from_seed([1; 32]);
        let first = sets(
            vec![record("a.time.example", 1), record("a.time.example", 2), record("b.time.example", 3)],
            &BTreeSet::new(),
        );
        let before = first.keys().cloned().collect();
        let second = sets(vec![record("b.time.example", 4)], &before);
        let [message] = &messages(&zone, &second, &mut random).unwrap()[..] else { panic!() };
        let seen = |message: &Message| -> Vec<_> {
            message.updates().iter().map(|u| (u.name.to_string(), u.dns_class, u.ttl)).collect()
        };
        // What service records lead to is there before them, and goes after them.
        let (a, b) = ("a.time.example.".to_owned(), "b.time.example.".to_owned());
        let gone = (a, DNSClass::ANY, 0);
        let replaced = [(b.clone(), DNSClass::ANY, 0), (b, DNSClass::IN, 60)];
        assert_eq!(seen(message), [&replaced[..], core::slice::from_ref(&gone)].concat());
        let owner = WireName::of(&pool::Name::parse("_ntske._tcp.time.example").unwrap());
        let data = Data::Srv { priority: 0, weight: 1, port: 4460, target: record("b.time.example", 0).owner };
        let service = Record { owner, ttl: 60, data };
        let third = sets(vec![service, record("b.time.example", 4)], &before);
        let [with_service] = &messages(&zone, &third, &mut random).unwrap()[..] else { panic!() };
        let owner = || "_ntske._tcp.time.example.".to_owned();
        let services = [(owner(), DNSClass::ANY, 0), (owner(), DNSClass::IN, 60)];
        assert_eq!(seen(with_service), [&replaced[..], &services, &[gone]].concat());
        assert_eq!(message.zones()[0].name().to_string(), "time.example.");
        // It is what a server reads.
        assert_eq!(Message::from_vec(&message.to_vec().unwrap()).unwrap().updates().len(), 3);
    }

    #[test]
    fn the_mark_of_a_list_comes_last_and_what_stays_is_not_sent_again() {
        let text = "[[zone]]\nname = \"time.example\"\nmembers = \"m\"\nlist = true\n";
        let settings = &Config::parse(std::path::Path::new("c"), text).unwrap().zones[0].settings;
        let members = |names: core::ops::Range<u32>| {
            let text: String = names.map(|n| format!("[[member]]\nname = \"m{n}.example\"\n")).collect();
            let directory = crate::directory::parse(std::path::Path::new("m"), &text).unwrap();
            member_records(settings, &directory).unwrap()
        };
        let before = sets(members(0..500), &BTreeSet::new());
        let after = sets(members(1..501), &before.keys().cloned().collect());
        let mut random = ChaCha12Rng::from_seed([1; 32]);
        for sent in [&before, &after, &changed(&after, &before)] {
            let messages = messages(&settings.origin(), sent, &mut random).unwrap();
            let owners = || messages.iter().flat_map(|message| message.updates().iter().map(|u| u.name.to_string()));
            assert_eq!(owners().position(|owner| owner == "_members.time.example."), Some(owners().count() - 2));
            assert_eq!(owners().last().unwrap(), "_members.time.example.");
        }
        let changed: Vec<_> = changed(&after, &before).into_keys().map(|(owner, _)| owner.to_string()).collect();
        let of = |name: &str| format!("{name}_members.time.example.");
        assert_eq!(changed, [of("m0.example."), of("m500.example."), of("")]);
    }

    /// A server that takes every update, and passes on how many changes each has.
    async fn takes_updates(
        listener: tokio::net::TcpListener,
        key: crate::tsig::TsigKey,
        seen: &std::cell::Cell<usize>,
    ) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut request).await.unwrap();
            let update = Message::from_vec(&request).unwrap();
            seen.set(seen.get() + update.updates().len());
            let keys = core::slice::from_ref(&key);
            let mut responder = crate::tsig::Responder::new(&request, update.signature().unwrap(), keys, now::unix());
            let mut answer = [&request[..2], &[0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
            responder.sign(&mut answer);
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length, answer.as_slice()].concat()).await.unwrap();
        }
    }

    #[test]
    fn what_was_sent_is_believed_for_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        let members: String = (0..9).map(|n| format!("[[member]]\nname = \"m{n}.example\"\n")).collect();
        crate::publish::private(&folder.path().join("m"), &members);
        let secret = "key \"u\" { algorithm hmac-sha256; secret \"AAECAwQFBgcICQoLDA0ODw==\"; };";
        crate::publish::private(&folder.path().join("tsig"), secret);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let text = format!(
                "[[zone]]\nname = \"time.example\"\nmembers = \"m\"\nlist = true\n[zone.publish]\nserver = \"{}\"\n\
                 tsig-key = \"tsig\"\nstate = \"state\"\n",
                listener.local_addr().unwrap()
            );
            let config = &Config::parse(&folder.path().join("c"), &text).unwrap().zones[0];
            let mut publisher = Publisher::new(config, Pool::open(config).unwrap()).unwrap().unwrap();
            let seen = std::cell::Cell::new(0);
            let mut random = ChaCha12Rng::from_seed([1; 32]);
            let counting = async {
                // Nine of the list, the mark, and the service records: the set that was there goes before each.
                let all = 9 * 2 + 2 + 1 + 9;
                for (after, wanted) in [(0, all), (60, all - 20), (3_539, all - 20), (1, all), (60, all - 20)] {
                    tokio::time::pause();
                    tokio::time::advance(Duration::from_secs(after)).await;
                    tokio::time::resume();
                    publisher.publish(&mut random).await.unwrap();
                    // Service records are drawn each time, and seldom in the same order.
                    let sent = seen.replace(0);
                    assert!(sent == wanted || (wanted != all && sent == 0), "{sent} and not {wanted}");
                }
            };
            tokio::select! {
                () = counting => {}
                () = takes_updates(listener, config.publish.as_ref().unwrap().key.clone(), &seen) => unreachable!(),
            }
        });
    }

    #[test]
    fn members_that_cannot_be_published_leave_the_last_that_can() {
        let folder = tempfile::tempdir().unwrap();
        let write = |members: &str| {
            std::fs::write(folder.path().join("new"), members).unwrap();
            std::fs::rename(folder.path().join("new"), folder.path().join("m")).unwrap();
        };
        let secret = "key \"u\" { algorithm hmac-sha256; secret \"AAECAwQFBgcICQoLDA0ODw==\"; };";
        crate::publish::private(&folder.path().join("tsig"), secret);
        let text = "[[zone]]\nname = \"time.example\"\nmembers = \"m\"\n\
                    [zone.publish]\nserver = \"192.0.2.1\"\ntsig-key = \"tsig\"\n";
        let config = Config::parse(&folder.path().join("c"), text).unwrap();
        let own = |name: &str, more: &str| format!("[[member]]\nname = \"{name}.time.example\"\n{more}");
        let with = "addresses = [\"192.0.2.1\"]\n";
        write(&own("a", with));
        let pool = Pool::open(&config.zones[0]).unwrap();
        let mut publisher = Publisher::new(&config.zones[0], pool).unwrap().unwrap();
        let mut random = ChaCha12Rng::from_seed([1; 32]);
        let mut names = |publisher: &Publisher| {
            let (records, targets) = publisher.records(1_800_000_000, &mut random).unwrap();
            (records.iter().filter(|record| record.data.kind() == kind::A).count(), targets)
        };
        assert_eq!(names(&publisher), (1, 1));
        write(&(own("a", with) + &own("b", "")));
        let told = publisher.refresh().unwrap_err().to_string();
        assert!(told.contains("m:5:1: member b.time.example lies in the zone"), "{told}");
        assert_eq!(names(&publisher), (1, 1), "what can be published goes on, members' health included");
        assert!(!publisher.refresh().unwrap(), "it is told once");
        write(&(own("a", with) + &own("b", with)));
        assert!(publisher.refresh().unwrap());
        assert_eq!(names(&publisher), (2, 2));
    }

    #[test]
    fn many_sets_go_in_several_messages() {
        let zone = WireName::of(&pool::Name::parse("time.example").unwrap());
        let records = (0..1_000).map(|n| record(&format!("m{n}.time.example"), n)).collect();
        let sets = sets(records, &BTreeSet::new());
        let messages = messages(&zone, &sets, &mut ChaCha12Rng::from_seed([1; 32])).unwrap();
        assert!(messages.len() > 1 && messages.iter().all(|message| message.updates().len() <= MAX_RECORDS));
        assert_eq!(messages.iter().map(|message| message.updates().len()).sum::<usize>(), 2_000);
    }
}
