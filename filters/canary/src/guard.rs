//! Whether a canary may go on: its requests against the stable version's, looked at as they end.
//!
//! A [`Guard`] takes one [`Record`] for each request that ended. It compares the two versions in each of the [`Signal`]s that the [`Rules`]
//! name, by tests that may be looked at after every request: however long one looks, the probability that a canary that is no worse is taken
//! back is no more than the [`Allowance`], over all signals together. A canary that is worse in one of them is found, the sooner the worse
//! it is. `guard/wealth.rs` says how, and which papers it is from.
//!
//! # What is claimed
//!
//! Each test has its wealth, which is more than `n` ever with a probability of at most `1/n`. So has their average, however the signals
//! depend on each other. The canary is taken back when the average is more than one over the allowance; the signal that is named has most
//! of it. This holds
//! * if requests are drawn for the canary by chance, whatever the rates do over time, and whatever the weights are changed to (see
//!   [`Guard::redrawn`]);
//! * or, for requests that are not (callers that stick to a version), if who is drawn does not matter: a caller whose requests fail wherever
//!   they go counts against the version that the caller sticks to. Few heavy callers are therefore more than chance, and so is a caller
//!   who wants to do harm: outcomes that a caller can bring about alone should not be recorded;
//! * for means, whatever the distributions are, if amounts do not depend on each other. They are cut at a cap (see [`Record::amount`]).
//!
//! Records are judged in blocks of 32. How they are batched does not matter: the same records in the same order make the same bytes. In
//! what order they come matters where it puts them into other blocks, or, for means, beside others: one record in another's place moves a
//! bet by no more than the odds it is made at, 32 at most, and what is claimed holds in any order that does not look at who served a request.
//!
//! # Where there is nothing to compare
//!
//! A block in which nothing of the stable version says something of an outcome is held against that outcome's ceiling, if there is one; for
//! [`Outcome::Error`] there always is one, a half, if errors are watched. [`Standing::blind`] counts the canary's requests in such blocks,
//! and a canary is not ready to be promoted before enough of its requests were compared: one that gets all requests never is. A stable
//! version that is small, but there, makes comparisons slow; the table below has how slow.
//!
//! # What this does not do
//!
//! Draw, roll back, forget: the verdict is data, and a breach stays until the state is replaced. It does not find what differs by little
//! (odds that are less than a quarter higher; means within the margin), what the signals do not show, or what is wrong with both versions.
//! It sees requests as they end: while the first of a canary that is only slower still run, those that failed quickly weigh more.
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

use block::{Amounts, Block};
use wealth::{Larger, Wealth};

/// How many tests there can be: a comparison for each signal, and a ceiling for each outcome.
const TESTS: usize = Signal::ALL.len() + Outcome::ALL.len();
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

    fn watches(&self, signal: Signal) -> bool {
        self.watched.get(signal.index()).copied().unwrap_or(false)
    }

    fn ceiling_of(&self, outcome: Outcome) -> Option<f64> {
        self.ceilings.get(outcome as usize).copied().flatten().map(|thousandths| f64::from(thousandths) / 1000.0)
    }

    /// The wealth of all tests together that is too much.
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
    /// What it is worse in, of several what there is most evidence of.
    pub signal: Signal,
    /// Than what.
    pub against: Against,
    /// How many of its requests that took.
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

/// How many records there were. A record that says more of a request that was recorded is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The canary's.
    pub canary: u64,
    /// The stable version's.
    pub stable: u64,
    /// The canary's in blocks that had some of the stable version's.
    pub compared: u64,
    /// The canary's in blocks that had none.
    pub blind: u64,
    /// Of requests that began before the versions were drawn as they are now. They are not counted elsewhere.
    pub early: u64,
}

/// What is known of a canary. It is a value of [`BYTES_MAX`] at most, which all workers update.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    plan: u64,
    /// Requests that began before are not counted.
    from: Nanos,
    since: Option<Nanos>,
    standing: Standing,
    breach: Option<Breach>,
    block: Block,
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
            block: Block::default(),
            tests: [Wealth::default(); TESTS],
        }
    }

    /// By which plan this was gathered.
    pub fn plan(&self) -> u64 {
        self.plan
    }

    /// How many records there were.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// From now on other shares of the requests are drawn for the canary. Requests that began before are not counted: of a version that gets
    /// more of them than before, those that end quickly are seen first, and these are often the ones that failed.
    pub fn redrawn(&mut self, now: Nanos) {
        self.from = now;
        self.block = Block::default();
    }

    /// Takes what ended, in the order in which it ended as far as that is known. After a breach nothing changes any more.
    pub fn record(&mut self, rules: &Rules, records: impl IntoIterator<Item = Record>, now: Nanos) {
        for record in records {
            if self.breach.is_some() {
                return;
            }
            if record.begun < self.from {
                self.standing.early = self.standing.early.saturating_add(1);
                continue;
            }
            let count = match record.arm {
                Arm::Canary => {
                    self.since = self.since.or(Some(now));
                    &mut self.standing.canary
                }
                Arm::Stable => &mut self.standing.stable,
            };
            *count = count.saturating_add(1);
            if self.block.push(record) {
                let block = std::mem::take(&mut self.block);
                self.judge(rules, &block);
            }
        }
    }

    /// What is to be done at `now`. Only how long it has run depends on that: a clock that was set back makes it later.
    pub fn verdict(&self, rules: &Rules, now: Nanos) -> Verdict {
        let Some(since) = self.since else { return Verdict::None };
        if let Some(breach) = self.breach {
            return Verdict::Breached(breach);
        }
        let has_baked = now.saturating_sub(since) >= rules.bake_for;
        let is_enough = self.standing.compared >= rules.requests_min.max(1);
        if has_baked && is_enough { Verdict::PromoteReady } else { Verdict::Running }
    }

    /// How much of what is needed for a breach there is against it in a signal, from 0 on; all of them together breach at 1.
    pub fn evidence(&self, rules: &Rules, signal: Signal) -> f64 {
        let own = self.wealths().filter(|(of, ..)| *of == signal);
        own.map(|(.., wealth)| wealth.total()).sum::<f64>() / rules.limit()
    }

    /// The tests in their order: all comparisons, then all ceilings.
    fn wealths(&self) -> impl Iterator<Item = (Signal, Against, &Wealth)> {
        let compared = Signal::ALL.into_iter().map(|signal| (signal, Against::Stable));
        let ceilings = Outcome::ALL.into_iter().map(|outcome| (Signal::More(outcome), Against::Ceiling));
        compared.chain(ceilings).zip(&self.tests).map(|((signal, against), wealth)| (signal, against, wealth))
    }

    fn judge(&mut self, rules: &Rules, block: &Block) {
        let (canary, stable) = block.arms();
        let kind = if stable > 0 { &mut self.standing.compared } else { &mut self.standing.blind };
        *kind = kind.saturating_add(u64::from(canary));

        let (compared, ceilings) = self.tests.split_at_mut(Signal::ALL.len());
        for (wealth, signal) in compared.iter_mut().zip(Signal::ALL).filter(|(_, signal)| rules.watches(*signal)) {
            let allowed = 1.0 + f64::from(rules.margin) / 1000.0;
            let means = |amounts: &Amounts, larger| wealth::difference(amounts, block.canary, larger, allowed);
            let factors = match signal {
                Signal::More(outcome) => wealth::odds(block.counts(outcome)),
                Signal::Costlier => means(&block.cost, Larger::Canary),
                Signal::Longer => means(&block.length, Larger::Canary),
                Signal::Shorter => means(&block.length, Larger::Stable),
            };
            factors.into_iter().for_each(|factors| wealth.play(factors));
        }
        for (wealth, outcome) in ceilings.iter_mut().zip(Outcome::ALL) {
            let counts = block.counts(outcome);
            let ceiling = rules.ceiling_of(outcome).filter(|_| counts.stable == 0);
            let factors = ceiling.and_then(|ceiling| wealth::excess(counts, ceiling));
            factors.into_iter().for_each(|factors| wealth.play(factors));
        }

        let total: f64 = self.tests.iter().map(Wealth::total).sum();
        if total >= rules.limit() {
            let most = self.wealths().max_by(|(.., a), (.., b)| a.total().total_cmp(&b.total()));
            let requests = self.standing.canary;
            self.breach = most.map(|(signal, against, _)| Breach { signal, against, requests });
        }
    }
}

#[cfg(test)]
mod tests;
