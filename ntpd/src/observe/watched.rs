//! What the daemon keeps for those who watch it by HTTP.

use std::net::SocketAddr;

use ntp_proto::time::Monotonic;
use tokio::sync::mpsc;

use super::{
    history::History,
    report::{DaemonReport, StatusReport},
    web::{Observed, Prepared, Web, WebRequest},
};
use crate::{now, serve::ListenError};

/// The listeners, and what is shown beside the reports.
#[derive(Debug)]
pub struct Watched {
    web: Web,
    requests: mpsc::Receiver<WebRequest>,
    history: History,
    started: Monotonic,
    started_unix: i64,
}

impl Watched {
    /// Listens at these addresses. Must be called within the runtime.
    ///
    /// # Errors
    ///
    /// [`ListenError`] for the first that cannot be had.
    pub fn start(listen: &[SocketAddr]) -> Result<Self, ListenError> {
        let (mut web, requests) = Web::new();
        let prepared = web.prepare(listen)?;
        web.commit(listen, prepared);
        let (started, started_unix) = (now::monotonic(), now::unix().seconds);
        Ok(Self { web, requests, history: History::default(), started, started_unix })
    }

    /// As [`Web::prepare`].
    ///
    /// # Errors
    ///
    /// [`ListenError`], as there.
    pub fn prepare(&self, listen: &[SocketAddr]) -> Result<Prepared, ListenError> {
        self.web.prepare(listen)
    }

    /// As [`Web::commit`].
    pub fn commit(&mut self, listen: &[SocketAddr], prepared: Prepared) {
        self.web.commit(listen, prepared);
    }

    /// Waits for somebody who wants to see something.
    pub async fn requested(&mut self) -> WebRequest {
        match self.requests.recv().await {
            Some(request) => request,
            // The other end is in here.
            None => std::future::pending().await,
        }
    }

    /// Where corrections are recorded.
    pub const fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// Describes the program.
    pub fn about(&mut self, certificate_expires: Option<i64>) -> DaemonReport {
        let unix = now::unix();
        let up = i64::try_from(now::monotonic().since(self.started).as_secs()).unwrap_or(i64::MAX);
        // A clock that was stepped has another opinion of when that was; a slewed one does not change it every second.
        let started = unix.seconds.saturating_sub(up);
        if started.abs_diff(self.started_unix) > 1 {
            self.started_unix = started;
        }
        #[expect(clippy::cast_precision_loss, reason = "exact to a microsecond for thousands of years")]
        let now_unix_seconds = unix.seconds as f64 + f64::from(unix.nanos) / 1e9;
        DaemonReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_unix_seconds,
            started_unix_seconds: self.started_unix,
            certificate_expires_unix_seconds: certificate_expires,
        }
    }

    /// What is shown now.
    #[must_use]
    pub fn observed(&self, status: StatusReport) -> Box<Observed> {
        Box::new(Observed { status, history: self.history.clone(), now: now::monotonic() })
    }
}
