//! Manual pages and completions say what the command lines say.
//!
//! `NTPD_BLESS=1 cargo test -p ntpd-tests --test pages` writes them anew.

use std::{env, fs, path::Path};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use ntpd::cli::{Cli, chronyc, ctl::Ctl};

mod defaults;
mod keys;
mod man;
mod words;

use words::{CHRONYC, NTPCTL, NTPD, NTS_POOL_LB, NTS_POOL_SRV};

fn programs() -> Vec<Command> {
    vec![
        Cli::command(),
        Ctl::command(),
        pool_lb::balance::cli::Arguments::command(),
        pool_srv::publish::cli::Cli::command(),
    ]
}

/// Compares a file with what it should be, or writes it.
fn compare(name: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name);
    if env::var_os("NTPD_BLESS").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("folder to write to");
        fs::write(&file, wanted).expect("page to write");
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "packaging/{name} is not what the command line says; NTPD_BLESS=1 writes it anew");
}

#[test]
fn manual_pages_are_those_of_the_commands() {
    let words = [&NTPD, &NTPCTL, &NTS_POOL_LB, &NTS_POOL_SRV];
    for (command, words) in programs().into_iter().zip(words) {
        compare(&format!("man/{}.{}", command.get_name(), words.section), &man::page(command, words));
    }
    compare("man/chronyc.1", &man::chronyc(chronyc::options(), chronyc::HELP, &CHRONYC));
}

#[test]
fn completions_are_those_of_the_commands() {
    for mut command in programs() {
        let name = command.get_name().to_owned();
        let files = [
            (Shell::Bash, format!("completions/bash/{name}")),
            (Shell::Zsh, format!("completions/zsh/_{name}")),
            (Shell::Fish, format!("completions/fish/{name}.fish")),
        ];
        for (shell, file) in files {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, &name, &mut text);
            compare(&file, &String::from_utf8(text).expect("UTF-8"));
        }
    }
}

#[test]
fn every_key_is_explained() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/man/ntpd.toml.5"));
    let explained = keys::explained(&page.expect("ntpd.toml(5)"));
    let known = keys::known();
    assert!(known.len() > 10, "{known:?}");
    for (table, names) in &known {
        for name in names.iter().filter(|name| !known.contains_key(&format!("{table}.{name}"))) {
            let under = |heading: &&str| explained.get(*heading).is_some_and(|under| under.words.contains(name));
            assert!(keys::headings(table).iter().any(under), "ntpd.toml(5) does not explain `{name}` of [{table}]");
        }
    }
    for (heading, under) in &explained {
        let table = if heading == "Top level" { "" } else { heading };
        for name in &under.keys {
            assert!(known[table].contains(name), "ntpd.toml(5) explains `{name}` of [{table}], which there is not");
        }
    }
}

#[test]
fn defaults_are_those_of_the_daemon() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/man/ntpd.toml.5"));
    let (unnamed, named) = defaults::unnamed(&page.expect("ntpd.toml(5)"));
    assert!(unnamed.is_empty(), "ntpd.toml(5) does not name these defaults:\n{}", unnamed.join("\n"));
    assert!(named >= 60, "{named} defaults are named");
}
