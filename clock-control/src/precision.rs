//! How finely a clock can be read.

use ntp_proto::time::NtpTimestamp;

/// Readings taken at most.
const READINGS: usize = 4_096;

/// Steps between different readings after which the smallest is taken.
const ENOUGH_STEPS: usize = 64;

/// What the NTP timestamp format itself resolves.
const FINEST: i8 = -32;

/// Measures the precision of RFC 5905 section 7.3: "the time to read the system clock, in log2 seconds", as the
/// smallest step between two different readings, rounded up.
///
/// `None` if the clock stands still or cannot be read.
pub fn measure_precision(mut read: impl FnMut() -> Option<NtpTimestamp>) -> Option<i8> {
    let mut last = read()?;
    let (mut smallest, mut steps) = (i64::MAX, 0);
    for _ in 0..READINGS {
        let next = read()?;
        let step = next.since(last).to_bits();
        last = next;
        if step <= 0 {
            continue;
        }
        smallest = smallest.min(step);
        steps += 1;
        if steps == ENOUGH_STEPS {
            break;
        }
    }
    (steps > 0).then(|| log2_seconds_at_least(smallest))
}

/// The power of two in seconds that is no smaller than `bits` * 2^-32 s.
fn log2_seconds_at_least(bits: i64) -> i8 {
    let bits = bits.cast_unsigned();
    let ceiling = u64::BITS - bits.saturating_sub(1).leading_zeros();
    i8::try_from(ceiling).map_or(i8::MAX, |log2| FINEST + log2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn steps_are_rounded_up_to_powers_of_two() {
        for (bits, log2) in [(1, -32), (2, -31), (3, -30), (4, -30), (5, -29), (1 << 32, 0), ((1 << 32) + 1, 1)] {
            assert_eq!(log2_seconds_at_least(bits), log2, "{bits}");
        }
    }

    #[test]
    fn the_smallest_step_counts_and_backward_ones_do_not() {
        let mut readings = [100_u64, 100, 180, 190, 150, 1_000].into_iter().map(NtpTimestamp::from_bits).cycle();
        assert_eq!(measure_precision(|| readings.next()), Some(log2_seconds_at_least(10)));
    }

    #[test]
    fn a_clock_that_stands_still_has_no_precision() {
        assert_eq!(measure_precision(|| Some(NtpTimestamp::from_bits(7))), None);
        assert_eq!(measure_precision(|| None), None);
    }

    #[test]
    fn this_machine_reads_its_clock_in_less_than_a_millisecond() {
        let precision = measure_precision(|| sys::realtime().ok()).unwrap();
        assert!((FINEST..-10).contains(&precision), "{precision}");
    }
}
