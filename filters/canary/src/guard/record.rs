//! What a request says of the version that served it.

use penstock_units::Nanos;

/// Amounts are shares of a cap, in so many parts.
pub(super) const WHOLE: u16 = 1 << 15;
/// So many bits times [`WHOLE`] are a number.
const BITS_MAX: u32 = 48;

/// Which of the two versions that are compared served a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// The version that callers had before.
    Stable,
    /// The version that is tried.
    Canary,
}

/// What is either so or not, and bad where it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server failed. What the client got wrong, or gave up, is none.
    Error,
    /// The first token came later than a bound.
    Ttft,
    /// The tokens came slower than a bound.
    InterToken,
    /// The answer was cut where no limit of the client's cut it.
    Truncated,
    /// Nothing was generated.
    Empty,
    /// A filter stopped the answer.
    Filtered,
    /// JSON or a tool call that was asked for, and is none.
    Malformed,
    /// The user did not like the answer.
    Feedback,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Error,
        Self::Ttft,
        Self::InterToken,
        Self::Truncated,
        Self::Empty,
        Self::Filtered,
        Self::Malformed,
        Self::Feedback,
    ];

    /// Whether it is an end that a request can come to. Of such, a request that was sent counts as one that has not come to it; the others
    /// are so or not by the time that anything is known of them.
    pub(super) const fn is_an_end(self) -> bool {
        matches!(self, Self::Error | Self::Truncated | Self::Empty | Self::Filtered | Self::Malformed)
    }

    pub(super) fn bit(self) -> u8 {
        1u8.checked_shl(self as u32).unwrap_or(0)
    }
}

/// What is compared by its mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// What the request cost.
    Cost,
    /// How many tokens its answer had.
    Length,
}

/// What a canary can be worse in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// More of its requests end so.
    More(Outcome),
    /// Its requests cost more.
    Costlier,
    /// Its answers are longer.
    Longer,
    /// Its answers are shorter.
    Shorter,
}

impl Signal {
    /// All of them, in the order of [`Signal::index`].
    pub const ALL: [Self; 11] = {
        use Outcome::{Empty, Error, Feedback, Filtered, InterToken, Malformed, Truncated, Ttft};
        [
            Self::More(Error),
            Self::More(Ttft),
            Self::More(InterToken),
            Self::More(Truncated),
            Self::More(Empty),
            Self::More(Filtered),
            Self::More(Malformed),
            Self::More(Feedback),
            Self::Costlier,
            Self::Longer,
            Self::Shorter,
        ]
    };

    /// As metrics and logs have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::More(Outcome::Error) => "errors",
            Self::More(Outcome::Ttft) => "ttft",
            Self::More(Outcome::InterToken) => "inter_token",
            Self::More(Outcome::Truncated) => "truncated",
            Self::More(Outcome::Empty) => "empty",
            Self::More(Outcome::Filtered) => "filtered",
            Self::More(Outcome::Malformed) => "malformed",
            Self::More(Outcome::Feedback) => "feedback",
            Self::Costlier => "cost",
            Self::Longer => "longer",
            Self::Shorter => "shorter",
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::More(outcome) => outcome as usize,
            Self::Costlier => 8,
            Self::Longer => 9,
            Self::Shorter => 10,
        }
    }
}

/// What becomes known of a request: that it was sent, and later, in one record or several, what came of it. What a record does not say is
/// not counted.
///
/// Bad ends are set against the requests that were sent, not against those that ended. Requests that fail may end sooner than others: of a
/// canary whose answers only take longer, failures would be seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub(super) arm: Arm,
    pub(super) sent: Nanos,
    /// Whether this says that it was sent.
    pub(super) is_sent: bool,
    /// Bits of [`Outcome`]s.
    pub(super) known: u8,
    pub(super) bad: u8,
    /// In parts of [`WHOLE`].
    pub(super) cost: Option<u16>,
    pub(super) length: Option<u16>,
}

impl Record {
    /// A request is sent to a version at this time. There is one such record for each request.
    pub fn sent(arm: Arm, now: Nanos) -> Self {
        let ends = Outcome::ALL.into_iter().filter(|outcome| outcome.is_an_end());
        let known = ends.fold(0, |known, outcome| known | outcome.bit());
        Self { is_sent: true, known, ..Self::of(arm, now) }
    }

    /// Something becomes known of a request that was sent then.
    pub fn of(arm: Arm, sent: Nanos) -> Self {
        Self { arm, sent, is_sent: false, known: 0, bad: 0, cost: None, length: None }
    }

    /// Says whether an outcome is so, as soon as that is known: that a first token is late, when it is overdue. That a request did not end
    /// badly needs no saying.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome, is_so: bool) -> Self {
        let bit = outcome.bit();
        if is_so || !outcome.is_an_end() {
            self.known |= bit;
            self.bad = if is_so { self.bad | bit } else { self.bad & !bit };
        }
        self
    }

    /// Says how much. What is more than `cap` counts as the cap: evidence of means needs a bound, and no single request may decide. A
    /// cap of a few times what is usual lets most differences be seen; under one of zero nothing is known.
    #[must_use]
    pub fn amount(mut self, amount: Amount, value: u64, cap: u64) -> Self {
        // Of what is too large for the product, the lowest bits make no difference.
        let bits = u64::BITS.saturating_sub(cap.leading_zeros());
        let shift = bits.saturating_sub(BITS_MAX);
        let (value, cap) = (value.min(cap).checked_shr(shift).unwrap_or(0), cap.checked_shr(shift).unwrap_or(0));
        let parts = value.saturating_mul(u64::from(WHOLE)).checked_div(cap);
        let parts = parts.and_then(|parts| u16::try_from(parts).ok());
        match amount {
            Amount::Cost => self.cost = parts,
            Amount::Length => self.length = parts,
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_numbered_in_their_order() {
        assert!(Signal::ALL.iter().enumerate().all(|(at, signal)| signal.index() == at));
        assert!(Outcome::ALL.iter().enumerate().all(|(at, outcome)| Signal::More(*outcome).index() == at));
        let mut labels: Vec<&str> = Signal::ALL.iter().map(|signal| signal.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Signal::ALL.len());
    }

    #[test]
    fn amounts_are_cut_at_their_cap() {
        let cost = |value, cap| Record::of(Arm::Canary, Nanos::ZERO).amount(Amount::Cost, value, cap).cost;
        assert_eq!((cost(0, 10), cost(5, 10), cost(10, 10)), (Some(0), Some(WHOLE / 2), Some(WHOLE)));
        assert_eq!((cost(u64::MAX, 10), cost(u64::MAX, u64::MAX), cost(7, 0)), (Some(WHOLE), Some(WHOLE), None));
        assert_eq!(
            (cost(1 << 62, 1 << 63), cost(1 << 47, 1 << 48), cost(1, 1 << 15)),
            (Some(WHOLE / 2), Some(WHOLE / 2), Some(1))
        );
    }

    #[test]
    fn what_is_sent_has_not_ended_badly_and_nothing_else_is_known() {
        let sent = Record::sent(Arm::Canary, Nanos(3));
        let known = Outcome::ALL.into_iter().filter(|outcome| sent.known & outcome.bit() != 0).collect::<Vec<_>>();
        use Outcome::{Empty, Error, Filtered, Malformed, Truncated};
        assert_eq!((known, sent.bad), (vec![Error, Truncated, Empty, Filtered, Malformed], 0));
        let of = Record::of(Arm::Stable, Nanos(3));
        assert_eq!(of.outcome(Outcome::Error, false), of);
        assert_eq!(of.outcome(Outcome::Ttft, true).outcome(Outcome::Ttft, false), of.outcome(Outcome::Ttft, false));
        assert_ne!(of.outcome(Outcome::Ttft, false), of);
    }
}
