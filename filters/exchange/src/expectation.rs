//! How much output to expect of a request whose client sets no ceiling: a high quantile of what came before.
//!
//! Each named tenant has a histogram of its own, and those without a name have one together. So what is expected of a tenant is moved by its
//! own answers only. One that is new takes what its class's tenants say ([`crate::voices`]), which no single one of them decides.
//!
//! A histogram over quarter octaves; when it is full all counts are halved, so it follows a change within a few hundred
//! requests.

use penstock_units::Tokens;

/// Buckets: bucket `i` ends at 2^(i/4) tokens.
const BUCKETS: usize = 96;
/// From how many requests on the histogram is believed.
const ENOUGH: u32 = 20;
/// At how many it is halved.
const FULL: u32 = 1024;

/// After how many more answers a tenant's class hears of it.
const EVERY: u32 = 8;

/// The histogram of one model and tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    counts: [u16; BUCKETS],
}

impl Default for Expectation {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Expectation {
    /// A request generated so many tokens.
    pub fn learn(&mut self, tokens: Tokens) {
        if self.total() >= FULL {
            self.counts = self.counts.map(|count| count / 2);
        }
        let bucket = (0..BUCKETS).find(|bucket| end(*bucket) >= tokens.0).unwrap_or(BUCKETS.saturating_sub(1));
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
    }

    /// What nine of ten requests stay below; `None` before there are enough.
    pub fn p90(&self) -> Option<Tokens> {
        let total = self.total();
        if total < ENOUGH {
            return None;
        }
        let mut sum = 0u32;
        let reached = |count: &u16| {
            sum = sum.saturating_add(u32::from(*count));
            sum.saturating_mul(10) >= total.saturating_mul(9)
        };
        self.counts.iter().position(reached).map(end).map(Tokens)
    }

    /// What the class is to hear, where it is time for that.
    pub fn told(&self) -> Option<Tokens> {
        if self.total().is_multiple_of(EVERY) { self.p90() } else { None }
    }

    fn total(&self) -> u32 {
        self.counts.iter().map(|count| u32::from(*count)).sum()
    }

    /// As bytes: the counts, little-endian.
    pub fn encode(&self) -> Vec<u8> {
        self.counts.iter().flat_map(|count| count.to_le_bytes()).collect()
    }

    /// The inverse of [`Expectation::encode`]; what is not there is 0.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut out = Self::default();
        for (count, bytes) in out.counts.iter_mut().zip(bytes.as_chunks().0) {
            *count = u16::from_le_bytes(*bytes);
        }
        out
    }
}

/// The largest number of tokens in a bucket.
fn end(bucket: usize) -> u64 {
    let octave = 1u64.checked_shl(u32::try_from(bucket / 4).unwrap_or(63)).unwrap_or(u64::MAX);
    // 2^(1/4), 2^(2/4), 2^(3/4) in thousandths.
    let within = [1000, 1189, 1414, 1682].get(bucket % 4).copied().unwrap_or(1000);
    octave.saturating_mul(within) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_high_quantile_and_follows_a_change() {
        let mut expectation = Expectation::default();
        assert_eq!(expectation.p90(), None);
        for i in 0..1000u64 {
            expectation.learn(Tokens(if i % 10 == 0 { 2000 } else { i % 10 * 20 }));
        }
        let p90 = expectation.p90().unwrap().0;
        assert!((160..=220).contains(&p90), "{p90}");
        for _ in 0..3000 {
            expectation.learn(Tokens(1500));
        }
        let p90 = expectation.p90().unwrap().0;
        assert!((1500..=1800).contains(&p90), "{p90}");
        assert_eq!(Expectation::decode(&expectation.encode()), expectation);
        expectation.learn(Tokens::MAX);
        expectation.learn(Tokens(0));
    }
}
