//! The DNS side of a pool: signed answers with a few members each, for clients that ask for the service records of the
//! pool's name.

mod answer;
mod base64;
mod cookie;
mod counters;
mod limit;
mod name;
mod query;
mod record;
mod reply;
mod sign;
mod targets;
mod zone;

pub use answer::{MAX_ZONES, Moment, Responder, Served, State, Transport};
pub use cookie::{CookieSecret, SECRET};
pub use counters::{Count, Counters};
pub use limit::LimitSettings;
pub use name::{MAX_NAME, WireName};
pub use record::Data;
pub use sign::{Signer, Window, ZoneKey};
pub use targets::{Candidates, MAX_PLAIN, MAX_UDP, TARGETS};
pub use zone::{Record, Zone, ZoneSettings, member_records, plain_records};
