//! What the daemon keeps for those who watch it by HTTP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ntp_proto::time::Monotonic;
use tokio::sync::mpsc;

use super::{
    history::History,
    report::{DaemonReport, StatusReport},
    web::{Observed, Prepared, Web, WebRequest},
};
use crate::{now, serve::ListenError};

/// Nanoseconds in a second.
const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// How long a report is shown to everybody who asks: to make it takes time of the loop that keeps the clock.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// The listeners, and what is shown beside the reports.
#[derive(Debug)]
pub struct Watched {
    web: Web,
    requests: mpsc::Receiver<WebRequest>,
    history: History,
    /// When it was made, and what it was.
    last: Option<(Monotonic, Arc<StatusReport>)>,
    started: Started,
}

/// When the program started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Started {
    /// In nanoseconds since the machine started, which a sleep does not stop.
    boot_nanos: i64,
    /// By the time of day.
    unix: i64,
}

impl Started {
    /// The same as it looks when the clocks say this. A clock that was stepped has another opinion of when that was; a slewed
    /// one does not change it every second.
    fn seen_at(self, boot_nanos: i64, unix: i64) -> Self {
        let started = unix.saturating_sub((boot_nanos - self.boot_nanos) / NANOS_PER_SECOND);
        if started.abs_diff(self.unix) > 1 { Self { unix: started, ..self } } else { self }
    }
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
        let started = Started { boot_nanos: now::boot_nanos(), unix: now::unix().seconds };
        Ok(Self { web, requests, history: History::default(), last: None, started })
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
        self.started = self.started.seen_at(now::boot_nanos(), unix.seconds);
        #[expect(clippy::cast_precision_loss, reason = "exact to a microsecond for thousands of years")]
        let now_unix_seconds = unix.seconds as f64 + f64::from(unix.nanos) / 1e9;
        DaemonReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_unix_seconds,
            started_unix_seconds: self.started.unix,
            certificate_expires_unix_seconds: certificate_expires,
        }
    }

    /// The last report, if it is recent enough to be shown once more.
    #[must_use]
    pub fn recent(&self) -> Option<Arc<StatusReport>> {
        let is_recent = |(at, _): &&(Monotonic, _)| now::monotonic().since(*at) < SHARED_FOR;
        self.last.as_ref().filter(is_recent).map(|(_, status)| Arc::clone(status))
    }

    /// Takes a report that was made just now.
    pub fn keep(&mut self, status: StatusReport) -> Arc<StatusReport> {
        let status = Arc::new(status);
        self.last = Some((now::monotonic(), Arc::clone(&status)));
        status
    }

    /// Shows a report to somebody who asked.
    pub fn show(&self, request: WebRequest, status: Arc<StatusReport>) {
        let history = request.with_history.then(|| self.history.clone());
        // Whoever asked may be gone.
        let _ = request.reply.send(Observed { status, history, now: now::monotonic() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::report::tests::busy_status;

    #[tokio::test]
    async fn one_report_is_made_for_all_who_ask_within_a_second() {
        let mut watched = Watched::start(&[]).unwrap();
        assert!(watched.recent().is_none());
        let status = watched.keep(busy_status());
        assert!(watched.recent().is_some_and(|recent| Arc::ptr_eq(&recent, &status)));
        for with_history in [false, true] {
            let (reply, observed) = tokio::sync::oneshot::channel();
            watched.show(WebRequest { with_history, reply }, Arc::clone(&status));
            let observed = observed.await.unwrap();
            assert!(Arc::ptr_eq(&observed.status, &status) && observed.history.is_some() == with_history);
        }
        watched.last = watched.last.take().map(|(_, status)| (Monotonic::default(), status));
        assert!(watched.recent().is_none(), "it is old");
    }

    #[test]
    fn a_sleep_of_the_machine_does_not_change_when_the_program_started() {
        let second = NANOS_PER_SECOND;
        let start = Started { boot_nanos: 100 * second, unix: 1_000 };
        assert_eq!(start.seen_at(160 * second, 1_060), start);
        // CLOCK_MONOTONIC stands still in a sleep of an hour, and these two do not.
        assert_eq!(start.seen_at((160 + 3_600) * second, 1_060 + 3_600), start);
        // A slewed clock changes nothing, a stepped one does.
        assert_eq!(start.seen_at(160 * second, 1_061), start);
        assert_eq!(start.seen_at(160 * second, 1_160).unix, 1_100);
    }
}
