//! A probe of one member: as any of its clients would see it, a key exchange and then the time; and, if the balancer serves
//! users by it, as users are served.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ntp_proto::{
    bootstrap::Judgement,
    ids::Leap,
    nts::{AeadAlgorithm, SealRequest, UNIQUE_ID_LEN, open_reply, seal_request},
    time::{Monotonic, NtpDuration, NtpShort, NtpTimestamp, UnixTime},
    wire::{Header, Mode},
};
use nts_ke::client::{ClientConfig, ClientSession, Established, Order, Output};
use pool_srv::directory::Member;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::{Instant, interval_at, timeout},
};
use tracing::debug;

use super::{
    Shared,
    config::Config,
    connection::records_of,
    health::Sample,
    metrics::Counter,
    names::{MAX_ADDRESSES, resolve},
    now,
    round::{PROBE, Round},
    trouble::Trouble,
};

mod handover;

/// How long a key exchange may take, and one exchange of packets.
const KE_DEADLINE: Duration = Duration::from_secs(5);
const NTP_DEADLINE: Duration = Duration::from_secs(1);

/// How long it may take to get keys and the time.
const MEASURING: Duration = Duration::from_secs(8);

/// How long others who connect to the member are waited for.
const QUEUEING: Duration = Duration::from_secs(2);

const _: () = assert!(MEASURING.as_secs() + QUEUEING.as_secs() + KE_DEADLINE.as_secs() == PROBE.as_secs());

/// Exchanges of packets; the quickest counts.
const EXCHANGES: usize = 2;

/// Octets of a packet.
const MAX_PACKET: usize = 2048;

/// Packets that are looked at for one answer; strays must not end the wait before its time.
const MAX_LOOKS: usize = 16_384;

/// The port of NTP.
const NTP_PORT: u16 = 123;

/// If nothing was tried.
fn not_tried() -> Trouble {
    Trouble::Member("it has no address".to_owned())
}

/// Probes all members, evenly over the interval.
pub(super) async fn probe_forever(shared: Shared) {
    let every = shared.config.probing.interval;
    if every.is_zero() {
        return;
    }
    loop {
        let directory = Arc::clone(shared.assignments.load().roster.directory());
        let members = directory.members();
        let places = Arc::new(tokio::sync::Semaphore::new(Round::plan(every, members.len()).parallel));
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX).max(1);
        // What was late is made up for, so that a round takes no longer than it must.
        let pause = (every / count).max(Duration::from_millis(1));
        let mut turns = interval_at(Instant::now() + pause, pause);
        for member in members {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (shared, member) = (shared.clone(), member.clone());
            tokio::task::spawn_local(async move {
                for sample in probe(&shared, &member).await {
                    shared.tell(&member.name, sample);
                }
                drop(place);
            });
            turns.tick().await;
        }
    }
}

/// Probes a member, in [`PROBE`] at most. What fails because of this machine is no sample.
async fn probe(shared: &Shared, member: &Member) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(2);
    let client = shared.client.load_full();
    let measured = timeout(MEASURING, measure(member, &client, &shared.config)).await;
    let measured = measured.unwrap_or_else(|_| Err(Trouble::Member("no time of it in time".to_owned())));
    samples.extend(sample(shared, member, measured, Sample::Unprobed));
    // The rest of DNS clients' members has no token.
    if member.token.is_some() {
        let served = handover::hand_over(shared, member).await;
        samples.extend(sample(shared, member, served.map(|()| Sample::Served), Sample::Failed));
    }
    samples
}

/// What an outcome says of the member, if anything.
fn sample(
    shared: &Shared,
    member: &Member,
    outcome: Result<Sample, Trouble>,
    failed: fn(String) -> Sample,
) -> Option<Sample> {
    match outcome {
        Ok(sample) => Some(sample),
        Err(Trouble::Member(why)) => Some(failed(format!("probe: {why}"))),
        Err(Trouble::Skipped(_) | Trouble::Broken) => None,
        Err(Trouble::Ours(error)) => {
            shared.metrics.count(Counter::OwnFaults);
            debug!("probe of {}: our own fault: {error}", member.name.as_str());
            None
        }
    }
}

async fn measure(member: &Member, client: &ClientConfig, config: &Config) -> Result<Sample, Trouble> {
    let by = now::monotonic() + KE_DEADLINE;
    let (mut established, good) = establish(member, client, config, by).await?;
    let port = established.port.unwrap_or(NTP_PORT);
    let server = established.server.as_deref().filter(|server| *server != member.name.as_str());
    let addresses = match server {
        // Where keys are to be had, time is served.
        None => vec![SocketAddr::new(good.ip(), port)],
        Some(server) => resolve(server, port, config.allow_private).await?,
    };
    ask_time(&mut established, addresses, config.time_of_day).await
}

/// Asks for the time at the first address that tells it.
async fn ask_time(
    established: &mut Established,
    addresses: Vec<SocketAddr>,
    time_of_day: fn() -> UnixTime,
) -> Result<Sample, Trouble> {
    let mut best: Option<(f64, f64)> = None;
    let mut trouble = None;
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        for _ in 0..EXCHANGES {
            match exchange_time(established, address, time_of_day).await {
                Ok(measured) => best = Some(best.filter(|best| best.1 <= measured.1).unwrap_or(measured)),
                Err(failed) => trouble = Some(Trouble::or(trouble, failed)),
            }
        }
        if let Some((offset, delay)) = best {
            return Ok(Sample::Measured { offset, delay });
        }
    }
    Err(trouble.unwrap_or_else(not_tried))
}

/// Exchanges keys with the first address that does; the time is shared with those that are still to be tried.
async fn establish(
    member: &Member,
    client: &ClientConfig,
    config: &Config,
    by: Monotonic,
) -> Result<(Established, SocketAddr), Trouble> {
    let addresses = addresses_of(member, config, by).await?;
    let mut trouble = None;
    let count = u32::try_from(addresses.len()).unwrap_or(1).max(1);
    for (address, left) in addresses.into_iter().zip((1..=count).rev()) {
        let by = now::monotonic() + now::until(by) / left;
        let exchange = exchange_keys(member, address, client, (config.time_of_day)(), by);
        match timeout(now::until(by), exchange).await {
            Ok(Ok(established)) => return Ok((established, address)),
            Ok(Err(failed)) => trouble = Some(Trouble::or(trouble, failed)),
            Err(_) => trouble = Some(Trouble::Member("no key exchange in time".to_owned())),
        }
    }
    Err(trouble.unwrap_or_else(not_tried))
}

/// Where its key exchange is; as many addresses as are tried.
async fn addresses_of(member: &Member, config: &Config, by: Monotonic) -> Result<Vec<SocketAddr>, Trouble> {
    let mut addresses: Vec<_> = member.addresses.iter().map(|address| SocketAddr::new(*address, member.port)).collect();
    if addresses.is_empty() {
        let resolved = timeout(now::until(by), resolve(member.name.as_str(), member.port, config.allow_private)).await;
        addresses = resolved.map_err(|_| Trouble::Member("its name is not resolved in time".to_owned()))??;
    }
    addresses.truncate(MAX_ADDRESSES);
    Ok(addresses)
}

async fn exchange_keys(
    member: &Member,
    address: SocketAddr,
    client: &ClientConfig,
    judged_at: UnixTime,
    by: Monotonic,
) -> Result<Established, Trouble> {
    let name = member.name.as_str();
    let mut stream = TcpStream::connect(address).await?;
    let algorithms = [AeadAlgorithm::AesSivCmac256];
    let judgement = Judgement::At(judged_at);
    let tlsa = records_of(member);
    let order = Order { server: name, algorithms: &algorithms, denied: &[], judgement, deadline: by, tlsa: &tlsa };
    let session = ClientSession::new(client, &order);
    let mut session = session.map_err(|error| Trouble::Member(error.to_string()))?;
    let mut piece = [0; MAX_PACKET];
    // Ends: the session has a deadline.
    loop {
        match session.poll_output() {
            Output::Transmit(bytes) => stream.write_all(&bytes).await?,
            Output::Done(established) => return Ok(*established),
            Output::Failed(error, _) => return Err(error.into()),
            Output::Timeout(..) => match stream.read(&mut piece).await {
                Ok(0) | Err(_) => session.handle_eof(now::monotonic()),
                Ok(length) => session.handle_input(now::monotonic(), piece.get(..length).unwrap_or_default()),
            },
        }
    }
}

/// Asks for the time once; returns offset and delay in seconds.
async fn exchange_time(
    keys: &mut Established,
    address: SocketAddr,
    time_of_day: fn() -> UnixTime,
) -> Result<(f64, f64), Trouble> {
    let member = |why: String| Trouble::Member(why);
    let cookie = keys.cookies.pop().ok_or_else(|| member("no cookies left".to_owned()))?;
    let mut random = [0; UNIQUE_ID_LEN + 16 + 8];
    getrandom::fill(&mut random).map_err(|error| Trouble::Ours(io::Error::other(error)))?;
    let short = || Trouble::Ours(io::Error::other("no random numbers"));
    let (unique_id, rest) = random.split_first_chunk::<UNIQUE_ID_LEN>().ok_or_else(short)?;
    let (nonce, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
    let transmit = rest.first_chunk::<8>().map(|octets| NtpTimestamp::from_bits(u64::from_be_bytes(*octets)));
    let transmit = transmit.ok_or_else(short)?;
    let mut packet = vec![0; MAX_PACKET];
    if let Some(start) = packet.first_chunk_mut::<{ Header::LEN }>() {
        *start = request(transmit).write();
    }
    let seal = SealRequest { unique_id, cookie: cookie.as_bytes(), placeholders: 1, key: &keys.keys.c2s, nonce };
    let length = seal_request(&mut packet, Header::LEN, &seal).map_err(|error| member(error.to_string()))?;
    // Not connected: an ICMP message, which anybody can forge, is not passed on to such a socket.
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    let sent = NtpTimestamp::from_unix(time_of_day());
    let clock = now::monotonic();
    socket.send_to(packet.get(..length).unwrap_or_default(), address).await?;
    let reply = timeout(NTP_DEADLINE, receive(&socket, address, unique_id, keys, transmit, &mut packet)).await;
    let reply = reply.map_err(|_| member("no NTP answer in time".to_owned()))??;
    // The clock may be set meanwhile: how long it took is told by the one that is not.
    let took = NtpDuration::from_seconds(now::monotonic().since(clock).as_secs_f64());
    judge(&reply, sent, took).map_err(member)
}

/// The request's header: nothing in it tells of our clock (draft-ietf-ntp-data-minimization).
fn request(transmit: NtpTimestamp) -> Header {
    Header {
        leap: Leap::None,
        version: 4,
        mode: Mode::Client,
        stratum: 0,
        poll: 6,
        precision: 32,
        root_delay: NtpShort::from_bits(0),
        root_dispersion: NtpShort::from_bits(0),
        reference_id: ntp_proto::ids::ReferenceId([0; 4]),
        reference: NtpTimestamp::ZERO,
        origin: NtpTimestamp::ZERO,
        receive: NtpTimestamp::ZERO,
        transmit,
    }
}

/// Waits for the one answer that is authentic; whatever else comes does not count.
async fn receive(
    socket: &UdpSocket,
    address: SocketAddr,
    unique_id: &[u8; UNIQUE_ID_LEN],
    keys: &Established,
    transmit: NtpTimestamp,
    packet: &mut [u8],
) -> io::Result<Header> {
    for _ in 0..MAX_LOOKS {
        let Ok((length, from)) = socket.recv_from(packet).await else { continue };
        if from != address {
            continue;
        }
        let Ok(authentic) = open_reply(packet.get_mut(..length).unwrap_or_default(), unique_id, &keys.keys.s2c) else {
            continue;
        };
        let header = *authentic.header();
        if header.mode == Mode::Server && header.origin == transmit {
            return Ok(header);
        }
    }
    Err(io::Error::other("no authentic NTP answer"))
}

/// Offset and delay (RFC 5905 section 8), of a request sent at `sent` by our clock and answered after `took`.
fn judge(reply: &Header, sent: NtpTimestamp, took: NtpDuration) -> Result<(f64, f64), String> {
    if reply.leap == Leap::Unsynchronized || !(1..16).contains(&reply.stratum) {
        return Err("it is not synchronized".to_owned());
    }
    let delay = took.to_seconds() - reply.transmit.since(reply.receive).to_seconds();
    let forth = reply.receive.since(sent).to_seconds();
    let back = reply.transmit.since(sent).to_seconds() - took.to_seconds();
    if delay < -0.01 || reply.transmit.since(reply.receive).to_seconds() < 0.0 {
        return Err("its time stamps contradict each other".to_owned());
    }
    Ok((f64::midpoint(forth, back), delay.max(0.0)))
}

#[cfg(test)]
mod tests;
