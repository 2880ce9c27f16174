//! How sure one can be of what was counted: intervals at 95 %.
//!
//! They are for one look. Who looks until something differs will find something: to decide, there is the guard, which may be watched.

/// The 97.5th percentile of the normal distribution.
const Z: f64 = 1.959_964;
/// The same of Student's t distribution, by degrees of freedom from 1 on; beyond them the normal one's.
#[rustfmt::skip]
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A figure, and between what it lies. Where nothing can be said of that, there is no interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub interval: Option<(f64, f64)>,
}

/// A share of `all`: Wilson's score interval (JASA 22, 1927, p. 209), which holds near 0 and for few. `None` of none.
pub fn share(some: f64, all: f64) -> Option<Estimate> {
    if all <= 0.0 {
        return None;
    }
    let part = (some / all).clamp(0.0, 1.0);
    let z2 = Z * Z / all;
    let middle = (part + z2 / 2.0) / (1.0 + z2);
    let half = Z / (1.0 + z2) * (part * (1.0 - part) / all + z2 / (4.0 * all)).sqrt();
    Some(Estimate { value: part, interval: Some(((middle - half).max(0.0), (middle + half).min(1.0))) })
}

/// By how much the first share is greater than the second: Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, p. 873,
/// method 10).
pub fn difference(first: Estimate, second: Estimate) -> Estimate {
    let value = first.value - second.value;
    let interval = first.interval.zip(second.interval).map(|((low1, high1), (low2, high2))| {
        let below = ((first.value - low1).powi(2) + (high2 - second.value).powi(2)).sqrt();
        let above = ((high1 - first.value).powi(2) + (second.value - low2).powi(2)).sqrt();
        (value - below, value + above)
    });
    Estimate { value, interval }
}

/// A quantile of a histogram: its buckets are upper bounds in rising order with how many are not above them. Between two bounds it is taken to
/// rise evenly, as `histogram_quantile` of Prometheus does. The interval is that of its rank (binomial; Hahn and Meeker, Statistical Intervals,
/// 1991, section 5.2), so it says nothing of how wide the buckets are. `None` of none.
pub fn quantile(buckets: &[(f64, f64)], q: f64) -> Option<Estimate> {
    let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let half = Z * (q * (1.0 - q) / all).sqrt();
    let at = |q: f64| value_at(buckets, (q.clamp(0.0, 1.0)) * all);
    Some(Estimate { value: at(q), interval: Some((at(q - half), at(q + half))) })
}

fn value_at(buckets: &[(f64, f64)], rank: f64) -> f64 {
    let mut below = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank && *count > below.1 {
            // What is above the last bound is told by that.
            if bound.is_infinite() {
                return below.0;
            }
            return below.0 + (bound - below.0) * ((rank - below.1) / (count - below.1)).clamp(0.0, 1.0);
        }
        if bound.is_finite() {
            below = (*bound, *count);
        }
    }
    below.0
}

/// What comes on one, of sums over equal times: (how much, of how many). A ratio estimator, whose variance is that of the residuals over the
/// times (Cochran, Sampling Techniques, 1977, section 6.4), by Student's t. No interval from fewer than three times in which there were any.
pub fn mean(times: &[(f64, f64)]) -> Option<Estimate> {
    let (sum, all) = times.iter().fold((0.0, 0.0), |(sum, all), (some, of)| (sum + some, all + of));
    if all <= 0.0 {
        return None;
    }
    let value = sum / all;
    let used = times.iter().filter(|(_, of)| *of > 0.0).count();
    let interval = (used >= 3).then(|| {
        let count = used as f64;
        let residuals: f64 = times.iter().map(|(some, of)| (some - value * of).powi(2)).sum();
        let error = (residuals * count / (count - 1.0)).sqrt() / all;
        let half = T.get(used - 2).copied().unwrap_or(Z) * error;
        ((value - half).max(0.0), value + half)
    });
    Some(Estimate { value, interval })
}

/// How many times the second the first is: by the delta method on the logarithm, so that it holds the other way round as well.
pub fn times(first: Estimate, second: Estimate) -> Option<Estimate> {
    if first.value <= 0.0 || second.value <= 0.0 {
        return None;
    }
    let value = first.value / second.value;
    let relative = |one: Estimate| one.interval.map(|(_, high)| (high - one.value) / one.value);
    let interval = relative(first).zip(relative(second)).map(|(one, other)| {
        let half = one.hypot(other);
        (value * (-half).exp(), value * half.exp())
    });
    Some(Estimate { value, interval })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(found: Option<(f64, f64)>, wanted: (f64, f64)) -> bool {
        found.is_some_and(|(low, high)| (low - wanted.0).abs() < 5e-4 && (high - wanted.1).abs() < 5e-4)
    }

    /// Newcombe, Statistics in Medicine 17, 1998, p. 857, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    #[test]
    fn shares_are_those_of_the_literature() {
        for (some, all, wanted) in [
            (81.0, 263.0, (0.2553, 0.3662)),
            (15.0, 148.0, (0.0624, 0.1605)),
            (0.0, 20.0, (0.0, 0.1611)),
            (1.0, 29.0, (0.0061, 0.1718)),
        ] {
            assert!(is_near(share(some, all).unwrap().interval, wanted), "{some}/{all}: {:?}", share(some, all));
        }
        assert_eq!(share(0.0, 0.0), None);
    }

    /// The same, p. 877, table II, method 10: 56/70 and 48/80, 9/10 and 3/10, 5/56 and 0/29, 10/10 and 0/10.
    #[test]
    fn differences_are_those_of_the_literature() {
        for ((some1, all1), (some2, all2), wanted) in [
            ((56.0, 70.0), (48.0, 80.0), (0.0524, 0.3339)),
            ((9.0, 10.0), (3.0, 10.0), (0.1705, 0.8090)),
            ((5.0, 56.0), (0.0, 29.0), (-0.0381, 0.1926)),
            ((10.0, 10.0), (0.0, 10.0), (0.6075, 1.0)),
        ] {
            let found = difference(share(some1, all1).unwrap(), share(some2, all2).unwrap());
            assert!(is_near(found.interval, wanted), "{found:?}");
        }
    }

    #[test]
    fn quantiles_lie_within_their_buckets() {
        let buckets = [(100.0, 50.0), (250.0, 90.0), (500.0, 98.0), (f64::INFINITY, 100.0)];
        let median = quantile(&buckets, 0.5).unwrap();
        assert_eq!(median.value, 100.0);
        // Ranks 40.2 and 59.8.
        assert!(is_near(median.interval, (80.4004, 136.7492)), "{median:?}");
        // 5 of 8 into the bucket from 250 on; above the last bound nothing is known.
        let p95 = quantile(&buckets, 0.95).unwrap();
        assert_eq!(p95.value, 406.25);
        assert!(p95.interval.is_some_and(|(low, high)| low < 406.0 && high == 500.0), "{p95:?}");
        assert_eq!(quantile(&[(100.0, 0.0), (f64::INFINITY, 0.0)], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_mean_covers_the_truth_as_often_as_it_says() {
        // xorshift64*, so that every run is the same.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let runs = 2_000;
        let mut covered = 0;
        for _ in 0..runs {
            let times: Vec<(f64, f64)> = (0..12)
                .map(|_| {
                    let requests = 20.0 + (random() * 20.0).floor();
                    // Exponential answers of 100 tokens on average.
                    ((0..requests as u32).map(|_| -100.0 * (1.0 - random()).ln()).sum(), requests)
                })
                .collect();
            let (low, high) = mean(&times).unwrap().interval.unwrap();
            covered += u32::from(low <= 100.0 && 100.0 <= high);
        }
        let share = f64::from(covered) / f64::from(runs);
        assert!((0.93..=0.97).contains(&share), "{share}");
        assert_eq!(mean(&[(5.0, 1.0), (3.0, 1.0)]).unwrap().interval, None);
        assert_eq!(mean(&[(0.0, 0.0)]), None);
    }

    #[test]
    fn a_ratio_turned_round_has_the_interval_turned_round() {
        let (one, other) = (
            Estimate { value: 120.0, interval: Some((108.0, 132.0)) },
            Estimate { value: 100.0, interval: Some((95.0, 105.0)) },
        );
        let (there, back) = (times(one, other).unwrap(), times(other, one).unwrap());
        assert!((there.value - 1.2).abs() < 1e-9 && is_near(there.interval, (1.0731, 1.3420)), "{there:?}");
        let (low, high) = back.interval.unwrap();
        assert!(is_near(there.interval, (1.0 / high, 1.0 / low)));
        assert_eq!(times(Estimate { value: 0.0, interval: None }, other), None);
    }
}
