//! Durations, sizes and names, as the configuration writes them.

use penstock_units::Nanos;

/// A duration like `500ms`, `30s`, `5m`, `1h`, `1d`.
pub fn duration(text: &str) -> Option<Nanos> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let nanos: u64 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(nanos).map(Nanos)
}

/// A number of bytes like `65536`, `64Ki`, `64Mi`, `1Gi`.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit: u64 = match unit {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Whether `name` can be a label value: Envoy does not escape those.
pub fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Some(Nanos(500_000_000)));
        assert_eq!(duration("5m"), Some(Nanos(300_000_000_000)));
        for bad in ["", "5", "m", "1x", "-1s", "1.5s", "99999999999999h", "1 s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!((bytes("65536"), bytes("64Mi"), bytes("1Gi")), (Some(65536), Some(64 << 20), Some(1 << 30)));
        for bad in ["", "Mi", "64MB", "64mi", "-1", "1.5Mi", "64 Mi", "99999999999999Gi"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn names() {
        assert!(is_name("meta-llama/Llama-3.1:8b"));
        for bad in ["", "a b", "a\"b", "a;.;b", "é", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
