//! How often a rate was seen: counts over eighths of an octave, so that what is read of them is within 5 % of what was seen, from 64 a second on.

/// Buckets: the first begins at 1 a second, the last at 2^(159/8), which is 960,000.
const BUCKETS: usize = 160;
/// Into how many buckets an octave is divided.
const PARTS: u32 = 8;
/// 2^(i/8) for the beginnings of an octave's buckets, and for their middles, in thousandths.
const BEGINS: [u64; 8] = [1000, 1091, 1189, 1297, 1414, 1542, 1682, 1834];
const MIDDLES: [u64; 8] = [1044, 1139, 1242, 1354, 1477, 1610, 1756, 1915];
/// Bytes of one.
pub const BYTES: usize = BUCKETS * 2;

/// Counts of rates, in tokens a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram([u16; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Histogram {
    /// Such a rate was seen. 0 says nothing.
    pub fn add(&mut self, rate: u64) {
        if let Some(count) = bucket(rate).and_then(|bucket| self.0.get_mut(bucket)) {
            *count = count.saturating_add(1);
        }
    }

    /// How many there are.
    pub fn total(&self) -> u32 {
        self.0.iter().map(|count| u32::from(*count)).sum()
    }

    /// Half of them.
    pub fn halve(&mut self) {
        self.0 = self.0.map(|count| count / 2);
    }

    /// The largest rate that so many reach; `None` where there are fewer, or none.
    pub fn reached_by(&self, many: u32) -> Option<u64> {
        let mut sum = 0u32;
        let reached = |count: &u16| {
            sum = sum.saturating_add(u32::from(*count));
            sum >= many.max(1)
        };
        self.0.iter().rposition(reached).map(middle)
    }

    /// As bytes: the counts, little-endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
    }

    /// The inverse of [`Histogram::encode`].
    pub fn decode(bytes: &[u8; BYTES]) -> Self {
        let mut out = Self::default();
        for (count, bytes) in out.0.iter_mut().zip(bytes.as_chunks().0) {
            *count = u16::from_le_bytes(*bytes);
        }
        out
    }
}

fn bucket(rate: u64) -> Option<usize> {
    let octave = rate.checked_ilog2()?;
    // The rate as a multiple of its octave's beginning, in thousandths.
    let within = (u128::from(rate).saturating_mul(1000) >> octave) as u64;
    let part = BEGINS.iter().rposition(|begin| within >= *begin).unwrap_or(0);
    let bucket = usize::try_from(octave.saturating_mul(PARTS)).unwrap_or(BUCKETS).saturating_add(part);
    Some(bucket.min(BUCKETS.saturating_sub(1)))
}

fn middle(bucket: usize) -> u64 {
    let octave = 1u64.checked_shl(u32::try_from(bucket / 8).unwrap_or(63)).unwrap_or(u64::MAX);
    let within = MIDDLES.get(bucket % 8).copied().unwrap_or(1000);
    (octave.saturating_mul(within).saturating_add(500) / 1000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_near_what_was_seen() {
        for rate in (64..1000).chain((1000..950_000).step_by(997)) {
            let mut seen = Histogram::default();
            seen.add(rate);
            let read = seen.reached_by(1).unwrap();
            assert!(read.abs_diff(rate) * 100 <= rate * 5, "{rate}: {read}");
        }
        let mut seen = Histogram::default();
        assert_eq!((seen.reached_by(1), seen.reached_by(0), seen.total()), (None, None, 0));
        [0, 0, 10, 100, 1000, u64::MAX].into_iter().for_each(|rate| seen.add(rate));
        assert_eq!((seen.total(), seen.reached_by(5)), (4, None));
        assert!(seen.reached_by(1) > seen.reached_by(2) && seen.reached_by(2) > seen.reached_by(3));
        let mut bytes = Vec::new();
        seen.encode(&mut bytes);
        assert_eq!(Histogram::decode(bytes.first_chunk().unwrap()), seen);
        seen.halve();
        assert_eq!(seen, Histogram::default());
    }
}
