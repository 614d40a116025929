//! `ntpctl watch`: the state of the clock and its sources, again and again.
//!
//! On a terminal it is one picture that changes, until q or Ctrl-C; elsewhere the same lines follow each other, without colours.

use std::{
    future,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    task::Poll,
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::FAILED;
use crate::observe::{
    control::{AskError, Command, Reply, Show, ask},
    report::{SourceStatsReport, SourcesReport, TrackingReport},
    table,
};

mod picture;
mod terminal;
#[cfg(test)]
mod tests;
mod trail;

use picture::{Picture, Size};
use terminal::{Keys, Screen};
use trail::Trails;

/// What a window is taken for that has no size.
const USUAL: Size = Size { width: 80, height: 24 };

/// Arguments of `watch`.
#[derive(Clone, Copy, Debug, PartialEq, Args)]
pub struct WatchArgs {
    /// Time between two looks, in seconds, at least 0.1
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0, value_parser = super::ctl::limit)]
    pub interval: f64,
    /// Stop after this many looks
    #[arg(short, long, value_name = "NUMBER")]
    pub count: Option<u64>,
}

/// What one look gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Look {
    tracking: TrackingReport,
    sources: SourcesReport,
    sourcestats: SourceStatsReport,
}

impl Look {
    fn take(socket: &Path) -> Result<Self, AskError> {
        let show = |show| ask(socket, &Command::Show(show));
        match (show(Show::Tracking)?, show(Show::Sources)?, show(Show::SourceStats)?) {
            (Reply::Tracking(tracking), Reply::Sources(sources), Reply::SourceStats(sourcestats)) => {
                Ok(Self { tracking, sources, sourcestats })
            }
            _ => Err(AskError::NotUnderstood),
        }
    }
}

/// How looks are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As one picture on a terminal.
    Screen,
    /// As lines, one picture after the other.
    Lines,
    /// As JSON, one line each.
    Json,
}

/// Watches until it is told to end.
#[must_use]
pub fn run(socket: &Path, numeric: bool, json: bool, args: WatchArgs) -> ExitCode {
    let form = match json {
        true => Form::Json,
        false if io::stdout().is_terminal() => Form::Screen,
        false => Form::Lines,
    };
    let complain = |error: &dyn std::fmt::Display| {
        eprintln!("ntpctl: {}", table::printable(&error.to_string()));
        ExitCode::from(FAILED)
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    let watch = Watch { socket: socket.to_owned(), numeric, form, trails: Trails::default() };
    let result = runtime.block_on(watch.run(args));
    // A daemon that does not answer is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(End::Daemon(error)) => complain(&error),
        // A reader that went away, as `head` does, is no failure.
        Err(End::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(End::Output(error)) => complain(&error),
    }
}

/// Why it ended by itself.
enum End {
    Daemon(AskError),
    Output(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

struct Watch {
    socket: PathBuf,
    numeric: bool,
    form: Form,
    trails: Trails,
}

impl Watch {
    async fn run(mut self, args: WatchArgs) -> Result<(), End> {
        let mut ends = Ends::new()?;
        let mut resized = signal(SignalKind::window_change())?;
        // Before the first look there is nothing to show, and an error belongs below the command.
        let mut look = Look::take(&self.socket).map_err(End::Daemon);
        if look.is_err() {
            return look.map(drop);
        }
        let mut screen = (self.form == Form::Screen).then(Screen::enter).transpose()?;
        let mut keys = screen.is_some().then(Keys::open).flatten();
        let interval = Duration::from_secs_f64(args.interval.max(0.1));
        let (mut looks, mut due, mut asking): (u64, _, Option<JoinHandle<_>>) = (0, Instant::now() + interval, None);
        let mut last = None;
        loop {
            if let Ok(new) = &look {
                self.trails.add(new);
                last = Some(new.clone());
            }
            looks += 1;
            self.show(screen.as_mut(), last.as_ref(), look.as_ref().err())?;
            if args.count.is_some_and(|count| looks >= count) {
                return Ok(());
            }
            look = loop {
                tokio::select! {
                    () = sleep_until(due), if asking.is_none() => {
                        due = (due + interval).max(Instant::now());
                        let socket = self.socket.clone();
                        asking = Some(spawn_blocking(move || Look::take(&socket)));
                    }
                    new = answered(&mut asking) => break new.map_err(End::Daemon),
                    _ = resized.recv(), if screen.is_some() => self.show(screen.as_mut(), last.as_ref(), None)?,
                    () = ends.received() => return Ok(()),
                    () = Keys::quit(&mut keys) => return Ok(()),
                }
            };
            if self.form != Form::Screen && look.is_err() {
                return look.map(drop);
            }
        }
    }

    fn show(&self, screen: Option<&mut Screen>, look: Option<&Look>, error: Option<&End>) -> Result<(), End> {
        let Some(look) = look else { return Ok(()) };
        let error = match error {
            Some(End::Daemon(error)) => Some(error.to_string()),
            Some(End::Output(_)) | None => None,
        };
        let picture = Picture { look, trails: &self.trails, numeric: self.numeric, error: error.as_deref() };
        if let Some(screen) = screen {
            let size = terminal::size().unwrap_or(USUAL);
            screen.draw(&picture.lines(size))?;
            return Ok(());
        }
        let mut text = match self.form {
            Form::Json => serde_json::to_string(look).unwrap_or_default(),
            Form::Lines | Form::Screen => {
                // No window cuts it, so all is shown.
                let size = Size { width: picture::WIDEST, height: usize::MAX };
                picture.lines(size).into_iter().map(|line| line.text + "\n").collect()
            }
        };
        text.push('\n');
        io::stdout().write_all(text.as_bytes())?;
        io::stdout().flush()?;
        Ok(())
    }
}

/// The answer of the daemon, if one is waited for.
async fn answered(asking: &mut Option<JoinHandle<Result<Look, AskError>>>) -> Result<Look, AskError> {
    let Some(task) = asking else { return future::pending().await };
    let answer = task.await.unwrap_or(Err(AskError::NotUnderstood));
    *asking = None;
    answer
}

/// The signals that end a program and leave it time to give the window back.
struct Ends([Signal; 4]);

impl Ends {
    fn new() -> io::Result<Self> {
        let [interrupt, terminate, hangup, quit] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()].map(signal);
        Ok(Self([interrupt?, terminate?, hangup?, quit?]))
    }

    async fn received(&mut self) {
        future::poll_fn(|context| {
            let is_here = self.0.iter_mut().any(|signal| matches!(signal.poll_recv(context), Poll::Ready(Some(()))));
            if is_here { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
