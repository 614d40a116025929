//! A manual page from a command line and a few words, man(7).

use clap::{Arg, Command};
use roff::{Inline, Roff, bold, italic, roman};

use super::words::Words;

/// The page of a program with commands.
pub(super) fn page(mut command: Command, words: &Words) -> String {
    command.build();
    let mut page = head(&command, words);
    let options: Vec<_> = shown(&command).collect();
    page.control("SH", ["OPTIONS"]);
    for option in options {
        option_to(&mut page, option);
    }
    page.control("SH", ["COMMANDS"]);
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        command_to(&mut page, sub, "");
    }
    foot(page, words)
}

/// The page of chronyc, whose commands are no part of its options.
pub(super) fn chronyc(command: Command, help: &str, words: &Words) -> String {
    let mut page = head(&command, words);
    page.control("SH", ["OPTIONS"]);
    for option in shown(&command) {
        option_to(&mut page, option);
    }
    page.control("SH", ["COMMANDS"]);
    // A line with a command too long for its column goes on in the next.
    let mut name = String::new();
    for line in help.lines() {
        let (left, right) = if line.starts_with(' ') { ("", line.trim()) } else { columns(line) };
        if !left.is_empty() {
            name = left.to_owned();
        }
        if !right.is_empty() {
            page.control("TP", []);
            page.text([bold(name.as_str())]);
            page.text([roman(right)]);
        }
    }
    foot(page, words)
}

/// A command and what it does, which begins after two blanks at least.
fn columns(line: &str) -> (&str, &str) {
    line.split_once("  ").map_or((line, ""), |(left, right)| (left, right.trim()))
}

fn head(command: &Command, words: &Words) -> Roff {
    let name = command.get_name();
    let mut page = Roff::new();
    page.control("TH", [name.to_uppercase().as_str(), words.section, " ", "ntpd", words.manual]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {}", about(command)))]);
    page.control("SH", ["SYNOPSIS"]);
    for (nth, usage) in words.synopsis.iter().enumerate() {
        if nth > 0 {
            page.control("br", []);
        }
        page.text([bold(name), roman(format!(" {usage}"))]);
    }
    page.control("SH", ["DESCRIPTION"]);
    paragraphs_to(&mut page, words.description);
    page
}

fn foot(mut page: Roff, words: &Words) -> String {
    page.control("SH", ["EXIT STATUS"]);
    items_to(&mut page, words.exit);
    if !words.files.is_empty() {
        page.control("SH", ["FILES"]);
        items_to(&mut page, words.files);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([roman(words.see.join(", "))]);
    page.to_roff()
}

fn paragraphs_to(page: &mut Roff, texts: &[&str]) {
    for (nth, text) in texts.iter().enumerate() {
        if nth > 0 {
            page.control("PP", []);
        }
        page.text([roman(*text)]);
    }
}

fn items_to(page: &mut Roff, items: &[(&str, &str)]) {
    for (name, text) in items {
        page.control("TP", []);
        page.text([bold(*name)]);
        page.text([roman(*text)]);
    }
}

/// A command with its arguments and options; those of all commands stand under OPTIONS.
fn command_to(page: &mut Roff, command: &Command, before: &str) {
    let name = format!("{before}{}", command.get_name());
    let mut title = vec![bold(name.as_str())];
    for argument in command.get_positionals() {
        let value = value_name(argument);
        title.push(roman(" "));
        title.push(roman(if argument.is_required_set() { "" } else { "[" }));
        title.push(italic(value));
        title.push(roman(if argument.is_required_set() { "" } else { "]" }));
    }
    page.control("TP", []);
    page.text(title);
    let mut text = about(command);
    if let Some(more) = command.get_long_about().map(ToString::to_string) {
        text = more;
    }
    page.text([roman(ascii(&text.replace("\n\n", " ")))]);
    let own = shown(command).filter(|option| !option.is_global_set() && option.get_id() != "help").collect::<Vec<_>>();
    let explained = command.get_positionals().filter(|argument| argument.get_help().is_some()).collect::<Vec<_>>();
    if !own.is_empty() || !explained.is_empty() {
        page.control("RS", []);
        for argument in explained {
            page.control("TP", []);
            page.text([italic(value_name(argument))]);
            page.text([roman(help(argument))]);
        }
        for option in own {
            option_to(page, option);
        }
        page.control("RE", []);
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        command_to(page, sub, &format!("{name} "));
    }
}

fn option_to(page: &mut Roff, option: &Arg) {
    let mut title: Vec<Inline> = Vec::new();
    if let Some(short) = option.get_short() {
        title.push(bold(format!("-{short}")));
    }
    if let Some(long) = option.get_long() {
        if !title.is_empty() {
            title.push(roman(", "));
        }
        title.push(bold(format!("--{long}")));
    }
    if option.get_action().takes_values() {
        title.push(roman(" "));
        title.push(italic(value_name(option)));
    }
    page.control("TP", []);
    page.text(title);
    page.text([roman(help(option))]);
}

/// Options that are shown.
fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| !argument.is_positional() && !argument.is_hide_set())
}

fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
    names.map_or_else(|| argument.get_id().as_str().to_uppercase(), |names| names.join(" "))
}

fn help(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let words = argument.get_possible_values();
    if argument.get_action().takes_values() && !words.is_empty() {
        let words: Vec<_> = words.iter().map(|word| word.get_name().to_owned()).collect();
        text = format!("{text}: {}", words.join(", "));
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        text = format!("{text}; {} without it", defaults.join(" "));
    }
    ascii(&text) + "."
}

/// What every terminal shows.
fn ascii(text: &str) -> String {
    text.replace('…', "...")
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}
