//! `restrict` and `interface`: who is answered, and where.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::migrate::{
    access::{Rules, everybody, words},
    plan::{Directive, Plan},
    serving::Serving,
};

/// Flags that say nothing about time.
const NEUTRAL: [&str; 9] =
    ["nomodify", "nopeer", "noepeer", "noquery", "notrap", "nomrulist", "lowpriotrap", "serverresponse", "epeer"];

/// Flags that have no counterpart.
const UNKNOWN: [&str; 4] = ["version", "mssntp", "flake", "fuzz"];

/// What the directives say. Without any, everybody is answered.
pub(super) struct Access {
    rules: Rules,
    pub(super) serving: Serving,
    limited: bool,
    kiss: bool,
    interfaces: Vec<(Directive, String, String)>,
}

impl Default for Access {
    fn default() -> Self {
        let mut rules = Rules::longest();
        for all in everybody() {
            rules.add(all, true, false);
        }
        Self { rules, serving: Serving::default(), limited: false, kiss: false, interfaces: Vec::new() }
    }
}

/// What the flags of a rule come to.
#[derive(Default)]
struct Flags {
    denies: bool,
    by_port: bool,
    unknown: Vec<String>,
}

impl Access {
    /// Reads `restrict`.
    ///
    /// # Errors
    ///
    /// What cannot be meant.
    pub(super) fn restrict(&mut self, words: &[&str], directive: &Directive, plan: &mut Plan) -> Result<(), String> {
        let family = match words.first() {
            Some(&"-4") => Some(true),
            Some(&"-6") => Some(false),
            _ => None,
        };
        let mut words = words.iter().skip(usize::from(family.is_some()));
        let address = words.next().ok_or("an address is missing")?;
        let rest: Vec<_> = words.copied().collect();
        let (mask, rest) = match rest.as_slice() {
            ["mask", mask, rest @ ..] => (Some(*mask), rest),
            ["mask"] => return Err("a mask is missing".to_owned()),
            rest => (None, rest),
        };
        let flags = self.flags(rest)?;
        self.serving.comments.extend(directive.comments.iter().cloned());
        let bare = Directive { comments: Vec::new(), ..directive.clone() };
        self.serving.access = Some(bare.clone());
        for flag in &flags.unknown {
            plan.drop_part(&bare, flag, "there is no such restriction");
        }
        let nets = match *address {
            // How servers of ours are treated is not a matter of what is served.
            "source" => return Ok(()),
            "default" => {
                everybody().into_iter().filter(|net| family.is_none_or(|is_v4| is_v4 == net.addr().is_ipv4())).collect()
            }
            address => match net(address, mask)? {
                Some(net) => vec![net],
                None if flags.denies => {
                    self.serving.blocked.push((bare, "clients have addresses here, not names".to_owned()));
                    return Ok(());
                }
                None => {
                    plan.drop(&bare, "clients have addresses here, not names");
                    return Ok(());
                }
            },
        };
        if flags.by_port {
            plan.drop_part(&bare, "ntpport", "the port of a client does not count");
            if !flags.denies {
                return Ok(());
            }
        }
        for net in nets {
            self.rules.add(net, !flags.denies, false);
        }
        Ok(())
    }

    fn flags(&mut self, words: &[&str]) -> Result<Flags, String> {
        let mut flags = Flags::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.to_ascii_lowercase().as_str() {
                "ignore" | "noserve" => flags.denies = true,
                "notrust" => {
                    // Only those with a key were answered.
                    flags.denies = true;
                    flags.unknown.push("notrust".to_owned());
                }
                "limited" => self.limited = true,
                "kod" => self.kiss = true,
                "ntpport" | "non-ntpport" => flags.by_port = true,
                "ippeerlimit" => drop(words.next().ok_or("a number is missing")?),
                word if NEUTRAL.contains(&word) => {}
                word if UNKNOWN.contains(&word) => flags.unknown.push(word.to_owned()),
                word => return Err(format!("unknown flag `{word}`")),
            }
        }
        Ok(flags)
    }

    /// Reads `interface`.
    ///
    /// # Errors
    ///
    /// What cannot be meant.
    pub(super) fn interface(&mut self, words: &[&str], directive: &Directive) -> Result<(), String> {
        let [action, target] = words else { return Err("an action and what it is for are needed".to_owned()) };
        let action = action.to_ascii_lowercase();
        if !["listen", "ignore", "drop"].contains(&action.as_str()) {
            return Err(format!("unknown action `{action}`"));
        }
        self.interfaces.push((directive.clone(), action, (*target).to_owned()));
        Ok(())
    }

    /// What is served.
    pub(super) fn finish(self, plan: &mut Plan) -> Serving {
        let Self { rules, mut serving, limited, kiss, interfaces } = self;
        let (allow, deny) = rules.lists();
        (serving.allow, serving.deny) = (words(&allow), words(&deny));
        serving.comments.push("ntpd answers whom it is not told to restrict; without [serve] nobody is.".to_owned());
        serving.rate_limit = match (limited, kiss) {
            (false, _) => Some("false".to_owned()),
            (true, true) => Some("{ kiss = true }".to_owned()),
            (true, false) => None,
        };
        if interfaces.is_empty() {
            return serving;
        }
        // Addresses can be named, once all others are ruled out.
        let ruled_out = interfaces.iter().any(|(_, action, target)| {
            action != "listen" && ["wildcard", "all"].contains(&target.to_ascii_lowercase().as_str())
        });
        for (directive, action, target) in interfaces {
            match (action.as_str(), target.parse::<IpAddr>()) {
                ("listen", Ok(IpAddr::V4(address))) if ruled_out => serving.listen.push(format!("{address}:123")),
                ("listen", Ok(IpAddr::V6(address))) if ruled_out => serving.listen.push(format!("[{address}]:123")),
                (_, Err(_)) if ["wildcard", "all"].contains(&target.to_ascii_lowercase().as_str()) => {
                    plan.block(directive.comments);
                }
                _ => serving.blocked.push((directive, "what is served cannot be kept to an interface".to_owned())),
            }
        }
        if ruled_out && serving.listen.is_empty() {
            plan.block(std::mem::take(&mut serving.comments));
            serving.allow.clear();
        }
        serving
    }
}

/// An address with a mask or a length; `None` is a name.
fn net(address: &str, mask: Option<&str>) -> Result<Option<IpNet>, String> {
    if let Ok(net) = address.parse::<IpNet>() {
        return Ok(Some(net.trunc()));
    }
    let Ok(address) = address.parse::<IpAddr>() else { return Ok(None) };
    let Some(mask) = mask else { return Ok(Some(address.into())) };
    let mask: IpAddr = mask.parse().map_err(|_| format!("`{mask}` is not a mask"))?;
    let net = IpNet::with_netmask(address, mask).map_err(|_| format!("`{mask}` is not the mask of a prefix"))?;
    Ok(Some(net.trunc()))
}
