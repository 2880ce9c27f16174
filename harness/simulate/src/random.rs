//! Random numbers that are the same on every machine.

/// A generator (SplitMix64; Steele, Lea and Flood, 2014), by its seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than the limit, which is more than 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// More than 0, and at most 1.
    pub fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Spread exponentially, with an average of 1.
    pub fn exponential(&mut self) -> f64 {
        -self.share().ln()
    }
}
