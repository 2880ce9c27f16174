//! Numbers as JSON writes them.

/// A whole number, also as `1e3` or `16.0`. Negative ones are none.
pub fn whole(word: &str) -> Option<u64> {
    word.parse::<u64>().ok().or_else(|| {
        let value = word.parse::<f64>().ok()?;
        (value >= 0.0 && value.fract() == 0.0).then_some(value as u64)
    })
}

/// A number that is whole by value, as `1e3` and `-16.0` are. `None` for what is not, for what no 64 bits hold, and for what RFC 8259 does
/// not know (`NaN`, `01`): servers differ in what they make of these.
pub fn integer(word: &str) -> Option<i64> {
    let (is_negative, word) = word.strip_prefix('-').map_or((false, word), |word| (true, word));
    let (mantissa, exponent) = word.split_once(['e', 'E']).unwrap_or((word, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let exponent_digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let is_number = [whole, fraction, exponent_digits].iter().all(|part| is_digits(part));
    if !is_number || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    let dropped = digits.len().checked_sub(significant.len())?;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    // The value is that of the significant digits, times ten to this power.
    let dropped = i64::try_from(dropped).ok()?;
    let power = exponent.parse::<i64>().ok()?.checked_add(dropped)?;
    let power = power.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let scale = 10i64.checked_pow(u32::try_from(power).ok()?)?;
    let value = significant.parse::<i64>().ok()?.checked_mul(scale)?;
    if is_negative { value.checked_neg() } else { Some(value) }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_whole_by_value() {
        for (word, value) in [
            ("0", Some(0)),
            ("-0.0", Some(0)),
            ("256", Some(256)),
            ("256.0", Some(256)),
            ("1e3", Some(1000)),
            ("1E+3", Some(1000)),
            ("0.25e2", Some(25)),
            ("12000e-3", Some(12)),
            ("-1", Some(-1)),
            ("0e999999999999999999999", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1e19", None),
            ("1e999999999999999999999", None),
            ("1.5", None),
            ("1e-1", None),
            // A 64-bit float would take it for 1.
            ("1.00000000000000000000000000001", None),
            ("01", None),
            ("1.", None),
            ("1e", None),
            ("1e+", None),
            ("-", None),
            ("", None),
            ("NaN", None),
            ("-Infinity", None),
            ("0x10", None),
        ] {
            assert_eq!(integer(word), value, "{word}");
        }
    }

    proptest::proptest! {
        /// However a whole number is written, it is the same.
        #[test]
        fn every_way_to_write_it_is_read(value in -1_000_000_000i64..1_000_000_000, zeros in 0usize..6, power in 0usize..6) {
            let fraction = "0".repeat(zeros);
            let written = if zeros == 0 { value.to_string() } else { format!("{value}.{fraction}") };
            proptest::prop_assert_eq!(integer(&written), Some(value));
            let scaled = 10i64.pow(power as u32);
            proptest::prop_assert_eq!(integer(&format!("{written}e{power}")), Some(value * scaled));
            proptest::prop_assert_eq!(integer(&format!("{}{}e-{power}", value, "0".repeat(power))), Some(value));
        }

        #[test]
        fn no_word_panics(word in "[-+0-9.eE]{0,70}") {
            let _ = integer(&word);
        }
    }
}
