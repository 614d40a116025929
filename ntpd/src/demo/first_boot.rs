//! `ntpd demo --first-boot`: a machine that knows no time comes to know it, though somebody with a stolen key is among those
//! whom it asks.
//!
//! `stage` sets up operators and the machine, `story` tells what happens as it happens, and `outcome` is the verdict.

use std::time::Duration;

use ntp_proto::bootstrap::State;
use tokio::time::Instant;

use super::{LOOK, PROGRESS};
use crate::{
    cli::{DemoArgs, print},
    client::Client,
    start::StartError,
};

mod outcome;
mod stage;
mod story;
mod view;

use outcome::Outcome;
use stage::Stage;
use story::Story;
use view::View;

/// How long the clock is watched after the time is verified.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// How long it may take until it is: far longer than it does.
const PATIENCE: Duration = Duration::from_secs(90);

/// Plays until the clock has been watched for a while; returns whether all went as promised.
pub(super) async fn play(args: &DemoArgs) -> Result<bool, StartError> {
    let say = |lines: Vec<String>| {
        if !args.json {
            for line in lines {
                print(&format!("{line}\n"));
            }
        }
    };
    let stage = Stage::build()?;
    say(story::setting());
    let mut client = stage.boot()?;
    let (story, last) = follow(&stage, &mut client, say).await;
    let outcome = Outcome::of(&story, &last);
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&outcome).map_err(StartError::new)?));
    } else {
        print(&outcome.to_text());
    }
    Ok(outcome.passed)
}

/// Lets the client run and looks at it after every step.
async fn follow(stage: &Stage, client: &mut Client, say: impl Fn(Vec<String>)) -> (Story, View) {
    let begin = Instant::now();
    let mut story = Story::default();
    let mut end = PATIENCE;
    let mut told = Duration::ZERO;
    loop {
        let elapsed = begin.elapsed();
        let view = View::of(stage, client, elapsed);
        say(story.tell(&view));
        if let Some(at) = story.reached(State::Verified) {
            end = at + AFTERWARDS;
            if elapsed >= at.max(told) + PROGRESS {
                told = elapsed;
                say(vec![story::progress(&view)]);
            }
        }
        if elapsed >= end {
            return (story, view);
        }
        let _ = tokio::time::timeout(LOOK, client.step()).await;
    }
}
