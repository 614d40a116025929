//! The file of leap seconds while the daemon runs.

use std::{path::PathBuf, time::Duration};

use ntp_proto::{discipline::LeapTable, ids::Leap, time::Monotonic};

use super::Client;
use crate::{
    leap_file::{self, Stamp},
    now,
    observe::LeapFileInfo,
};

/// How often it is looked whether the file was replaced.
const LOOK_INTERVAL: Duration = Duration::from_secs(86_400);

/// The file, and what is known of it.
#[derive(Debug)]
pub(super) struct LeapFile {
    path: PathBuf,
    stamp: Option<Stamp>,
    next: Monotonic,
    /// Why it is not used.
    fault: Option<String>,
    /// It was said that it has expired.
    has_warned: bool,
}

impl LeapFile {
    /// Reads a file, and the table it holds. What is wrong with it has been told with the rest of the configuration.
    fn open(path: PathBuf) -> (Self, Option<LeapTable>) {
        let mut file = Self { path, stamp: None, next: now::monotonic(), fault: None, has_warned: false };
        let table = file.read();
        (file, table)
    }

    fn read(&mut self) -> Option<LeapTable> {
        // Before it is read: what is written meanwhile is noticed next time.
        self.stamp = leap_file::stamp(&self.path);
        self.next = now::monotonic() + LOOK_INTERVAL;
        match leap_file::read(&self.path) {
            Ok(table) => {
                (self.fault, self.has_warned) = (None, false);
                Some(table)
            }
            Err(fault) => {
                self.fault = Some(fault.to_string());
                None
            }
        }
    }

    /// Reads it again if it is time and it was replaced. A file that cannot be used takes nothing away.
    fn reread(&mut self, present: Monotonic) -> Option<LeapTable> {
        if present < self.next {
            return None;
        }
        self.next = present + LOOK_INTERVAL;
        if leap_file::stamp(&self.path) == self.stamp {
            return None;
        }
        let table = self.read();
        match &self.fault {
            Some(fault) => tracing::warn!("leap seconds not read again: {fault}"),
            None => tracing::info!(file = %self.path.display(), "leap seconds read again"),
        }
        table
    }
}

impl Client {
    /// Takes the file of a configuration, read anew.
    pub(super) fn set_leap_file(&mut self, path: Option<&PathBuf>) {
        let (file, table) = path.map_or((None, None), |path| {
            let (file, table) = LeapFile::open(path.clone());
            (Some(file), table)
        });
        let kept = self.leap_file.as_ref().is_some_and(|old| file.as_ref().is_some_and(|new| new.path == old.path));
        let table = table.or_else(|| self.engine.leap_table().filter(|_| kept).cloned());
        // What was said of a file once is not said again after every reload.
        let has_warned = self.leap_file.as_ref().is_some_and(|old| old.has_warned);
        let same = table.as_ref() == self.engine.leap_table();
        self.leap_file = file.map(|file| LeapFile { has_warned: has_warned && same, ..file });
        let present = self.clock.now();
        self.engine.set_leap_table(present, table);
    }

    /// Reads the file again when it is time, and says once that it has expired.
    pub(super) fn look_at_leap_file(&mut self) {
        let Some(file) = &mut self.leap_file else { return };
        let present = self.clock.now();
        if let Some(table) = file.reread(present.monotonic) {
            self.engine.set_leap_table(present, Some(table));
        }
        // Before the time is known nothing is late.
        if file.has_warned || self.engine.status().leap == Leap::Unsynchronized {
            return;
        }
        let unix = self.engine.map().apply(present.clock).to_unix(self.engine.era());
        if self.engine.leap_table().is_some_and(|table| table.has_expired(unix)) {
            file.has_warned = true;
            let file = file.path.display();
            tracing::warn!(%file, "the file of leap seconds has expired; sources say when leap seconds come");
        }
    }

    /// What is shown of the file.
    pub(super) fn leap_file_info(&self) -> Option<LeapFileInfo> {
        let file = self.leap_file.as_ref()?;
        Some(LeapFileInfo {
            path: file.path.clone(),
            expires: self.engine.leap_table().map(LeapTable::expires),
            fault: file.fault.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ntp_proto::time::UnixTime;

    use super::*;
    use crate::leap_file::tests::FILE;

    fn expiring(at: u32) -> String {
        format!("#@ {at}\n3692217600 37\n")
    }

    #[test]
    fn a_replaced_file_is_read_again_and_a_broken_one_takes_nothing_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        fs::write(&path, expiring(3_960_835_200)).unwrap();
        let (mut file, table) = LeapFile::open(path.clone());
        assert!(table.is_some() && file.fault.is_none());
        file.has_warned = true;
        let day = |count: u32| now::monotonic() + LOOK_INTERVAL * count + Duration::from_secs(1);
        fs::write(&path, FILE.strip_suffix("#h\t").unwrap()).unwrap();
        assert_eq!(file.reread(now::monotonic()), None, "it is too early");
        let table = file.reread(day(1)).expect("it was replaced");
        assert!(table.expires() > UnixTime { seconds: 3_960_835_200 - 2_208_988_800, nanos: 0 });
        assert!(!file.has_warned, "another file expires anew");
        assert_eq!(file.reread(day(2)), None, "it is the same");
        fs::write(&path, "rubbish").unwrap();
        assert_eq!(file.reread(day(3)), None);
        assert!(file.fault.as_deref().is_some_and(|fault| fault.contains("list:1: ")));
        fs::remove_file(&path).unwrap();
        assert_eq!(file.reread(day(4)), None);
        fs::write(&path, expiring(3_960_835_200)).unwrap();
        assert!(file.reread(day(5)).is_some() && file.fault.is_none());
    }
}
