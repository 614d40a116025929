//! What a compiler does not check: sizes of files and functions, arrows between crates, lint files that must agree, and
//! suppressions without a reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Code lines a file may have; 400 are wanted.
const MAX_FILE_LINES: usize = 600;
/// Code lines a function may have.
const MAX_FUNCTION_LINES: usize = 70;
/// Files above the wanted 400 lines, tests left out: this number may only fall.
const MAX_LARGE_FILES: usize = 1;
/// Crates that may use `unsafe`, by file.
const UNSAFE_FILES: [&str; 6] = [
    "clock-control/src/sys.rs",
    "clock-control/src/linux.rs",
    "ntpd/src/net/sys.rs",
    "ntpd/tests/no_alloc_net.rs",
    "ntpd/tests/no_alloc_serve.rs",
    "tests/tests/no_alloc.rs",
];
/// Crates that know no clock, socket or randomness of their own.
const PROTOCOL_CRATES: [&str; 4] = ["ntp-proto", "nts-ke", "pool-srv", "pool-lb"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace above this crate").to_path_buf()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            let name = entry.file_name();
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                rust_files(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Every Rust file of the workspace with its text, by its path from the root.
fn sources() -> BTreeMap<String, String> {
    let mut files = Vec::new();
    for name in ["ntp-proto", "nts-ke", "pool-srv", "pool-lb", "clock-control", "ntpd", "tests"] {
        rust_files(&root().join(name), &mut files);
    }
    files
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(root()).expect("below the root").display().to_string();
            (name, fs::read_to_string(&file).expect("readable file"))
        })
        .collect()
}

/// The text without its trailing test module, and without lines that hold no code.
fn code_lines(text: &str) -> Vec<&str> {
    let end = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    text[..end].lines().filter(code).collect()
}

/// Code lines of each function, by name; formatted code ends a function at the brace below its first letter.
fn functions<'a>(lines: &[&'a str]) -> Vec<(&'a str, usize)> {
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let words = [
            "fn ",
            "pub fn ",
            "pub(crate) fn ",
            "pub(super) fn ",
            "const fn ",
            "pub const fn ",
            "async fn ",
            "pub async fn ",
        ];
        if !words.iter().any(|word| trimmed.starts_with(word)) || trimmed.ends_with('}') || trimmed.ends_with(';') {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        let len = lines[index..].iter().position(|line| *line == end);
        found.extend(len.map(|len| (trimmed, len + 1)));
    }
    found
}

#[test]
fn files_and_functions_keep_their_size() {
    let mut large = Vec::new();
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let lines = code_lines(&text);
        if lines.len() > MAX_FILE_LINES {
            wrong.push(format!("{name}: {} code lines, {MAX_FILE_LINES} at most", lines.len()));
        } else if lines.len() > 400 && !name.ends_with("tests.rs") && !name.contains("/tests/") {
            large.push(format!("{name}: {}", lines.len()));
        }
        for (function, len) in functions(&lines) {
            if len > MAX_FUNCTION_LINES {
                wrong.push(format!("{name}: `{function}` has {len} code lines, {MAX_FUNCTION_LINES} at most"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(large.len() <= MAX_LARGE_FILES, "more than {MAX_LARGE_FILES} files above 400 lines:\n{}", large.join("\n"));
}

#[test]
fn unsafe_code_stays_where_it_belongs() {
    // Spelled in two parts, so that this file is not found itself.
    let word = concat!("unsafe", " {");
    let (function, implementation) = (concat!("unsafe", " fn"), concat!("unsafe", " impl"));
    let found: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| {
            let code = code_lines(text);
            let any = code.iter().any(|line| [word, function, implementation].iter().any(|word| line.contains(word)));
            any && !UNSAFE_FILES.contains(&name.as_str())
        })
        .map(|(name, _)| name)
        .collect();
    assert!(found.is_empty(), "{found:?}");
    for name in PROTOCOL_CRATES {
        let text = fs::read_to_string(root().join(name).join("src/lib.rs")).expect("every crate has a lib.rs");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{name}");
    }
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let allow = concat!("#[", "allow(");
    let inner = concat!("#![", "allow(");
    for (name, text) in sources() {
        assert!(!text.contains(allow) && !text.contains(inner), "{name}: use `expect` with a reason");
    }
}

#[test]
fn lint_files_of_the_protocol_crates_agree() {
    let read =
        |name: &str| fs::read_to_string(root().join(name).join(".clippy.toml")).expect("every protocol crate has one");
    let common = read("nts-ke");
    assert_eq!(read("pool-srv"), common);
    assert_eq!(read("pool-lb"), common);
    // Arithmetic of its own types is the one thing ntp-proto adds.
    assert!(read("ntp-proto").starts_with(&common));
}

/// Direct and indirect dependencies of a workspace crate, development ones left out.
fn tree(package: &str, options: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .args(options)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn arrows_point_one_way() {
    let ours = ["ntp-proto", "nts-ke", "pool-srv", "pool-lb", "clock-control", "ntpd", "ntpd-tests"];
    let allowed: [(&str, &[&str]); 5] = [
        ("ntp-proto", &[]),
        ("nts-ke", &["ntp-proto"]),
        ("pool-srv", &["ntp-proto"]),
        ("pool-lb", &["ntp-proto", "nts-ke", "pool-srv"]),
        ("clock-control", &["ntp-proto"]),
    ];
    for (package, below) in allowed {
        let all = tree(package, &[]);
        for other in ours.iter().filter(|other| **other != package && all.contains(**other)) {
            assert!(below.contains(other), "{package} must not depend on {other}");
        }
    }
    let asynchronous = ["tokio", "mio", "async-trait", "futures"];
    for package in PROTOCOL_CRATES {
        let all = tree(package, &[]);
        let found: Vec<_> = asynchronous.iter().filter(|name| all.contains(**name)).collect();
        assert!(found.is_empty(), "{package} is not async, but depends on {found:?}");
    }
}

#[test]
fn formats_and_server_need_no_allocator() {
    let text = fs::read_to_string(root().join("ntp-proto/src/lib.rs")).expect("lib.rs");
    assert!(text.contains("#![cfg_attr(not(feature = \"std\"), no_std)]"));
    assert!(!text.contains("extern crate alloc"));
}

#[test]
fn no_dependency_asks_for_a_newer_compiler_than_we_do() {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["metadata", "--locked", "--format-version", "1"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo speaks JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let version = |text: &str| -> Vec<u32> {
        let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap_or(0)).collect();
        parts.resize(3, 0);
        parts
    };
    let ours = packages.iter().find(|package| package["name"] == "ntp-proto").expect("our own crate");
    let ours = version(ours["rust_version"].as_str().expect("stated"));
    let newer: Vec<String> = packages
        .iter()
        .filter(|package| package["rust_version"].as_str().is_some_and(|theirs| version(theirs) > ours))
        .map(|package| format!("{} {} asks for {}", package["name"], package["version"], package["rust_version"]))
        .collect();
    assert!(newer.is_empty(), "{}", newer.join("\n"));
}

/// Days after which the release time in the source is too old to be a good floor for builds that do not say when they are.
const MAX_RELEASE_AGE: i64 = 180;

#[test]
fn builds_that_do_not_say_when_they_are_have_a_recent_floor() {
    let text = fs::read_to_string(root().join("ntpd/src/client/mod.rs")).expect("mod.rs");
    let released = text.lines().find_map(|line| line.strip_prefix("const RELEASED: i64 = ")).expect("the time");
    let released: i64 = released.trim_end_matches(';').replace('_', "").parse().expect("seconds");
    // Where the source comes without its history, nobody works on it.
    let log = Command::new("git").current_dir(root()).args(["log", "-1", "--format=%ct"]).output();
    let Some(log) = log.ok().filter(|log| log.status.success()) else { return };
    let worked_on: i64 = String::from_utf8_lossy(&log.stdout).trim().parse().expect("seconds");
    let age = worked_on - released;
    assert!(
        (0..MAX_RELEASE_AGE * 86_400).contains(&age),
        "RELEASED in ntpd/src/client/mod.rs is {} days old",
        age / 86_400
    );
}
