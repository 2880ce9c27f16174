//! What a session may still use: cumulative, so that it ends. Time refills nothing.
//!
//! Accounts are spread over pages like buckets, but an account is never "full again". A page that has no room forgets the account that
//! was idle for longest, so the memory is bounded, and what it bounds is how many sessions are remembered.

use penstock_units::{Fingerprint, Nanos, Tokens};

/// How many accounts a page holds.
pub const ENTRIES_MAX: usize = 64;
/// Bytes of one entry: fingerprint, began, seen, tokens (8 each), calls, tool calls (4 each).
const ENTRY: usize = 40;

/// What a session may use in all; what is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Prompt and completion tokens.
    pub tokens: Option<Tokens>,
    /// Requests.
    pub calls: Option<u64>,
    /// Tool calls that the model made.
    pub tool_calls: Option<u64>,
    /// Time from the first request on.
    pub wall_clock: Option<Nanos>,
}

/// What a session used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    began: Nanos,
    seen: Nanos,
    tokens: Tokens,
    calls: u32,
    tool_calls: u32,
}

/// What ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// So few tokens are left.
    Tokens(Tokens),
    /// No call is left.
    Calls,
    /// No tool call is left.
    ToolCalls,
    /// Its time is over.
    WallClock,
}

impl Account {
    /// Reserves a call of `prompt` tokens whose answer may have `output` more. The output is a guess unless it is `firm`, and a guess takes
    /// at most what is left besides the prompt. The second value is what was reserved.
    ///
    /// # Errors
    /// What the session has used up; the account is then to be left as it was.
    pub fn admit(
        self,
        allowance: &Allowance,
        now: Nanos,
        prompt: Tokens,
        output: Tokens,
        firm: bool,
    ) -> Result<(Self, Tokens), Exhausted> {
        let left = self.remaining(allowance, now);
        if left.wall_clock == Some(Nanos::ZERO) {
            return Err(Exhausted::WallClock);
        }
        if left.calls == Some(0) {
            return Err(Exhausted::Calls);
        }
        if left.tool_calls == Some(0) {
            return Err(Exhausted::ToolCalls);
        }
        let wanted = prompt.saturating_add(output);
        let reserved = match left.tokens {
            Some(tokens) if prompt > tokens || (firm && wanted > tokens) || tokens == Tokens::ZERO => {
                return Err(Exhausted::Tokens(tokens));
            }
            Some(tokens) => wanted.min(tokens),
            None => wanted,
        };
        let began = if self.is_fresh() { now } else { self.began };
        let next = Self {
            began,
            seen: now,
            tokens: self.tokens.saturating_add(reserved),
            calls: self.calls.saturating_add(1),
            tool_calls: self.tool_calls,
        };
        Ok((next, reserved))
    }

    /// Corrects a reservation to what was used.
    #[must_use]
    pub fn settle(self, now: Nanos, reserved: Tokens, used: Tokens, tool_calls: u32) -> Self {
        let tokens = self.tokens.saturating_sub(reserved).saturating_add(used);
        Self { seen: now, tokens, tool_calls: self.tool_calls.saturating_add(tool_calls), ..self }
    }

    /// Takes a reservation back, with its call.
    #[must_use]
    pub fn refund(self, reserved: Tokens) -> Self {
        Self { tokens: self.tokens.saturating_sub(reserved), calls: self.calls.saturating_sub(1), ..self }
    }

    /// What is left.
    pub fn remaining(self, allowance: &Allowance, now: Nanos) -> Allowance {
        let age = if self.is_fresh() { Nanos::ZERO } else { now.saturating_sub(self.began) };
        Allowance {
            tokens: allowance.tokens.map(|max| max.saturating_sub(self.tokens)),
            calls: allowance.calls.map(|max| max.saturating_sub(u64::from(self.calls))),
            tool_calls: allowance.tool_calls.map(|max| max.saturating_sub(u64::from(self.tool_calls))),
            wall_clock: allowance.wall_clock.map(|max| max.saturating_sub(age)),
        }
    }

    /// Nothing was used, so its time has not begun.
    fn is_fresh(self) -> bool {
        self.calls == 0 && self.tokens == Tokens::ZERO
    }
}

/// The account `fingerprint` in the page; `None` where it is not there.
pub fn get(page: &[u8], fingerprint: Fingerprint) -> Option<Account> {
    entries(page).find(|(known, _)| *known == fingerprint).map(|(_, account)| account)
}

/// The page with the account set. Where there is no room, the one that was idle for longest is forgotten.
pub fn set(page: &[u8], fingerprint: Fingerprint, account: Account) -> Vec<u8> {
    let mut all: Vec<(Fingerprint, Account)> = entries(page).filter(|(known, _)| *known != fingerprint).collect();
    while all.len() >= ENTRIES_MAX {
        let idle = all.iter().enumerate().min_by_key(|(_, (_, account))| account.seen).map(|(i, _)| i);
        all.swap_remove(idle.unwrap_or(0));
    }
    all.push((fingerprint, account));
    let mut out = Vec::with_capacity(all.len().saturating_mul(ENTRY));
    for (fingerprint, Account { began, seen, tokens, calls, tool_calls }) in all {
        for word in [fingerprint.0, began.0, seen.0, tokens.0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for word in [calls, tool_calls] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out
}

fn entries(page: &[u8]) -> impl Iterator<Item = (Fingerprint, Account)> {
    page.chunks_exact(ENTRY).filter_map(|bytes| {
        let (longs, shorts) = bytes.split_at_checked(32)?;
        let [fingerprint, began, seen, tokens] = longs.as_chunks::<8>().0 else { return None };
        let [calls, tool_calls] = shorts.as_chunks::<4>().0 else { return None };
        let account = Account {
            began: Nanos(u64::from_le_bytes(*began)),
            seen: Nanos(u64::from_le_bytes(*seen)),
            tokens: Tokens(u64::from_le_bytes(*tokens)),
            calls: u32::from_le_bytes(*calls),
            tool_calls: u32::from_le_bytes(*tool_calls),
        };
        Some((Fingerprint(u64::from_le_bytes(*fingerprint)), account))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Allowance =
        Allowance { tokens: Some(Tokens(100)), calls: Some(3), tool_calls: Some(5), wall_clock: Some(Nanos(1000)) };
    const KEY: Fingerprint = Fingerprint(7);

    /// As [`Account::admit`], at so many nanoseconds, of so many tokens.
    fn admit(account: Account, now: u64, prompt: u64, output: u64, firm: bool) -> Result<(Account, Tokens), Exhausted> {
        account.admit(&ALL, Nanos(now), Tokens(prompt), Tokens(output), firm)
    }

    #[test]
    fn each_of_the_four_ends_a_session() {
        let fresh = Account::default();
        let (one, reserved) = admit(fresh, 10, 20, 30, true).unwrap();
        assert_eq!(reserved, Tokens(50));
        assert_eq!(admit(one, 20, 20, 31, true), Err(Exhausted::Tokens(Tokens(50))));
        // A guess takes what is left.
        assert_eq!(admit(one, 20, 20, 31, false).unwrap().1, Tokens(50));
        assert_eq!(admit(one, 1010, 1, 1, false), Err(Exhausted::WallClock));
        assert!(admit(one, 1009, 1, 1, false).is_ok());
        // The clock went back: no time has passed.
        assert!(admit(one, 0, 1, 1, false).is_ok());
        let one = one.settle(Nanos(20), Tokens(50), Tokens(10), 5);
        assert_eq!(one.remaining(&ALL, Nanos(20)).tokens, Some(Tokens(90)));
        assert_eq!(admit(one, 20, 1, 1, false), Err(Exhausted::ToolCalls));
        let mut many = fresh;
        for _ in 0..3 {
            many = admit(many, 10, 1, 1, true).unwrap().0;
        }
        assert_eq!(admit(many, 10, 1, 1, true), Err(Exhausted::Calls));
        assert!(admit(many.refund(Tokens(2)), 10, 1, 1, true).is_ok());
    }

    #[test]
    fn a_full_page_forgets_the_idle() {
        let mut page = Vec::new();
        for n in 0..200 {
            let (account, _) = admit(Account::default(), n, 1, 1, true).unwrap();
            page = set(&page, Fingerprint(n), account);
            assert!(page.len() <= ENTRIES_MAX * ENTRY);
        }
        let known = |n: u64| get(&page, Fingerprint(n)).is_some();
        assert!(!(0..136).any(known) && (136..200).all(known));
    }

    proptest! {
        /// Whatever is asked in whatever order: what was admitted never passes the allowance by more than what the answers took beyond what
        /// was reserved for them, and refunds leave no trace.
        #[test]
        fn never_more_than_allowed(asks in prop::collection::vec((0u64..40, 0u64..40, any::<bool>(), 0u64..2, any::<bool>()), 1..40)) {
            let mut account = Account::default();
            let (mut calls, mut used_total) = (0, 0);
            for (prompt, output, firm, less, fails) in asks {
                let Ok((next, reserved)) = admit(account, 5, prompt, output, firm) else { continue };
                if fails {
                    prop_assert_eq!(next.refund(reserved).tokens, account.tokens);
                    account = next.refund(reserved);
                    continue;
                }
                let used = reserved.saturating_sub(Tokens(less));
                calls += 1;
                used_total += used.0;
                account = next.settle(Nanos(6), reserved, used, 0);
                prop_assert_eq!(get(&set(&[], KEY, account), KEY), Some(account));
            }
            prop_assert!(calls <= 3 && used_total <= 100);
            prop_assert_eq!(account.remaining(&ALL, Nanos(6)).tokens, Some(Tokens(100 - used_total)));
        }

        #[test]
        fn nothing_overflows(a: u64, b: u64, c: u64, now: u64, tools: u32) {
            let now = Nanos(now);
            let account = Account { began: Nanos(a), seen: Nanos(b), tokens: Tokens(c), calls: u32::MAX, tool_calls: tools };
            let _ = account.admit(&ALL, now, Tokens(a), Tokens(b), true);
            let _ = account.admit(&Allowance::default(), now, Tokens(a), Tokens(b), true);
            let _ = account.settle(now, Tokens(a), Tokens(b), tools).refund(Tokens(c)).remaining(&ALL, now);
        }
    }
}
