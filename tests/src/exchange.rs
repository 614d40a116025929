//! One key exchange over TCP, as the programs that make load want it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use ntp_proto::{
    bootstrap::Judgement,
    nts::AeadAlgorithm,
    time::{Monotonic, UnixTime},
};
use nts_ke::client::{ClientConfig, ClientSession, Established, Order, Output};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Octets read at a time.
const PIECE: usize = 4_096;

/// Exchanges keys with one server, which gives up after `patience`.
///
/// # Errors
/// Why there are none, for a person.
pub async fn exchange(
    config: &ClientConfig,
    server: SocketAddr,
    name: &str,
    patience: Duration,
) -> Result<Box<Established>, String> {
    let start = Instant::now();
    let now = || Monotonic::from_nanos(0) + start.elapsed();
    let mut stream = TcpStream::connect(server).await.map_err(|error| format!("connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let order = Order {
        server: name,
        algorithms: &[AeadAlgorithm::AesSivCmac256],
        denied: &[],
        judgement: Judgement::At(time_of_day()),
        deadline: now() + patience,
        tlsa: &[],
    };
    let mut session = ClientSession::new(config, &order).map_err(|error| error.to_string())?;
    let mut piece = [0; PIECE];
    // Ends: the session has a deadline, and takes a bounded amount of data.
    loop {
        match session.poll_output() {
            Output::Transmit(bytes) => {
                stream.write_all(&bytes).await.map_err(|error| format!("write: {error}"))?;
                continue;
            }
            Output::Done(established) => return Ok(established),
            Output::Failed(error, _) => return Err(error.to_string()),
            Output::Timeout(..) => {}
        }
        match stream.read(&mut piece).await {
            Ok(0) => session.handle_eof(now()),
            Ok(length) => session.handle_input(now(), piece.get(..length).unwrap_or_default()),
            Err(error) => return Err(format!("read: {error}")),
        }
    }
}

/// Certificates are judged by this machine's clock.
fn time_of_day() -> UnixTime {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("every Linux has this clock");
    UnixTime { seconds: now.tv_sec(), nanos: u32::try_from(now.tv_nsec()).unwrap_or_default() }
}

/// Some of a distribution in seconds, as JSON.
#[must_use]
pub fn quantiles(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let quantile = |of_thousand: usize| {
        let place = values.len().saturating_sub(1) * of_thousand / 1_000;
        values.get(place).copied().unwrap_or_default()
    };
    let named = [("p50", 500), ("p99", 990), ("p999", 999), ("max", 1_000)];
    let all = named.map(|(name, of_thousand)| format!("\"{name}\": {:.6}", quantile(of_thousand)));
    format!("{{{}}}", all.join(", "))
}
