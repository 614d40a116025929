#![expect(clippy::disallowed_methods, reason = "the test plays the publisher")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

use super::*;

const GOOD: &str = "[[member]]\nname = \"a.example\"\n";
const BETTER: &str = "[[member]]\nname = \"a.example\"\n[[member]]\nname = \"b.example\"\n";

fn ok(tag: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nETag: \"{tag}\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A publisher that gives these answers in turn, one a connection, and passes on what it was asked.
fn publisher(answers: Vec<String>, tls: Option<Arc<ServerConfig>>) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, questions) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            match &tls {
                None => converse(stream, &answer, &asked),
                Some(tls) => {
                    let connection = ServerConnection::new(tls.clone()).unwrap();
                    converse(StreamOwned::new(connection, stream), &answer, &asked);
                }
            }
        }
    });
    (address, questions)
}

fn converse(mut stream: impl Read + Write, answer: &str, asked: &mpsc::Sender<String>) {
    let mut request = Vec::new();
    let mut octet = [0];
    while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut octet), Ok(1)) {
        request.push(octet[0]);
    }
    let _ = asked.send(String::from_utf8_lossy(&request).to_lowercase());
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
}

#[test]
fn a_file_is_fetched_once_and_then_only_if_it_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("members.toml");
    let answers = vec![ok("1", GOOD), status("304 Not Modified"), ok("2", BETTER), status("304 Not Modified")];
    let (address, asked) = publisher(answers, None);
    let url = format!("http://{address}/members.toml");
    let mut fetcher = Fetcher::new(&url, &file, None, check_directory).unwrap();
    assert!(fetcher.refresh().unwrap());
    assert!(!asked.recv().unwrap().contains("if-none-match"));
    assert_eq!(fs::read_to_string(&file).unwrap(), GOOD);
    assert!(!fetcher.refresh().unwrap());
    assert!(asked.recv().unwrap().contains("if-none-match: \"1\""));
    assert!(fetcher.refresh().unwrap());
    assert_eq!(fs::read_to_string(&file).unwrap(), BETTER);
    // The next run knows what it has, and may be asked who it is.
    let credential = Credential::parse("Authorization: Bearer of-this-test\n").unwrap();
    let mut next = Fetcher::new(&url, &file, None, check_directory).unwrap().with_credential(Some(credential.clone()));
    assert!(!next.refresh().unwrap());
    asked.recv().unwrap();
    let request = asked.recv().unwrap();
    assert!(
        request.contains("if-none-match: \"2\"") && request.contains("authorization: bearer of-this-test"),
        "{request}"
    );
    assert!(!format!("{next:?}{credential:?}").contains("of-this-test"));
    for wrong in ["", "no colon", "bad name: x", "Name: two\nlines"] {
        assert!(Credential::parse(wrong).unwrap_err().contains("accepted: one line"), "{wrong}");
    }
}

#[test]
fn what_cannot_be_used_leaves_the_last_good_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("members.toml");
    let secret = "[[member]]\nname = \"a.example\"\ntoken-file = \"/etc/shadow\"\n";
    let answers = vec![
        ok("1", GOOD),
        ok("2", "[[member]]\nname = \"a b\"\n"),
        ok("3", secret),
        status("404 Not Found"),
        status("301 Moved\r\nLocation: http://127.0.0.1:1/"),
        "rubbish\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 900\r\nConnection: close\r\n\r\n{BETTER}"),
        status("304 Not Modified"),
    ];
    let (address, asked) = publisher(answers, None);
    let mut fetcher = Fetcher::new(&format!("http://{address}/"), &file, None, check_directory).unwrap();
    assert!(fetcher.refresh().unwrap());
    for words in [":2:8: name: not a host name", "names no files", "HTTP status 404", "HTTP status 301", "", ""] {
        let told = fetcher.refresh().unwrap_err().to_string();
        assert!(told.starts_with(&format!("http://{address}/")) && told.contains(words), "{told}");
        assert_eq!(fs::read_to_string(&file).unwrap(), GOOD, "{told}");
    }
    assert!(!fetcher.refresh().unwrap());
    assert!(asked.iter().last().unwrap().contains("if-none-match: \"1\""), "the tag is that of the file");
    assert!(fetcher.refresh().is_err(), "nobody listens");
}

#[test]
fn https_is_judged_by_the_roots_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let report = "{\"made-at\": 7, \"members\": {}}";
    let (address, _asked) = publisher(vec![ok("1", report), ok("1", report)], Some(Arc::new(tls)));
    let url = format!("https://{address}/report.json");
    assert!(Fetcher::new(&url, &file, None, check_report).unwrap().refresh().is_err());
    assert!(!file.exists());
    let mut fetcher = Fetcher::new(&url, &file, Some(cert.pem().as_bytes()), check_report).unwrap();
    assert!(fetcher.refresh().unwrap());
    assert_eq!(fs::read_to_string(&file).unwrap(), report);
}

#[test]
fn nothing_is_fetched_in_the_clear_from_elsewhere() {
    for url in ["http://pool.example/members", "http://192.0.2.1/", "ftp://127.0.0.1/", "/etc/members", "", "https://"]
    {
        let error = Fetcher::new(url, Path::new("x"), None, check_directory).unwrap_err();
        assert!(error.to_string().contains("accepted: https://"), "{error}");
    }
}

#[test]
fn several_replace_a_file_at_a_time_and_it_is_always_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    let texts = ["a", "b"].map(|letter| letter.repeat(100_000));
    replace(&file, &texts[0]).unwrap();
    thread::scope(|scope| {
        for text in &texts {
            scope.spawn(|| (0..100).for_each(|_| replace(&file, text).unwrap()));
        }
        for _ in 0..100 {
            let read = fs::read_to_string(&file).unwrap();
            assert!(texts.contains(&read), "{} octets", read.len());
        }
    });
    // A folder is in its place: what was written is taken away.
    let taken = folder.path().join("folder");
    fs::create_dir(&taken).unwrap();
    assert!(replace(&taken, "text").is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}
