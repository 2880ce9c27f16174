//! How fast a model generates, so that what nobody waited for can be charged by the time that it took.
//!
//! An answer that is not streamed shows nothing of what was generated when its client leaves, or when the proxy gives up on it: the server
//! may have worked all the while, and often goes on.
//!
//! What is learnt is one tenant's voice ([`crate::voices`]): who abandons dear requests cannot make them cheap by answers that seem slow.

use penstock_units::{Millis, Tokens};

use crate::voices;

/// What is taken where nothing was learnt.
const UNKNOWN: Pace = Pace { micros_per_token: 20_000 };
/// Answers shorter than this say more of the prompt than of the output.
const TOKENS_MIN: Tokens = Tokens(8);
/// How much of an observation is believed.
const SHARE: u64 = 8;

/// The pace of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    micros_per_token: u64,
}

impl Pace {
    /// An answer of so many tokens took this long, from the request's headers to its end. One that is far off moves it by a factor of two at
    /// most.
    pub fn learn(old: Option<Self>, tokens: Tokens, took: Millis) -> Option<Self> {
        if tokens < TOKENS_MIN {
            return None;
        }
        let seen = took.0.saturating_mul(1000).checked_div(tokens.0)?.max(1);
        let micros_per_token = match old.map(|old| old.micros_per_token) {
            None => seen,
            Some(known) => {
                let seen = seen.clamp(known / 2, known.saturating_mul(2)).max(1);
                known.saturating_mul(SHARE.saturating_sub(1)).saturating_add(seen) / SHARE
            }
        };
        Some(Self { micros_per_token: micros_per_token.max(1) })
    }

    /// What is generated in this time, as far as is known.
    pub fn tokens(known: Option<Self>, took: Millis) -> Tokens {
        let pace = known.unwrap_or(UNKNOWN).micros_per_token;
        Tokens(took.0.saturating_mul(1000).checked_div(pace).unwrap_or(0))
    }

    /// What is believed by all voices, else by this one; nobody makes a model slower by itself, as by reading its answers slowly.
    pub fn known(page: &[u8], who: u64) -> Option<Self> {
        let own = || voices::own(page, who).map(|own| own.min(UNKNOWN.micros_per_token));
        Self::of(voices::believed(page).or_else(own)?)
    }

    /// The page after an answer to `who`; `None` where it says nothing new.
    pub fn heard(page: &[u8], who: u64, tokens: Tokens, took: Millis) -> Option<Vec<u8>> {
        let learnt = Self::learn(voices::own(page, who).and_then(Self::of), tokens, took)?;
        voices::say(page, who, learnt.micros_per_token)
    }

    fn of(micros_per_token: u64) -> Option<Self> {
        (micros_per_token > 0).then_some(Self { micros_per_token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_what_it_sees_and_is_not_thrown_off_by_one() {
        let mut pace = None;
        for _ in 0..50 {
            pace = Pace::learn(pace, Tokens(100), Millis(1000));
        }
        assert_eq!(Pace::tokens(pace, Millis(500)), Tokens(50));
        let off = Pace::learn(pace, Tokens(8), Millis(1_000_000));
        assert!((40..50).contains(&Pace::tokens(off, Millis(500)).0), "{off:?}");
        for _ in 0..50 {
            pace = Pace::learn(pace, Tokens(100), Millis(4000));
        }
        assert!((12..=14).contains(&Pace::tokens(pace, Millis(500)).0), "{pace:?}");
        assert_eq!(Pace::learn(pace, Tokens(7), Millis(1)), None);
        assert_eq!(Pace::tokens(None, Millis(1000)), Tokens(50));
        for bad in [&[][..], &[0; 16], &[1; 7]] {
            assert_eq!(Pace::known(bad, 0), None);
        }
        Pace::learn(Some(Pace { micros_per_token: u64::MAX }), Tokens::MAX, Millis::MAX);
    }

    #[test]
    fn one_tenant_does_not_make_its_own_abandoned_requests_cheap() {
        let mut page = Vec::new();
        for who in [1, 2] {
            page = Pace::heard(&page, who, Tokens(100), Millis(1000)).unwrap();
        }
        for _ in 0..1000 {
            page = Pace::heard(&page, 3, Tokens(8), Millis(100_000)).unwrap_or(page);
        }
        assert_eq!(Pace::tokens(Pace::known(&page, 3), Millis(1000)), Tokens(100));
        assert_eq!(Pace::tokens(Pace::known(&page, 4), Millis(1000)), Tokens(100));
        // One alone is believed by itself.
        let alone = Pace::heard(&[], 1, Tokens(100), Millis(1000)).unwrap();
        assert_eq!(Pace::known(&alone, 2), None);
        assert_eq!(Pace::tokens(Pace::known(&alone, 1), Millis(1000)), Tokens(100));
    }
}
