//! Numbers with a fraction: a signed exponent of 7 bits and a signed coefficient of 25.

/// Bits of the exponent.
const EXPONENT_BITS: u32 = 7;
/// Bits of the coefficient.
const COEFFICIENT_BITS: i32 = 32 - EXPONENT_BITS as i32;
/// Exponents that there are.
const EXPONENTS: std::ops::RangeInclusive<i32> = -64..=63;
/// Largest coefficient; a negative one may be larger by one.
const MAX_COEFFICIENT: u32 = (1 << (COEFFICIENT_BITS - 1)) - 1;
/// Numbers closer to zero are zero.
const SMALLEST: f64 = 1e-100;
/// Numbers farther from zero are cut.
const LARGEST: f64 = 1e100;

/// Puts a number into its 32 bits: the nearest there is; what is no number becomes zero.
#[must_use]
pub(super) fn encode(value: f64) -> u32 {
    let (negative, magnitude) = (value < 0.0, value.abs());
    if value.is_nan() || magnitude < SMALLEST {
        return 0;
    }
    let limit = MAX_COEFFICIENT + u32::from(negative);
    let largest = pack(*EXPONENTS.end(), limit, negative);
    if magnitude > LARGEST {
        return largest;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the logarithm of a number between 1e-100 and 1e100")]
    let mut exponent = (magnitude.log2() + 1.0) as i32;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^27, and positive")]
    let mut coefficient = (magnitude * 2_f64.powi(COEFFICIENT_BITS - exponent) + 0.5) as u32;
    while coefficient > limit {
        coefficient >>= 1;
        exponent += 1;
    }
    if exponent > *EXPONENTS.end() {
        return largest;
    }
    let below = (*EXPONENTS.start() - exponent).max(0);
    if below > COEFFICIENT_BITS {
        return 0;
    }
    pack(exponent.max(*EXPONENTS.start()), coefficient >> below, negative)
}

#[expect(clippy::cast_sign_loss, reason = "two's complement is what is meant")]
const fn pack(exponent: i32, coefficient: u32, negative: bool) -> u32 {
    let coefficient = if negative { coefficient.wrapping_neg() } else { coefficient };
    ((exponent as u32) << COEFFICIENT_BITS) | (coefficient & (u32::MAX >> EXPONENT_BITS))
}

/// Takes a number out of its 32 bits.
#[must_use]
pub(super) fn decode(bits: u32) -> f64 {
    let exponent = bits.cast_signed() >> COEFFICIENT_BITS;
    let coefficient = (bits << EXPONENT_BITS).cast_signed() >> EXPONENT_BITS;
    f64::from(coefficient) * 2_f64.powi(exponent - COEFFICIENT_BITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers as chronyd encodes them.
    const OBSERVED: [(f64, u32); 29] = [
        (0.0, 0),
        (1.0, 0x0480_0000),
        (-1.0, 0x0300_0000),
        (0.5, 0x0280_0000),
        (-0.5, 0x0100_0000),
        (2.0, 0x0680_0000),
        (3.0, 0x06c0_0000),
        (4.0, 0x0880_0000),
        (100.0, 0x10c8_0000),
        (2000.0, 0x18fa_0000),
        (1.0 / 3.0, 0x00aa_aaab),
        (std::f64::consts::PI, 0x06c9_0fda),
        (-std::f64::consts::PI, 0x0736_f026),
        (3.225, 0x06ce_6666),
        (-3.225, 0x0731_999a),
        (6.523e-6, 0xe0da_e025),
        (1e-9, 0xc889_705f),
        (-1e-9, 0xc976_8fa1),
        (1e-12, 0xb48c_bccc),
        (1e-20, 0x805e_7284),
        (1e-21, 0x8009_71da),
        (1e-30, 0),
        (123_456_789.0, 0x38eb_79a2),
        (1e12, 0x52e8_d4a5),
        (1e18, 0x7ade_0b6b),
        (1e19, 0x7eff_ffff),
        (-1e19, 0x7f00_0000),
        (f64::INFINITY, 0x7eff_ffff),
        (f64::NEG_INFINITY, 0x7f00_0000),
    ];

    #[test]
    fn numbers_are_encoded_as_observed() {
        for (value, bits) in OBSERVED {
            assert_eq!(encode(value), bits, "{value}: {:08x}", encode(value));
        }
        assert_eq!(encode(f64::NAN), 0);
        assert_eq!(encode(1e101), 0x7eff_ffff);
    }

    proptest! {
        #[test]
        fn any_number_comes_back_to_24_bits(value in prop_oneof![-1e18..1e18, -1.0..1.0, -1e-9..1e-9]) {
            let back = decode(encode(value));
            prop_assert!((back - value).abs() <= value.abs() * 2_f64.powi(-23) + 1e-26, "{value} {back}");
        }

        #[test]
        fn any_bits_are_a_number(bits: u32) {
            let value = decode(bits);
            prop_assert!(value.is_finite());
            prop_assert_eq!(decode(encode(value)), value);
        }
    }
}
