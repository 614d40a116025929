//! Sessions under way with several addresses of one server.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use nts_ke::client::Established;

use super::Failed;

/// A session's address and outcome.
type Outcome = (SocketAddr, Result<Box<Established>, Failed>);

/// Sessions under way; those that are still under way at the end are given up with it.
#[derive(Default)]
pub(super) struct Sessions<'a>(Vec<Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>>);

impl<'a> Sessions<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, session: impl Future<Output = Outcome> + Send + 'a) {
        self.0.push(Box::pin(session));
    }

    /// The outcome of the first to end; never, if there is none.
    pub(super) async fn next(&mut self) -> Outcome {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let ready = self.0.iter_mut().enumerate().find_map(|(place, session)| match session.as_mut().poll(context) {
            Poll::Ready(outcome) => Some((place, outcome)),
            Poll::Pending => None,
        });
        match ready {
            Some((place, outcome)) => {
                drop(self.0.remove(place));
                Poll::Ready(outcome)
            }
            None => Poll::Pending,
        }
    }
}
