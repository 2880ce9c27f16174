//! The horizontal pod autoscaler, as Kubernetes 1.35 computes it (`pkg/controller/podautoscaler/horizontal.go`), with external metrics of the
//! kind `AverageValue`, and KEDA's part: what is between 0 and 1.

use std::collections::VecDeque;

use serde::Serialize;

use crate::law::Demand;
use crate::trace::{Micros, SECOND};

/// Differences that are left alone: `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;

/// How many replicas may be added or removed in a period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Policy {
    /// So many, in so many seconds.
    Pods(u32, u32),
    /// So many per cent, in so many seconds.
    Percent(u32, u32),
}

/// Which policy counts if there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Select {
    /// The one that changes most.
    Max,
    /// The one that changes least.
    Min,
}

/// One direction of `behavior`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rules {
    /// `stabilizationWindowSeconds`.
    pub window: u32,
    /// `selectPolicy`.
    pub select: Select,
    /// `policies`.
    pub policies: Vec<Policy>,
}

/// `behavior`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Behavior {
    /// `scaleUp`.
    pub up: Rules,
    /// `scaleDown`.
    pub down: Rules,
}

impl Behavior {
    /// What it needs at once when it goes up, and one replica at a time when it goes down.
    #[must_use]
    pub fn one_step(replicas_max: u32, down_window: u32, down_period: u32) -> Self {
        Self {
            up: Rules { window: 0, select: Select::Max, policies: vec![Policy::Pods(replicas_max, 15)] },
            down: Rules { window: down_window, select: Select::Min, policies: vec![Policy::Pods(1, down_period)] },
        }
    }

    /// # Errors
    /// What Kubernetes would not take.
    pub fn check(&self) -> Result<(), String> {
        for (name, rules) in [("scaleUp", &self.up), ("scaleDown", &self.down)] {
            if rules.window > 3600 {
                return Err(format!("{name}: a window of {} s; at most 3600", rules.window));
            }
            for Policy::Pods(value, period) | Policy::Percent(value, period) in &rules.policies {
                if *value == 0 || !(1..=1800).contains(period) {
                    return Err(format!("{name}: a policy of {value} in {period} s; write at least 1 in 1 to 1800 s"));
                }
            }
        }
        Ok(())
    }
}

/// Decides how many replicas there are.
#[derive(Debug)]
pub struct Autoscaler {
    behavior: Behavior,
    min: u32,
    max: u32,
    /// `cooldownPeriod`: KEDA takes the last replica away so long after it was needed.
    cooldown: Micros,
    recommended: VecDeque<(Micros, u32)>,
    ups: VecDeque<(Micros, u32)>,
    downs: VecDeque<(Micros, u32)>,
    needed: Micros,
}

impl Autoscaler {
    /// One for a Deployment with `min` to `max` replicas.
    #[must_use]
    pub fn new(behavior: Behavior, min: u32, max: u32, cooldown: Micros) -> Self {
        let [recommended, ups, downs] = Default::default();
        Self { behavior, min, max, cooldown, recommended, ups, downs, needed: 0 }
    }

    /// KEDA's poll: whether there is a replica at all.
    pub fn poll(&mut self, now: Micros, current: u32, demands: &[Demand]) -> u32 {
        let active = demands.iter().any(|demand| demand.value.is_some_and(|value| value > 0.0));
        if active {
            self.needed = now;
        }
        match current {
            0 if active => self.min.max(1),
            _ if self.min == 0 && !active && now >= self.needed + self.cooldown => 0,
            _ => current,
        }
    }

    /// The HPA's sync, every 15 s: how many replicas there should be, from now on.
    pub fn sync(&mut self, now: Micros, current: u32, demands: &[Demand]) -> u32 {
        if current == 0 {
            return 0;
        }
        if self.recommended.is_empty() {
            self.recommended.push_back((now, current));
        }
        let asked = demands.iter().filter_map(|demand| wanted(demand, current)).max();
        // One metric that has no value does not scale down; others may still scale up.
        let unknown = demands.iter().any(|demand| demand.value.is_none());
        let Some(asked) = asked.filter(|asked| !unknown || *asked >= current) else { return current };
        let stable = self.stabilize(now, current, asked);
        let next = self.limit(now, current, stable);
        match next.cmp(&current) {
            std::cmp::Ordering::Greater => self.ups.push_back((now, next - current)),
            std::cmp::Ordering::Less => self.downs.push_back((now, current - next)),
            std::cmp::Ordering::Equal => {}
        }
        next
    }

    fn stabilize(&mut self, now: Micros, current: u32, asked: u32) -> u32 {
        let after = |window: u32| move |at: Micros| at + Micros::from(window) * SECOND > now;
        let (up_after, down_after) = (after(self.behavior.up.window), after(self.behavior.down.window));
        let (mut up, mut down) = (asked, asked);
        for (at, before) in &self.recommended {
            if up_after(*at) {
                up = up.min(*before);
            }
            if down_after(*at) {
                down = down.max(*before);
            }
        }
        self.recommended.retain(|(at, _)| up_after(*at) || down_after(*at));
        self.recommended.push_back((now, asked));
        current.max(up).min(down)
    }

    fn limit(&mut self, now: Micros, current: u32, wanted: u32) -> u32 {
        let (ups, downs) = (&self.ups, &self.downs);
        let changed = |events: &VecDeque<(Micros, u32)>, period: u32| -> u32 {
            let cutoff = Micros::from(period) * SECOND;
            events.iter().filter(|(at, _)| at + cutoff > now).map(|(_, change)| *change).sum()
        };
        let at_start = |period: u32| (current + changed(downs, period)).saturating_sub(changed(ups, period));
        let limits = |rules: &Rules, up: bool| {
            let limits = rules.policies.iter().map(|policy| match (policy, up) {
                (Policy::Pods(pods, period), true) => at_start(*period) + pods,
                (Policy::Pods(pods, period), false) => at_start(*period).saturating_sub(*pods),
                (Policy::Percent(percent, period), true) => {
                    (f64::from(at_start(*period)) * (1.0 + f64::from(*percent) / 100.0)).ceil() as u32
                }
                (Policy::Percent(percent, period), false) => {
                    (f64::from(at_start(*period)) * (1.0 - f64::from(*percent) / 100.0)).max(0.0) as u32
                }
            });
            // To change most is the largest limit upwards and the smallest one downwards.
            if (rules.select == Select::Max) == up { limits.max() } else { limits.min() }
        };
        let next = if wanted > current {
            let limit = limits(&self.behavior.up, true).unwrap_or(self.max).max(current);
            wanted.min(limit.min(self.max))
        } else {
            let limit = limits(&self.behavior.down, false).unwrap_or(1).min(current);
            wanted.max(limit.max(self.min.max(1)))
        };
        let oldest = now.saturating_sub(1800 * SECOND);
        self.ups.retain(|(at, _)| *at >= oldest);
        self.downs.retain(|(at, _)| *at >= oldest);
        next.clamp(self.min.max(1), self.max)
    }
}

/// What one metric asks for: the total divided by what one replica may have, unless it is near enough. Values are thousandths, as in
/// Kubernetes' quantities.
fn wanted(demand: &Demand, current: u32) -> Option<u32> {
    let milli = |value: f64| (value * 1000.0).clamp(0.0, 9e15).floor();
    let (value, target) = (milli(demand.value?), milli(demand.target).max(1.0));
    let ratio = value / (target * f64::from(current));
    if (1.0 - TOLERANCE..=1.0 + TOLERANCE).contains(&ratio) {
        return Some(current);
    }
    Some((value / target).ceil().min(1e9) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Micros {
        seconds * SECOND
    }

    fn asks(value: f64, target: f64) -> [Demand; 1] {
        [Demand { value: Some(value), target }]
    }

    /// Syncs every 15 s from `from` on, and who changed it when.
    fn played(hpa: &mut Autoscaler, from: u64, seconds: u64, mut current: u32, demand: &[Demand]) -> Vec<(u64, u32)> {
        let mut changes = Vec::new();
        for now in (from..from + seconds).step_by(15) {
            let next = hpa.sync(at(now), current, demand);
            if next != current {
                changes.push((now, next));
            }
            current = next;
        }
        changes
    }

    /// As the ScaledObjects had it when the sequences of facts were recorded on a real KEDA 2.20.2 and Kubernetes 1.35.4.
    fn doubling() -> Behavior {
        Behavior {
            up: Rules { window: 0, select: Select::Max, policies: vec![Policy::Percent(100, 30), Policy::Pods(2, 30)] },
            down: Rules { window: 600, select: Select::Min, policies: vec![Policy::Pods(1, 120)] },
        }
    }

    #[test]
    fn what_needs_12_and_a_half_doubles_every_30_s_and_stays_at_12() {
        let mut hpa = Autoscaler::new(doubling(), 1, 16, 0);
        assert_eq!(played(&mut hpa, 5, 600, 1, &asks(300_000.0, 24_000.0)), [(5, 3), (35, 6), (65, 12)]);
    }

    #[test]
    fn in_one_step_it_is_13() {
        let mut hpa = Autoscaler::new(Behavior::one_step(16, 600, 120), 1, 16, 0);
        assert_eq!(played(&mut hpa, 14, 600, 1, &asks(300_000.0, 24_000.0)), [(14, 13)]);
    }

    #[test]
    fn a_tenth_more_or_less_is_left_alone() {
        let mut hpa = Autoscaler::new(Behavior::one_step(16, 0, 15), 1, 16, 0);
        assert_eq!(hpa.sync(at(0), 2, &asks(52_700.0, 24_000.0)), 2);
        assert_eq!(hpa.sync(at(15), 2, &asks(53_000.0, 24_000.0)), 3);
        assert_eq!(hpa.sync(at(30), 10, &asks(9.0, 1.0)), 10);
        assert_eq!(hpa.sync(at(45), 10, &asks(8.9, 1.0)), 9);
    }

    #[test]
    fn down_it_goes_after_the_window_and_one_at_a_time() {
        let mut hpa = Autoscaler::new(doubling(), 1, 16, 0);
        assert_eq!(hpa.sync(at(0), 4, &asks(4.0, 1.0)), 4);
        let walk = played(&mut hpa, 15, 1200, 4, &asks(0.0, 1.0));
        assert_eq!(walk, [(600, 3), (720, 2), (840, 1)]);
    }

    #[test]
    fn the_largest_metric_wins_and_a_blind_one_takes_nobody_away() {
        let mut hpa = Autoscaler::new(Behavior::one_step(16, 0, 15), 1, 16, 0);
        let (low, high) = (Demand { value: Some(1.0), target: 1.0 }, Demand { value: Some(6.0), target: 1.0 });
        let blind = Demand { value: None, target: 1.0 };
        assert_eq!(hpa.sync(at(0), 3, &[low, high]), 6);
        assert_eq!(hpa.sync(at(15), 6, &[low, blind]), 6);
        assert_eq!(hpa.sync(at(30), 3, &[high, blind]), 6);
        assert_eq!(hpa.sync(at(45), 6, &[blind]), 6);
    }

    #[test]
    fn keda_wakes_what_sleeps_and_lets_it_sleep_after_the_cooldown() {
        let mut hpa = Autoscaler::new(doubling(), 0, 4, at(60));
        assert_eq!(hpa.poll(at(5), 0, &asks(0.0, 1.0)), 0);
        assert_eq!(hpa.sync(at(5), 0, &asks(9.0, 1.0)), 0);
        assert_eq!(hpa.poll(at(10), 0, &asks(1.0, 1.0)), 1);
        assert_eq!(hpa.poll(at(65), 1, &asks(0.0, 1.0)), 1);
        assert_eq!(hpa.poll(at(70), 1, &asks(0.0, 1.0)), 0);
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        assert!(doubling().check().is_ok());
        assert!(Behavior::one_step(0, 0, 15).check().unwrap_err().contains("scaleUp"));
        assert!(Behavior::one_step(1, 3601, 15).check().unwrap_err().contains("3601"));
        assert!(Behavior::one_step(1, 0, 1801).check().unwrap_err().contains("1801"));
    }
}
