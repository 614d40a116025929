use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::observe::report::tests::busy_status;

/// A port that nobody uses.
fn free() -> SocketAddr {
    StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A server at `address`, and a daemon's loop that answers `answers` requests.
fn serve(address: SocketAddr, answers: usize) -> Web {
    let (mut web, mut requests) = Web::new();
    let prepared = web.prepare(&[address]).unwrap();
    web.commit(&[address], prepared);
    tokio::spawn(async move {
        for _ in 0..answers {
            let Some(request) = requests.recv().await else { return };
            let now = crate::now::monotonic();
            let history = request.with_history.then(History::default);
            drop(request.reply.send(Observed { status: Arc::new(busy_status()), history, now }));
        }
    });
    web
}

/// All that comes back.
async fn send(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have heard enough before the end.
    drop(stream.write_all(request).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, path: &str) -> String {
    send(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn each_view_is_served_with_its_type() {
    let address = free();
    let _web = serve(address, usize::MAX);
    let metrics = get(address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n") && metrics.contains("content-type: text/plain; version=0.0.4"));
    assert!(metrics.contains("\nntpd_synchronized 1\n") && metrics.contains("connection: close\r\n"), "{metrics}");
    let status = get(address, "/status.json").await;
    let (head, body) = status.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json") && head.contains("cache-control: no-store"));
    assert_eq!(serde_json::from_str::<StatusReport>(body).unwrap(), busy_status());
    let page = get(address, "/?x=1").await;
    assert!(page.contains("content-type: text/html") && page.contains("content-security-policy: default-src 'none'"));
    assert!(page.ends_with("</html>\n"));
}

#[tokio::test]
async fn many_addresses_leave_place_for_who_asks() {
    let first = free();
    let mut web = serve(first, usize::MAX);
    let all: Vec<_> =
        (0..2 * MAX_CONNECTIONS).map(|_| free()).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let wanted: Vec<_> =
        all.iter().copied().filter(|address| web.prepare(&[*address]).is_ok()).chain([first]).collect();
    assert!(wanted.len() > MAX_CONNECTIONS, "{wanted:?}");
    let prepared = web.prepare(&wanted).unwrap();
    web.commit(&wanted, prepared);
    for address in wanted {
        assert!(get(address, "/metrics").await.starts_with("HTTP/1.1 200 OK\r\n"), "{address}");
    }
}

#[tokio::test]
async fn a_head_has_no_body() {
    let address = free();
    let _web = serve(address, usize::MAX);
    let answer = send(address, format!("HEAD /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let full = get(address, "/metrics").await;
    let length = format!("content-length: {}\r\n", full.split_once("\r\n\r\n").unwrap().1.len());
    assert!(answer.contains(&length), "{answer}");
}

#[tokio::test]
async fn what_is_not_there_and_what_is_no_request_is_refused() {
    let address = free();
    let _web = serve(address, 0);
    let long = format!("GET /{} HTTP/1.1\r\nHost: {address}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nHost: {address}\r\n{}\r\n", "A: b\r\n".repeat(100));
    for (request, expected) in [
        (format!("GET /no HTTP/1.1\r\nHost: {address}\r\n\r\n"), "404 Not Found"),
        (format!("GET //metrics HTTP/1.1\r\nHost: {address}\r\n\r\n"), "404 Not Found"),
        (format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 3\r\n\r\nabc"), "405 Method Not Allowed"),
        (format!("OPTIONS / HTTP/1.1\r\nHost: {address}\r\n\r\n"), "405 Method Not Allowed"),
        ("nonsense\r\n\r\n".to_owned(), "400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost\r\n\r\n".to_owned(), "400 Bad Request"),
        (long, "4"),
        (many, "431 Request Header Fields Too Large"),
    ] {
        let answer = send(address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{request:.60}: {answer}");
    }
    assert!(send(address, b"POST / HTTP/1.0\r\n\r\n").await.contains("allow: GET, HEAD\r\n"));
}

#[tokio::test]
async fn a_name_that_somebody_points_at_this_machine_is_refused() {
    let address = free();
    let _web = serve(address, usize::MAX);
    let port = address.port();
    for (host, is_served) in [
        (format!("Host: 127.0.0.1:{port}\r\n"), true),
        (format!("Host: localhost:{port}\r\n"), true),
        ("Host: [::1]\r\n".to_owned(), true),
        (String::new(), true),
        (format!("Host: evil.example:{port}\r\n"), false),
        ("Host: localhost.evil.example\r\n".to_owned(), false),
        ("Host: 127.0.0.1\r\nHost: evil.example\r\n".to_owned(), false),
        ("Host: \r\n".to_owned(), false),
        ("Host: a b\r\n".to_owned(), false),
    ] {
        let answer = send(address, format!("GET /metrics HTTP/1.1\r\n{host}\r\n").as_bytes()).await;
        let expected = if is_served { "HTTP/1.1 200" } else { "HTTP/1.1 421" };
        assert!(answer.starts_with(expected), "{host}: {answer:.80}");
    }
    let absolute = send(address, b"GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(absolute.starts_with("HTTP/1.1 421"), "{absolute:.80}");
}

#[tokio::test]
async fn a_daemon_that_ends_says_so() {
    let address = free();
    let _web = serve(address, 0);
    assert!(get(address, "/metrics").await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn a_reload_leaves_alone_what_stays_and_names_what_is_taken() {
    let (first, second, taken) = (free(), free(), StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let taken = (taken.local_addr().unwrap(), taken);
    let mut web = serve(first, usize::MAX);
    let error = web.prepare(&[first, taken.0]).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("cannot serve metrics and the status page on {}: another program uses this port", taken.0)
    );
    assert!(get(first, "/metrics").await.starts_with("HTTP/1.1 200"));
    // A request that is half-way when the configuration changes is answered all the same.
    let mut stream = TcpStream::connect(first).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    let prepared = web.prepare(&[first, second]).unwrap();
    web.commit(&[first, second], prepared);
    assert!(get(second, "/metrics").await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.80}");
    let prepared = web.prepare(&[second]).unwrap();
    web.commit(&[second], prepared);
    tokio::task::yield_now().await;
    assert!(TcpStream::connect(first).await.is_err(), "nobody listens there any more");
    assert!(get(second, "/metrics").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn those_who_say_nothing_make_place() {
    let address = free();
    let _web = serve(address, usize::MAX);
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Time passes by itself when everybody waits; then the silent ones are closed.
    assert!(get(address, "/metrics").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn no_bytes_make_it_fall_over() {
    use rand_core::{Rng as _, SeedableRng as _};
    let address = free();
    let _web = serve(address, usize::MAX);
    let mut random = chacha20::ChaCha12Rng::from_seed([3; 32]);
    let whole = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b\r\n\r\n";
    for _ in 0..300 {
        let mut bytes = whole.to_vec();
        for _ in 0..=random.next_u32() % 4 {
            let place = random.next_u32() as usize % bytes.len();
            bytes[place] = random.next_u32().to_le_bytes()[0];
        }
        bytes.truncate(1 + random.next_u32() as usize % whole.len());
        let mut stream = TcpStream::connect(address).await.unwrap();
        drop(stream.write_all(&bytes).await);
        drop(stream.shutdown().await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{bytes:?}");
    }
    assert!(get(address, "/metrics").await.starts_with("HTTP/1.1 200"));
}
