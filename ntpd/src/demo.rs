//! `ntpd demo`: the whole system on loopback, in one process, without touching anything.
//!
//! `plan` says what each mode needs around it and promises, `stage` sets that up, `visitor` is the daemon's own client
//! in it, and `outcome` is the verdict. `first_boot` is another story, with operators in the place of a pool.

use std::{process::ExitCode, time::Duration};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::{
    cli::{DemoArgs, FAILED, print},
    client::Client,
    start::StartError,
};

mod first_boot;
mod folder;
mod outcome;
mod pki;
mod plan;
mod pool;
mod stage;
mod visitor;
mod words;

use outcome::Outcome;
use plan::Plan;
use stage::Stage;
use visitor::Visitor;

/// How long it takes: a clock whose frequency is not corrected would have run away by more than the goal.
const DURATION: Duration = Duration::from_secs(30);
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Time between two looks at the clock.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the demonstration.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    // The pool's DNS wants more than one thread.
    let result = Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::new)
        .and_then(|runtime| runtime.block_on(play(args)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("ntpd: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Plays until the end or an interruption; either way what was written is removed. Returns whether all is as promised.
async fn play(args: &DemoArgs) -> Result<bool, StartError> {
    let mut interruption = Interruption::watch()?;
    if args.first_boot {
        return tokio::select! {
            played = first_boot::play(args) => played,
            () = interruption.comes() => Err(StartError::new("interrupted")),
        };
    }
    let stage = Stage::build(Plan::of(args.mode)).await?;
    let (outcome, mut client) = tokio::select! {
        played = perform(args, &stage) => played?,
        () = interruption.comes() => return Err(StartError::new("interrupted")),
    };
    if args.keep {
        if !args.json {
            print(&words::invitation(&stage));
        }
        loop {
            tokio::select! {
                () = interruption.comes() => break,
                () = client.step() => {}
            }
        }
    }
    Ok(outcome.passed)
}

/// SIGINT and SIGTERM.
struct Interruption([Signal; 2]);

impl Interruption {
    /// From here on these signals end nothing by themselves.
    fn watch() -> Result<Self, StartError> {
        let on = |kind| signal(kind).map_err(StartError::new);
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?]))
    }

    async fn comes(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

async fn perform(args: &DemoArgs, stage: &Stage) -> Result<(Outcome, Client), StartError> {
    let say = |text: &str| {
        if !args.json {
            print(&format!("{text}\n"));
        }
    };
    say(&words::setting(stage));
    let visitor = Visitor::new(stage)?;
    let found = visitor.look_around(stage.ke_port()).await?;
    say(&words::finding(&stage.plan, &found));
    let mut client = visitor.begin()?;
    let begin = Instant::now();
    let mut told = Duration::ZERO;
    while begin.elapsed() < DURATION {
        let _ = tokio::time::timeout(LOOK, client.step()).await;
        if begin.elapsed() >= told {
            told += PROGRESS;
            say(&words::progress(&mut client, begin.elapsed()));
        }
    }
    let outcome = Outcome::of(&stage.plan, &mut client);
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&outcome).map_err(StartError::new)?));
    } else {
        print(&outcome.to_text());
    }
    Ok((outcome, client))
}
