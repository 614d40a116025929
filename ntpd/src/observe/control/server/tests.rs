//! The control server over a real socket.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream as Client,
    path::PathBuf,
    sync::mpsc as std_mpsc,
    thread,
    time::Instant,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::observe::{
    control::{AskError, Change, Show, ask},
    report::ActivityReport,
};

/// A daemon in a thread: it answers `activity`, is slow to reload, refuses to step and forgets the rest.
struct Daemon {
    directory: TempDir,
    counts: Arc<ControlCounts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

const QUICK: Limits =
    Limits { idle: Duration::from_secs(2), answer: Duration::from_millis(300), write: Duration::from_millis(500) };

impl Daemon {
    fn start(limits: Limits) -> Self {
        let directory = TempDir::new().unwrap();
        let mut server = ControlServer::bind(&directory.path().join("control.sock")).unwrap();
        server.limits = limits;
        let counts = server.counts();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std_mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let (sender, receiver) = mpsc::channel(QUEUE);
                ready.send(()).unwrap();
                tokio::select! {
                    ended = server.run(sender) => panic!("the server ended: {ended:?}"),
                    () = answer_all(receiver) => panic!("the queue ended"),
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self { directory, counts, stop: Some(stop), thread: Some(thread) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    fn connect(&self) -> Client {
        let client = Client::connect(self.path()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }

    fn works(&self) -> bool {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match ask(&self.path(), &Command::Show(Show::Activity)) {
                Ok(Reply::Activity(_)) => return true,
                // The places of clients that went away are free again a moment later.
                Err(AskError::Refused(error)) if error.kind == ErrorKind::Busy && Instant::now() < end => {
                    thread::sleep(Duration::from_millis(5));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !thread::panicking() {
                result.unwrap();
            }
        }
        assert!(thread::panicking() || !self.path().exists(), "the file is removed at the end");
    }
}

async fn answer_all(mut requests: mpsc::Receiver<ControlRequest>) {
    let mut kept = Vec::new();
    while let Some(ControlRequest { command, reply }) = requests.recv().await {
        match command {
            Command::Show(Show::Activity) => drop(reply.send(Ok(Reply::Activity(ActivityReport::default())))),
            Command::Show(Show::Pools) => drop(reply.send(Ok(Reply::Done("x".repeat(1 << 20))))),
            Command::Change(Change::Reload) => kept.push(reply),
            Command::Change(Change::MakeStep) => {
                drop(reply.send(Err(ControlError::new(ErrorKind::Failed, "not with -x"))));
            }
            Command::Show(_) | Command::Change(_) => drop(reply),
        }
    }
}

fn read_line(reader: &mut impl io::BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

fn message(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(Answer::Error(error)) => error.message,
        other => panic!("{other:?}: {line}"),
    }
}

#[test]
fn requests_are_answered_in_order_on_one_connection() {
    let daemon = Daemon::start(LIMITS);
    let mut client = daemon.connect();
    client.write_all(b"{\"command\":\"activity\"}\n{\"command\":\"makestep\"}\r\n{\"comm").unwrap();
    client.write_all(b"and\":\"activity\"}").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    let activity = r#"{"ok":{"activity":{"online":0,"offline":0,"burst":0,"no-keys":0,"unresolved":0}}}"#;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, [activity, r#"{"error":{"kind":"failed","message":"not with -x"}}"#, activity]);
    assert_eq!(daemon.counts.get(), ControlCounters { received: 3, refused: 1 });
}

#[test]
fn the_client_tells_faults_apart() {
    let daemon = Daemon::start(QUICK);
    assert!(daemon.works());
    let error = |command| ask(&daemon.path(), &command).unwrap_err().to_string();
    assert_eq!(error(Command::Change(Change::MakeStep)), "not with -x");
    assert_eq!(error(Command::Change(Change::Reload)), "the daemon did not answer in time");
    assert_eq!(error(Command::Show(Show::Tracking)), "the daemon is stopping");
    let nowhere = daemon.directory.path().join("other.sock");
    let command = Command::Show(Show::Activity);
    assert!(matches!(ask(&nowhere, &command), Err(AskError::NotRunning(_))));
    std::fs::write(&nowhere, "").unwrap();
    assert!(matches!(ask(&nowhere, &command), Err(AskError::NotRunning(_))), "a file nobody listens to");
}

#[test]
fn another_version_is_recognised() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("control.sock");
    let listener = StdListener::bind(&path).unwrap();
    let command = Command::Show(Show::Pools);
    for (answer, expected) in [
        (
            r#"{"error":{"kind":"unknown-command","message":"?"}}"#,
            "the running ntpd is older than this program and has no \"pools\"",
        ),
        (r#"{"error":{"kind":"from-the-future","message":"no such luck"}}"#, "no such luck"),
        (r#"{"ok":{"future":{}}}"#, "the answer makes no sense: the running ntpd is of another version"),
        ("", "the answer makes no sense: the running ntpd is of another version"),
    ] {
        let asked = thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                read_line(&mut BufReader::new(stream.try_clone().unwrap()));
                stream.write_all(answer.as_bytes()).unwrap();
            });
            ask(&path, &command)
        });
        assert_eq!(asked.unwrap_err().to_string(), expected);
    }
}

#[test]
fn rubbish_gets_one_line_and_the_door() {
    let daemon = Daemon::start(LIMITS);
    for rubbish in ["GET / HTTP/1.1\r\n\r\n", "\n\n", "{\"command\":\"trakcing\"}\n", "\u{0}\u{1}\u{ff}\n"] {
        let mut client = BufReader::new(daemon.connect());
        client.get_mut().write_all(rubbish.as_bytes()).unwrap();
        assert!(message(&read_line(&mut client)).contains("tracking, sources, "), "{rubbish:?}");
        // Bytes that nobody read may end the connection with a reset.
        assert!(client.read_line(&mut String::new()).unwrap_or(0) == 0, "{rubbish:?}");
    }
    assert!(daemon.works());
}

#[test]
fn too_long_is_too_long() {
    let daemon = Daemon::start(LIMITS);
    let name = |len: usize| {
        let line = format!(r#"{{"command":"burst","source":"{}"}}"#, "x".repeat(len));
        (line.len(), line + "\n")
    };
    let (len, line) = name(MAX_REQUEST - 33);
    assert_eq!(len, MAX_REQUEST - 2);
    for (more, accepted) in [(2, true), (3, false), (100_000, false)] {
        let line = line.replace("\n", "") + &" ".repeat(more) + "\n";
        let mut client = BufReader::new(daemon.connect());
        // The other side may close before it has read all of it.
        let _ = client.get_mut().write_all(line.as_bytes());
        let answer = message(&read_line(&mut client));
        let expected = if accepted { "the daemon is stopping" } else { "the request is too long" };
        assert!(answer.starts_with(expected), "{answer}");
    }
    assert!(daemon.works());
}

#[test]
fn slow_clients_are_disconnected() {
    let daemon = Daemon::start(Limits { idle: Duration::from_millis(300), ..QUICK });
    let mut idle = BufReader::new(daemon.connect());
    let mut half = BufReader::new(daemon.connect());
    half.get_mut().write_all(b"{\"command\":").unwrap();
    assert_eq!(message(&read_line(&mut half)), "the request did not end in time");
    assert_eq!((read_line(&mut half).as_str(), read_line(&mut idle).as_str()), ("", ""));

    // Answers that nobody takes: the socket's buffers hold less than one of them.
    let mut deaf = daemon.connect();
    deaf.write_all(b"{\"command\":\"pools\"}\n").unwrap();
    thread::sleep(Duration::from_millis(1_000));
    let mut taken = Vec::new();
    let _ = deaf.read_to_end(&mut taken);
    assert!(!taken.is_empty() && taken.len() < 1 << 20, "{}", taken.len());
    assert!(daemon.works());
}

#[test]
fn the_oldest_idle_connection_makes_room() {
    let daemon = Daemon::start(LIMITS);
    let mut held: Vec<BufReader<Client>> = (0..MAX_CONNECTIONS).map(|_| BufReader::new(daemon.connect())).collect();
    for client in &mut held {
        client.get_mut().write_all(b"{\"command\":\"activity\"}\n").unwrap();
        assert!(read_line(client).starts_with("{\"ok\""));
    }
    assert!(ask(&daemon.path(), &Command::Show(Show::Activity)).is_ok(), "one more is answered");
    let mut rest = Vec::new();
    assert_eq!(held.remove(0).read_to_end(&mut rest).unwrap(), 0, "the oldest is closed");
    for client in &mut held {
        client.get_mut().write_all(b"{\"command\":\"activity\"}\n").unwrap();
        assert!(read_line(client).starts_with("{\"ok\""), "the others are not disturbed");
    }
    for _ in 0..100 {
        assert!(ask(&daemon.path(), &Command::Show(Show::Activity)).is_ok());
    }
}

#[test]
fn arbitrary_bytes_do_no_harm() {
    let daemon = Daemon::start(QUICK);
    let piece = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..64),
        2 => Just(b"{\"command\":\"activity\"}\n".to_vec()),
        1 => Just(b"{\"command\":\"ntpdata\",\"source\":\"\xff\"}\n".to_vec()),
        1 => Just(vec![b'['; MAX_REQUEST - 1]),
        1 => Just(b"\n".to_vec()),
    ];
    let cases = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(cases)
        .run(&prop::collection::vec(piece, 0..6), |pieces| {
            let mut client = daemon.connect();
            let _ = client.write_all(&pieces.concat());
            let _ = client.shutdown(std::net::Shutdown::Write);
            let mut answers = Vec::new();
            let _ = client.read_to_end(&mut answers);
            for line in answers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                prop_assert!(serde_json::from_slice::<Answer>(line).is_ok(), "{:?}", line);
            }
            prop_assert!(daemon.works());
            Ok(())
        })
        .unwrap();
}

#[test]
fn lines_do_not_depend_on_how_they_come() {
    let whole = |bytes: &[u8]| {
        let mut lines = Lines { bytes: bytes.to_vec(), ended: true };
        std::iter::from_fn(|| lines.take().filter(|next| matches!(next, Next::Line(_)))).collect::<Vec<_>>()
    };
    let text = b"one\n\ntwo\nthree";
    let expected = whole(text);
    assert_eq!(expected.len(), 4);
    for cut in 0..text.len() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for (part, ended) in [(&text[..cut], false), (&text[cut..], true)] {
            lines.bytes.extend_from_slice(part);
            lines.ended = ended;
            while let Some(next @ Next::Line(_)) = lines.take() {
                got.push(next);
            }
        }
        assert_eq!(got, expected, "cut at {cut}");
    }
}
