//! What the documents say of the code must be so.

use std::{fs, path::Path};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace above this crate")
}

/// Words between back quotes that look like paths of this repository.
fn paths(text: &str) -> Vec<String> {
    let tops =
        ["ntp-proto/", "nts-ke/", "pool-srv/", "pool-lb/", "clock-control/", "ntpd/", "tests/", "docs/", "packaging/"];
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| !word.contains(' ') && tops.iter().any(|top| word.starts_with(top)))
        .map(str::to_owned)
        .collect()
}

/// Every document, by its path from the root.
fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned()];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of documents").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(root()).expect("below the root").display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn paths_named_in_documents_exist() {
    // The guide is for users, whose paths are not ours.
    for name in documents().iter().filter(|name| !name.starts_with("docs/guide")) {
        let text = fs::read_to_string(root().join(name)).expect("readable document");
        for path in paths(&text) {
            assert!(root().join(&path).exists(), "{name} names {path}");
        }
    }
}

#[test]
fn the_architecture_fits_in_300_lines() {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    assert!(text.lines().count() <= 300);
}

#[test]
fn links_between_documents_lead_somewhere() {
    for name in documents() {
        let file = root().join(&name);
        let text = fs::read_to_string(&file).expect(&name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.contains("://") && !link.starts_with('#') {
                let target = file.parent().expect("a folder").join(link.split('#').next().unwrap_or(link));
                assert!(target.exists(), "{name} links to {link}");
            }
        }
    }
}

/// The anchors that headings of a document have, as GitHub and others make them: lower case, without punctuation, with hyphens for
/// spaces; a second heading of one name has a number.
fn anchors(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if is_code || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let before = found.iter().filter(|known| **known == anchor).count();
        found.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
    }
    found
}

#[test]
fn anchors_of_links_are_those_of_headings() {
    let example = "# One `two`, three\n```\n# no heading\n```\n## A-b_c\n## A-b_c\n#none\n";
    assert_eq!(anchors(example), ["one-two-three", "a-b_c", "a-b_c-1"]);
    let mut checked = 0;
    for name in documents() {
        let file = root().join(&name);
        let text = fs::read_to_string(&file).expect(&name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((page, anchor)) = link.split_once('#').filter(|_| !link.contains("://")) else { continue };
            let page = if page.is_empty() { file.clone() } else { file.parent().expect("a folder").join(page) };
            let known = anchors(&fs::read_to_string(&page).expect(link));
            assert!(known.iter().any(|known| known == anchor), "{name} links to {link}; there are {known:?}");
            checked += 1;
        }
    }
    assert!(checked >= 10, "{checked} links have anchors");
}

#[test]
fn limits_are_those_of_the_code_and_are_tested() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect(name);
    let mut limits = 0;
    for row in read("docs/pools/limits.md").lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let words: Vec<_> = row.split('`').skip(1).step_by(2).filter(|word| !word.is_empty()).collect();
        let [.., code, constant, tests, test] = words[..] else { panic!("{row}") };
        assert!(read(code).contains(&format!("const {constant};")), "{code} has no {constant}");
        assert!(read(tests).contains(&format!("fn {test}(")), "{tests} has no {test}");
        limits += 1;
    }
    assert!(limits >= 10, "{limits} limits are listed");
}

#[test]
fn constants_of_the_clock_are_those_of_the_code() {
    let page = fs::read_to_string(root().join("docs/clock.md")).expect("docs/clock.md");
    let table = page.split("\n## Constants\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("constants");
    let said = said();
    let mut constants = 0;
    for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        for name in row.split('`').next().unwrap_or_default().split(", ") {
            assert!(said.contains(&format!("const {name}:")), "there is no constant {name}");
            constants += 1;
        }
    }
    assert!(constants >= 80, "{constants} constants are explained");
}

#[test]
fn programs_services_and_documents_agree_on_the_folder_of_a_pool() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect(name);
    for (name, needed) in [
        ("pool-lb/src/balance/cli.rs", "\"/etc/nts-pool/nts-pool-lb.toml\""),
        ("pool-srv/src/publish/config.rs", "\"/etc/nts-pool/nts-pool-srv.toml\""),
        ("packaging/systemd/nts-pool-lb.service", "-c /etc/nts-pool/nts-pool-lb.toml"),
        ("packaging/pool/nts-pool-lb.toml", "members = \"/etc/nts-pool/members.toml\""),
        ("docs/pools/balancer.md", "`/etc/nts-pool/members.toml`"),
        ("docs/pools/dns.md", " /etc/nts-pool/members.toml"),
    ] {
        let text = read(name);
        assert!(text.contains(needed), "{name} names {needed}");
        assert!(!text.contains("/etc/nts-pool-"), "{name} names another folder");
    }
}

/// Without these a machine without a clock waits for nothing, or a good clock is not known as such.
#[test]
fn units_let_the_daemon_read_what_it_judges_the_clock_by() {
    let unit = |name: &str| fs::read_to_string(root().join("packaging").join(name)).expect(name);
    let has = |text: &str, line: &str| text.lines().any(|other| other == line);
    let daemon = unit("systemd/ntpd.service");
    assert!(has(&daemon, "DevicePolicy=closed") && has(&daemon, "DeviceAllow=char-ptp r"), "clocks of hosts");
    // systemd.exec(5): it hides /proc/sys, where random/boot_id is.
    assert!(!has(&daemon, "ProcSubset=pid"), "the number of the boot");
    assert!(unit("udev/60-ntpd.rules").lines().any(|line| line.contains("SUBSYSTEM==\"ptp\"")));
    let wait = unit("systemd/ntpd-wait.service");
    assert!(has(&wait, "ExecStart=/usr/bin/ntpctl waitsync 0 0.1 0 1") && has(&wait, "TimeoutStartSec=infinity"));
}

/// All sources of what the daemon and `ntpctl` say, without their tests, with strings as they are printed.
fn said() -> String {
    let mut text = String::new();
    let mut folders: Vec<_> =
        ["ntp-proto/src", "nts-ke/src", "clock-control/src", "ntpd/src"].iter().map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().expect("names are UTF-8");
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let source = fs::read_to_string(&path).expect("readable source");
                let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                // A string that goes on in the next line has no break there.
                let mut parts = source.split("\\\n");
                text.push_str(parts.next().unwrap_or_default());
                parts.for_each(|part| text.push_str(part.trim_start()));
            }
        }
    }
    text.replace("\\\"", "\"")
}

/// The first cells of the tables of trouble, in which `...` stands for what differs.
fn quoted(page: &str) -> Vec<&str> {
    page.lines()
        .filter_map(|line| {
            let cell = line.strip_prefix("| `")?;
            cell.strip_prefix("` ").map_or_else(|| cell.split('`').next(), |cell| cell.split(" ``").next())
        })
        .collect()
}

#[test]
fn messages_that_the_guide_quotes_are_those_of_the_source() {
    let said = said();
    let page = fs::read_to_string(root().join("docs/guide/troubleshooting.md")).expect("the page of trouble");
    let messages = quoted(&page);
    assert!(messages.len() >= 60, "{} messages are quoted", messages.len());
    let mut unsaid = Vec::new();
    for message in messages {
        // What one message quotes of another is joined by these.
        let joints = [' ', ':', ';', ','];
        let parts: Vec<_> = message.split("...").map(|part| part.trim_matches(joints)).collect();
        assert!(parts.iter().any(|part| part.contains(' ')), "{message} says nothing");
        unsaid.extend(parts.into_iter().filter(|part| !said.contains(part)).map(|part| (part, message)));
    }
    assert!(unsaid.is_empty(), "nothing says this: {unsaid:#?}");
}

#[test]
fn the_guide_lists_all_its_pages() {
    let index = fs::read_to_string(root().join("docs/guide/README.md")).expect("the guide");
    for page in documents().iter().filter_map(|name| name.strip_prefix("docs/guide/")) {
        assert!(page == "README.md" || index.contains(&format!("]({page})")), "the guide does not list {page}");
    }
}
