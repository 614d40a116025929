//! A probe of one member, as any of its clients would see it: a key exchange, then the time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ntp_proto::{
    bootstrap::Judgement,
    ids::Leap,
    nts::{AeadAlgorithm, SealRequest, UNIQUE_ID_LEN, open_reply, seal_request},
    time::{Monotonic, NtpDuration, NtpShort, NtpTimestamp},
    wire::{Header, Mode},
};
use nts_ke::client::{ClientConfig, ClientSession, Established, Order, Output};
use pool_srv::directory::Member;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket, lookup_host},
    time::timeout,
};

use super::{assign::is_public, health::Sample, now};

/// How long the key exchange may take, and one exchange of packets.
const KE_DEADLINE: Duration = Duration::from_secs(5);
const NTP_DEADLINE: Duration = Duration::from_secs(1);

/// Exchanges of packets; the quickest counts.
const EXCHANGES: usize = 2;

/// Octets of a packet.
const MAX_PACKET: usize = 2048;

/// Packets that are looked at for one answer.
const MAX_LOOKS: usize = 16;

/// The port of NTP.
const NTP_PORT: u16 = 123;

/// Probes a member.
pub(super) async fn probe(member: &Member, config: &ClientConfig, allow_private: bool) -> Sample {
    match measure(member, config, allow_private).await {
        Ok(sample) => sample,
        Err(why) => Sample::Failed(format!("probe: {why}")),
    }
}

async fn measure(member: &Member, config: &ClientConfig, allow_private: bool) -> Result<Sample, String> {
    let by = now::monotonic() + KE_DEADLINE;
    let established = timeout(KE_DEADLINE, exchange_keys(member, config, by)).await;
    let mut established = established.map_err(|_| "no key exchange in time".to_owned())??;
    let server = established.server.as_deref().unwrap_or_else(|| member.name.as_str());
    let port = established.port.unwrap_or(NTP_PORT);
    let own = server == member.name.as_str() && !member.addresses.is_empty();
    let address = match member.addresses.first().filter(|_| own) {
        Some(address) => SocketAddr::new(*address, port),
        None => resolve(server, port, allow_private).await?,
    };
    let mut best: Option<(f64, f64)> = None;
    let mut trouble = "no cookies".to_owned();
    for _ in 0..EXCHANGES {
        match exchange_time(&mut established, address).await {
            Ok(measured) => best = Some(best.filter(|best| best.1 <= measured.1).unwrap_or(measured)),
            Err(why) => trouble = why,
        }
    }
    best.map(|(offset, delay)| Sample::Measured { offset, delay }).ok_or(trouble)
}

async fn resolve(server: &str, port: u16, allow_private: bool) -> Result<SocketAddr, String> {
    let found = lookup_host((server, port)).await.map_err(|error| format!("{server} is not resolved: {error}"))?;
    let public = found.into_iter().find(|address| allow_private || is_public(address.ip()));
    public.ok_or_else(|| format!("{server} has no address on the internet"))
}

async fn exchange_keys(member: &Member, config: &ClientConfig, by: Monotonic) -> Result<Established, String> {
    let name = member.name.as_str();
    let mut stream = match member.addresses.first() {
        Some(address) => TcpStream::connect((*address, member.port)).await,
        None => TcpStream::connect((name, member.port)).await,
    }
    .map_err(|error| format!("no connection: {error}"))?;
    let algorithms = [AeadAlgorithm::AesSivCmac256];
    let order = Order {
        server: name,
        algorithms: &algorithms,
        denied: &[],
        judgement: Judgement::At(now::unix()),
        deadline: by,
        tlsa: &[],
    };
    let mut session = ClientSession::new(config, &order).map_err(|error| error.to_string())?;
    let mut piece = [0; MAX_PACKET];
    // Ends: the session has a deadline.
    loop {
        match session.poll_output() {
            Output::Transmit(bytes) => stream.write_all(&bytes).await.map_err(|error| error.to_string())?,
            Output::Done(established) => return Ok(*established),
            Output::Failed(error, _) => return Err(error.to_string()),
            Output::Timeout(..) => match stream.read(&mut piece).await {
                Ok(0) | Err(_) => session.handle_eof(now::monotonic()),
                Ok(length) => session.handle_input(now::monotonic(), piece.get(..length).unwrap_or_default()),
            },
        }
    }
}

/// Asks for the time once; returns offset and delay in seconds.
async fn exchange_time(keys: &mut Established, address: SocketAddr) -> Result<(f64, f64), String> {
    let cookie = keys.cookies.pop().ok_or("no cookies left")?;
    let mut random = [0; UNIQUE_ID_LEN + 16 + 8];
    getrandom::fill(&mut random).map_err(|error| error.to_string())?;
    let (unique_id, rest) = random.split_first_chunk::<UNIQUE_ID_LEN>().ok_or("no random numbers")?;
    let (nonce, rest) = rest.split_first_chunk::<16>().ok_or("no random numbers")?;
    let transmit = rest.first_chunk::<8>().map(|octets| NtpTimestamp::from_bits(u64::from_be_bytes(*octets)));
    let transmit = transmit.ok_or("no random numbers")?;
    let mut packet = vec![0; MAX_PACKET];
    if let Some(start) = packet.first_chunk_mut::<{ Header::LEN }>() {
        *start = request(transmit).write();
    }
    let seal = SealRequest { unique_id, cookie: cookie.as_bytes(), placeholders: 1, key: &keys.keys.c2s, nonce };
    let length = seal_request(&mut packet, Header::LEN, &seal).map_err(|error| error.to_string())?;
    // Not connected: an ICMP message, which anybody can forge, is not passed on to such a socket.
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(|error| error.to_string())?;
    let sent = NtpTimestamp::from_unix(now::unix());
    let clock = now::monotonic();
    socket.send_to(packet.get(..length).unwrap_or_default(), address).await.map_err(|error| error.to_string())?;
    let reply = timeout(NTP_DEADLINE, receive(&socket, address, unique_id, keys, transmit, &mut packet)).await;
    let reply = reply.map_err(|_| "no NTP answer in time".to_owned())?.map_err(|error| error.to_string())?;
    // The clock may be set meanwhile: how long it took is told by the one that is not.
    let took = NtpDuration::from_seconds(now::monotonic().since(clock).as_secs_f64());
    judge(&reply, sent, took)
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
mod tests {
    use super::*;

    #[test]
    fn offsets_have_the_sign_of_the_members_clock() {
        let at = |seconds: f64| NtpTimestamp::from_bits((seconds * 4_294_967_296.0) as u64);
        let reply = |ahead: f64| Header {
            leap: Leap::None,
            stratum: 2,
            receive: at(1000.0 + ahead + 0.010),
            transmit: at(1000.0 + ahead + 0.011),
            ..request(NtpTimestamp::ZERO)
        };
        for ahead in [-2.9, -0.3, 0.0, 0.3, 2.9] {
            let (offset, delay) = judge(&reply(ahead), at(1000.0), NtpDuration::from_seconds(0.021)).unwrap();
            assert!((offset - ahead).abs() < 1e-6 && (delay - 0.02).abs() < 1e-6, "{ahead}: {offset} {delay}");
        }
        let took = NtpDuration::from_seconds(0.021);
        for bad in [
            Header { leap: Leap::Unsynchronized, ..reply(0.0) },
            Header { stratum: 0, ..reply(0.0) },
            Header { stratum: 16, ..reply(0.0) },
            Header { transmit: at(999.0), ..reply(0.0) },
            Header { transmit: at(1005.0), ..reply(0.0) },
        ] {
            assert!(judge(&bad, at(1000.0), took).is_err(), "{bad:?}");
        }
    }
}
