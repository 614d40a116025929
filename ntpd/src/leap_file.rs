//! The file of leap seconds that the IERS and NIST publish, and tzdata brings along.
//!
//! A line `#@` says until when it is good, a line `#h` holds a SHA-1 hash of all its numbers; times are seconds since 1900.

use std::{
    fmt, fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use ntp_proto::{discipline::LeapTable, time::UnixTime};
use sha1::{Digest as _, Sha1};

/// Where tzdata puts it.
pub const STANDARD: &str = "/usr/share/zoneinfo/leap-seconds.list";

/// Longest file; those of today have less than a tenth of it.
const MAX_BYTES: u64 = 1 << 17;

/// Seconds from 1900 to 1970.
const UNIX_EPOCH: i64 = 2_208_988_800;

/// 32-bit words of a SHA-1 hash.
const HASH_WORDS: usize = 5;

/// Why a file is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeapFileFault {
    path: PathBuf,
    /// Counted from 1; 0 is the file as a whole.
    line: usize,
    what: String,
}

impl fmt::Display for LeapFileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for LeapFileFault {}

/// What tells whether a file was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Option<SystemTime>, u64);

/// The stamp of a file; `None` if it cannot be had.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp(metadata.modified().ok(), metadata.len()))
}

/// Reads a file.
///
/// # Errors
///
/// [`LeapFileFault`] with the line, if it cannot be read, is damaged, or is something else.
pub fn read(path: &Path) -> Result<LeapTable, LeapFileFault> {
    let fault = |line, what: String| LeapFileFault { path: path.to_path_buf(), line, what };
    let mut text = String::new();
    // What is no file of a disk may never end, or never begin.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(fault(0, "not a regular file".to_owned()));
    }
    let file = fs::File::open(path).map_err(|error| fault(0, error.to_string()))?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| fault(0, error.to_string()))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(fault(0, format!("longer than {MAX_BYTES} bytes")));
    }
    parse(&text).map_err(|(line, what)| fault(line, what))
}

fn parse(text: &str) -> Result<LeapTable, (usize, String)> {
    let (mut steps, mut lines, mut expires, mut hash) = (Vec::new(), Vec::new(), None, None);
    let mut hasher = Sha1::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let wrong = |what: &str| (number, what.to_owned());
        if let Some(update) = line.strip_prefix("#$") {
            hasher.update(packed(update));
        } else if let Some(expiry) = line.strip_prefix("#@") {
            hasher.update(packed(expiry));
            let seconds = expiry.split_whitespace().next().and_then(ntp_seconds);
            expires =
                Some(seconds.ok_or_else(|| wrong("after `#@` stands when the file expires, in seconds since 1900"))?);
        } else if let Some(words) = line.strip_prefix("#h") {
            hash = Some(read_hash(words).ok_or_else(|| wrong("after `#h` stand five hexadecimal words"))?);
        } else {
            let data = line.split('#').next().unwrap_or_default();
            let mut words = data.split_whitespace();
            let Some(first) = words.next() else { continue };
            let offset = words.next().and_then(|word| word.parse::<i16>().ok());
            let (Some(at), Some(offset), None) = (ntp_seconds(first), offset, words.next()) else {
                return Err(wrong("a line has seconds since 1900 and how far TAI is ahead of UTC from then on"));
            };
            hasher.update(packed(data));
            steps.push((at, offset));
            lines.push(number);
        }
    }
    let Some(expires) = expires else {
        return Err((0, "no line `#@` says when it expires: not a file of leap seconds".to_owned()));
    };
    if hash.is_some_and(|hash| hash != <[u8; 4 * HASH_WORDS]>::from(hasher.finalize())) {
        return Err((0, "damaged: its hash is not that of its line `#h`".to_owned()));
    }
    let place = |at: i64| steps.iter().position(|step| step.0 == at).and_then(|index| lines.get(index)).copied();
    LeapTable::new(steps.clone(), UnixTime { seconds: expires, nanos: 0 }).map_err(|fault| {
        use ntp_proto::discipline::LeapTableFault::{Jump, Length, NotAMonth, Order};
        let line = match fault {
            Length => None,
            NotAMonth(at) | Order(at) | Jump(at) => place(at),
        };
        (line.unwrap_or(0), fault.to_string())
    })
}

/// What the hash is of: numbers without blanks.
fn packed(text: &str) -> String {
    text.split_whitespace().collect()
}

fn ntp_seconds(word: &str) -> Option<i64> {
    // 64 bits, though far less ever stands there.
    word.parse::<u32>().ok().map(|seconds| i64::from(seconds) - UNIX_EPOCH)
}

/// Words may lack the zeros that they begin with.
fn read_hash(text: &str) -> Option<[u8; 4 * HASH_WORDS]> {
    let words: Option<Vec<u32>> = text.split_whitespace().map(|word| u32::from_str_radix(word, 16).ok()).collect();
    let words = words.filter(|words| words.len() == HASH_WORDS)?;
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
    bytes.try_into().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use ntp_proto::ids::Leap;

    use super::*;

    /// A file with the leap second at the end of 2016 and one to be deleted in the middle of 2027; good until 2028.
    pub(crate) const FILE: &str = "#\tA comment\n#$\t3960835200\n#@\t4039286400\n#\n\
        3644697600      36      # 1 Jul 2015\n3692217600      37      # 1 Jan 2017\n4023388800      36      # 1 Jul 2027\n\
        #h\t";

    fn hashed(text: &str) -> String {
        let numbers = ["3960835200", "4039286400", "364469760036", "369221760037", "402338880036"].concat();
        let digest: [u8; 20] = Sha1::digest(numbers).into();
        let words: Vec<String> =
            digest.chunks(4).map(|word| format!("{:x}", u32::from_be_bytes(word.try_into().unwrap()))).collect();
        format!("{text}{}\n", words.join(" "))
    }

    fn at(seconds: i64) -> UnixTime {
        UnixTime { seconds, nanos: 0 }
    }

    #[test]
    fn a_file_is_read() {
        let table = parse(&hashed(FILE)).unwrap();
        assert_eq!(table.expires(), at(4039286400 - UNIX_EPOCH));
        assert_eq!(table.at_end_of_day(at(1_483_228_799)), Some(Leap::Insert));
        assert_eq!(table.at_end_of_day(at(4023388799 - UNIX_EPOCH)), Some(Leap::Delete));
        assert_eq!(table.tai_offset(at(1_795_478_400)), Some(37));
        // Without a hash there is nothing to compare.
        assert!(parse(FILE.strip_suffix("#h\t").unwrap()).is_ok());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let good = hashed(FILE);
        for (from, to, line, what) in [
            ("#@\t4039286400", "#", 0, "no line `#@`"),
            ("#@\t4039286400", "#@\tsoon", 3, "after `#@` stands"),
            ("36      # 1 Jul 2015", "35      # 1 Jul 2015", 0, "damaged"),
            ("#h\t", "#h\tzz ", 8, "five hexadecimal words"),
            ("#h\t", "#h\t1 ", 8, "five hexadecimal words"),
            ("3692217600", "x", 6, "a line has seconds"),
            ("37      #", "37 1   #", 6, "a line has seconds"),
        ] {
            let (at, why) = parse(&good.replace(from, to)).unwrap_err();
            assert_eq!(at, line, "{why}");
            assert!(why.contains(what), "{why}");
        }
        let bare = FILE.strip_suffix("#h\t").unwrap();
        let (line, why) = parse(&bare.replace("3692217600", "3692217601")).unwrap_err();
        assert_eq!((line, why.as_str()), (6, "a leap second comes at the end of a month"));
        assert_eq!(parse("").unwrap_err().0, 0);
        let error = read(Path::new("/nonexistent/list")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/list: No such file"), "{error}");
    }

    #[test]
    fn what_is_no_file_of_a_disk_is_not_opened() {
        assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("not a regular file"));
    }
}
