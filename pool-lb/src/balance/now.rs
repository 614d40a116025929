//! The one place of the balancer that reads clocks.

use std::{
    sync::LazyLock,
    time::{Duration, UNIX_EPOCH},
};

use ntp_proto::time::{Monotonic, UnixTime};
use tokio::time::Instant;

/// When the process first asked. A while is added, so that times before it can be named.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
const BEFORE_START: Duration = Duration::from_secs(86_400);

/// Time since the process started.
pub(crate) fn monotonic() -> Monotonic {
    Monotonic::from_nanos(0) + BEFORE_START + START.elapsed()
}

/// The same in whole seconds: what the judge of members goes by, whose pauses must not change if somebody sets the clock.
pub(crate) fn seconds() -> u64 {
    monotonic().since(Monotonic::from_nanos(0)).as_secs()
}

/// How long it is until then.
pub(crate) fn until(then: Monotonic) -> Duration {
    then.since(monotonic())
}

/// The kernel's time of day.
#[expect(clippy::disallowed_methods, reason = "operator's code: certificates and reports are judged by this clock")]
pub(crate) fn unix() -> UnixTime {
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime { seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanos: now.subsec_nanos() }
}
