//! What is in flight: for every model version the prompt tokens that wait for their first answer, and the output
//! tokens that are still to come.
//!
//! A [`Ledger`] is one worker's truth, kept in memory and never shared. What is shared is a [`slot`]: the ledger's sums
//! under a heartbeat, written whole. The process's truth is the sum over the slots that still beat, so a worker that
//! died takes its tokens with it, and there is no counter that could drift.
//!
//! What this crate does not do: decide whether to shed, or talk to anybody.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod fair;
pub mod slot;

use hashbrown::HashMap;
use penstock_units::Tokens;

/// A model version, as it is labelled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// The configured model name.
    pub model: String,
    /// The version name.
    pub version: String,
}

/// What is pending in one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Prompt tokens, not cached as far as is known, of requests without a first answer.
    pub prefill: Tokens,
    /// Output tokens still expected.
    pub decode: Tokens,
    /// Requests.
    pub requests: u64,
}

impl Sum {
    /// Both phases' tokens.
    pub fn tokens(&self) -> Tokens {
        self.prefill.saturating_add(self.decode)
    }

    /// Adds another sum of the same series.
    pub fn add(&mut self, other: Sum) {
        self.prefill = self.prefill.saturating_add(other.prefill);
        self.decode = self.decode.saturating_add(other.decode);
        self.requests = self.requests.saturating_add(other.requests);
    }
}

struct Flight {
    series: Series,
    tenant: String,
    prefill: Tokens,
    decode: Tokens,
}

/// One worker's requests in flight, by the id that the worker gives them.
#[derive(Default)]
pub struct Ledger {
    flights: HashMap<u32, Flight>,
}

impl Ledger {
    /// A request was forwarded: `prompt` tokens are to be read, `output` tokens are expected.
    pub fn admit(&mut self, id: u32, series: Series, tenant: &str, prompt: Tokens, output: Tokens) {
        self.flights.insert(id, Flight { series, tenant: tenant.to_owned(), prefill: prompt, decode: output });
    }

    /// The first token of the answer is here: the prompt has been read.
    pub fn first_token(&mut self, id: u32) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.prefill = Tokens::ZERO;
        }
    }

    /// So many more tokens of the answer are here.
    pub fn decoded(&mut self, id: u32, tokens: Tokens) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.decode = flight.decode.saturating_sub(tokens);
        }
    }

    /// The request is over, however it ended. Harmless for one that is not in flight.
    pub fn done(&mut self, id: u32) {
        self.flights.remove(&id);
    }

    /// The sums over all flights, sorted by series.
    pub fn sums(&self) -> Vec<(Series, Sum)> {
        let mut sums = self.sums_by(|flight| Some((flight.series.model.as_str(), flight.series.version.as_str())));
        sums.sort_by(|a, b| a.0.cmp(&b.0));
        sums
    }

    /// What tenants hold of the models that `is_asked` names: series whose version is the tenant. Those that hold most come first.
    pub fn holdings(&self, is_asked: impl Fn(&str) -> bool) -> Vec<(Series, Sum)> {
        let mut sums = self.sums_by(|flight| {
            is_asked(&flight.series.model).then_some((flight.series.model.as_str(), flight.tenant.as_str()))
        });
        sums.sort_by(|a, b| b.1.tokens().cmp(&a.1.tokens()).then_with(|| a.0.cmp(&b.0)));
        sums
    }

    fn sums_by<'a>(&'a self, key: impl Fn(&'a Flight) -> Option<(&'a str, &'a str)>) -> Vec<(Series, Sum)> {
        let mut sums: HashMap<(&str, &str), Sum> = HashMap::new();
        for flight in self.flights.values() {
            if let Some(key) = key(flight) {
                let own = Sum { prefill: flight.prefill, decode: flight.decode, requests: 1 };
                sums.entry(key).or_default().add(own);
            }
        }
        let named = |((model, version), sum): ((&str, &str), Sum)| {
            (Series { model: model.to_owned(), version: version.to_owned() }, sum)
        };
        sums.into_iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn series(version: &str) -> Series {
        Series { model: "chat".into(), version: version.into() }
    }

    #[test]
    fn a_request_passes_its_phases() {
        let mut ledger = Ledger::default();
        ledger.admit(1, series("a"), "t", Tokens(100), Tokens(50));
        ledger.admit(2, series("b"), "t", Tokens(7), Tokens(8));
        let a = |ledger: &Ledger| ledger.sums().into_iter().find(|(s, _)| *s == series("a")).map(|(_, sum)| sum);
        assert_eq!(a(&ledger), Some(Sum { prefill: Tokens(100), decode: Tokens(50), requests: 1 }));
        let holdings = ledger.holdings(|model| model == "chat");
        assert_eq!((holdings.len(), holdings[0].0.version.as_str(), holdings[0].1.tokens()), (1, "t", Tokens(165)));
        assert!(ledger.holdings(|_| false).is_empty());
        ledger.first_token(1);
        ledger.decoded(1, Tokens(20));
        assert_eq!(a(&ledger), Some(Sum { prefill: Tokens(0), decode: Tokens(30), requests: 1 }));
        ledger.decoded(1, Tokens(1000));
        assert_eq!(a(&ledger), Some(Sum { prefill: Tokens(0), decode: Tokens(0), requests: 1 }));
        ledger.done(1);
        ledger.done(1);
        assert_eq!(a(&ledger), None);
    }

    proptest! {
        /// Whatever happens in whatever order, when all are done nothing is pending.
        #[test]
        fn everything_returns_to_zero(events in prop::collection::vec((0u32..8, 0u8..4, any::<u64>()), 0..200)) {
            let mut ledger = Ledger::default();
            for (id, kind, n) in events {
                match kind {
                    0 => ledger.admit(id, series("a"), "t", Tokens(n), Tokens(n)),
                    1 => ledger.first_token(id),
                    2 => ledger.decoded(id, Tokens(n)),
                    _ => ledger.done(id),
                }
            }
            (0..8).for_each(|id| ledger.done(id));
            prop_assert_eq!(ledger.sums(), vec![]);
        }
    }
}
