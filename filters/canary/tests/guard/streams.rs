//! Requests as they end, drawn for two versions with rates that are known.

use penstock_canary::guard::Arm;

/// Splitmix64.
pub struct Draw(pub u64);

impl Draw {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// More than 0, and at most 1.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    pub fn happens(&mut self, p: f64) -> bool {
        self.unit() <= p
    }

    /// Normally distributed (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub fn arm(&mut self, weight: f64) -> Arm {
        if self.happens(weight) { Arm::Canary } else { Arm::Stable }
    }
}

/// What happens with a fixed probability, each independently of the others, by the gaps between: what is rare costs little.
pub struct Rare<const N: usize> {
    per_log: f64,
    now: u64,
    next: [u64; N],
    first: u64,
}

impl<const N: usize> Rare<N> {
    pub fn new(p: f64, draw: &mut Draw) -> Self {
        let mut rare = Self { per_log: 1.0 / (1.0 - p).ln(), now: 0, next: [0; N], first: 0 };
        let next = [(); N].map(|()| rare.gap(draw));
        (rare.next, rare.first) = (next, next.into_iter().min().unwrap_or(u64::MAX));
        rare
    }

    fn gap(&self, draw: &mut Draw) -> u64 {
        (draw.unit().ln() * self.per_log) as u64
    }

    /// Which of them happen this time.
    pub fn happen(&mut self, draw: &mut Draw, mut each: impl FnMut(usize)) {
        let now = self.now;
        self.now += 1;
        if now < self.first {
            return;
        }
        for which in 0..N {
            if self.next[which] == now {
                each(which);
                self.next[which] = self.now + self.gap(draw);
            }
        }
        self.first = self.next.into_iter().min().unwrap_or(u64::MAX);
    }
}

/// The middle one of those that are there, if half of all are.
pub fn median(of: &[Option<u64>]) -> Option<u64> {
    let mut found: Vec<u64> = of.iter().map(|found| found.unwrap_or(u64::MAX)).collect();
    found.sort_unstable();
    found.get(found.len() / 2).copied().filter(|middle| *middle != u64::MAX)
}
