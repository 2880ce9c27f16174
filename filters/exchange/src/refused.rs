//! Who was refused a moment ago, as one worker knows it: what they send next is read before it is counted.
//!
//! Counting is the dear part of reading a request, and a request that is refused pays nothing. So whoever was refused, for whatever reason,
//! has large requests looked at first: whether their model is served, and whether the limits could admit anything at all. Only then are the
//! texts counted, in a second pass over what the proxy holds.

use hashbrown::HashMap;
use penstock_units::Nanos;

/// How long a refusal is remembered.
const REMEMBERED: Nanos = Nanos(60_000_000_000);
/// How many callers are.
const CALLERS_MAX: usize = 256;

/// The callers, by the label of their tenant: those without a name are one.
#[derive(Debug, Default)]
pub struct Refused {
    callers: HashMap<String, Nanos>,
}

impl Refused {
    /// A request of this caller is refused.
    pub fn note(&mut self, caller: &str, now: Nanos) {
        if self.callers.len() >= CALLERS_MAX {
            self.callers.retain(|_, at| now.abs_diff(*at) < REMEMBERED);
        }
        if self.callers.len() < CALLERS_MAX || self.callers.contains_key(caller) {
            self.callers.insert(caller.to_owned(), now);
        }
    }

    /// Whether one was a moment ago. Where so many were that not all are remembered, all were.
    pub fn lately(&self, caller: &str, now: Nanos) -> bool {
        self.callers.len() >= CALLERS_MAX || self.callers.get(caller).is_some_and(|at| now.abs_diff(*at) < REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_remembered_for_a_while_and_bounded() {
        let mut refused = Refused::default();
        refused.note("a", Nanos(0));
        assert!(refused.lately("a", Nanos(59_000_000_000)) && !refused.lately("b", Nanos(0)));
        assert!(!refused.lately("a", Nanos(60_000_000_000)));
        for i in 0..1000 {
            refused.note(&i.to_string(), Nanos(0));
        }
        assert_eq!(refused.callers.len(), CALLERS_MAX);
        assert!(refused.lately("never seen", Nanos(1)));
        refused.note("late", Nanos(61_000_000_000));
        assert_eq!(refused.callers.len(), 1);
        assert!(!refused.lately("never seen", Nanos(61_000_000_000)));
    }
}
