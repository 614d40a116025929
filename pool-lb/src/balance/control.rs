//! Questions and commands: the control socket, and the page of metrics.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use chacha20::{ChaCha20Rng, rand_core::SeedableRng as _};
use pool_srv::directory::{Health, Mark, TransferWish, Wish};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    task::spawn_local,
    time::{sleep, timeout},
};

use super::{config::Config, keeper::Keeper, keeper::StartError, now, zone};
use crate::acceptor;

/// What comes of a command: a text, or what is wrong with it.
pub type Reply = Result<String, String>;

/// Longest command, and longest head of a request for metrics.
const MAX_COMMAND: usize = 4096;

/// Longest reply that a client takes.
const MAX_REPLY: u64 = 1 << 26;

/// Connections for metrics that the kernel keeps until they are accepted.
const BACKLOG: i32 = 16;

/// Most that are served at a time at one socket; others wait in the kernel. The threads of users need the files.
const MAX_CONNECTIONS: usize = 8;

/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Draws by which `why` finds out the chances.
const DRAWS: u32 = 4096;

/// Members that `why` shows.
const SHOWN: usize = 16;

/// Begins a reply, and says whether the command was carried out.
const OK: &str = "ok\n";
const ERROR: &str = "error\n";

/// The command for the page of metrics.
const METRICS: &str = "metrics";

/// A command on its way.
pub(super) struct Command {
    pub(super) line: String,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// Sockets that are open and not served yet.
pub(super) struct Sockets {
    control: std::os::unix::net::UnixListener,
    metrics: Option<std::net::TcpListener>,
}

impl Sockets {
    pub(super) fn open(config: &Config) -> Result<Self, StartError> {
        let path = &config.control_socket;
        let control = open_control(path).map_err(|error| StartError::Socket(path.display().to_string(), error))?;
        // Shared: a balancer may run beside the one that it follows.
        let open = |address: SocketAddr| acceptor::bind(address, BACKLOG, true);
        let failed = |address: SocketAddr| move |error| StartError::Socket(format!("metrics on {address}"), error);
        let metrics = config.metrics.map(|address| open(address).map_err(failed(address))).transpose()?;
        Ok(Self { control, metrics })
    }

    pub(super) fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves them in tasks of this thread.
    pub(super) fn serve(self, commands: &mpsc::Sender<Command>) {
        if let Ok(listener) = UnixListener::from_std(self.control) {
            let commands = commands.clone();
            let next = async move || listener.accept().await.map(|(stream, _)| stream);
            spawn_local(accept_forever(next, move |stream| attend(stream, commands.clone())));
        }
        if let Some(Ok(listener)) = self.metrics.map(TcpListener::from_std) {
            let commands = commands.clone();
            let next = async move || listener.accept().await.map(|(stream, _)| stream);
            spawn_local(accept_forever(next, move |stream| show(stream, commands.clone())));
        }
    }
}

/// Serves whoever comes, a few at a time, each in a task of its own and for a bounded time.
async fn accept_forever<S, F: Future<Output = io::Result<()>> + 'static>(
    next: impl AsyncFn() -> io::Result<S>,
    serve: impl Fn(S) -> F,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Ends never: the places are not closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match next().await {
            Ok(stream) => {
                let served = timeout(DEADLINE, serve(stream));
                spawn_local(async move {
                    // Who is too slow is gone.
                    let _ = served.await;
                    drop(place);
                });
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Opens the socket for its owner and group; one left behind by an earlier run makes way.
fn open_control(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn ask(commands: &mpsc::Sender<Command>, line: String) -> Reply {
    let (reply, answer) = oneshot::channel();
    let gone = || "the balancer is stopping".to_owned();
    commands.send(Command { line, reply }).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

/// Reads until a line end (or an empty line) is there.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> io::Result<String> {
    let mut text = Vec::new();
    let mut piece = [0; 512];
    while text.len() < MAX_COMMAND {
        match stream.read(&mut piece).await? {
            0 => break,
            length => text.extend(piece.iter().take(length)),
        }
        if let Ok(text) = std::str::from_utf8(&text)
            && let Some((first, _)) = text.split_once(end)
        {
            return Ok(first.to_owned());
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

async fn attend(mut stream: impl AsyncRead + AsyncWrite + Unpin, commands: mpsc::Sender<Command>) -> io::Result<()> {
    let line = read_until(&mut stream, "\n").await?;
    let text = match ask(&commands, line).await {
        Ok(text) => format!("{OK}{text}"),
        Err(text) => format!("{ERROR}{text}\n"),
    };
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// One page over HTTP/1, and then the connection is closed.
async fn show(mut stream: impl AsyncRead + AsyncWrite + Unpin, commands: mpsc::Sender<Command>) -> io::Result<()> {
    let head = read_until(&mut stream, "\r\n\r\n").await?;
    let (status, body) = match head.split(' ').take(2).collect::<Vec<_>>().as_slice() {
        ["GET", "/metrics"] => match ask(&commands, METRICS.to_owned()).await {
            Ok(text) => ("200 OK", text),
            Err(text) => ("503 Service Unavailable", text),
        },
        ["GET", _] => ("404 Not Found", "the page is /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET is served\n".to_owned()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Asks a running balancer.
///
/// # Errors
///
/// What the balancer says is wrong with the command, or why it cannot be asked.
pub async fn ask_running(socket: &Path, line: &str) -> Reply {
    let failed = |error: io::Error| format!("{}: {error}; does nts-pool-lb run?", socket.display());
    let answered = timeout(DEADLINE, async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut text = String::new();
        stream.take(MAX_REPLY).read_to_string(&mut text).await?;
        Ok(text)
    });
    let text = answered.await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    match (text.strip_prefix(OK), text.strip_prefix(ERROR)) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(text)) => Err(text.trim_end().to_owned()),
        (None, None) => Err("the balancer gave no answer".to_owned()),
    }
}

/// Carries out one command.
pub(super) fn carry_out(keeper: &mut Keeper, line: &str) -> Reply {
    let words: Vec<_> = line.split_whitespace().collect();
    match words.as_slice() {
        ["list"] => Ok(list(keeper)),
        ["why", client] => match client.parse() {
            Ok(client) => Ok(why(keeper, client)),
            Err(_) => Err(format!("{client:?} is no address; accepted: such as 192.0.2.1 or 2001:db8::1")),
        },
        ["drain", member] => drain(keeper, member, true),
        ["undrain", member] => drain(keeper, member, false),
        ["reload"] => keeper.reload(TransferWish::Whole),
        ["reload", "older"] => keeper.reload(TransferWish::Older),
        [METRICS] => Ok(metrics(keeper)),
        _ => Err(format!(
            "{line:?} is no command; accepted: list, why ADDRESS, drain MEMBER, undrain MEMBER, reload, reload older"
        )),
    }
}

const fn state_name(state: Health) -> &'static str {
    match state {
        Health::Up => "up",
        Health::Suspect => "suspect",
        Health::Down => "down",
        Health::Draining => "draining",
    }
}

fn list(keeper: &Keeper) -> String {
    let now = keeper.shared.config.unix_seconds();
    let report = keeper.judge.report(now::seconds(), now);
    let mut out = format!("{:<32} {:<9} {:>8} {:>10}  {}\n", "MEMBER", "STATE", "SINCE", "OFFSET", "REASON");
    for member in keeper.directory().members() {
        let name = member.name.as_str();
        let health = report.members.get(name);
        let since = health.map_or(0, |health| now.saturating_sub(health.since));
        let offset =
            health.and_then(|health| health.offset_seconds).map_or_else(|| "-".to_owned(), |s| format!("{s:+.6}"));
        let mut reason = health.and_then(|health| health.reason.clone()).unwrap_or_default();
        if member.token.is_none() {
            reason = "no token: for DNS clients alone".to_owned();
        }
        let line = format!("{name:<32} {:<9} {since:>7}s {offset:>10}  {reason}", state_name(keeper.state(member)));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    if keeper.judge.is_common_mode() {
        out.push_str("most members fail at once: the fault is taken for ours, and nobody is brought down\n");
    }
    if let (Some(config), Some(mark)) = (&keeper.shared.config.zone, keeper.members.list()) {
        let standing = keeper.members.standing.borrow();
        let _ = write!(out, "members are those of the zone {}: {}", config.name, zone::shown(mark));
        if let Some(at) = keeper.members.confirmed {
            let _ = write!(out, ", confirmed {}s ago", now.saturating_sub(at));
        }
        if let Some((other, _)) = standing.confirmed.as_ref().filter(|(other, _)| other != mark) {
            let _ = write!(out, "; not in force: {}", zone::shown(other));
        }
        if let Some(problem) = &standing.problem {
            let _ = write!(out, "; last attempt: {problem}");
        }
        out.push('\n');
    }
    if let Some(problem) = &keeper.members.problem {
        let _ = writeln!(out, "{problem}; the members stay as they were");
    }
    out
}

fn why(keeper: &Keeper, client: IpAddr) -> String {
    let assignments = keeper.shared.assignments.load();
    let roster = &assignments.roster;
    let directory = roster.directory();
    let mut out = String::new();
    for (text, has_some) in [("its first member", false), ("its later members", true)] {
        let wish = Wish { client: Some(client), has_some, excluded: &[] };
        let regions = roster.regions(&wish);
        let regions = regions.iter().map(|region| region.map_or("the world", |region| directory.region_name(region)));
        let _ = writeln!(out, "{client} gets {text} from {}:", regions.collect::<Vec<_>>().join(", then "));
        // The same question has the same answer as long as nothing changes.
        let mut random = ChaCha20Rng::from_seed([0; 32]);
        let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
        for _ in 0..DRAWS {
            for place in roster.draw(&wish, 1, &mut random) {
                *counts.entry(place).or_default() += 1;
            }
        }
        let mut shares: Vec<_> = counts.into_iter().collect();
        shares.sort_by_key(|(place, count)| (std::cmp::Reverse(*count), *place));
        for (place, count) in shares.iter().take(SHOWN) {
            let Some(member) = directory.members().get(*place) else { continue };
            let share = 100.0 * f64::from(*count) / f64::from(DRAWS);
            let state = state_name(keeper.state(member));
            let _ = writeln!(
                out,
                "  {share:5.1} %  {} (weight {}, {state}, operator {})",
                member.name.as_str(),
                member.weight,
                member.operator
            );
        }
        match shares.len() {
            0 => out.push_str("  nobody\n"),
            count if count > SHOWN => drop(writeln!(out, "  and {} more", count - SHOWN)),
            _ => {}
        }
    }
    out
}

fn drain(keeper: &mut Keeper, member: &str, draining: bool) -> Reply {
    let wanted = member.strip_suffix('.').unwrap_or(member).to_ascii_lowercase();
    let directory = keeper.directory();
    let name =
        directory.members().iter().map(|known| known.name.as_str()).find(|name| name.eq_ignore_ascii_case(&wanted));
    let name = name.ok_or_else(|| format!("there is no member {member:?}"))?.to_owned();
    keeper.set_draining(&name, draining);
    Ok(if draining {
        format!("{name} gets no new users until this balancer is started again; to make it last, set drain = true\n")
    } else {
        format!("{name} gets users again, unless its entry says drain = true\n")
    })
}

fn metrics(keeper: &Keeper) -> String {
    let mut out = keeper.shared.metrics.text();
    let mut counts = [Health::Up, Health::Suspect, Health::Down, Health::Draining].map(|state| (state, 0_u32));
    for member in keeper.directory().members() {
        let state = keeper.state(member);
        for (_, count) in counts.iter_mut().filter(|(known, _)| *known == state) {
            *count += 1;
        }
    }
    out.push_str("# HELP nts_pool_lb_members Members by state.\n# TYPE nts_pool_lb_members gauge\n");
    for (state, count) in counts {
        let _ = writeln!(out, "nts_pool_lb_members{{state=\"{}\"}} {count}", state_name(state));
    }
    let without = keeper.directory().members().iter().filter(|member| member.token.is_none()).count();
    let (without, problem) = (count_of(without), u64::from(keeper.members.problem.is_some()));
    gauge(&mut out, "members_without_token", "Members that get no users for want of a token.", without);
    gauge(&mut out, "members_problem", "Whether the members are not those of their files, for a mistake.", problem);
    let common = u8::from(keeper.judge.is_common_mode());
    let _ = write!(
        out,
        "# HELP nts_pool_lb_common_mode Whether most members fail at once.\n# TYPE nts_pool_lb_common_mode gauge\n\
         nts_pool_lb_common_mode {common}\n"
    );
    if let Some(server) = keeper.shared.server.load().as_ref() {
        let (name, end) = ("nts_pool_lb_certificate_not_after_seconds", server.validity().not_after.seconds);
        let _ = write!(
            out,
            "# HELP {name} When the pool's certificate ends, in seconds since 1970.\n# TYPE {name} gauge\n{name} {end}\n"
        );
    }
    if let Some(mark) = keeper.members.list() {
        zone_metrics(&mut out, mark, keeper);
    }
    let offsets = "nts_pool_lb_member_offset_seconds";
    let _ = write!(out, "# HELP {offsets} A member's clock minus ours.\n# TYPE {offsets} gauge\n");
    for (name, health) in keeper.judge.report(now::seconds(), 0).members {
        if let Some(offset) = health.offset_seconds {
            let _ = writeln!(out, "{offsets}{{member=\"{name}\"}} {offset}");
        }
    }
    out
}

fn count_of(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    let name = format!("nts_pool_lb_{name}");
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
}

/// Of the zone that says who belongs to the pool.
fn zone_metrics(out: &mut String, mark: &Mark, keeper: &Keeper) {
    gauge(out, "zone_generation", "Generation of the list of members that is in force.", mark.generation);
    gauge(out, "zone_members", "Members of that list.", count_of(mark.members));
    let (info, fingerprint) = ("nts_pool_lb_zone_list_info", mark.fingerprint());
    let _ = write!(
        out,
        "# HELP {info} What machines that agree have alike.\n# TYPE {info} gauge\n{info}{{fingerprint=\"{fingerprint}\"}} 1\n"
    );
    if let Some(at) = keeper.members.confirmed {
        gauge(out, "zone_confirmed_seconds", "When that list was last confirmed, in seconds since 1970.", at);
    }
    let (name, failures) = ("nts_pool_lb_zone_failures_total", keeper.members.standing.borrow().failures);
    let _ =
        write!(out, "# HELP {name} Attempts to have the list that failed.\n# TYPE {name} counter\n{name} {failures}\n");
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending, rc::Rc};

    use super::*;
    use crate::balance::tests::block_on;

    #[test]
    fn few_are_served_at_a_time_and_none_for_ever() {
        block_on(async {
            tokio::time::pause();
            let taken = Rc::new(Cell::new(0));
            let counting = Rc::clone(&taken);
            let next = async move || {
                counting.set(counting.get() + 1);
                Ok(())
            };
            spawn_local(accept_forever(next, |()| pending::<io::Result<()>>()));
            sleep(DEADLINE / 2).await;
            assert_eq!(taken.get(), MAX_CONNECTIONS, "whoever says nothing holds a place");
            sleep(DEADLINE).await;
            assert_eq!(taken.get(), 2 * MAX_CONNECTIONS, "and not for longer than it may");
        });
    }
}
