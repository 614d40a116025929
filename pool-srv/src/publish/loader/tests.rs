use std::{fs, path::PathBuf};

use super::*;

const NOW: u64 = 1_800_000_000;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(members: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("members.toml", members);
        folder.write("zone.key", &ZoneKey::generate().unwrap());
        folder.write(
            "srv.toml",
            "[[zone]]\nname = \"time.example\"\nkey = \"zone.key\"\nmembers = \"members.toml\"\nhealth = \"health.json\"\n\
             name-servers = [{ name = \"ns.example\" }]\n",
        );
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        crate::publish::private(&self.path("new"), text);
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn open(&self) -> Result<Loader, String> {
        let config = Config::load(&self.path("srv.toml")).unwrap();
        Loader::open(&config, NOW).map_err(|problem| problem.to_string())
    }
}

fn available(loader: &Loader) -> usize {
    loader.state().zones[0].candidates.len()
}

const TWO: &str = "[[member]]\nname = \"a.example.net\"\n[[member]]\nname = \"b.example.net\"\n";

#[test]
fn changes_are_read_and_mistakes_leave_the_last_good_state() {
    let folder = Folder::new(TWO);
    let mut loader = folder.open().unwrap();
    assert_eq!(available(&loader), 2);
    assert_eq!(loader.refresh(NOW + 5), (false, Vec::new()));
    folder.write("members.toml", &format!("{TWO}[[member]]\nname = \"c.example.net\"\n"));
    assert_eq!((loader.refresh(NOW + 10), available(&loader)), ((true, Vec::new()), 3));
    // The generation of a list is the time of its file: another start of the program makes no other.
    let good = loader.zones[0].directory.mark();
    let placed = std::os::unix::fs::MetadataExt::ctime(&fs::metadata(folder.path("members.toml")).unwrap());
    assert_eq!((good.generation, good.members), (placed.try_into().unwrap(), 3));
    for (bad, wanted) in [
        (
            format!("{TWO}[[member]]\nname = \"a.example.net\"\n"),
            ":6:8: member a.example.net is there already, in line 2",
        ),
        (format!("{TWO}regions = [\"nowhere\"]\n"), ":5:12: unknown region \"nowhere\""),
        (String::new(), "no members; accepted"),
        ("[[member".to_owned(), ":1:"),
        // The directory is good, but the zone cannot hold it.
        (format!("{TWO}[[member]]\nname = \"d.time.example\"\n"), ":6:1: member d.time.example lies in the zone"),
    ] {
        folder.write("members.toml", &bad);
        let (changed, problems) = loader.refresh(NOW + 15);
        let told = problems.first().map(ToString::to_string).unwrap_or_default();
        assert!(!changed && told.contains("members.toml:") && told.contains(wanted), "{told}");
        assert_eq!((available(&loader), loader.refresh(NOW + 20)), (3, (false, Vec::new())));
        assert_eq!(loader.zones[0].directory.mark(), good, "the mark of its list is that of what is in force");
        assert!(folder.open().unwrap_err().contains(wanted));
    }
    folder.write("members.toml", TWO);
    assert_eq!((loader.refresh(NOW + 25), available(&loader)), ((true, Vec::new()), 2));
}

#[test]
fn tlsa_records_that_another_zone_has_to_hold_are_told_with_their_line() {
    let pin = format!("tlsa = [\"3 1 1 {}\"]\n", "ab".repeat(32));
    let own = "[[member]]\nname = \"ke1.time.example\"\naddresses = [\"192.0.2.1\"]\n";
    let folder = Folder::new(&format!("{own}{pin}[[member]]\nname = \"a.example.net\"\n{pin}"));
    let config = Config::load(&folder.path("srv.toml")).unwrap();
    let pool = Pool::open(&config.zones[0]).unwrap();
    let remarks: Vec<_> =
        unpublished(&config.zones[0].settings, pool.directory()).iter().map(ToString::to_string).collect();
    let [remark] = &remarks[..] else { panic!("{remarks:?}") };
    assert!(remark.contains("members.toml:6:1: tlsa of member a.example.net is not published"), "{remark}");
}

#[test]
fn health_takes_members_out_but_never_all() {
    let folder = Folder::new(TWO);
    let mut loader = folder.open().unwrap();
    let mut report = |at: u64, down: &[&str]| {
        let state =
            crate::directory::MemberHealth { state: Health::Down, since: at, offset_seconds: None, reason: None };
        let members = down.iter().map(|name| ((*name).to_owned(), state.clone())).collect();
        folder.write("health.json", &HealthReport { made_at: at, members }.to_json());
        loader.refresh(at);
        available(&loader)
    };
    assert_eq!(report(NOW, &["a.example.net"]), 1);
    assert_eq!(report(NOW + 60, &["a.example.net", "b.example.net"]), 2);
    assert_eq!(report(NOW + 120, &["b.example.net"]), 1);
    folder.write("health.json", "rubbish");
    assert_eq!((loader.refresh(NOW + 180), available(&loader)), ((false, Vec::new()), 1));
    // What was true a while ago need not be true now.
    assert_eq!((loader.refresh(NOW + 2_000), available(&loader)), ((true, Vec::new()), 2));
}

#[test]
fn signatures_are_made_anew_in_good_time_and_when_the_clock_jumps() {
    let folder = Folder::new(TWO);
    let mut loader = folder.open().unwrap();
    let window = |loader: &Loader| loader.state().zones[0].zone.signer.window();
    let day = 86_400;
    assert_eq!(window(&loader), Window { inception: NOW - 2 * day, expiration: NOW + 12 * day });
    assert!(!loader.refresh(NOW + 3 * day - 1).0);
    assert!(loader.refresh(NOW + 3 * day).0);
    assert_eq!(window(&loader).expiration, NOW + 15 * day);
    assert!(loader.refresh(1_000_000).0);
    assert_eq!(loader.zones[0].serial, NOW + 3 * day + 1, "it grows whatever the clock does");
    assert_eq!(window(&loader), Window { inception: 1_000_000 - 2 * day, expiration: 1_000_000 + 12 * day });
}

#[test]
fn nothing_starts_without_a_usable_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new(TWO);
    for (mode, good) in [(0o644, false), (0o606, false), (0o640, true), (0o400, true)] {
        fs::set_permissions(folder.path("zone.key"), fs::Permissions::from_mode(mode)).unwrap();
        let told = folder.open().map(|_| ()).err().unwrap_or_default();
        assert_eq!(
            !told.contains("zone.key: everybody may read or write this secret, so it is not used; accepted: mode 0600"),
            good,
            "{mode:o}: {told}"
        );
    }
    folder.write("zone.key", "rubbish");
    let told = folder.open().unwrap_err();
    assert!(told.contains("zone.key: unusable key") && told.contains("nts-pool-srv key FILE"), "{told}");
    fs::remove_file(folder.path("zone.key")).unwrap();
    assert!(folder.open().unwrap_err().contains("zone.key: No such file"));
    folder.write("srv.toml", "[[zone]]\nname = \"time.example\"\nmembers = \"members.toml\"\n");
    assert!(folder.open().unwrap_err().contains("srv.toml: no zone has a key"));
}
