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

#[test]
fn paths_named_in_documents_exist() {
    for name in
        ["README.md", "docs/ARCHITECTURE.md", "docs/CONTRIBUTING.md", "docs/pools/lookups.md", "docs/pools/capacity.md"]
    {
        let text = fs::read_to_string(root().join(name)).expect(name);
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
    for name in [
        "README.md",
        "docs/ARCHITECTURE.md",
        "docs/CONTRIBUTING.md",
        "docs/guide/README.md",
        "docs/pools/lookups.md",
        "docs/pools/capacity.md",
    ] {
        let file = root().join(name);
        let text = fs::read_to_string(&file).expect(name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !link.contains("://") && !link.starts_with('#') {
                let target = file.parent().expect("a folder").join(link.split('#').next().unwrap_or(link));
                assert!(target.exists(), "{name} links to {link}");
            }
        }
    }
}
