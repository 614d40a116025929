//! Writing lines by a thread of its own: a disk that is slow or full holds nobody up.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{Kind, LogFiles};

/// Lines that may wait to be written; more are dropped.
const QUEUE: usize = 4_096;
/// Lines that are written at one go.
const BATCH: usize = 256;
/// How long the end of the daemon waits for what is still to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

enum Message {
    Line(Kind, String),
    Cycle,
}

/// Files that are written to. Dropped, it waits a little for what was handed over.
#[derive(Debug)]
pub(crate) struct LogWriter {
    settings: LogFiles,
    sender: Option<SyncSender<Message>>,
    /// Closed by the thread when it has written all.
    ended: Receiver<()>,
    dropped: Arc<AtomicU64>,
    /// Whether nobody waits for the thread.
    is_left: bool,
}

impl LogWriter {
    /// Starts a thread for these files. They are opened when there is something to write.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub(crate) fn start(settings: LogFiles) -> io::Result<Self> {
        let (sender, messages) = sync_channel(QUEUE);
        let (alive, ended) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut desk = Desk {
            settings: settings.clone(),
            files: Kind::ALL.map(|kind| Open { kind, file: None, entries: 0, lost: 0 }),
            dropped: Arc::clone(&dropped),
        };
        thread::Builder::new().name("log-files".to_owned()).spawn(move || {
            let _alive = alive;
            desk.run(&messages);
        })?;
        Ok(Self { settings, sender: Some(sender), ended, dropped, is_left: false })
    }

    /// Which files these are.
    pub(crate) const fn settings(&self) -> &LogFiles {
        &self.settings
    }

    /// Hands over a line without its end.
    pub(crate) fn write(&self, kind: Kind, line: String) {
        if self.sender.as_ref().is_some_and(|sender| sender.try_send(Message::Line(kind, line)).is_err()) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Opens all files anew: somebody moved them away.
    pub(crate) fn cycle(&self) {
        let sent = self.sender.as_ref().map(|sender| sender.try_send(Message::Cycle));
        if !matches!(sent, Some(Ok(()))) {
            tracing::warn!("log files not opened anew: the disk does not keep up");
        }
    }
}

impl LogWriter {
    /// Has it end by itself, once all is written: nobody waits.
    pub(crate) fn leave(mut self) {
        self.sender = None;
        self.is_left = true;
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.sender = None;
        if self.is_left {
            return;
        }
        if self.ended.recv_timeout(LAST_LINES) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the disk does not keep up: the last lines of log files are lost");
        }
    }
}

/// A file, once there was something to write.
#[derive(Debug)]
struct Open {
    kind: Kind,
    file: Option<File>,
    /// Since it was opened.
    entries: u64,
    /// Lines that were lost since it could last be written to.
    lost: u64,
}

struct Desk {
    settings: LogFiles,
    files: [Open; Kind::ALL.len()],
    /// Lines that were not written.
    dropped: Arc<AtomicU64>,
}

impl Desk {
    fn run(&mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let mut lines: [Vec<String>; Kind::ALL.len()] = Default::default();
            let mut next = Some(first);
            let mut count = 0;
            while let Some(message) = next {
                match message {
                    Message::Line(kind, line) => lines[kind as usize].push(line),
                    Message::Cycle => {
                        self.write(&mut lines);
                        self.files.iter_mut().for_each(|open| open.file = None);
                    }
                }
                count += 1;
                next = if count < BATCH { messages.try_recv().ok() } else { None };
            }
            self.write(&mut lines);
        }
    }

    fn write(&mut self, lines: &mut [Vec<String>; Kind::ALL.len()]) {
        for (open, lines) in self.files.iter_mut().zip(lines) {
            let lines = std::mem::take(lines);
            if lines.is_empty() {
                continue;
            }
            let file = self.settings.directory.join(open.kind.file_name());
            let file = file.display();
            match (open.write(&self.settings, &lines), open.lost) {
                (Ok(()), 0) => {}
                (Ok(()), lost) => {
                    tracing::warn!(%file, lost, "log file is written again");
                    open.lost = 0;
                }
                (Err(error), lost) => {
                    // A disk that stays full is told of once.
                    if lost == 0 {
                        tracing::error!(%file, %error, "log file not written; what belongs there is lost");
                    }
                    open.lost += lines.len() as u64;
                    self.dropped.fetch_add(lines.len() as u64, Relaxed);
                }
            }
        }
    }
}

impl Open {
    /// Adds lines to the file, all or none.
    fn write(&mut self, settings: &LogFiles, lines: &[String]) -> io::Result<()> {
        let mut entries = if self.file.is_some() { self.entries } else { 0 };
        let mut text = String::new();
        for line in lines {
            if settings.banner > 0 && entries.is_multiple_of(settings.banner.into()) {
                let (titles, rule) = (self.kind.titles(), "=".repeat(self.kind.titles().len()));
                text.push_str(&format!("{rule}\n{titles}\n{rule}\n"));
            }
            text.push_str(line);
            text.push('\n');
            entries += 1;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open(&settings.directory, self.kind)?,
        };
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(text.as_bytes()) {
            // No half line is left for others to stumble over. The file is opened anew next time.
            let _ = file.set_len(before);
            return Err(error);
        }
        (self.file, self.entries) = (Some(file), entries);
        Ok(())
    }
}

fn open(directory: &Path, kind: Kind) -> io::Result<File> {
    if !directory.is_dir() {
        fs::create_dir_all(directory)?;
    }
    let file = directory.join(kind.file_name());
    let is_new = !file.exists();
    let file = OpenOptions::new().append(true).create(true).open(file)?;
    if is_new {
        // The daemon's umask keeps everything from others; these are for its group to read, as the folder is.
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::log_files::LogFile;

    fn settings(directory: &Path, banner: u32) -> LogFiles {
        LogFiles { directory: directory.to_path_buf(), write: vec![LogFile::Tracking], banner }
    }

    fn read(directory: &Path, name: &str) -> String {
        fs::read_to_string(directory.join(name)).unwrap_or_default()
    }

    #[test]
    fn a_banner_stands_above_every_few_lines() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("ntpd");
        let writer = LogWriter::start(settings(&directory, 2)).unwrap();
        assert!(!directory.exists(), "nothing is made before there is something to write");
        for line in ["a", "b", "c"] {
            writer.write(Kind::Tracking, line.to_owned());
        }
        drop(writer);
        let text = read(&directory, "tracking.log");
        let (titles, rule) = (Kind::Tracking.titles(), "=".repeat(131));
        let banner = [rule.as_str(), titles, rule.as_str()];
        let expected: Vec<&str> = banner.into_iter().chain(["a", "b"]).chain(banner).chain(["c"]).collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert!(!directory.join("selection.log").exists(), "nothing belongs there");

        let writer = LogWriter::start(settings(folder.path(), 0)).unwrap();
        writer.write(Kind::Selection, "d".to_owned());
        drop(writer);
        assert_eq!(read(folder.path(), "selection.log"), "d\n");
        let mode = folder.path().join("selection.log").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{mode:o}");
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew_when_somebody_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let writer = LogWriter::start(settings(folder.path(), 0)).unwrap();
        writer.write(Kind::Tracking, "a".to_owned());
        let file = folder.path().join("tracking.log");
        while !file.metadata().is_ok_and(|metadata| metadata.len() == 2) {
            thread::yield_now();
        }
        fs::rename(&file, folder.path().join("tracking.log.1")).unwrap();
        writer.cycle();
        writer.write(Kind::Tracking, "b".to_owned());
        drop(writer);
        assert_eq!(
            (read(folder.path(), "tracking.log.1"), read(folder.path(), "tracking.log")),
            ("a\n".to_owned(), "b\n".to_owned())
        );
    }

    #[test]
    fn a_full_disk_loses_lines_counts_them_and_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        symlink("/dev/full", folder.path().join("tracking.log")).unwrap();
        let writer = LogWriter::start(settings(folder.path(), 0)).unwrap();
        let dropped = Arc::clone(&writer.dropped);
        for _ in 0..10_000 {
            writer.write(Kind::Tracking, "lost".to_owned());
        }
        writer.write(Kind::Selection, "kept or lost with the queue".to_owned());
        drop(writer);
        assert!(dropped.load(Relaxed) >= 10_000);
    }

    #[test]
    fn what_was_half_written_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut open = Open { kind: Kind::Tracking, file: None, entries: 0, lost: 0 };
        let settings = settings(folder.path(), 0);
        open.write(&settings, &["a".to_owned()]).unwrap();
        // A descriptor that cannot be written to stands for a disk that became full.
        open.file = Some(File::open(folder.path().join("tracking.log")).unwrap());
        assert!(open.write(&settings, &["b".to_owned()]).is_err());
        open.write(&settings, &["c".to_owned()]).unwrap();
        assert_eq!(read(folder.path(), "tracking.log"), "a\nc\n");
    }
}
