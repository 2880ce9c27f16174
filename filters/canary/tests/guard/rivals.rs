//! What else one could watch a canary with: the tests that the guard is compared to.

use std::sync::LazyLock;

use penstock_canary::guard::Arm;

/// What a version did so far.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub requests: f64,
    pub bad: f64,
}

/// A test of two proportions for a sample of a size that is chosen before: one-sided, pooled, at 1 %. It is looked at after each request all
/// the same, from the 30th of the canary's on.
pub fn fixed_horizon(stable: Tally, canary: Tally) -> bool {
    if canary.requests < 30.0 || stable.requests < 30.0 {
        return false;
    }
    let pooled = (stable.bad + canary.bad) / (stable.requests + canary.requests);
    let error = (pooled * (1.0 - pooled) * (1.0 / stable.requests + 1.0 / canary.requests)).sqrt();
    (canary.bad / canary.requests - stable.bad / stable.requests) > 2.326_348 * error
}

/// Lindon and Malek, "Anytime-valid inference for multinomial count data" (NeurIPS 2022): of the requests that ended badly, the canary
/// should have the share that its weight says. A Dirichlet prior about that share, with a concentration of 100; at 1 %.
pub struct Multinomial {
    weight: f64,
    odds: f64,
    canary: f64,
    stable: f64,
}

impl Multinomial {
    const CONCENTRATION: f64 = 100.0;

    pub fn new(weight: f64) -> Self {
        Self { weight, odds: 1.0, canary: 0.0, stable: 0.0 }
    }

    /// Another one ended badly. Whether there is enough evidence that the share is another, and it is larger.
    pub fn bad(&mut self, arm: Arm) -> bool {
        let all = Self::CONCENTRATION + self.canary + self.stable;
        let (seen, share) = match arm {
            Arm::Canary => (&mut self.canary, self.weight),
            Arm::Stable => (&mut self.stable, 1.0 - self.weight),
        };
        self.odds *= (Self::CONCENTRATION * share + *seen) / all / share;
        *seen += 1.0;
        self.odds >= 100.0 && self.canary / (self.canary + self.stable) > self.weight
    }
}

/// Lindon, Sanden and Shirikian, "Rapid regression detection in software deployments through sequential testing" (KDD 2022,
/// arXiv 2205.14762): bands around both distribution functions that hold at all times, by the inequality of Howard and Ramdas, "Sequential
/// estimation of quantiles" (Bernoulli 2022, theorem 2). The canary is slower where its band lies below the other somewhere. At 1 %, half of
/// it for each band; looked at on a grid of values.
pub struct Bands {
    grid: Vec<f64>,
    below: [Vec<f64>; 2],
    requests: [f64; 2],
    constant: f64,
}

impl Bands {
    /// The inequality has two constants to choose, and holds from a number of requests on.
    const A: f64 = 0.85;
    const FROM: f64 = 10.0;

    pub fn new() -> Self {
        static CONSTANT: LazyLock<f64> = LazyLock::new(|| constant(0.005));
        // In deviations from the stable version's median.
        let grid: Vec<f64> = (1..64).map(|i| f64::from(i - 32) / 8.0).collect();
        let below = [vec![0.0; grid.len()], vec![0.0; grid.len()]];
        Self { grid, below, requests: [0.0; 2], constant: *CONSTANT }
    }

    /// Another request had this value. Whether the canary's are known to be larger.
    pub fn saw(&mut self, arm: Arm, value: f64) -> bool {
        let arm = usize::from(arm == Arm::Canary);
        self.requests[arm] += 1.0;
        let below = self.grid.iter().zip(&mut self.below[arm]);
        below.for_each(|(edge, below)| *below += f64::from(u8::from(value <= *edge)));
        let [stable, canary] = self.requests;
        let width = radius(stable, Self::FROM, self.constant) + radius(canary, Self::FROM, self.constant);
        let [of_stable, of_canary] = &self.below;
        arm == 1 && of_stable.iter().zip(of_canary).any(|(s, c)| s / stable - c / canary > width)
    }
}

fn radius(requests: f64, from: f64, constant: f64) -> f64 {
    if requests < from {
        return f64::INFINITY;
    }
    Bands::A * (((requests / from).ln().ln_1p() + constant) / requests).sqrt()
}

/// The smallest constant with which the bands fail with a probability of at most `alpha`.
fn constant(alpha: f64) -> f64 {
    let fails = |constant: f64, eta: f64| {
        let root = Bands::A - (2.0 * (eta - 1.0) / constant).sqrt();
        let gamma = 2.0 / eta * root * root;
        if root <= 0.0 || gamma <= 1.0 {
            return f64::INFINITY;
        }
        4.0 * (-gamma * constant).exp() * (1.0 + 1.0 / ((gamma - 1.0) * eta.ln()))
    };
    let best =
        |constant: f64| (1..4000).map(|i| fails(constant, 1.0 + f64::from(i) / 10_000.0)).fold(f64::INFINITY, f64::min);
    let (mut low, mut high) = (1.0, 100.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if best(middle) > alpha { low = middle } else { high = middle }
    }
    high
}

#[test]
fn the_bands_are_those_of_the_authors() {
    // The value that their own implementation is tested with (confseq, EmpiricalProcessLILTest).
    let radius = radius(1000.0, 100.0, constant(0.05));
    assert!((radius - 0.082_047_69).abs() < 1e-5, "{radius}");
}
