//! The command line of `nts-pool-srv`.

use core::time::Duration;
use std::{
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use chacha20::ChaCha12Rng;
use clap::{Parser, Subcommand};
use ntp_proto::pool::Name;
use rand_core::SeedableRng as _;
use tracing::{error, info, level_filters::LevelFilter};

use super::{
    config::{Config, DEFAULT_FILE, ZoneConfig, duration},
    export::export,
    loader::{Loader, Pool, keys},
    name::WireName,
    now,
    published::Published,
    serve::{random, serve},
    sign::ZoneKey,
    update::Publisher,
    zone::{plain_records, unpublished},
};
use crate::directory::{Credential, Fetcher, check_directory, check_report, read_secret};

/// Exit code of a command that failed; usage errors have 2, as clap gives them.
const FAILED: u8 = 1;

/// Shortest interval of `publish --every`.
const MIN_EVERY: Duration = Duration::from_secs(10);

/// What `nts-pool-srv` is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "nts-pool-srv", version, about = "The DNS side of a pool of NTS servers")]
#[command(disable_help_subcommand = true)]
pub struct Cli {
    /// Read this configuration file
    #[arg(short, long, value_name = "FILE", global = true, default_value = DEFAULT_FILE)]
    pub config: PathBuf,

    /// Without a command: answer queries, in the foreground
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of answering queries.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check the configuration and all files that it names
    Check,
    /// Make a key that signs a zone
    Key {
        /// The file to write; it must not be there yet
        file: PathBuf,
        /// Print the records of the key for this zone
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
    },
    /// Print what the parent of each zone needs: its DS records, and the keys they stand for
    Ds,
    /// Print a zone for another DNS server, which signs it
    Export {
        /// The zone; needed if there are several
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
    },
    /// Update zones on another DNS server (RFC 2136, signed with a TSIG key)
    Publish {
        /// Go on, and update it again at this interval, such as 60s
        #[arg(long, value_name = "TIME", value_parser = every)]
        every: Option<Duration>,
    },
    /// Fetch a member directory or a health report by HTTPS, check it, and put it in the place of a file
    ///
    /// Everything else reads that file, so what was fetched last and was good stays in force, over restarts too.
    Fetch {
        /// Where from: https://…, or http:// at an address of loopback
        url: String,
        /// The file
        file: PathBuf,
        /// What it is
        #[arg(long, value_enum, default_value_t = Fetched::Members)]
        what: Fetched,
        /// Trust the certificates of this file (PEM) instead of the system's
        #[arg(long, value_name = "FILE")]
        roots: Option<PathBuf>,
        /// Send the header in this file, one line such as `Authorization: Bearer …`
        #[arg(long, value_name = "FILE")]
        header_file: Option<PathBuf>,
        /// Go on, and ask again at this interval, such as 60s
        #[arg(long, value_name = "TIME", value_parser = every)]
        every: Option<Duration>,
    },
}

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fetched {
    /// A member directory.
    Members,
    /// A health report.
    Health,
}

fn every(text: &str) -> Result<Duration, String> {
    let span = duration(text).filter(|span| *span >= MIN_EVERY);
    span.ok_or_else(|| format!("accepted: {}s and more, with the unit s, m, h or d", MIN_EVERY.as_secs()))
}

/// Runs a command.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    let done = match &cli.command {
        None => level(&cli.config).and_then(|level| in_runtime(level, async { serve(&cli.config).await })),
        Some(Command::Publish { every }) => {
            level(&cli.config).and_then(|level| in_runtime(level, async { publish(&cli.config, *every).await }))
        }
        Some(Command::Fetch { url, file, what, roots, header_file, every }) => {
            fetcher(url, file, *what, roots.as_deref())
                .and_then(|fetcher| Ok(fetcher.with_credential(header_file.as_deref().map(credential).transpose()?)))
                .and_then(|fetcher| in_runtime(LevelFilter::INFO, async { fetch(fetcher, file, *every).await }))
        }
        Some(Command::Check) => check(&cli.config).and_then(print),
        Some(Command::Key { file, zone }) => make_key(file, zone.as_deref()).and_then(print),
        Some(Command::Ds) => ds(&cli.config).and_then(print),
        Some(Command::Export { zone }) => export_zone(&cli.config, zone.as_deref()).and_then(print),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(told) => {
            // If that cannot be written either, the exit code still tells.
            drop(writeln!(io::stderr(), "nts-pool-srv: {told}"));
            FAILED.into()
        }
    }
}

fn print(text: String) -> Result<(), String> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| format!("standard output: {error}"))
}

fn load(file: &Path) -> Result<Config, String> {
    Config::load(file).map_err(|problem| problem.to_string())
}

fn level(file: &Path) -> Result<LevelFilter, String> {
    Ok(load(file)?.log_level.parse().unwrap_or(LevelFilter::INFO))
}

/// Runs what needs sockets; messages go to standard error.
fn in_runtime(level: LevelFilter, work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let filter =
        tracing_subscriber::filter::Targets::new().with_default(LevelFilter::OFF).with_target("pool_srv", level);
    let terminal = io::IsTerminal::is_terminal(&io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(terminal).with_target(false);
    let registry = tracing_subscriber::layer::SubscriberExt::with(
        tracing_subscriber::registry(),
        tracing_subscriber::Layer::with_filter(lines, filter),
    );
    // Only a second call in one process fails, and then the first one's settings hold.
    drop(tracing_subscriber::util::SubscriberInitExt::try_init(registry));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(work)
}

fn check(file: &Path) -> Result<String, String> {
    let config = load(file)?;
    let now = now::unix();
    let mut text = String::new();
    for zone in &config.zones {
        let told = |problem: crate::directory::Problem| problem.to_string();
        let pool = Pool::open(zone).map_err(told)?;
        plain_records(&zone.settings, pool.directory(), 0).map_err(told)?;
        if let Some(publish) = &zone.publish {
            Published::open(&publish.state, &zone.settings.origin()).map_err(told)?;
        }
        let (members, drawn) = (pool.directory().members().len(), pool.candidates(now).len());
        let (served, published) = match (&zone.key, &zone.publish) {
            (Some(_), None) => ("served here", String::new()),
            (Some(_), Some(publish)) => ("served here", format!(" and published at {}", publish.server)),
            (None, Some(publish)) => ("", format!("published at {}", publish.server)),
            (None, None) => ("for export", String::new()),
        };
        let name = &zone.settings.name;
        text.push_str(&format!("zone {name}: {members} members, {drawn} to draw; {served}{published}\n"));
        text.extend(unpublished(&zone.settings, pool.directory()).iter().map(|remark| format!("{remark}\n")));
    }
    if config.zones.iter().any(|zone| zone.key.is_some()) {
        Loader::open(&config, now).map_err(|problem| problem.to_string())?;
    }
    Ok(text)
}

fn make_key(file: &Path, zone: Option<&str>) -> Result<String, String> {
    let zone = zone.map(Name::parse).transpose().map_err(|error| format!("zone: {error}"))?;
    let text = ZoneKey::generate()?;
    let told = |error: io::Error| format!("{}: {error}", file.display());
    let mut options = std::fs::OpenOptions::new();
    let mut created = options.write(true).create_new(true).mode(0o600).open(file).map_err(told)?;
    created.write_all(text.as_bytes()).and_then(|()| created.sync_all()).map_err(told)?;
    let key = ZoneKey::from_pem(file, text.as_bytes()).map_err(|problem| problem.to_string())?;
    Ok(zone.map_or_else(String::new, |zone| key_records(&WireName::of(&zone), &key)))
}

fn key_records(zone: &WireName, key: &ZoneKey) -> String {
    format!("{zone}\tIN\tDS\t{}\n{zone}\tIN\tDNSKEY\t{}\n", key.ds_text(zone), key.dnskey_text())
}

fn ds(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    for zone in load(file)?.zones {
        for key in keys(&zone).map_err(|problem| problem.to_string())? {
            text.push_str(&key_records(&zone.settings.origin(), &key));
        }
    }
    Ok(text)
}

fn export_zone(file: &Path, wanted: Option<&str>) -> Result<String, String> {
    let config = load(file)?;
    let wanted = wanted.map(Name::parse).transpose().map_err(|error| format!("zone: {error}"))?;
    let names = || config.zones.iter().map(|zone| zone.settings.name.as_str()).collect::<Vec<_>>().join(", ");
    let zone: &ZoneConfig = match (&wanted, config.zones.as_slice()) {
        (None, [zone]) => zone,
        (None, _) => return Err(format!("several zones; accepted: --zone with one of {}", names())),
        (Some(name), zones) => zones
            .iter()
            .find(|zone| zone.settings.name == *name)
            .ok_or_else(|| format!("no zone {name}; accepted: {}", names()))?,
    };
    let pool = Pool::open(zone).map_err(|problem| problem.to_string())?;
    let mut random = ChaCha12Rng::from_seed(random().map_err(|error| error.to_string())?);
    export(&zone.settings, &pool, now::unix(), &mut random).map_err(|problem| problem.to_string())
}

fn fetcher(url: &str, file: &Path, what: Fetched, roots: Option<&Path>) -> Result<Fetcher, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let roots = roots.map(read).transpose()?;
    let check = match what {
        Fetched::Members => check_directory,
        Fetched::Health => check_report,
    };
    Fetcher::new(url, file, roots.as_deref(), check).map_err(|error| error.to_string())
}

/// The header in a file that not everybody may read.
fn credential(file: &Path) -> Result<Credential, String> {
    let wrong = |what: String| format!("{}: {what}", file.display());
    let text = read_secret(file).map_err(|problem| problem.to_string())?;
    Credential::parse(&text).map_err(wrong)
}

async fn fetch(mut fetcher: Fetcher, file: &Path, every: Option<Duration>) -> Result<(), String> {
    loop {
        let fetched = tokio::task::block_in_place(|| fetcher.refresh());
        match (fetched, every) {
            (Ok(true), _) => info!("{}: replaced", file.display()),
            (Ok(false), _) => {}
            (Err(problem), None) => return Err(problem.to_string()),
            (Err(problem), Some(_)) => error!("{problem}; the file stays as it is"),
        }
        let Some(every) = every else { return Ok(()) };
        tokio::time::sleep(every).await;
    }
}

async fn publish(file: &Path, every: Option<Duration>) -> Result<(), String> {
    let config = load(file)?;
    let mut random = ChaCha12Rng::from_seed(random().map_err(|error| error.to_string())?);
    let mut publishers = Vec::new();
    for zone in config.zones.iter().filter(|zone| zone.publish.is_some()) {
        let pool = Pool::open(zone).map_err(|problem| problem.to_string())?;
        let publisher = Publisher::new(zone, pool).map_err(|problem| problem.to_string())?;
        publishers.extend(publisher.map(|publisher| (zone.settings.name.clone(), publisher)));
    }
    if publishers.is_empty() {
        let accepted = "accepted: [zone.publish] with server and tsig-key below one [[zone]] at least";
        return Err(format!("{}: no zone is to be published; {accepted}", file.display()));
    }
    loop {
        let mut failed = Vec::new();
        for (name, publisher) in &mut publishers {
            match publisher.publish(&mut random).await {
                Ok(count) => info!("zone {name}: {count} service records are published"),
                Err(error) => failed.push(format!("zone {name}: {error}")),
            }
        }
        let Some(every) = every else {
            return if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) };
        };
        failed.iter().for_each(|told| error!("{told}; it is tried again"));
        tokio::time::sleep(every).await;
        for (_, publisher) in &mut publishers {
            if let Err(problem) = publisher.refresh() {
                error!("{problem}; what was read before stays in force");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_what_was_promised() {
        Cli::command().debug_assert();
        let parsed = |words: &[&str]| Cli::try_parse_from([&["nts-pool-srv"], words].concat());
        for (words, wanted) in [
            (&["-c", "f"][..], None),
            (&["check", "-c", "f"], Some(Command::Check)),
            (&["-c", "f", "export"], Some(Command::Export { zone: None })),
            (&["publish", "-c", "f", "--every", "1m"], Some(Command::Publish { every: Some(Duration::from_secs(60)) })),
        ] {
            let cli = parsed(words).unwrap();
            assert_eq!((cli.config.as_path(), cli.command), (Path::new("f"), wanted), "{words:?}");
        }
        let fetch = parsed(&["fetch", "https://pool.example/members.toml", "members.toml", "--every", "1m"]).unwrap();
        assert!(matches!(fetch.command, Some(Command::Fetch { what: Fetched::Members, roots: None, .. })), "{fetch:?}");
        for words in
            [&["nonsense"][..], &["fetch", "https://pool.example/"], &["publish", "--every", "1s"], &["-x"], &["key"]]
        {
            assert_eq!(parsed(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert_eq!(parsed(&["--version"]).unwrap_err().exit_code(), 0);
    }

    #[test]
    fn keys_are_made_once_and_kept_from_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("zone.key");
        let text = make_key(&file, Some("time.example")).unwrap();
        assert!(text.starts_with("time.example.\tIN\tDS\t") && text.contains("\tDNSKEY\t257 3 13 "), "{text}");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(make_key(&file, None).unwrap_err().contains("File exists"));
        assert!(make_key(&folder.path().join("b"), Some("..")).unwrap_err().starts_with("zone: not a host name"));
    }
}
