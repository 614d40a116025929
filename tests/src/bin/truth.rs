//! An NTP server for guests whose own clock is steered: its time is `CLOCK_MONOTONIC_RAW`, which nobody can move, plus a
//! base.
//!
//! `truth FILE UNIX [LEAP]`: it is UNIX now. Before the Unix second LEAP a leap second is inserted, which is announced until
//! then. FILE is written once requests are answered: the base in nanoseconds, and LEAP or 0.

use std::{env, error::Error, fs, net::UdpSocket, process::ExitCode};

use nix::time::{ClockId, clock_gettime};
use ntp_proto::{
    ids::{Leap, ReferenceId, StampKind},
    server::{Access, AccessTable, Prefix, Responder, RxMeta, Verdict},
    status::Status,
    time::{Monotonic, NtpDuration, NtpTimestamp, Rate, UnixTime},
};

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;
/// Longest request that is read.
const MAX_REQUEST: usize = 1_500;

/// True time.
#[derive(Clone, Copy, Debug)]
struct Truth {
    base: i64,
    leap: i64,
}

impl Truth {
    fn now(self) -> NtpTimestamp {
        let linear = self.base + raw();
        let unix = if self.is_past_leap(linear) { linear - SECOND } else { linear };
        let nanos = u32::try_from(unix.rem_euclid(SECOND)).unwrap_or_default();
        NtpTimestamp::from_unix(UnixTime { seconds: unix.div_euclid(SECOND), nanos })
    }

    const fn is_past_leap(self, linear: i64) -> bool {
        self.leap != 0 && linear >= self.leap * SECOND
    }

    fn status(self) -> Status {
        let announced = self.leap != 0 && !self.is_past_leap(self.base + raw());
        Status {
            leap: if announced { Leap::Insert } else { Leap::None },
            stratum: 1,
            dispersion_rate: Rate::from_ppm(1.0),
            max_distance: NtpDuration::from_seconds(1.0),
            reference_id: ReferenceId(*b"TRUE"),
            reference_time: self.now(),
            ..Status::UNSYNCHRONIZED
        }
    }
}

fn raw() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_RAW).expect("every Linux has this clock");
    now.tv_sec() * SECOND + now.tv_nsec()
}

fn serve(file: &str, truth: Truth) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:123")?;
    fs::write(file, format!("{} {}\n", truth.base, truth.leap))?;
    let mut access = AccessTable::new();
    access.add(Prefix::ALL_V4, Access::Allow)?;
    let mut responder = Responder::new(access, [7; 32]);
    let (mut request, mut reply) = ([0; MAX_REQUEST], [0; MAX_REQUEST]);
    loop {
        let (len, from) = socket.recv_from(&mut request)?;
        let meta = RxMeta {
            peer: from.ip(),
            peer_port: from.port(),
            received: truth.now(),
            kind: StampKind::Daemon,
            monotonic: Monotonic::from_nanos(raw().unsigned_abs()),
        };
        let verdict = responder.respond(&mut request[..len], &meta, &truth.status(), || truth.now(), &mut reply);
        if let Verdict::Reply { len, .. } = verdict {
            socket.send_to(&reply[..len], from)?;
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize| words.get(at).map_or(Ok(0), |word| word.parse::<i64>());
    let (Some(file), Ok(now), Ok(leap)) = (words.first(), number(1), number(2)) else {
        eprintln!("usage: truth FILE UNIX [LEAP]");
        return ExitCode::from(2);
    };
    match serve(file, Truth { base: now * SECOND - raw(), leap }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("truth: {error}");
            ExitCode::FAILURE
        }
    }
}
