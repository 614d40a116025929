//! NTP requests at a fixed rate to one server, whatever becomes of them, and what became of them.
//!
//! `ntp_load --server ADDRESS:PORT --rate N [--seconds N] [--ke ADDRESS:PORT --name NAME --roots FILE]`: with a key exchange the
//! requests are authenticated (NTS, AEAD_AES_SIV_CMAC_256), each with one of its cookies, which are used many times over.
//! JSON goes to standard output.

use std::{
    env,
    error::Error,
    fs,
    io::{IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt},
};
use ntp_proto::{
    nts::{SealRequest, seal_request},
    wire::Header,
};
use ntpd_tests::exchange::{exchange, quantiles};
use nts_ke::{
    client::{ClientConfig, Established},
    verify::TrustRoots,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// Requests that differ, and so how many can be told apart at a time.
const REQUESTS: usize = 65_536;
/// Packets handed over in one system call.
const BATCH: usize = 64;
/// Longest reply.
const MAX_REPLY: usize = 1_500;
/// How long replies are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(1);
/// Octets kept for replies by the kernel.
const BUFFER: usize = 8 << 20;

struct Options {
    server: SocketAddr,
    rate: f64,
    seconds: f64,
    exchange: Option<(SocketAddr, String, String)>,
}

fn main() -> ExitCode {
    match options(env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ntp_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
    let (mut server, mut rate, mut seconds) = (None, 0.0, 5.0);
    let (mut ke, mut name, mut roots) = (None, None, None);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--server" => server = Some(value.parse()?),
            "--rate" => rate = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            "--ke" => ke = Some(value.parse()?),
            "--name" => name = Some(value),
            "--roots" => roots = Some(value),
            _ => return Err(format!("{word}: accepted: --server, --rate, --seconds, --ke, --name, --roots").into()),
        }
    }
    let Some(server) = server else { return Err("--server is needed".into()) };
    if !(1.0..=1e7).contains(&rate) || !(0.1..=600.0).contains(&seconds) {
        return Err("accepted: rates from 1 to 10000000, 0.1 to 600 s".into());
    }
    let exchange = match (ke, name, roots) {
        (Some(ke), Some(name), Some(roots)) => Some((ke, name, roots)),
        (None, None, None) => None,
        _ => return Err("--ke, --name and --roots belong together".into()),
    };
    Ok(Options { server, rate, seconds, exchange })
}

fn run(options: &Options) -> Result<String, Box<dyn Error>> {
    let established = match &options.exchange {
        None => None,
        Some((ke, name, roots)) => {
            let pem = fs::read(roots)?;
            let roots = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
            let config = ClientConfig::new(&TrustRoots::new(roots)?)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Some(runtime.block_on(exchange(&config, *ke, name, Duration::from_secs(6)))?)
        }
    };
    let requests = (0..REQUESTS).map(|number| request(number, established.as_deref())).collect::<Result<_, _>>()?;
    Load::new(options, requests)?.offer(options)
}

/// A request with its number as transmit timestamp, which the reply repeats.
fn request(number: usize, established: Option<&Established>) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut request = vec![0; Header::LEN];
    request[0] = 0x23;
    request[40..48].copy_from_slice(&u64::try_from(number + 1)?.to_be_bytes());
    let Some(established) = established else { return Ok(request) };
    let mut unique_id = [4; 32];
    unique_id[..8].copy_from_slice(&request[40..48]);
    let mut nonce = [5; 16];
    nonce[..8].copy_from_slice(&request[40..48]);
    let cookie = &established.cookies[number % established.cookies.len()];
    let key = &established.keys.c2s;
    let seal = SealRequest { unique_id: &unique_id, cookie: cookie.as_bytes(), placeholders: 0, key, nonce: &nonce };
    request.resize(2_048, 0);
    let len = seal_request(&mut request, Header::LEN, &seal)?;
    request.truncate(len);
    Ok(request)
}

struct Load {
    socket: UdpSocket,
    requests: Vec<Vec<u8>>,
    /// When each was last sent; `None` once it is answered.
    sent_at: Vec<Option<Instant>>,
    sent: u64,
    answered: u64,
    waits: Vec<f64>,
}

impl Load {
    fn new(options: &Options, requests: Vec<Vec<u8>>) -> Result<Self, Box<dyn Error>> {
        let any: SocketAddr = if options.server.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(options.server)?;
        socket.set_nonblocking(true)?;
        for option in [
            setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &BUFFER),
            setsockopt(&socket.as_fd(), sockopt::RcvBuf, &BUFFER),
        ] {
            // Only root may have more than the system's limit.
            if option.is_ok() {
                break;
            }
        }
        let sent_at = vec![None; requests.len()];
        Ok(Self { socket, requests, sent_at, sent: 0, answered: 0, waits: Vec::new() })
    }

    fn offer(mut self, options: &Options) -> Result<String, Box<dyn Error>> {
        let start = Instant::now();
        let total = (options.rate * options.seconds) as u64;
        let mut ended = None;
        loop {
            let due = ((start.elapsed().as_secs_f64() * options.rate) as u64).min(total);
            let sent = self.send(usize::try_from(due.saturating_sub(self.sent)).unwrap_or(BATCH).min(BATCH))?;
            let answered = self.receive()?;
            if self.sent >= total {
                let end = *ended.get_or_insert_with(Instant::now);
                if end.elapsed() >= PATIENCE {
                    break;
                }
            }
            if sent == 0 && answered == 0 {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        let seconds = ended.unwrap_or(start).duration_since(start).as_secs_f64();
        let (sent, answered) = (self.sent, self.answered);
        let wait = quantiles(&mut self.waits);
        Ok(format!("{{\"seconds\": {seconds:.3}, \"sent\": {sent}, \"answered\": {answered}, \"wait\": {wait}}}"))
    }

    /// Hands over the next requests, as many as the kernel takes.
    fn send(&mut self, count: usize) -> Result<usize, Box<dyn Error>> {
        if count == 0 {
            return Ok(0);
        }
        let first = usize::try_from(self.sent)? % REQUESTS;
        let batch: Vec<_> =
            (first..(first + count).min(REQUESTS)).map(|at| [IoSlice::new(&self.requests[at])]).collect();
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(batch.len(), None);
        let to = vec![None; batch.len()];
        let now = Instant::now();
        match sendmmsg(self.socket.as_raw_fd(), &mut headers, &batch, &to, [], MsgFlags::empty()) {
            Ok(results) => {
                let sent = results.count();
                self.sent_at[first..first + sent].fill(Some(now));
                self.sent += u64::try_from(sent)?;
                Ok(sent)
            }
            // A server that is away is as good as one that does not answer.
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ECONNREFUSED) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the replies that are there.
    fn receive(&mut self) -> Result<usize, Box<dyn Error>> {
        let mut buffers = vec![[0; MAX_REPLY]; BATCH];
        let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
        let lengths: Vec<_> =
            match recvmmsg(self.socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
                Ok(results) => results.map(|message| message.bytes).collect(),
                Err(Errno::EAGAIN | Errno::ECONNREFUSED) => return Ok(0),
                Err(error) => return Err(error.into()),
            };
        let now = Instant::now();
        let least = self.requests.first().map_or(Header::LEN, Vec::len).min(Header::LEN + 100);
        for (buffer, length) in buffers.iter().zip(&lengths) {
            // A server's reply (mode 4) to one of ours, and no NTS NAK, which is short.
            let reply = buffer.get(..*length).filter(|reply| reply.len() >= least && reply[0] & 7 == 4);
            let Some(origin) = reply.and_then(|reply| reply.get(24..32)?.try_into().ok()) else { continue };
            let number = usize::try_from(u64::from_be_bytes(origin)).unwrap_or_default().wrapping_sub(1);
            if let Some(at) = self.sent_at.get_mut(number).and_then(Option::take) {
                self.answered += 1;
                self.waits.push(now.duration_since(at).as_secs_f64());
            }
        }
        Ok(lengths.len())
    }
}
