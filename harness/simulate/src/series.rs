//! Samples as Prometheus keeps them, and what its functions make of them: `rate`, subqueries, `predict_linear`, `histogram_quantile`.
//!
//! Ranges are open at their beginning, as since Prometheus 3. What a function answers is held against `promtool` in a test.

use crate::trace::{Micros, SECOND};

/// For how long a sample is the newest one.
const LOOKBACK: Micros = 300 * SECOND;

/// When, and what.
pub type Sample = (Micros, f64);

/// What was scraped of one metric.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<Sample>);

impl Series {
    /// Adds a sample; none may be older than the last.
    pub fn push(&mut self, at: Micros, value: f64) {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last < at));
        self.0.push((at, value));
    }

    /// The value now, if it was scraped in the last five minutes.
    #[must_use]
    pub fn at(&self, now: Micros) -> Option<f64> {
        self.range(now, LOOKBACK).last().map(|(_, value)| *value)
    }

    /// `[window]`.
    #[must_use]
    pub fn range(&self, now: Micros, window: Micros) -> &[Sample] {
        let end = self.0.partition_point(|(at, _)| *at <= now);
        let begin = self.0.partition_point(|(at, _)| at + window <= now);
        &self.0[begin.min(end)..end]
    }

    /// `min_over_time(…[window]) and … offset window`.
    #[must_use]
    pub fn least(&self, now: Micros, window: Micros) -> Option<f64> {
        let _was_there = self.at(now.checked_sub(window)?)?;
        self.range(now, window).iter().map(|(_, value)| *value).reduce(f64::min)
    }

    /// `rate(…[window])` of a counter that is not reset.
    #[must_use]
    pub fn rate(&self, now: Micros, window: Micros) -> Option<f64> {
        let [first, .., last] = self.range(now, window) else { return None };
        let count = self.range(now, window).len();
        let seconds = |from: Micros, to: Micros| (to as f64 - from as f64) / SECOND as f64;
        let (sampled, increase) = (seconds(first.0, last.0), last.1 - first.1);
        let between = sampled / (count - 1) as f64;
        let limit = between * 1.1;
        let range = window as f64 / SECOND as f64;
        let mut to_start = range - seconds(first.0, now);
        let mut to_end = seconds(last.0, now);
        if to_start >= limit {
            to_start = between / 2.0;
        }
        if increase > 0.0 && first.1 >= 0.0 {
            // A counter was not below 0.
            to_start = to_start.min(sampled * (first.1 / increase));
        }
        if to_end >= limit {
            to_end = between / 2.0;
        }
        Some(increase * ((sampled + to_start + to_end) / sampled) / range)
    }
}

/// `…[range:step]`: at every multiple of the step, leaving out where there is no answer.
pub fn subquery(now: Micros, range: Micros, step: Micros, query: impl Fn(Micros) -> Option<f64>) -> Vec<Sample> {
    let first = (now.saturating_sub(range) / step + 1) * step;
    (first..=now).step_by(step as usize).filter_map(|at| query(at).map(|value| (at, value))).collect()
}

/// `predict_linear(…, ahead)`, in seconds from now.
pub fn predict_linear(samples: &[Sample], now: Micros, ahead: f64) -> Option<f64> {
    if samples.len() < 2 {
        return None;
    }
    let mut sums = Sums::default();
    for (at, value) in samples {
        sums.add((*at as f64 - now as f64) / SECOND as f64, *value);
    }
    if samples.iter().all(|(_, value)| value.to_bits() == samples[0].1.to_bits()) {
        return Some(samples[0].1);
    }
    let (slope, now) = sums.line();
    Some(slope * ahead + now)
}

/// `histogram_quantile(q, …)` over cumulative buckets, the last of which has no upper bound.
pub fn quantile(q: f64, buckets: &[(f64, f64)]) -> Option<f64> {
    let (_, total) = *buckets.last()?;
    if buckets.len() < 2 || total <= 0.0 {
        return None;
    }
    let rank = q * total;
    let index = buckets.iter().position(|(_, count)| *count >= rank)?;
    if index == buckets.len() - 1 {
        return Some(buckets[index - 1].0);
    }
    let (start, before) = if index == 0 { (0.0, 0.0) } else { buckets[index - 1] };
    let (end, count) = buckets[index];
    Some(start + (end - start) * (rank - before) / (count - before))
}

/// What a least-squares line is made of, summed as Kahan and Neumaier do.
#[derive(Default)]
struct Sums {
    count: f64,
    x: Compensated,
    y: Compensated,
    xy: Compensated,
    xx: Compensated,
}

impl Sums {
    fn add(&mut self, x: f64, y: f64) {
        self.count += 1.0;
        self.x.add(x);
        self.y.add(y);
        self.xy.add(x * y);
        self.xx.add(x * x);
    }

    /// Its slope, and its value where `x` is 0.
    fn line(&self) -> (f64, f64) {
        let (x, y) = (self.x.value(), self.y.value());
        let covariance = self.xy.value() - x * y / self.count;
        let variance = self.xx.value() - x * x / self.count;
        let slope = covariance / variance;
        (slope, y / self.count - slope * x / self.count)
    }
}

#[derive(Default)]
struct Compensated {
    sum: f64,
    rest: f64,
}

impl Compensated {
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        self.rest += if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
        self.sum = sum;
    }

    fn value(&self) -> f64 {
        self.sum + self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(every: u64, values: &[f64]) -> Series {
        let mut series = Series::default();
        for (index, value) in values.iter().enumerate() {
            series.push(index as u64 * every * SECOND, *value);
        }
        series
    }

    #[test]
    fn a_sample_is_the_newest_for_five_minutes() {
        let series = series(15, &[1.0, 2.0]);
        assert_eq!(series.at(14 * SECOND), Some(1.0));
        assert_eq!(series.at(314 * SECOND), Some(2.0));
        assert_eq!(series.at(315 * SECOND), None);
    }

    #[test]
    fn a_rate_needs_two_samples_and_is_carried_to_the_ends_of_its_window() {
        let counter = series(15, &[0.0, 150.0, 300.0, 450.0, 600.0]);
        assert_eq!(counter.rate(10 * SECOND, 60 * SECOND), None);
        // 8 s after the last of four samples 15 s apart: 450 in 45 s, and as much per second to both ends.
        assert_eq!(counter.rate(68 * SECOND, 60 * SECOND), Some(10.0));
        // Not beyond half an interval where the last sample is long ago: (45 + 7.5 + 0) of 60 s.
        let late = counter.rate(90 * SECOND, 60 * SECOND).unwrap();
        assert!((late - 150.0 * ((15.0 + 15.0 + 7.5) / 15.0) / 60.0).abs() < 1e-9, "{late}");
    }

    #[test]
    fn a_line_goes_on() {
        let samples: Vec<Sample> = (0..5).map(|index| (index * 15 * SECOND, 3.0 + index as f64 * 15.0 * 0.2)).collect();
        let predicted = predict_linear(&samples, 60 * SECOND, 60.0).unwrap();
        assert!((predicted - (3.0 + 120.0 * 0.2)).abs() < 1e-9, "{predicted}");
        assert_eq!(predict_linear(&[(0, 7.0), (SECOND, 7.0)], SECOND, 60.0), Some(7.0));
        assert_eq!(predict_linear(&[(0, 7.0)], SECOND, 60.0), None);
    }

    #[test]
    fn a_subquery_looks_at_multiples_of_its_step() {
        let asked = subquery(100 * SECOND, 60 * SECOND, 15 * SECOND, |at| Some((at / SECOND) as f64));
        assert_eq!(asked.iter().map(|(_, value)| *value as u64).collect::<Vec<_>>(), [45, 60, 75, 90]);
    }

    #[test]
    fn a_quantile_is_between_the_bounds_of_its_bucket() {
        let buckets = [(1.0, 0.0), (2.0, 10.0), (4.0, 20.0), (f64::INFINITY, 20.0)];
        assert_eq!(quantile(0.75, &buckets), Some(3.0));
        assert_eq!(quantile(0.5, &buckets), Some(2.0));
        assert_eq!(quantile(0.9, &[(1.0, 0.0), (f64::INFINITY, 5.0)]), Some(1.0));
        assert_eq!(quantile(0.9, &[(1.0, 0.0), (f64::INFINITY, 0.0)]), None);
    }

    /// What `promtool test rules` (2.42) answers for these series and moments.
    #[test]
    fn answers_are_those_of_prometheus() {
        let counter: [f64; 22] = [
            0.0, 130.0, 310.0, 420.0, 600.0, 790.0, 900.0, 1100.0, 1350.0, 1400.0, 1620.0, 1900.0, 2100.0, 2150.0,
            2400.0, 2700.0, 2990.0, 3200.0, 3500.0, 3900.0, 4100.0, 4600.0,
        ];
        let counter = series(15, &counter);
        let rate = |at: Micros| counter.rate(at, 61 * SECOND);
        let now = 308 * SECOND;
        let trend = subquery(now, 301 * SECOND, 15 * SECOND, rate);
        let line = counter.range(now, 121 * SECOND);
        for (query, answer, expected) in [
            ("rate(x[61s]) at 68 s", rate(68 * SECOND), 10.444444444444445),
            ("rate(x[61s]) at 20 s", rate(20 * SECOND), 2.841530054644809),
            ("predict_linear(rate(x[61s])[301s:15s], 60)", predict_linear(&trend, now, 60.0), 22.038973526712958),
            ("predict_linear(x[121s], 60)", predict_linear(line, now, 60.0), 5389.785714285715),
        ] {
            let answer = answer.unwrap();
            assert!((answer - expected).abs() < 1e-9 * expected, "{query}: {answer}, not {expected}");
        }
        let buckets = [(0.1, 1.0), (0.5, 4.0), (2.0, 9.0), (f64::INFINITY, 10.0)];
        assert!((quantile(0.7, &buckets).unwrap() - 1.4).abs() < 1e-12);
    }
}
