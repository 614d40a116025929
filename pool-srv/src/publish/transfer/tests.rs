use std::{path::Path, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    super::{
        config::Config,
        sign::{Signer, Window, ZoneKey},
        targets::Candidates,
        zone::{Zone, ZoneSettings},
    },
    *,
};
use crate::{
    directory::{Directory, Health, Listed, Mark, TransferWish, Transferred, ZoneSource, parse, parse_foreign},
    tsig::TsigKey,
};

const NOW: u64 = 1_800_000_000;

fn key(name: &str, secret: &str) -> TsigKey {
    TsigKey::parse(&format!("key {name} {{ algorithm hmac-sha256; secret {secret}; }};")).unwrap()
}

fn ours() -> TsigKey {
    key("lists.example", "AAECAwQFBgcICQoLDA0ODw==")
}

/// The zone of a pool with these members, and a list of them of this generation.
fn state(members: &str, generation: u32) -> State {
    state_with("list = true", members, generation, vec![ours()])
}

fn state_with(more: &str, members: &str, generation: u32, transfer_keys: Vec<TsigKey>) -> State {
    let text = format!(
        "[[zone]]\nname = \"time.example\"\nmembers = \"m\"\nttl = \"2m\"\n\
         name-servers = [{{ name = \"ns1.time.example\", addresses = [\"192.0.2.53\"] }}]\n{more}\n"
    );
    let settings = Config::parse(Path::new("c"), &text).unwrap().zones.remove(0).settings;
    let settings = ZoneSettings { transfer_keys, ..settings };
    let mut directory = Directory::clone(&parse(Path::new("m"), members).unwrap());
    directory.changed = generation.into();
    let directory = Arc::new(directory);
    let zone_key = ZoneKey::generate().unwrap();
    let zone_key = Arc::new(ZoneKey::from_pem(Path::new("key"), zone_key.as_bytes()).unwrap());
    let window = Window { inception: NOW - 1, expiration: NOW + 1 };
    let signer = Signer::new(Arc::clone(&zone_key), settings.origin(), window);
    let zone = Zone::build(&settings, &directory, &[zone_key], signer, 1).unwrap();
    let candidates = Candidates::new(&directory, |_| Health::Down);
    State { zones: vec![Served { zone: Arc::new(zone), candidates: Arc::new(candidates) }], ..State::default() }
}

type Change = fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>;

/// Asks a server of this state, which changes its answers so.
fn transfer(state: &State, key: TsigKey, known: Option<&Mark>, change: Change) -> Result<Transferred, String> {
    transfer_from([None, Some(state)], key, known, TransferWish::Change, change)
}

/// Asks two servers, in this order; nobody is there if it has no state.
fn transfer_from(
    states: [Option<&State>; 2],
    key: TsigKey,
    known: Option<&Mark>,
    wish: TransferWish,
    change: Change,
) -> Result<Transferred, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let servers = [&first, &second].map(|listener| listener.local_addr().unwrap()).to_vec();
        let source = ZoneSource { name: ntp_proto::pool::Name::parse("time.example").unwrap(), servers, key };
        let [one, two] = states;
        tokio::select! {
            transferred = source.transfer(known, wish, || NOW, || 7) => transferred,
            () = serve(first, one, change) => unreachable!(),
            () = serve(second, two, change) => unreachable!(),
        }
    })
}

async fn serve(listener: TcpListener, state: Option<&State>, change: Change) {
    let Some(state) = state else {
        drop(listener);
        return core::future::pending().await;
    };
    let (mut stream, _) = listener.accept().await.unwrap();
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await.unwrap();
        let Some((_, messages)) = answer(state, &query, NOW) else { break };
        let whole = messages.len();
        let messages = change(messages);
        let is_cut = messages.len() < whole;
        for message in messages {
            // A client that has heard enough is gone.
            let _ = stream.write_u16(message.len().try_into().unwrap()).await;
            let _ = stream.write_all(&message).await;
        }
        if is_cut {
            break;
        }
    }
    drop(stream);
    core::future::pending().await
}

fn new(transferred: Result<Transferred, String>) -> Listed {
    let Ok(Transferred::New { serial: 1, listed }) = transferred else { panic!("{transferred:?}") };
    listed
}

fn many(count: usize) -> String {
    (0..count).map(|n| format!("[[member]]\nname = \"ntp{n:05}.example.net\"\nweight = {}\n", n % 100 + 1)).collect()
}

const MEMBERS: &str = "[[region]]\nname = \"lab\"\nprefixes = [\"192.0.2.0/24\"]\n\
    [[member]]\nname = \"ke1.time.example\"\nport = 4446\nweight = 30\nregions = [\"lab\"]\n\
    addresses = [\"192.0.2.1\", \"2001:db8::1\"]\ntoken = \"0123456789abcdef012345\"\n\
    tlsa = [\"3 1 1 abababababababababababababababababababababababababababababababab\"]\n\
    [[member]]\nname = \"zoo.example\"\npriority = 5\ndrain = true\n\
    [[member]]\nname = \"campus.example\"\nprefixes = [\"198.51.100.0/24\"]\n";

#[test]
fn a_zone_gives_its_list_to_who_has_the_key() {
    let listed = new(transfer(&state(MEMBERS, 12), ours(), None, |messages| messages));
    let mark = listed.mark.clone();
    assert_eq!((mark.generation, mark.members, listed.look_after.as_secs()), (12, 2, 120));
    assert!(!listed.text.contains("0123456789"), "tokens are in no zone");
    let directory = parse_foreign(Path::new("list"), &listed.text).unwrap();
    let [ke1, zoo] = directory.members() else { panic!("{}", listed.text) };
    // All are down, and that says nothing of who belongs to the pool.
    assert_eq!(
        (ke1.name.as_str(), ke1.port, ke1.priority, ke1.weight, ke1.drain),
        ("ke1.time.example", 4446, 0, 30, false)
    );
    assert_eq!(ke1.addresses.len(), 2);
    assert_eq!(ke1.tlsa[0].to_string(), format!("3 1 1 {}", "ab".repeat(32)));
    assert_eq!((zoo.name.as_str(), zoo.port, zoo.priority, zoo.drain), ("zoo.example", 4460, 5, true));
    // The mark is all that is looked at as long as it is the same.
    let same = Ok(Transferred::Same { look_after: listed.look_after });
    let looked = transfer(&state(MEMBERS, 12), ours(), Some(&mark), |messages| {
        assert!(messages.len() == 1 && messages[0].len() < 400, "the mark alone");
        messages
    });
    assert_eq!(looked, same);
    let newer = new(transfer(&state(MEMBERS, 13), ours(), Some(&mark), |messages| messages));
    assert_eq!(newer.mark, Mark { generation: 13, ..mark });
}

#[test]
fn a_server_that_is_behind_does_not_bring_an_older_list_back() {
    let (old, new_one) = (state(MEMBERS, 12), state(&many(3), 13));
    let mark_of = |state| new(transfer(state, ours(), None, |messages| messages)).mark;
    let (before, mark) = (mark_of(&old), mark_of(&new_one));
    let ask = |states: [&State; 2], known, wish| {
        transfer_from(states.map(Some), ours(), Some(known), wish, |messages| messages)
    };
    for wish in [TransferWish::Change, TransferWish::Whole] {
        // The other one is asked.
        assert_eq!(new(ask([&old, &new_one], &before, TransferWish::Whole)).mark, before);
        let asked = ask([&old, &new_one], &mark, wish);
        match wish {
            TransferWish::Change => assert!(matches!(asked, Ok(Transferred::Same { .. })), "{asked:?}"),
            TransferWish::Whole | TransferWish::Older => assert_eq!(new(asked).mark, mark),
        }
        // If none has it, it is not taken from any, unless that is meant.
        let told = ask([&old, &old], &mark, wish).unwrap_err();
        let wanted = "is behind: its list has generation 12, ours 13; accepted: nts-pool-lb reload --older";
        assert_eq!(told.matches(wanted).count(), 2, "{told}");
    }
    assert_eq!(new(ask([&old, &new_one], &mark, TransferWish::Older)).mark, before);
    // The same list may be in its place for longer at one server than at another.
    let same = state(&many(3), 11);
    for wish in [TransferWish::Change, TransferWish::Whole] {
        let asked = ask([&same, &old], &mark, wish);
        assert!(matches!(asked, Ok(Transferred::Same { .. })), "{asked:?}");
    }
    // Who refuses, or has no list, is not the last that is asked.
    let (stranger, bare) = (
        state_with("", MEMBERS, 20, vec![key("other.example", "AAECAwQFBgcICQoLDA0ODw==")]),
        state_with("", MEMBERS, 20, vec![ours()]),
    );
    for first in [&stranger, &bare] {
        assert_eq!(new(ask([first, &new_one], &before, TransferWish::Change)).mark, mark);
    }
}

#[test]
fn a_list_is_whole_however_long_it_is() {
    let state = state(&many(20_000), 1);
    let listed = new(transfer(&state, ours(), None, |messages| {
        assert!(messages.len() > 20 && messages.iter().all(|message| message.len() < 65_536), "{}", messages.len());
        messages
    }));
    assert_eq!(listed.mark.members, 20_000);
    let changes: [(Change, &str); 4] = [
        (|mut messages| messages.drain(..5).collect(), "cannot be reached"),
        (
            |mut messages| {
                messages.remove(5);
                messages
            },
            "its signature is wrong",
        ),
        (
            |mut messages| {
                messages.swap(5, 6);
                messages
            },
            "its signature is wrong",
        ),
        (
            |mut messages| {
                messages.iter_mut().for_each(|message| message[1] ^= 1);
                messages
            },
            "it answers something else",
        ),
    ];
    for (change, wanted) in changes {
        let told = transfer(&state, ours(), None, change).unwrap_err();
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn others_get_nothing_and_are_told_why() {
    let state = state(MEMBERS, 1);
    let told = |key| transfer(&state, key, None, |messages| messages).unwrap_err();
    let other_name = told(key("other.example", "AAECAwQFBgcICQoLDA0ODw=="));
    assert!(other_name.contains("refuses: BADKEY: it has no key other.example"), "{other_name}");
    assert!(other_name.starts_with("zone time.example: name server 127.0.0.1:"), "{other_name}");
    let other_secret = told(key("lists.example", "AAECAwQFBgcICQoLDA0ODg=="));
    assert!(other_secret.contains("refuses: BADSIG: its secret of key lists.example is another"), "{other_secret}");
    // Queries without a signature, of another kind or broken are none of this.
    let unsigned = Message::from_vec(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap().to_vec().unwrap();
    assert_eq!(answer(&state, &unsigned, NOW), None);
    // Each of several keys does.
    let two = state_with("list = true", MEMBERS, 1, vec![key("other.example", "AAECAwQFBgcICQoLDA0OAA=="), ours()]);
    assert_eq!(new(transfer(&two, ours(), None, |messages| messages)).mark.members, 2);
    // A zone without a key is nobody's.
    let keyless = state_with("list = true", MEMBERS, 1, Vec::new());
    let told = transfer(&keyless, ours(), None, |messages| messages).unwrap_err();
    assert!(told.contains("BADKEY"), "{told}");
}

#[test]
fn a_zone_without_a_list_has_no_members() {
    // What clients ask for is a draw, and is not taken for one.
    let told = transfer(&state_with("", MEMBERS, 1, vec![ours()]), ours(), None, |messages| messages).unwrap_err();
    assert!(told.contains("lists no members: it has no mark of a list at _members.time.example."), "{told}");
}

#[test]
fn a_server_has_a_time_and_a_zone_a_length() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let source = |listener: &TcpListener| {
        let servers = vec![listener.local_addr().unwrap(); 2];
        ZoneSource { name: ntp_proto::pool::Name::parse("time.example").unwrap(), servers, key: ours() }
    };
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        tokio::time::pause();
        let begin = tokio::time::Instant::now();
        let told = source(&listener).transfer(None, TransferWish::Change, || NOW, || 7).await.unwrap_err();
        assert_eq!(told.matches("no answer within 20s").count(), 2, "{told}");
        assert_eq!(begin.elapsed().as_secs(), 40, "each has its time");
    });
    // A zone without end, whose every message is signed.
    let state = state(MEMBERS, 1);
    let served = &state.zones[0];
    let filler = super::super::record::Data::Txt("x".repeat(250).into()).to_record(60);
    let filler = [served.zone.origin.as_wire(), &filler].concat().repeat(200);
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endless = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut query = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut query).await.unwrap();
                let shown = Message::from_vec(&query).unwrap();
                let mut responder = Responder::new(&query, shown.signature().unwrap(), &[ours()], NOW);
                let mut message = handed(served, &query, Wanted::Start).remove(0);
                loop {
                    responder.sign(&mut message);
                    let framed = [&u16::try_from(message.len()).unwrap().to_be_bytes(), message.as_slice()].concat();
                    if stream.write_all(&framed).await.is_err() {
                        break;
                    }
                    message = [head(&query, 0), filler.clone()].concat();
                    message[7] = 200;
                }
            }
        };
        let source = source(&listener);
        let told = tokio::select! {
            told = source.transfer(None, TransferWish::Change, || NOW, || 7) => told.unwrap_err(),
            () = endless => unreachable!(),
        };
        assert_eq!(told.matches("the zone is longer than 16777216 octets").count(), 2, "{told}");
    });
}
