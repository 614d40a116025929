//! What chronyd knew of the clock's frequency.

use ntp_proto::time::Rate;

use super::input::Input;
use crate::state::{Drift, Record as _};

/// Reads chronyd's drift file: two numbers in parts per million, how fast the clock gains, and how far off that may be.
///
/// The manual of chrony.conf calls a gain positive; our record is what to steer by, which is the opposite.
///
/// # Errors
///
/// Why it cannot be used.
pub(super) fn read(input: &mut Input, name: &str) -> Result<Drift, String> {
    let text = input.text(name).map_err(|fault| fault.what)?;
    let mut numbers = text.split_ascii_whitespace().map(|word| word.parse::<f64>().ok());
    let (Some(Some(gain)), Some(Some(skew))) = (numbers.next(), numbers.next()) else {
        return Err("not two numbers".to_owned());
    };
    Drift::new(Rate::from_ppm(-gain), Rate::from_ppm(skew))
        .sanitize()
        .ok_or_else(|| "numbers that make no sense".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_clock_that_gains_is_slowed() {
        let directory = tempfile::tempdir().unwrap();
        let mut input = Input::new(Some(directory.path()));
        let mut read = |text: &str| {
            fs::write(directory.path().join("drift"), text).unwrap();
            read(&mut input, "/drift")
        };
        let drift = read("            12.500000             0.250000\n").unwrap();
        assert!((drift.frequency().to_ppm() + 12.5).abs() < 1e-9 && (drift.skew().to_ppm() - 0.25).abs() < 1e-9);
        for bad in ["", "12.5", "a b", "nan 1", "1 -1", "1 inf"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
