//! The files of a configuration. They are only read.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use pool_lb::member::Tokens;
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{
    Added, Config, Loaded, TrustSettings, check,
    problem::{Place, Problems, Report, Wrong},
    raw,
};
use crate::serve::keys::Secrets;

/// The file that is read if no other is named.
const MAIN_FILE: &str = "ntpd.toml";

/// Directory of files that add to it, beside it.
const DROP_IN_DIRECTORY: &str = "conf.d";

/// Where both are.
const DIRECTORY: &str = "/etc/ntpd";

/// Where more sources are looked for, unless the files say otherwise: those of the administrator, and those that scripts
/// write which hear of servers by DHCP.
pub(crate) const SOURCE_DIRECTORIES: [&str; 3] = ["/etc/ntpd/sources.d", "/run/ntpd-dhcp", "/run/chrony-dhcp"];

/// Most files in the drop-in directory.
const MAX_DROP_INS: usize = 256;

/// Longest file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Permission bits that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Permission bits that let everybody read, or write.
const EXPOSED_TO_ALL: u32 = 0o006;

/// What a file may be that the key exchange server keeps a secret in.
const PRIVATE_MODES: &str = "mode 0600 or 0640";

/// Which files a configuration is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One file alone.
    File(PathBuf),
    /// `/etc/ntpd/ntpd.toml` and after it `/etc/ntpd/conf.d/*.toml`, in the order of their names.
    Standard,
}

/// Reads a configuration and everything it refers to. Nothing is changed by it.
///
/// # Errors
///
/// Everything that is wrong, up to a limit.
pub fn load(origin: &Origin) -> Result<Loaded, Problems> {
    match origin {
        Origin::File(path) => load_files(path, None),
        Origin::Standard => load_directory(Path::new(DIRECTORY)),
    }
}

impl Config {
    /// Reads a configuration that stands in no file; `place` is how problems call it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, up to a limit.
    pub fn parse(place: &str, text: &str) -> Result<Self, Problems> {
        let (report, path) = (Report::default(), Path::new(place));
        let table = raw::parse(path, text, &report);
        let (config, _) = check::check(table, &Place::whole(path), &[], &report);
        report.finish().map(|_| config)
    }
}

/// Reads the text of a file that may hold nothing but `pool` and `server`.
///
/// # Errors
///
/// Everything that is wrong, up to a limit.
pub fn parse_sources(path: &Path, text: &str) -> Result<Vec<Added>, Problems> {
    let report = Report::default();
    let table = raw::parse(path, text, &report);
    let sources = check::check_sources(table, &Place::whole(path), &report);
    report.finish().map(|_| sources)
}

/// Whether there is a configuration in its usual place.
#[must_use]
pub fn standard_exists() -> bool {
    Path::new(DIRECTORY).join(MAIN_FILE).exists()
}

pub(super) fn load_directory(directory: &Path) -> Result<Loaded, Problems> {
    load_files(&directory.join(MAIN_FILE), Some(&directory.join(DROP_IN_DIRECTORY)))
}

/// Reads `[trust]` of a configuration, and nothing that the rest refers to: whoever only asks may not read the keys of a server.
///
/// # Errors
///
/// What is wrong there, or with the files as a whole.
pub fn load_trust(origin: &Origin) -> Result<TrustSettings, Problems> {
    let report = Report::default();
    let standard = Path::new(DIRECTORY);
    let (main, drop_ins) = match origin {
        Origin::File(path) => (path.clone(), None),
        Origin::Standard => (standard.join(MAIN_FILE), Some(standard.join(DROP_IN_DIRECTORY))),
    };
    let table = merged(&main, drop_ins.as_deref(), &report);
    let trust = check::check_trust(table, &Place::whole(&main), &report);
    report.finish().map(|_| trust)
}

fn load_files(main: &Path, drop_ins: Option<&Path>) -> Result<Loaded, Problems> {
    let report = Report::default();
    let table = merged(main, drop_ins, &report);
    // A file that is named counts alone.
    let directories: &[&str] = if drop_ins.is_some() { &SOURCE_DIRECTORIES } else { &[] };
    let (config, keys) = check::check(table, &Place::whole(main), directories, &report);
    report.finish().map(|warnings| Loaded { config, keys, warnings })
}

/// What all files say together.
fn merged(main: &Path, drop_ins: Option<&Path>, report: &Report) -> raw::Table {
    let mut table = raw::Table::new();
    let mut paths = vec![main.to_path_buf()];
    if let Some(directory) = drop_ins {
        match list(directory, &["toml"]) {
            Ok(found) => paths.extend(found),
            Err(error) => report.error(&Place::whole(directory), "", cannot("read this directory", &error)),
        }
    }
    for path in &paths {
        match read_text(path) {
            Ok((text, _)) => {
                let later = raw::parse(path, &text, report);
                raw::merge(&mut table, later, report);
            }
            Err(wrong) => report.error(&Place::whole(path), "", wrong),
        }
    }
    table
}

/// The files of a directory with one of these extensions, in the order of their names; none if it does not exist.
pub(crate) fn list(directory: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
            paths.push(path);
        }
        if paths.len() > MAX_DROP_INS {
            return Err(io::Error::other(format!("it has more than {MAX_DROP_INS} files, and no more are read")));
        }
    }
    paths.sort();
    Ok(paths)
}

fn cannot(what: &str, error: &io::Error) -> Wrong {
    Wrong::new(format!("cannot {what}: {error}"))
}

/// Opens a file that decides what the daemon does, and so must be the administrator's alone.
fn read_bytes(path: &Path) -> Result<(Vec<u8>, Metadata), Wrong> {
    let unreadable = |error| cannot("read this file", &error);
    // What is no file may block when it is opened.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Wrong::new("this is no file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.permissions().mode();
    if mode & WRITABLE_BY_OTHERS != 0 {
        let what = format!("others than its owner may write this file (mode {:04o})", mode & 0o7777);
        return Err(Wrong::new(what).accepted("a file after `chmod go-w`"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Wrong::new(format!("this file is longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok((bytes, metadata))
}

/// The text of a file that decides what the daemon does.
pub(crate) fn read_text(path: &Path) -> Result<(String, Metadata), Wrong> {
    let (bytes, metadata) = read_bytes(path)?;
    let text = String::from_utf8(bytes).map_err(|_| Wrong::new("this file is not UTF-8 text"))?;
    Ok((text, metadata))
}

/// Whether everybody may read a file.
fn is_public(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & EXPOSED_TO_ALL != 0
}

/// What to say about a secret that is none.
fn public_secret(path: &Path) -> Wrong {
    Wrong::new(format!("everybody may read or write {}", path.display()))
}

/// Names the file that a complaint is about.
fn about(path: &Path, wrong: &Wrong) -> Wrong {
    Wrong::new(format!("{}: {wrong}", path.display()))
}

/// Reads the text of a file of secrets; a warning comes with it if everybody may read them.
pub(super) fn secret_text(path: &Path) -> Result<(String, Option<Wrong>), Wrong> {
    let (text, metadata) = read_text(path).map_err(|wrong| about(path, &wrong))?;
    Ok((text, is_public(&metadata).then(|| public_secret(path))))
}

/// Reads the tokens of pools. A file that everybody can read holds no secret.
pub(super) fn pool_tokens(path: &Path) -> Result<(), Wrong> {
    let (text, exposed) = secret_text(path)?;
    Tokens::parse(&text).map_err(|error| about(path, &Wrong::new(error.to_string())))?;
    exposed.map_or(Ok(()), |wrong| Err(wrong.accepted(PRIVATE_MODES)))
}

/// Reads the secrets that cookie keys are derived from, as [`pool_tokens`] does.
pub(crate) fn cookie_secrets(path: &Path, period: Duration) -> Result<Secrets, Wrong> {
    let (text, exposed) = secret_text(path)?;
    let secrets = Secrets::parse(&text, period).map_err(|error| about(path, &Wrong::new(error)))?;
    exposed.map_or(Ok(secrets), |wrong| Err(wrong.accepted(PRIVATE_MODES)))
}

/// Reads a chain of certificates, which is never empty.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let (bytes, _) = read_bytes(path).map_err(|wrong| about(path, &wrong))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(about(path, &Wrong::new("no certificate in this file").accepted("PEM"))),
        Ok(chain) => Ok(chain),
        Err(error) => Err(about(path, &Wrong::new(format!("broken certificate: {error}")).accepted("PEM"))),
    }
}

/// Checks that a private key can be read, by us and not by everybody, and belongs to the first certificate of `chain`.
pub(super) fn private_key(path: &Path, chain: Vec<CertificateDer<'static>>) -> Result<(), Wrong> {
    let (bytes, metadata) = read_bytes(path).map_err(|wrong| about(path, &wrong))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| about(path, &Wrong::new("no private key in this file").accepted("PEM")))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(|error| about(path, &Wrong::new(format!("not the key of the certificate: {error}"))))?;
    if is_public(&metadata) { Err(public_secret(path).accepted(PRIVATE_MODES)) } else { Ok(()) }
}
