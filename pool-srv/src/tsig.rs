//! Transaction signatures (RFC 8945), and their keys in the file format that `tsig-keygen` and `nsupdate -k` share.

use core::fmt;
use std::path::Path;

use data_encoding::BASE64;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        self, TSigner,
        rdata::{
            TSIG,
            tsig::{TsigAlgorithm, TsigError, signed_bitmessage_to_buf},
        },
    },
};
use ntp_proto::pool::Name;
use zeroize::Zeroizing;

use crate::directory::{Problem, read_secret};

/// Longest secret, as long as what the hash takes at once.
const MAX_SECRET: usize = 64;

/// The one algorithm: all servers know it (RFC 8945 section 6 requires it).
const ALGORITHM: &str = "hmac-sha256";

/// Octets of its signatures.
const MAC: usize = 32;

/// Seconds that clocks may differ (RFC 8945 section 10).
pub(crate) const FUDGE: u16 = 300;

/// A secret that is shared with a server.
#[derive(Clone, PartialEq, Eq)]
pub struct TsigKey {
    /// What the server calls it.
    pub name: Name,
    secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TsigKey({})", self.name)
    }
}

impl TsigKey {
    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// [`Problem`] with what is accepted.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        let text = read_secret(path)?;
        Self::parse(&text).map_err(|what| Problem::whole(path, what))
    }

    /// Takes a key from the text `key "NAME" { algorithm hmac-sha256; secret "BASE64"; };`.
    ///
    /// # Errors
    ///
    /// What is wrong and what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let accepted = "accepted: key \"NAME\" { algorithm hmac-sha256; secret \"BASE64\"; }; as tsig-keygen prints it";
        let lines = text.lines().map(|line| line.split(['#']).next().unwrap_or_default());
        let lines = lines.map(|line| line.split("//").next().filter(|_| !line.contains("secret")).unwrap_or(line));
        let joined = Zeroizing::new(lines.collect::<Vec<_>>().join(" "));
        let spaced = Zeroizing::new(joined.replace('{', " { ").replace('}', " } ").replace(';', " ; "));
        let words: Vec<&str> = spaced.split_ascii_whitespace().map(|word| word.trim_matches('"')).collect();
        let ["key", name, "{", settings @ ..] = words.as_slice() else {
            return Err(format!("no key; {accepted}"));
        };
        let name = Name::parse(name).map_err(|error| format!("name of the key: {error}"))?;
        let value = |key: &str| {
            settings.windows(3).find(|w| w.first() == Some(&key) && w.get(2) == Some(&";"))?.get(1).copied()
        };
        if !value("algorithm").is_some_and(|algorithm| algorithm.eq_ignore_ascii_case(ALGORITHM)) {
            return Err(format!("no algorithm {ALGORITHM}; {accepted}"));
        }
        let secret = value("secret").and_then(|text| BASE64.decode(text.as_bytes()).ok()).map(Zeroizing::new);
        let secret = secret.filter(|secret| (16..=MAX_SECRET).contains(&secret.len()));
        let secret = secret.ok_or_else(|| format!("no secret of 16 to {MAX_SECRET} octets in Base64; {accepted}"))?;
        Ok(Self { name, secret })
    }

    /// What signs messages with it.
    ///
    /// # Errors
    ///
    /// A text, if the name cannot be one of DNS.
    fn signer(&self) -> Result<TSigner, String> {
        let name = rr::Name::from_ascii(self.name.as_str()).map_err(|error| error.to_string())?;
        let signer = TSigner::new(self.secret.to_vec(), TsigAlgorithm::HmacSha256, name, FUDGE);
        signer.map_err(|error| error.to_string())
    }
}

/// What a server's refusal means (RFC 8945 section 5.3), and where to look. `wish` is what it was asked for, such as `update`
/// and a zone.
pub(crate) fn refusal(answer: &Message, key: &str, wish: &str) -> String {
    let error = answer.signature().and_then(|record| record.data.error);
    match (error, answer.response_code) {
        (Some(TsigError::BadKey), _) => {
            format!("BADKEY: it has no key {key} with hmac-sha256, or whoever has it must not {wish}")
        }
        (Some(TsigError::BadSig), _) => format!("BADSIG: its secret of key {key} is another"),
        (Some(TsigError::BadTime), _) => format!("BADTIME: its clock and ours differ by more than {FUDGE} s"),
        (_, ResponseCode::NotAuth) => {
            format!("NOTAUTH: it is not the server to {wish} at, or does not know key {key}")
        }
        (_, ResponseCode::Refused) => format!("REFUSED: whoever has key {key} must not {wish} there"),
        (_, code) => code.to_string(),
    }
}

/// Most messages in a row that only a later one signs (RFC 8945 section 5.3.1).
const MAX_UNSIGNED: usize = 99;

/// Whether an answer is that of the server we asked: all its messages, in their order.
pub(crate) struct Verifier {
    signer: TSigner,
    now: u64,
    /// The signature before: that of the request at first.
    mac: Vec<u8>,
    /// Messages that the next signature has to cover.
    unsigned: Vec<u8>,
    unsigned_count: usize,
    is_first: bool,
}

impl Verifier {
    /// Signs a request at a time in seconds since 1970: its octets, and what its answer is judged by.
    ///
    /// # Errors
    ///
    /// A text, if the message or the key cannot be written.
    pub(crate) fn sign(key: &TsigKey, mut message: Message, now: u64) -> Result<(Vec<u8>, Self), String> {
        let signer = key.signer()?;
        message.finalize(&signer, now).map_err(|error| error.to_string())?;
        let mac = message.signature().map(|record| record.data.mac.clone()).ok_or("the request is not signed")?;
        let request = message.to_vec().map_err(|error| error.to_string())?;
        let verifier = Self { signer, now, mac, unsigned: Vec::new(), unsigned_count: 0, is_first: true };
        Ok((request, verifier))
    }

    /// Takes the next message, which could be read to its end; whether all until here are the server's. A message without a
    /// signature waits for that of a later one.
    ///
    /// # Errors
    ///
    /// What is wrong with the signature, or that there are too few.
    pub(crate) fn handle_message(&mut self, bytes: &[u8], is_signed: bool) -> Result<bool, String> {
        if !is_signed {
            self.unsigned_count = self.unsigned_count.saturating_add(1);
            // RFC 8945 section 5.3.1: the first message is always signed.
            if self.is_first || self.unsigned_count > MAX_UNSIGNED {
                return Err("it is not signed".to_owned());
            }
            self.unsigned.extend(bytes);
            return Ok(false);
        }
        let (signed, record) =
            signed_bitmessage_to_buf(bytes, None, self.is_first).map_err(|error| error.to_string())?;
        let tsig = record.data;
        if record.name != *self.signer.signer_name() || tsig.algorithm != *self.signer.algorithm() {
            return Err("it is signed with another key".to_owned());
        }
        let covered = [&prefixed(&self.mac), self.unsigned.as_slice(), &signed].concat();
        self.signer.verify(&covered, &tsig.mac).map_err(|_| match tsig.mac.len() {
            MAC => "its signature is wrong".to_owned(),
            length => format!("its signature has {length} octets; accepted: {MAC}, not truncated"),
        })?;
        if tsig.time.abs_diff(self.now) > tsig.fudge.into() {
            return Err(format!("its clock and ours differ by more than {} s", tsig.fudge));
        }
        self.mac = tsig.mac;
        self.unsigned.clear();
        self.unsigned_count = 0;
        self.is_first = false;
        Ok(true)
    }
}

/// A signature as it stands in front of what follows it (RFC 8945 section 5.3).
fn prefixed(mac: &[u8]) -> Vec<u8> {
    let length = u16::try_from(mac.len()).unwrap_or(0).to_be_bytes();
    [&length, mac].concat()
}

/// Codes for what is wrong with a request's signature (RFC 8945 section 3).
const BAD_SIG: u16 = 16;
const BAD_KEY: u16 = 17;
const BAD_TIME: u16 = 18;

/// Signs the messages of an answer to a signed request.
pub(crate) struct Responder {
    /// Nothing if the request shows no key of ours: its answer says that, unsigned.
    signer: Option<TSigner>,
    key: Name,
    id: u16,
    now: u64,
    /// What is told as the time of the signature, and how far it may be off.
    timers: (u64, u16),
    /// The signature before: that of the request at first.
    mac: Vec<u8>,
    is_first: bool,
    error: u16,
}

impl Responder {
    /// Takes a request with its signature, and the keys of which it should show one, at a time in seconds since 1970. `bytes`
    /// could be read to their end, with this signature.
    pub(crate) fn new(bytes: &[u8], shown: &rr::Record<TSIG>, keys: &[TsigKey], now: u64) -> Self {
        let name = Name::parse(shown.name.to_ascii().trim_end_matches('.'));
        let key = keys.iter().find(|key| name.as_ref() == Ok(&key.name));
        let signer = key.and_then(|key| key.signer().ok());
        let signer = signer.filter(|signer| shown.data.algorithm == *signer.algorithm());
        let key = name.unwrap_or_else(|_| Name::parse("unknown").unwrap_or_else(|_| unreachable!("a name")));
        let mac = shown.data.mac.clone();
        let verified = signer.as_ref().is_some_and(|signer| {
            let covered = signed_bitmessage_to_buf(bytes, None, true);
            covered.is_ok_and(|(covered, _)| signer.verify(&covered, &mac).is_ok())
        });
        let error = match (&signer, verified) {
            (None, _) => BAD_KEY,
            (Some(_), false) => BAD_SIG,
            (Some(_), true) if shown.data.time.abs_diff(now) > shown.data.fudge.into() => BAD_TIME,
            (Some(_), true) => 0,
        };
        // RFC 8945 section 5.3.2: an error of the key or the signature is told unsigned.
        let signer = signer.filter(|_| verified);
        // RFC 8945 section 5.2.3: whose clock is wrong is told its own time and fudge, so that it can verify what it is told.
        let timers = if error == BAD_TIME { (shown.data.time, shown.data.fudge) } else { (now, FUDGE) };
        Self { signer, key, id: shown.data.oid, now, timers, mac, is_first: true, error }
    }

    /// Whether the request is the key holder's.
    pub(crate) fn is_good(&self) -> bool {
        self.error == 0
    }

    /// Adds the signature to a message without additional records.
    pub(crate) fn sign(&mut self, message: &mut Vec<u8>) {
        let [now, time] = [self.now, self.timers.0].map(u64::to_be_bytes);
        let timers = [time.get(2..).unwrap_or_default(), &self.timers.1.to_be_bytes()].concat();
        // The same section: and ours besides.
        let other = if self.error == BAD_TIME { now.get(2..).unwrap_or_default() } else { &[] };
        let other_len = u16::try_from(other.len()).unwrap_or(0).to_be_bytes();
        let (name, algorithm) = (wire(self.key.as_str()), wire(ALGORITHM));
        let (class, ttl, error) = (255_u16.to_be_bytes(), [0; 4], self.error.to_be_bytes());
        let variables = if self.is_first {
            [&name, &class[..], &ttl, &algorithm, &timers, &error, &other_len, other].concat()
        } else {
            timers.clone()
        };
        let covered = [prefixed(&self.mac).as_slice(), message, &variables].concat();
        let mac = self.signer.as_ref().and_then(|signer| signer.sign(&covered).ok()).unwrap_or_default();
        let id = self.id.to_be_bytes();
        let data = [&algorithm, &timers[..], &prefixed(&mac), &id, &error, &other_len, other].concat();
        let length = u16::try_from(data.len()).unwrap_or(0).to_be_bytes();
        message.extend([&name, &TSIG_KIND.to_be_bytes()[..], &class, &ttl, &length, &data].concat());
        if let Some(count) = message.get_mut(11) {
            *count = 1;
        }
        self.mac = mac;
        self.is_first = false;
    }
}

/// The record type of signatures.
const TSIG_KIND: u16 = 250;

/// A name in wire form; ours have lower case and no long labels.
fn wire(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap_or(0)], label.as_bytes()].concat();
    name.split('.').flat_map(label).chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_read_as_tools_write_them() {
        let text = "# made by tsig-keygen\nkey \"Update.Example\" {\n\talgorithm hmac-sha256;\n\tsecret \"AAECAwQFBgcICQoLDA0ODw==\";\n};\n";
        let key = TsigKey::parse(text).unwrap();
        assert_eq!((key.name.as_str(), &key.secret[..]), ("update.example", &(0..16).collect::<Vec<u8>>()[..]));
        assert!(!format!("{key:?}").contains("AAEC"));
        let one_line = "key u{algorithm HMAC-SHA256;secret AAECAwQFBgcICQoLDA0O//==;};";
        assert!(TsigKey::parse(one_line).unwrap_err().contains("no secret"));
        let one_line = "key u{algorithm HMAC-SHA256;secret AA//AwQFBgcICQoLDA0ODw==;};";
        assert_eq!(TsigKey::parse(one_line).unwrap().secret.len(), 16);
    }

    const NOW: u64 = 1_800_000_000;

    fn key(name: &str, secret: &str) -> TsigKey {
        TsigKey::parse(&format!("key {name} {{ algorithm hmac-sha256; secret {secret}; }};")).unwrap()
    }

    fn ours() -> TsigKey {
        key("lists.example", "AAECAwQFBgcICQoLDA0ODw==")
    }

    fn asked(key: &TsigKey, now: u64) -> (Vec<u8>, Verifier) {
        let mut message = Message::new(7, hickory_proto::op::MessageType::Query, hickory_proto::op::OpCode::Query);
        let zone = rr::Name::from_ascii("time.example.").unwrap();
        message.add_query(hickory_proto::op::Query::query(zone, rr::RecordType::AXFR));
        Verifier::sign(key, message, now).unwrap()
    }

    fn responder(request: &[u8], key: &TsigKey) -> Responder {
        let message = Message::from_vec(request).unwrap();
        Responder::new(request, message.signature().unwrap(), core::slice::from_ref(key), NOW)
    }

    /// A message that says nothing but a number, as its code.
    fn bare(number: u8) -> Vec<u8> {
        vec![0, 7, 0x84, number % 8, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    fn signed(responder: &mut Responder, number: u8) -> Vec<u8> {
        let mut message = bare(number);
        responder.sign(&mut message);
        message
    }

    #[test]
    fn messages_in_their_order_are_the_servers_and_nothing_else() {
        let (request, mut verifier) = asked(&ours(), NOW);
        let mut responder = responder(&request, &ours());
        assert!(responder.is_good());
        let [first, second, third] = [1, 2, 3].map(|number| signed(&mut responder, number));
        assert!(Message::from_vec(&first).unwrap().signature().is_some());
        for message in [&first, &second, &third] {
            assert_eq!(verifier.handle_message(message, true), Ok(true));
        }
        let fails = |messages: &[&[u8]]| {
            let (_, mut verifier) = asked(&ours(), NOW);
            messages.iter().any(|message| {
                let signed = Message::from_vec(message).is_ok_and(|message| message.signature().is_some());
                verifier.handle_message(message, signed).is_err()
            })
        };
        assert!(!fails(&[&first, &second]));
        assert!(fails(&[&second]) && fails(&[&first, &third]) && fails(&[&first, &first]), "others' places");
        assert!(fails(&[&bare(1)]), "the first must be signed");
        let is_taken = |at: &usize| {
            let mut message = first.clone();
            message[*at] ^= 1;
            !fails(&[&message])
        };
        // The number may be another on the way; class and time to live of a signature say nothing, and are taken as they must be.
        let behind_type = 12 + wire("lists.example").len() + 2;
        let wanted: Vec<usize> = (0..2).chain(behind_type..behind_type + 6).collect();
        assert_eq!((0..first.len()).filter(is_taken).collect::<Vec<_>>(), wanted);
        // Another request's answer, and one of another time.
        let (other, _) = asked(&ours(), NOW + 1);
        assert!(fails(&[&signed(&mut self::responder(&other, &ours()), 1)]));
        let (_, mut late) = asked(&ours(), NOW);
        late.now += 301;
        assert!(late.handle_message(&first, true).unwrap_err().contains("more than 300 s"));
    }

    #[test]
    fn a_signature_covers_messages_before_it_that_have_none() {
        for (count, wanted) in [(1, true), (99, true), (100, false)] {
            let (request, mut verifier) = asked(&ours(), NOW);
            let mut responder = responder(&request, &ours());
            verifier.handle_message(&signed(&mut responder, 1), true).unwrap();
            let unsigned: Vec<Vec<u8>> = (0..count).map(bare).collect();
            let mut last = bare(200);
            let mut joined = [unsigned.concat(), last.clone()].concat();
            let length = joined.len();
            responder.sign(&mut joined);
            last.extend(&joined[length..]);
            last[11] = 1;
            let waits = unsigned.iter().all(|message| verifier.handle_message(message, false) == Ok(false));
            assert_eq!(waits && verifier.handle_message(&last, true) == Ok(true), wanted, "{count}");
        }
    }

    #[test]
    fn requests_that_are_not_the_key_holders_are_told_why() {
        let told = |asking: &TsigKey, now| {
            let (request, mut verifier) = asked(asking, now);
            let mut responder = responder(&request, &ours());
            let answer = signed(&mut responder, 1);
            let error = Message::from_vec(&answer).unwrap().signature().unwrap().data.error.map(u16::from);
            (responder.is_good(), error.unwrap_or(0), verifier.handle_message(&answer, true).is_ok())
        };
        assert_eq!(told(&ours(), NOW), (true, 0, true));
        assert_eq!(told(&ours(), NOW - 300), (true, 0, true));
        assert_eq!(told(&key("other.example", "AAECAwQFBgcICQoLDA0ODw=="), NOW), (false, 17, false));
        assert_eq!(told(&key("lists.example", "AAECAwQFBgcICQoLDA0ODg=="), NOW), (false, 16, false));
        // Whose clock is wrong can verify that it is told so.
        assert_eq!(told(&ours(), NOW - 301), (false, 18, true));
        let (request, _) = asked(&ours(), NOW - 301);
        let answer = signed(&mut responder(&request, &ours()), 1);
        let tsig = Message::from_vec(&answer).unwrap().signature().unwrap().data.clone();
        assert_eq!((tsig.time, tsig.fudge, tsig.other), (NOW - 301, 300, NOW.to_be_bytes()[2..].to_vec()));
    }

    #[test]
    fn what_is_no_key_is_told() {
        for (text, wanted) in [
            ("", "no key"),
            ("key u { algorithm hmac-md5; secret \"AAECAwQFBgcICQoLDA0ODw==\"; };", "no algorithm hmac-sha256"),
            ("key u { algorithm hmac-sha256; secret \"AAEC\"; };", "no secret of 16 to 64 octets"),
            ("key u { algorithm hmac-sha256; secret \"***\"; };", "no secret"),
            ("key u..x { algorithm hmac-sha256; secret \"AAECAwQFBgcICQoLDA0ODw==\"; };", "name of the key"),
        ] {
            assert!(TsigKey::parse(text).unwrap_err().contains(wanted), "{text}");
        }
    }
}
