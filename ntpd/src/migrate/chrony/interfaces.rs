//! `hwtimestamp`.

use crate::migrate::{
    plan::{Directive, Plan, judge, quote},
    words::{number, signed_duration},
};

/// Options that are not carried over, while the rest of the line is: all have a number.
const DROPPED: [&str; 4] = ["maxpoll", "minsamples", "maxsamples", "precision"];

/// Why not.
const WHY: &str = "how an interface's clock is followed adapts by itself";

/// Reads a line.
///
/// # Errors
///
/// What chronyd would not accept either.
pub(super) fn read(plan: &mut Plan, directive: &Directive, words: &[&str]) -> Result<(), String> {
    let [interface, rest @ ..] = words else { return Err("too few arguments".to_owned()) };
    let mut table = format!("interface = {}\n", quote(interface));
    let mut rest = rest.iter();
    let mut parts = Vec::new();
    while let Some(word) = rest.next() {
        let name = word.to_ascii_lowercase();
        let mut argument = || rest.next().copied().ok_or_else(|| format!("a value is missing after `{name}`"));
        match name.as_str() {
            "nocrossts" => parts.push(("nocrossts".to_owned(), "cross-timestamp = false\n".to_owned())),
            "rxfilter" => {
                let filter = argument()?;
                parts.push((format!("rxfilter {filter}"), format!("rx-filter = {}\n", quote(filter))));
            }
            "minpoll" => {
                let poll = argument()?;
                let poll: i64 = poll.parse().map_err(|_| format!("`{poll}` is not a whole number"))?;
                parts.push((format!("minpoll {poll}"), format!("min-poll = {poll}\n")));
            }
            "txcomp" | "rxcomp" => {
                let word = argument()?;
                let text = signed_duration(number(word)?).ok_or_else(|| format!("`{word}` is out of range"))?;
                let key = if name == "txcomp" { "tx-comp" } else { "rx-comp" };
                parts.push((format!("{name} {word}"), format!("{key} = {}\n", quote(&text))));
            }
            _ if DROPPED.contains(&name.as_str()) => {
                let word = argument()?;
                number(word)?;
                plan.drop_part(directive, &format!("{name} {word}"), WHY);
            }
            _ => return Err(format!("unknown option `{word}`")),
        }
    }
    for (part, line) in parts {
        match judge(&format!("[[hwtimestamp]]\n{table}{line}")) {
            Ok(_) => table.push_str(&line),
            Err(wrong) => plan.drop_part(directive, &part, wrong),
        }
    }
    match judge(&format!("[[hwtimestamp]]\n{table}")) {
        Ok(_) => plan.add_interface(directive, interface, table),
        Err(wrong) => plan.drop(directive, wrong),
    }
    Ok(())
}
