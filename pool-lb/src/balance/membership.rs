//! Who belongs to the pool as its files have it, and what is known of the list that they come from.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use pool_srv::directory::{Directory, Mark, TransferWish, Watched};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_local,
};
use tracing::warn;

use super::{
    Shared,
    config::Config,
    control::Reply,
    zone::{self, MAX_POKES, Poke, Standing},
};

/// Members, of a file or of a zone's list.
pub(super) struct Membership {
    watched: Watched,
    file: PathBuf,
    /// Why they are not those of the files.
    pub(super) problem: Option<String>,
    /// Those without token that were told of.
    tokenless: BTreeSet<String>,
    /// How it is with the zone.
    pub(super) standing: watch::Sender<Standing>,
    /// When a name server last said that the list in force is its own, in seconds since 1970.
    pub(super) confirmed: Option<u64>,
    /// What has the zone asked at once, and the end of that until the zone is followed.
    pokes: (mpsc::Sender<Poke>, Option<mpsc::Receiver<Poke>>),
    /// What a command waits for.
    pub(super) awaited: Option<oneshot::Receiver<Reply>>,
}

impl Membership {
    /// Takes the files as they were read.
    pub(super) fn new(config: &Config, watched: Watched) -> Self {
        let (poke, poked) = mpsc::channel(MAX_POKES);
        let mut new = Self {
            watched,
            file: config.members.clone(),
            problem: None,
            tokenless: BTreeSet::new(),
            standing: watch::Sender::new(zone::remembered(config)),
            confirmed: None,
            pokes: (poke, Some(poked)),
            awaited: None,
        };
        new.take();
        new
    }

    /// Follows the zone, in a task of this thread.
    pub(super) fn follow_zone(&mut self, shared: &Shared) {
        if let Some(poked) = self.pokes.1.take() {
            spawn_local(zone::follow(shared.clone(), poked, self.standing.clone()));
        }
    }

    /// The members in force.
    pub(super) fn directory(&self) -> &Arc<Directory> {
        self.watched.current()
    }

    /// The list in force, if a zone says who belongs to the pool.
    pub(super) fn list(&self) -> Option<&Mark> {
        self.watched.mark()
    }

    /// Reads files that have changed; whether the members may be others.
    pub(super) fn look(&mut self) -> bool {
        let is_new = match self.watched.refresh().map(|new| new.is_some()) {
            Ok(is_new) => is_new,
            Err(problem) => {
                warn!("{problem}; the members stay as they were");
                self.problem = Some(problem.to_string());
                false
            }
        };
        if is_new {
            self.take();
        }
        self.confirm();
        is_new
    }

    /// Has the zone asked, if there is one, and reads the files again.
    pub(super) fn reload(&mut self, wish: TransferWish) -> Result<(), String> {
        if self.list().is_some() {
            let (told, awaited) = oneshot::channel();
            let poke = Poke { wish, told };
            self.pokes.0.try_send(poke).map_err(|_| "the zone is being transferred; try it again later".to_owned())?;
            self.awaited = Some(awaited);
        } else if wish == TransferWish::Older {
            return Err("there is no [zone] whose list could be older; accepted: reload".to_owned());
        }
        if let Err(problem) = self.watched.reload().map(drop) {
            self.problem = Some(problem.to_string());
            return Err(problem.to_string());
        }
        self.take();
        Ok(())
    }

    fn take(&mut self) {
        self.problem = None;
        self.confirmed = None;
        self.confirm();
        self.tell_tokenless();
    }

    /// What is said of another list is not said of that in force.
    fn confirm(&mut self) {
        let standing = self.standing.borrow();
        let of_ours = standing.confirmed.as_ref().filter(|(mark, _)| Some(mark) == self.watched.mark());
        self.confirmed = of_ours.map(|(_, at)| *at).or(self.confirmed);
    }

    /// Tells once which members of a list have no token here.
    fn tell_tokenless(&mut self) {
        if self.list().is_none() {
            return;
        }
        let members = self.directory().members().iter().filter(|member| member.token.is_none());
        let tokenless: BTreeSet<_> = members.map(|member| member.name.as_str().to_owned()).collect();
        let new: Vec<_> = tokenless.difference(&self.tokenless).map(String::as_str).collect();
        if !new.is_empty() {
            let (count, names) = (new.len(), zone::some(new));
            warn!("{count} members of the list have no token in {}, and get no users: {names}", self.file.display());
        }
        self.tokenless = tokenless;
    }
}
