use std::os::unix::fs::{PermissionsExt as _, chown};

use ntp_proto::time::Rate;
use tempfile::TempDir;

use super::*;

fn drift(ppm: f64) -> Drift {
    Drift::new(Rate::from_ppm(ppm), Rate::from_ppm(0.5))
}

struct Disk {
    directory: TempDir,
    state: StateDirectory,
}

impl Disk {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let state = StateDirectory::open(&directory.path().join("state")).unwrap();
        Self { directory, state }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("state").join(name)
    }

    fn damage(&self, bytes: &[u8]) {
        fs::write(self.path("drift"), bytes).unwrap();
    }
}

#[test]
fn what_is_saved_is_loaded_and_private() {
    let disk = Disk::new();
    let nothing = disk.state.load::<Drift>();
    assert!(nothing.value.is_none() && nothing.complaint.is_none());
    for ppm in [1.0, 2.0, 3.0] {
        disk.state.save(&drift(ppm)).unwrap();
        assert_eq!(disk.state.load::<Drift>().value, Some(drift(ppm)));
    }
    for name in ["drift", "drift.old"] {
        assert_eq!(fs::metadata(disk.path(name)).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    assert_eq!(fs::metadata(disk.path("")).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(!disk.path("drift.new").exists());
}

/// What a failing disk may make of a file.
fn damaged(only: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let truncated = (0..only.len()).map(|length| only[..length].to_vec());
    let flipped = (0..only.len() * 8).map(|bit| {
        let mut flipped = only.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    let zeroed = (0..only.len()).map(|from| {
        let mut zeroed = only.to_vec();
        zeroed[from..].fill(0);
        zeroed
    });
    let more = [vec![0; 4_096], [only, b"\n"].concat(), [only, only].concat()];
    truncated.chain(flipped).chain(zeroed).chain(more)
}

fn notices_damage<T: Record>(record: &T) {
    let disk = Disk::new();
    disk.state.save(record).unwrap();
    let only = fs::read(disk.path(T::KIND)).unwrap();
    for bytes in damaged(&only) {
        assert!(decode::<T>(T::KIND, &bytes).is_none(), "{}: {:?}", T::KIND, String::from_utf8_lossy(&bytes));
    }
    assert!(decode::<T>(T::KIND, &only).is_some());
    fs::write(disk.path(T::KIND), &only[..only.len() - 2]).unwrap();
    let lost = disk.state.load::<T>();
    assert!(lost.value.is_none());
    assert!(lost.complaint.unwrap().to_string().ends_with(&format!("{}: damaged, starting without it", T::KIND)));
}

#[test]
fn every_truncation_flip_and_zero_fill_of_every_kind_is_noticed() {
    notices_damage(&drift(1.0));
    notices_damage(&SoftDrift(drift(1.0)));
    let time = ntp_proto::time::UnixTime { seconds: 1_795_478_400, nanos: 0 };
    notices_damage(&LastTime::new(time, Some("b0f6d1c6-4a35-4c5e-9d4c-0c6d1b3e6f2a".to_owned())));
    notices_damage(&sources(1));
    notices_damage(&Keyring { state: vec![1; 32], rotated_at: 5 });
    let mut pools = PoolMemory::default();
    pools.remember("time.example", PoolRecord { nts: true, mode: "lb".to_owned(), seen_at: 1 });
    notices_damage(&pools);
    let mut places = Places::default();
    places.note("time.example", "[2001:db8::1]:4460".parse().unwrap());
    notices_damage(&places);
    notices_damage(&Absences([("time.example".to_owned(), 86_400)].into()));
    let last = encode(LastTime::KIND, b"{\"unix-seconds\":1795478400}");
    let read = decode::<LastTime>(LastTime::KIND, &last).unwrap();
    assert!(!read.is_since(Some("b0f6d1c6")) && !read.is_since(None));
    assert!(decode::<Drift>(Drift::KIND, &last).is_none(), "another kind");
}

#[test]
fn the_previous_record_stands_in_and_survives_damage() {
    let disk = Disk::new();
    disk.state.save(&drift(1.0)).unwrap();
    disk.state.save(&drift(2.0)).unwrap();
    disk.damage(b"");
    let found = disk.state.load::<Drift>();
    assert_eq!(found.value, Some(drift(1.0)));
    assert!(found.complaint.unwrap().to_string().ends_with("damaged, the previous record is used"));

    disk.state.save(&drift(3.0)).unwrap();
    disk.damage(b"x");
    assert_eq!(disk.state.load::<Drift>().value, Some(drift(1.0)), "not replaced by the damaged one");

    fs::remove_file(disk.path("drift")).unwrap();
    let found = disk.state.load::<Drift>();
    assert!(found.complaint.is_none(), "as a crash between the renames leaves it");
    assert_eq!(found.value, Some(drift(1.0)));
}

#[test]
fn a_failed_save_leaves_the_old_record() {
    let disk = Disk::new();
    disk.state.save(&drift(1.0)).unwrap();
    fs::create_dir(disk.path("drift.new")).unwrap();
    let error = disk.state.save(&drift(2.0)).unwrap_err();
    assert!(matches!(error.fault, StateFault::Io(_)), "{error}");
    assert_eq!(disk.state.load::<Drift>().value, Some(drift(1.0)));

    fs::remove_dir_all(disk.path("")).unwrap();
    assert!(disk.state.save(&drift(2.0)).is_err());
    assert!(disk.state.load::<Drift>().value.is_none());
}

#[test]
fn links_and_leftovers_do_no_harm() {
    let disk = Disk::new();
    let elsewhere = disk.directory.path().join("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    std::os::unix::fs::symlink(&elsewhere, disk.path("drift.new")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, disk.path("drift")).unwrap();
    assert!(disk.state.load::<Drift>().value.is_none());
    disk.state.save(&drift(1.0)).unwrap();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    assert_eq!(disk.state.load::<Drift>().value, Some(drift(1.0)));
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let error = StateDirectory::open(directory.path()).unwrap_err();
    assert!(matches!(error.fault, StateFault::Exposed));
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(StateDirectory::open(&file).is_err());
}

fn sources(cookie: u8) -> Sources {
    let mut source = SavedSource::example();
    source.cookies = vec![vec![cookie; 100]];
    Sources { sources: vec![source] }
}

#[test]
fn what_may_be_used_once_is_gone_before_it_is_used() {
    let disk = Disk::new();
    let names = ["sources", "sources.old", "sources.new"];
    let nothing = disk.state.load::<Sources>();
    assert!(nothing.value.is_none() && nothing.complaint.is_none());
    for cookie in [1, 2, 3] {
        disk.state.save(&sources(cookie)).unwrap();
    }
    assert!(!disk.path("sources.old").exists(), "older cookies may have been used");
    assert_eq!(disk.state.load::<Sources>().value, Some(sources(3)));
    assert!(names.iter().all(|name| !disk.path(name).exists()));
    assert!(disk.state.load::<Sources>().value.is_none(), "nobody gets it twice");

    // An earlier version kept older ones, and a crash may leave one half written.
    disk.state.save(&sources(4)).unwrap();
    let good = fs::read(disk.path("sources")).unwrap();
    for name in &names[1..] {
        fs::write(disk.path(name), &good).unwrap();
    }
    fs::write(disk.path("sources"), &good[..good.len() / 2]).unwrap();
    let damaged = disk.state.load::<Sources>();
    assert!(damaged.value.is_none(), "what was kept is not used");
    assert!(damaged.complaint.unwrap().to_string().ends_with("sources: damaged, starting without it"));
    assert!(names.iter().all(|name| !disk.path(name).exists()));
}

#[test]
fn what_may_be_used_once_is_not_used_if_it_cannot_be_removed() {
    let disk = Disk::new();
    disk.state.save(&sources(1)).unwrap();
    // A directory is not removed like a file, whoever asks.
    fs::create_dir(disk.path("sources.old")).unwrap();
    let found = disk.state.load::<Sources>();
    assert!(found.value.is_none());
    assert!(matches!(found.complaint.unwrap().fault, StateFault::Io(_)));
}

#[test]
fn only_root_and_the_daemons_user_may_own_the_directory() {
    let (root, daemon, other) = (Uid::from_raw(0), Uid::from_raw(101), Uid::from_raw(1000));
    for (owner, user, fine) in [
        (root, root, true),
        (daemon, root, true),
        (other, root, false),
        (root, daemon, true),
        (daemon, daemon, true),
        (other, daemon, false),
        (other, other, true),
    ] {
        assert_eq!(may_own(owner, user, || Some(daemon)), fine, "{owner} {user}");
    }
    assert!(!may_own(daemon, root, || None));
    if geteuid().is_root() {
        let disk = Disk::new();
        chown(disk.path(""), Some(54_321), None).unwrap();
        let error = StateDirectory::open(&disk.path("")).unwrap_err();
        assert!(error.to_string().contains("belongs to the user 54321"), "{error}");
    }
}

#[test]
fn the_directory_is_handed_over_with_its_records_and_nothing_else() {
    if !geteuid().is_root() {
        return; // Nobody else may give files away.
    }
    let owner = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        (metadata.uid(), metadata.gid())
    };
    let disk = Disk::new();
    disk.state.save(&drift(1.0)).unwrap();
    disk.state.save(&drift(2.0)).unwrap();
    let (theirs, hard) = (disk.directory.path().join("theirs"), disk.directory.path().join("hard"));
    for path in [&theirs, &hard, &disk.path("unknown")] {
        fs::write(path, "").unwrap();
    }
    std::os::unix::fs::symlink(&theirs, disk.path("pools")).unwrap();
    fs::hard_link(&hard, disk.path("keyring")).unwrap();
    fs::create_dir(disk.path("last-time")).unwrap();

    disk.state.give_to(Uid::from_raw(54_321), Gid::from_raw(54_322));
    for name in ["", "drift", "drift.old"] {
        assert_eq!(owner(&disk.path(name)), (54_321, 54_322), "{name}");
    }
    for path in [&theirs, &hard, &disk.path("unknown"), &disk.path("last-time"), &disk.path("pools")] {
        assert_eq!(owner(path), (0, 0), "{}", path.display());
    }
    assert_eq!(disk.state.load::<Drift>().value, Some(drift(2.0)));
}
