//! Numbers as JSON writes them.

/// A whole number, also as `1e3` or `16.0`. Negative ones are none.
pub fn whole(word: &str) -> Option<u64> {
    word.parse::<u64>().ok().or_else(|| {
        let value = word.parse::<f64>().ok()?;
        (value >= 0.0 && value.fract() == 0.0).then_some(value as u64)
    })
}
