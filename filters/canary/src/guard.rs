//! Whether a canary may go on: its requests against the stable version's.
//!
//! A [`Guard`] takes [`Record`]s of what becomes known of requests. It compares the two versions in each of the [`Signal`]s that the [`Rules`]
//! name, by tests that may be looked at after every request: however long one looks, the probability that a canary that is no worse is taken
//! back is no more than the [`Allowance`], over all signals together. A canary that is worse in one of them is found, the sooner the worse
//! it is. `guard/wealth.rs` says how, and which papers it is from.
//!
//! # What is claimed
//!
//! Each test has its wealth, which is more than `n` ever with a probability of at most `1/n`. The allowance is divided among the tests
//! equally (Bonferroni), so how the signals depend on each other does not matter: one whose wealth is more than the number of tests over the
//! allowance takes the canary back. This holds
//! * if requests are drawn for the canary by chance, whatever the rates do over time, and whatever the weights are changed to (see
//!   [`Guard::redrawn`]);
//! * or, for requests that are not (callers that stick to a version), if who is drawn does not matter: a caller whose requests fail wherever
//!   they go counts against the version that the caller sticks to. Few heavy callers are therefore more than chance, and so is a caller
//!   who wants to do harm: outcomes that a caller can bring about alone should not be recorded;
//! * for means, whatever the distributions are, if amounts do not depend on each other. They are cut at a cap (see [`Record::amount`]), and
//!   not looked at in the first five minutes, when of a version that is slow only the short answers are there.
//!
//! Records are judged in blocks: 32 that say something of an outcome, or of amounts. How they are batched does not matter: the same records
//! in the same order make the same bytes. In what order they come matters where it puts them into other blocks, or, for means, beside
//! others: one record in another's place moves a bet by no more than the odds it is made at, 32 at most, and what is claimed holds in any
//! order that does not look at who served a request.
//!
//! # Where there is nothing to compare
//!
//! A block in which nothing of the stable version's says something of an outcome is held against that outcome's ceiling, if there is one; for
//! [`Outcome::Error`] there is one from the beginning, a half, if errors are watched. [`Standing::blind`] counts the canary's requests that
//! were sent while none were to the stable version, and a canary is not ready to be promoted before enough of its requests could be
//! compared: one that gets all requests never is. A stable version that is small, but there, makes comparisons slow; the table below has
//! how slow.
//!
//! # What this does not do
//!
//! Draw, roll back, forget: the verdict is data, and a breach stays until the state is replaced. It does not find what differs by little
//! (odds that are less than a quarter higher; means within the margin), what the signals do not show, or what is wrong with both versions.
//! One that fails no more often, but sooner, looks worse until the other's failures are seen as well.
//!
//! # What it comes to
//!
#![doc = include_str!("guard/simulation.md")]

mod block;
mod bytes;
mod record;
mod wealth;

pub use bytes::{BYTES_MAX, Unreadable};
pub use record::{Amount, Arm, Outcome, Record, Signal};

use penstock_units::Nanos;

use block::{Amounts, Counts, Spent};
use wealth::{Factors, Larger, Wealth};

/// How many tests there can be: a comparison for each signal, and a ceiling for each outcome.
const TESTS: usize = Signal::ALL.len() + Outcome::ALL.len();
/// For how long amounts are not looked at after the versions were drawn anew.
const SETTLED_AFTER: Nanos = Nanos(300 * Nanos::SECOND.0);
/// The ceiling of errors where no other is set, in thousandths.
const ERRORS_CEILING: u16 = 500;
/// By how much means may differ where nothing else is set, in thousandths.
const MARGIN: u16 = 100;

/// How probable it may be that a canary that is no worse is taken back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance(f64);

impl Allowance {
    /// What a confidence leaves. `None` where that is not from 0.5 to 0.999999.
    pub fn at(confidence: f64) -> Option<Self> {
        (0.5..=0.999_999).contains(&confidence).then_some(Self(1.0 - confidence))
    }

    /// For requests that are of so many categories, each of which has a guard of its own beside the one for all: what that one may have,
    /// and what each of the others may. All together have no more than there is. With no categories there is nothing to share.
    #[must_use]
    pub fn shared(self, categories: u32) -> (Self, Self) {
        let half = if categories == 0 { self.0 } else { self.0 / 2.0 };
        (Self(half), Self(half / f64::from(categories.max(1))))
    }
}

/// What is watched, and when a canary is ready.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    allowance: Allowance,
    watched: [bool; Signal::ALL.len()],
    /// In thousandths.
    ceilings: [Option<u16>; Outcome::ALL.len()],
    margin: u16,
    /// How many of the canary's requests have to have been compared before it is ready to be promoted.
    pub requests_min: u64,
    /// For how long it has to have run before.
    pub bake_for: Nanos,
}

impl Rules {
    /// Rules that watch these signals. `None` where there are none.
    pub fn new(allowance: Allowance, signals: &[Signal]) -> Option<Self> {
        let watched = Signal::ALL.map(|signal| signals.contains(&signal));
        let ceilings = Outcome::ALL.map(|outcome| {
            (outcome == Outcome::Error && signals.contains(&Signal::More(outcome))).then_some(ERRORS_CEILING)
        });
        let rules = Self { allowance, watched, ceilings, margin: MARGIN, requests_min: 0, bake_for: Nanos::ZERO };
        (!signals.is_empty()).then_some(rules)
    }

    /// Sets a ceiling, in thousandths of the requests, that holds where the stable version has none to compare with. One of 0 or of 1000 and
    /// more is none.
    #[must_use]
    pub fn ceiling(mut self, outcome: Outcome, thousandths: u16) -> Self {
        if let Some(ceiling) = self.ceilings.get_mut(outcome as usize) {
            *ceiling = Some(thousandths).filter(|thousandths| (1..1000).contains(thousandths));
        }
        self
    }

    /// Sets by how many thousandths the means may differ: what is more is worse.
    #[must_use]
    pub fn margin(mut self, thousandths: u16) -> Self {
        self.margin = thousandths;
        self
    }

    /// Whether they watch it.
    pub fn watches(&self, signal: Signal) -> bool {
        self.watched.get(signal.index()).copied().unwrap_or(false)
    }

    fn ceiling_of(&self, outcome: Outcome) -> Option<f64> {
        self.ceilings.get(outcome as usize).copied().flatten().map(|thousandths| f64::from(thousandths) / 1000.0)
    }

    /// What is too much wealth for one test.
    fn limit(&self) -> f64 {
        let compared = self.watched.iter().filter(|is_watched| **is_watched).count();
        let tests = compared.saturating_add(self.ceilings.iter().flatten().count());
        f64::from(u32::try_from(tests).unwrap_or(u32::MAX)) / self.allowance.0
    }
}

/// What a canary was found to be worse than.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The stable version.
    Stable,
    /// The ceiling.
    Ceiling,
}

/// Why a canary is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach {
    /// What it is worse in.
    pub signal: Signal,
    /// Than what.
    pub against: Against,
    /// How many requests it had been sent by then.
    pub requests: u64,
}

/// What is to be done with a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has served nothing.
    None,
    /// It goes on.
    Running,
    /// It is taken back, and stays so.
    Breached(Breach),
    /// Enough of its requests were compared, it has run for long enough, and is not known to be worse.
    PromoteReady,
}

impl Verdict {
    /// As `penstock_canary_state` shows it.
    pub fn state(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Running => 1,
            Self::Breached(_) => 2,
            Self::PromoteReady => 3,
        }
    }
}

/// How many requests were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// To the canary.
    pub canary: u64,
    /// To the stable version.
    pub stable: u64,
    /// To the canary, among 32 of which some were to the stable version.
    pub compared: u64,
    /// To the canary, among 32 that all were.
    pub blind: u64,
    /// Records of requests from before the versions were drawn as they are now. They are not counted elsewhere.
    pub early: u64,
}

/// What is known of a canary. It is a value of [`BYTES_MAX`] at most, which all workers update.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    plan: u64,
    /// Requests that were sent before are not counted.
    from: Nanos,
    since: Option<Nanos>,
    standing: Standing,
    breach: Option<Breach>,
    /// The blocks that are not full: of requests that were sent, of outcomes, and of amounts.
    sent: Counts,
    outcomes: [Counts; Outcome::ALL.len()],
    spent: Spent,
    /// All comparisons by their signals, then all ceilings by their outcomes.
    tests: [Wealth; TESTS],
}

impl Guard {
    /// Nothing is known yet at `now`. The `plan` is a hash of what is compared, and by which rules: evidence by others is none, so a guard
    /// that has another plan is to be replaced.
    pub fn new(plan: u64, now: Nanos) -> Self {
        Self {
            plan,
            from: now,
            since: None,
            standing: Standing::default(),
            breach: None,
            sent: Counts::default(),
            outcomes: [Counts::default(); Outcome::ALL.len()],
            spent: Spent::default(),
            tests: [Wealth::default(); TESTS],
        }
    }

    /// By which plan this was gathered.
    pub fn plan(&self) -> u64 {
        self.plan
    }

    /// How many requests were sent.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// From now on other shares of the requests are drawn for the canary. Of requests that were sent before nothing is counted any more: a
    /// version that gets more of them than it did has fewer old ones.
    pub fn redrawn(&mut self, now: Nanos) {
        let Self { plan, since, standing, breach, tests, .. } = *self;
        *self = Self { since, standing, breach, tests, ..Self::new(plan, now) };
    }

    /// Takes what becomes known, in the order in which it does as far as that is known. After a breach nothing changes any more.
    pub fn record(&mut self, rules: &Rules, records: impl IntoIterator<Item = Record>, now: Nanos) {
        records.into_iter().for_each(|record| self.take(rules, record, now));
    }

    /// What is to be done at `now`. Only how long it has run depends on that: a clock that was set back makes it later.
    pub fn verdict(&self, rules: &Rules, now: Nanos) -> Verdict {
        // What is said of answers comes at once, and may be enough before it is told that they were asked for.
        if let Some(breach) = self.breach {
            return Verdict::Breached(breach);
        }
        let Some(since) = self.since else { return Verdict::None };
        let has_baked = now.saturating_sub(since) >= rules.bake_for;
        let is_enough = self.standing.compared >= rules.requests_min.max(1);
        if has_baked && is_enough { Verdict::PromoteReady } else { Verdict::Running }
    }

    /// How much of what is needed for a breach there is against it in a signal, from 0 on; 1 is enough.
    pub fn evidence(&self, rules: &Rules, signal: Signal) -> f64 {
        let ceiling = match signal {
            Signal::More(outcome) => Some(ceiling_index(outcome)),
            _ => None,
        };
        let tests = [Some(signal.index()), ceiling].into_iter().flatten().filter_map(|test| self.tests.get(test));
        tests.map(Wealth::total).fold(0.0, f64::max) / rules.limit()
    }

    fn take(&mut self, rules: &Rules, record: Record, now: Nanos) {
        if self.breach.is_some() {
            return;
        }
        if record.sent < self.from {
            self.standing.early = self.standing.early.saturating_add(1);
            return;
        }
        if record.is_sent {
            self.sent(record.arm, now);
        }
        for outcome in Outcome::ALL.into_iter().filter(|outcome| record.known & outcome.bit() != 0) {
            let counts = self.outcomes.get_mut(outcome as usize);
            let full = counts.and_then(|counts| counts.push(record.arm, record.bad & outcome.bit() != 0));
            full.into_iter().for_each(|counts| self.judge_outcome(rules, outcome, counts));
        }
        if now >= self.from.saturating_add(SETTLED_AFTER) {
            let full = self.spent.push(record);
            full.into_iter().for_each(|spent| self.judge_spent(rules, &spent));
        }
    }

    fn sent(&mut self, arm: Arm, now: Nanos) {
        let Standing { canary, stable, compared, blind, .. } = &mut self.standing;
        let count = match arm {
            Arm::Canary => canary,
            Arm::Stable => stable,
        };
        *count = count.saturating_add(1);
        if arm == Arm::Canary {
            self.since = self.since.or(Some(now));
        }
        if let Some(Counts { canary, stable, .. }) = self.sent.push(arm, false) {
            let kind = if stable > 0 { compared } else { blind };
            *kind = kind.saturating_add(u64::from(canary));
        }
    }

    fn judge_outcome(&mut self, rules: &Rules, outcome: Outcome, counts: Counts) {
        let signal = Signal::More(outcome);
        if rules.watches(signal) {
            self.play(rules, signal, Against::Stable, wealth::odds(counts));
        }
        if let Some(ceiling) = rules.ceiling_of(outcome).filter(|_| counts.stable == 0) {
            let requests =
                if outcome.is_an_end() { counts.canary.saturating_sub(counts.canary_bad) } else { counts.canary };
            self.play(rules, signal, Against::Ceiling, wealth::excess(requests, counts.canary_bad, ceiling));
        }
    }

    fn judge_spent(&mut self, rules: &Rules, spent: &Spent) {
        let allowed = 1.0 + f64::from(rules.margin) / 1000.0;
        let means = |amounts: &Amounts, larger| wealth::difference(amounts, spent.canary, larger, allowed);
        let signals = [
            (Signal::Costlier, &spent.cost, Larger::Canary),
            (Signal::Longer, &spent.length, Larger::Canary),
            (Signal::Shorter, &spent.length, Larger::Stable),
        ];
        for (signal, amounts, larger) in signals.into_iter().filter(|(signal, ..)| rules.watches(*signal)) {
            self.play(rules, signal, Against::Stable, means(amounts, larger));
        }
    }

    /// What a block comes to in a test, if it says anything.
    fn play(&mut self, rules: &Rules, signal: Signal, against: Against, factors: Option<Factors>) {
        let index = match (against, signal) {
            (Against::Ceiling, Signal::More(outcome)) => ceiling_index(outcome),
            _ => signal.index(),
        };
        let (Some(wealth), Some(factors)) = (self.tests.get_mut(index), factors) else { return };
        wealth.play(factors);
        if wealth.total() >= rules.limit() && self.breach.is_none() {
            self.breach = Some(Breach { signal, against, requests: self.standing.canary });
        }
    }
}

fn ceiling_index(outcome: Outcome) -> usize {
    Signal::ALL.len().saturating_add(outcome as usize)
}

#[cfg(test)]
mod tests;
