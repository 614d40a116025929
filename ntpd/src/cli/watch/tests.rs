use std::{collections::VecDeque, fs, path::Path};

use super::*;
use crate::observe::report::tests::busy_status;

/// A look at a crowd of sources after `looks` others.
fn look() -> Look {
    let status = busy_status();
    let mut look = Look { tracking: status.tracking, sources: status.sources, sourcestats: status.sourcestats };
    // What depends on floating-point noise is set.
    look.tracking.pending_seconds = 0.000_006_5;
    look.tracking.rms_offset_seconds = 0.000_035_8;
    look.tracking.root_delay_seconds = 0.013_6;
    look.tracking.root_dispersion_seconds = 0.001_1;
    (look.tracking.frequency_ppm, look.tracking.skew_ppm) = (-3.225, 0.129);
    for row in &mut look.sources.sources {
        row.offset_seconds = row.offset_seconds.map(|offset| (offset * 1e4).round() / 1e4);
        row.last_reply_age_seconds = row.last_reply_age_seconds.map(|_| 23.0);
    }
    for row in &mut look.sourcestats.sources {
        row.deviation_seconds = row.deviation_seconds.map(|_| 0.000_012);
    }
    look
}

/// As if each source had answered `count` times more.
fn trails(look: &Look, count: u32) -> Trails {
    let mut trails = Trails::default();
    for number in 0..count {
        let mut look = look.clone();
        for row in &mut look.sources.sources {
            let add = f64::from(number % 11) * 1e-4;
            row.offset_seconds = row.offset_seconds.map(|offset| offset + add);
            row.measured_offset_seconds = row.measured_offset_seconds.map(|offset| offset + add);
        }
        trails.add(&look);
    }
    trails
}

fn picture(width: usize, height: usize, error: Option<&str>) -> String {
    let look = look();
    let trails = trails(&look, 40);
    let picture = Picture { look: &look, trails: &trails, numeric: false, error };
    let lines = picture.lines(Size { width, height });
    assert!(lines.len() <= height && lines.iter().all(|line| line.text.chars().count() <= width), "{width}x{height}");
    lines.into_iter().map(|line| format!("{:<6}|{}\n", format!("{:?}", line.style), line.text)).collect()
}

#[test]
fn pictures_are_these() {
    for (width, height) in [(80, 24), (160, 24), (40, 9)] {
        let text = picture(width, height, (width == 160).then_some("ntpd is not running"));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/cli/watch/golden/{width}x{height}.txt"));
        if std::env::var_os("NTPD_BLESS").is_some() {
            fs::write(&file, &text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert!(text == expected, "{} differs; it is now\n{text}", file.display());
    }
}

#[test]
fn every_window_is_kept_to() {
    for width in 0..230 {
        for height in [0, 1, 2, 5, 8, 13, 40] {
            picture(width, height, Some("no answer"));
        }
    }
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let mut look = look();
    let hostile = "a\u{1b}[2J\nb\u{9b}";
    for row in &mut look.sources.sources {
        (row.judged.source.name, row.judged.reason) = (hostile.to_owned(), hostile.to_owned());
        row.judged.trust = hostile.to_owned();
    }
    look.tracking.reason = Some(hostile.to_owned());
    let trails = Trails::default();
    let picture = Picture { look: &look, trails: &trails, numeric: false, error: Some(hostile) };
    for line in picture.lines(Size { width: 160, height: 40 }) {
        assert!(!line.text.chars().any(char::is_control), "{:?}", line.text);
    }
}

#[test]
fn a_measurement_counts_once_and_a_source_that_goes_is_forgotten() {
    let mut look = look();
    let mut trails = Trails::default();
    let name = look.sources.sources[0].judged.source.clone();
    for _ in 0..5 {
        trails.add(&look);
    }
    assert_eq!(trails.of(&name).unwrap().offsets.len(), 1);
    look.sources.sources[0].last_reply_age_seconds = Some(1.0);
    trails.add(&look);
    assert_eq!(trails.of(&name).unwrap().offsets.len(), 2, "the same offset, measured again");
    for number in 0..1_000 {
        look.sources.sources[0].measured_offset_seconds = Some(f64::from(number));
        trails.add(&look);
    }
    assert_eq!(trails.of(&name).unwrap().offsets.len(), trail::LONGEST);
    look.sources.sources.remove(0);
    trails.add(&look);
    assert!(trails.of(&name).is_none());
}

#[test]
fn bars_are_between_their_ends() {
    let values = VecDeque::from([0.0, 0.5, 1.0, 2.0, f64::NAN]);
    assert_eq!(trail::bars(&values, 0.0, 1.0, 9), "▁▅██▁");
    assert_eq!(trail::bars(&values, 0.0, 1.0, 2), "█▁");
    assert_eq!(trail::bars(&VecDeque::from([3.0, 3.0]), 3.0, 3.0, 9), "▁▁");
    assert_eq!(trail::bars(&VecDeque::new(), 0.0, 0.0, 9), "");
}
