//! The key-exchange load balancer of an NTS pool.

use std::{
    io::{self, IsTerminal as _},
    net::TcpListener,
    process::ExitCode,
};

use clap::Parser as _;
use listenfd::ListenFd;
use pool_lb::balance::{
    self, Balancer, StartError,
    cli::{Arguments, Task},
    config,
    config::{Config, ZoneMembers},
    control, identity,
};
use pool_srv::directory::{Watched, load_list};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// The balancer failed, or said no.
const FAILED: u8 = 1;

/// The files or the command line are wrong.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours).without_time().init();
    let config = match config::load(&arguments.config) {
        Ok(config) => config,
        Err(problem) => return fail(WRONG, &problem),
    };
    match arguments.command {
        None => match inherited() {
            Ok(listeners) => serve(config, |config| Balancer::start_on(config, listeners)),
            Err(error) => fail(WRONG, &format!("the sockets that the service manager passes on: {error}")),
        },
        Some(Task::Monitor) => serve(config, Balancer::monitor),
        Some(Task::Check { zone }) => check(&config, zone),
        Some(Task::List) => ask(&config, "list"),
        Some(Task::Why { client }) => ask(&config, &format!("why {client}")),
        Some(Task::Drain { member }) => ask(&config, &format!("drain {member}")),
        Some(Task::Undrain { member }) => ask(&config, &format!("undrain {member}")),
        Some(Task::Reload { older }) => ask(&config, if older { "reload older" } else { "reload" }),
    }
}

fn fail(code: u8, what: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("nts-pool-lb: {what}");
    ExitCode::from(code)
}

fn check(config: &Config, asks_zone: bool) -> ExitCode {
    let list = config.zone.as_ref().map(|zone| load_list(&zone.list));
    // Without a list that can be used the next start transfers it.
    let opened = if let Some(Err(_)) = list { Watched::open(&config.members) } else { balance::kept(config) };
    let directory = match &opened {
        Ok(watched) => watched.current(),
        Err(problem) => return fail(WRONG, problem),
    };
    if let Err(error) =
        identity::server_config(config).map(drop).and_then(|()| identity::client_config(config).map(drop))
    {
        return fail(WRONG, &error);
    }
    if let Some(Err(problem)) = config.zone.as_ref().map(ZoneMembers::source) {
        return fail(WRONG, &problem);
    }
    let members = directory.members();
    let without = members.iter().filter(|member| member.token.is_none()).count();
    println!("{} members, {without} of them without token (for DNS clients alone)", members.len());
    if let Some(zone) = &config.zone {
        let name = &zone.name;
        match list {
            Some(Err(problem)) => println!("members will be those of the zone {name}; there is no list yet: {problem}"),
            Some(Ok(_)) | None => println!("members are those of the zone {name}, as {} has it", zone.list.display()),
        }
    }
    if !asks_zone {
        return ExitCode::SUCCESS;
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(balance::inspect(config))) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => fail(WRONG, &text),
    }
}

fn ask(config: &Config, line: &str) -> ExitCode {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &error),
    };
    match runtime.block_on(control::ask_running(&config.control_socket, line)) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => fail(FAILED, &text),
    }
}

/// The listeners that the service manager keeps open for us (sd_listen_fds(3)): they outlive us, so that no user meets a
/// closed port when one program follows another.
fn inherited() -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    // Each is there once.
    let taken = (0..passed.len()).map(|place| passed.take_tcp_listener(place));
    taken.filter_map(Result::transpose).collect()
}

fn serve(config: Config, start: impl FnOnce(Config) -> Result<Balancer, StartError>) -> ExitCode {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &error),
    };
    // Before anything is served, so that no signal is missed.
    let signals = runtime.block_on(async {
        let of = |kind| signal(kind);
        Ok::<_, io::Error>((of(SignalKind::hangup())?, of(SignalKind::terminate())?, of(SignalKind::interrupt())?))
    });
    let (mut hangup, mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => return fail(FAILED, &error),
    };
    let balancer = match start(config) {
        Ok(balancer) => balancer,
        Err(error) => return fail(WRONG, &error),
    };
    for address in balancer.addresses() {
        info!("serving users on {address}");
    }
    loop {
        let reload = runtime.block_on(async {
            tokio::select! {
                _ = hangup.recv() => true,
                _ = terminate.recv() => false,
                _ = interrupt.recv() => false,
            }
        });
        if !reload {
            break;
        }
        match balancer.command("reload") {
            Ok(text) => info!("{}", text.trim_end()),
            Err(text) => tracing::warn!("{text}; what was read before stays in use"),
        }
    }
    info!("stopping: no new users");
    balancer.stop();
    ExitCode::SUCCESS
}
