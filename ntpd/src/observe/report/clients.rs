//! Who was served.

use std::net::IpAddr;

use ntp_proto::server::{ClientRow, Requests};
use serde::{Deserialize, Serialize};

/// Most clients of a report: those that asked most.
const MAX_ROWS: usize = 4_096;

/// Who was served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClientsReport {
    /// How many clients are remembered.
    pub known: usize,
    /// Those that asked most, the busiest first.
    pub clients: Vec<ClientsRow>,
}

/// One client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClientsRow {
    /// Who.
    pub address: IpAddr,
    /// Requests for the time.
    pub ntp: ClientRequests,
    /// Requests for keys of NTS.
    pub key_exchange: ClientRequests,
}

/// How often a client asked for one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClientRequests {
    /// Requests, those included that were not answered.
    pub requests: u32,
    /// Those that were not: for the rate limit, a wrong key or the like.
    pub dropped: u32,
    /// Time between two requests in the mean, log2 seconds.
    pub interval_log2_seconds: Option<i8>,
    /// Time since the last, in seconds.
    pub last_age_seconds: Option<u32>,
}

impl From<Requests> for ClientRequests {
    fn from(requests: Requests) -> Self {
        Self {
            requests: requests.hits,
            dropped: requests.drops,
            interval_log2_seconds: requests.interval,
            last_age_seconds: requests.age_seconds,
        }
    }
}

impl From<ClientRow> for ClientsRow {
    fn from(row: ClientRow) -> Self {
        Self { address: row.address, ntp: row.ntp.into(), key_exchange: row.key_exchange.into() }
    }
}

impl ClientsReport {
    /// Reports on these clients.
    #[must_use]
    pub fn new(rows: impl Iterator<Item = ClientRow>) -> Self {
        let asked = |row: &ClientsRow| u64::from(row.ntp.requests) + u64::from(row.key_exchange.requests);
        let keep_busiest = |clients: &mut Vec<ClientsRow>| {
            clients.sort_by(|a, b| asked(b).cmp(&asked(a)).then(a.address.cmp(&b.address)));
            clients.truncate(MAX_ROWS);
        };
        let (mut clients, mut known) = (Vec::new(), 0);
        for row in rows.map(ClientsRow::from) {
            // A table may hold millions.
            if clients.len() == 2 * MAX_ROWS {
                keep_busiest(&mut clients);
            }
            clients.push(row);
            known += 1;
        }
        keep_busiest(&mut clients);
        Self { known, clients }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first() {
        let row = |address: &str, hits| ClientRow {
            address: address.parse().unwrap(),
            ntp: Requests { hits, ..Requests::default() },
            key_exchange: Requests::default(),
        };
        let report = ClientsReport::new([row("192.0.2.1", 1), row("192.0.2.3", 7), row("192.0.2.2", 7)].into_iter());
        let order: Vec<_> = report.clients.iter().map(|row| row.address.to_string()).collect();
        assert_eq!((report.known, order), (3, vec!["192.0.2.2".into(), "192.0.2.3".into(), "192.0.2.1".into()]));
        let many = (0..3 * MAX_ROWS).map(|n| row("192.0.2.1", u32::try_from(n * 7 % (3 * MAX_ROWS + 1)).unwrap()));
        let report = ClientsReport::new(many);
        let least = report.clients.iter().map(|row| row.ntp.requests).min().unwrap();
        assert_eq!((report.known, report.clients.len()), (3 * MAX_ROWS, MAX_ROWS));
        assert!(usize::try_from(least).unwrap() >= 2 * MAX_ROWS, "{least}");
    }
}
