//! Counters for Prometheus, by just enough HTTP.

use core::{fmt::Write as _, time::Duration};
use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::States;
use crate::publish::counters::Counters;

/// Longest request.
const MAX_REQUEST: usize = 4_096;

/// Most connections at a time.
const MAX_CONNECTIONS: usize = 8;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections for as long as the process lives.
pub(super) async fn accept(listener: TcpListener, counters: Arc<Counters>, states: States) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let text = text(&counters, &states);
        tokio::spawn(async move {
            // Whoever asks does so again.
            drop(timeout(PATIENCE, answer(stream, &text)).await);
            drop(place);
        });
    }
}

fn text(counters: &Counters, states: &States) -> String {
    let mut text = counters.to_text();
    let state = Arc::clone(&states.borrow());
    for (name, help) in [
        ("members", "Members that can be drawn."),
        ("signatures_expire_seconds", "When signatures end, in seconds since 1970."),
    ] {
        // Writing to a string does not fail.
        let _: Result<(), _> = writeln!(text, "# HELP nts_pool_srv_{name} {help}\n# TYPE nts_pool_srv_{name} gauge");
        for served in &state.zones {
            let zone = &served.zone.settings.name;
            let value = match name {
                "members" => u64::try_from(served.candidates.len()).unwrap_or(u64::MAX),
                _ => served.zone.signer.window().expiration,
            };
            let _: Result<(), _> = writeln!(text, "nts_pool_srv_{name}{{zone=\"{zone}\"}} {value}");
        }
    }
    text
}

async fn answer(mut stream: TcpStream, text: &str) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let wanted = request.starts_with(b"GET /metrics ") || request.starts_with(b"GET / ");
    let (status, text) = if wanted { ("200 OK", text) } else { ("404 Not Found", "GET /metrics\n") };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
