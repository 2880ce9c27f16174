//! Who may still come in when a model is nearly full: weighted max-min fairness over what is pending.
//!
//! Eight tenths of the ceiling, the pool, are shared out by weight, and a tenant comes in as long as it holds no more than its share. What
//! others do not use of theirs is divided among those who would, so that one tenant alone may fill the pool. Beyond the pool there is room
//! for those whose share others still occupy; the fuller it gets, the less of its share a tenant may fill: so whoever holds little is let
//! in up to the ceiling itself, and nobody beyond it. Tenants that were refused a moment ago leave the upper half of that room to those
//! that were not.

use penstock_units::Tokens;

/// How much of the ceiling is shared out, in tenths.
const POOL: u64 = 8;
/// At how many tenths of the ceiling requests of low priority are refused.
const LOW: u64 = 7;

/// How much a tenant's requests matter when a model is nearly full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Refused first, at seven tenths of the ceiling.
    Low,
    /// Admitted up to the tenant's share.
    #[default]
    Normal,
    /// Admitted up to the ceiling, whatever the tenant holds.
    High,
}

/// What a tenant holds of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The tenant's weight, at least 1.
    pub weight: u32,
    /// Its pending tokens.
    pub tokens: Tokens,
    /// It was refused a moment ago: it wants more than it holds.
    pub is_backlogged: bool,
}

/// Whether a request of so many `tokens` comes in, where its tenant holds `own` and the other tenants `others`.
pub fn admits(ceiling: Tokens, tokens: Tokens, own: Holding, others: &[Holding], priority: Priority) -> bool {
    let held = |holdings: &[Holding]| holdings.iter().map(|other| wide(other.tokens)).sum::<u128>();
    let total = held(others).saturating_add(wide(own.tokens));
    // A request that is larger than the ceiling is let in when it is alone.
    if total == 0 {
        return true;
    }
    let after = total.saturating_add(wide(tokens));
    let tenths = |n: u64| wide(ceiling).saturating_mul(u128::from(n)) / 10;
    let (ceiling, pool) = (wide(ceiling), tenths(POOL));
    match priority {
        Priority::Low => after <= tenths(LOW),
        Priority::High => after <= ceiling,
        Priority::Normal if after > ceiling => false,
        Priority::Normal => {
            let filled = wide(own.tokens).saturating_add(wide(tokens));
            let band = ceiling.saturating_sub(pool).max(1);
            let end = if own.is_backlogged { ceiling.saturating_sub(band / 2) } else { ceiling };
            let room = end.saturating_sub(after).min(band);
            // filled <= share * room / band
            let share = share(pool, own.weight, others);
            filled.saturating_mul(band) <= share.saturating_mul(room)
        }
    }
}

/// What a tenant of this weight may hold of the pool. Those that hold less than their share, and want no more, leave the rest of it to the
/// others.
fn share(pool: u128, weight: u32, others: &[Holding]) -> u128 {
    let greedy = others.iter().filter(|other| other.is_backlogged).map(|other| u128::from(other.weight));
    let greedy: u128 = greedy.sum();
    let mut others: Vec<Holding> = others.iter().filter(|other| !other.is_backlogged).copied().collect();
    let cross = |a: &Holding, b: &Holding| wide(a.tokens).saturating_mul(u128::from(b.weight));
    others.sort_unstable_by(|a, b| cross(a, b).cmp(&cross(b, a)));
    let own = u128::from(weight.max(1));
    let mut weights: u128 = others.iter().map(|other| u128::from(other.weight)).sum::<u128>().saturating_add(own);
    weights = weights.saturating_add(greedy);
    let mut left = pool;
    for Holding { weight, tokens, .. } in others {
        let (weight, tokens) = (u128::from(weight), wide(tokens));
        if tokens.saturating_mul(weights) > left.saturating_mul(weight) {
            break;
        }
        left = left.saturating_sub(tokens);
        weights = weights.saturating_sub(weight);
    }
    left.saturating_mul(own).checked_div(weights).unwrap_or(0)
}

/// Wide enough for products of tokens and weights.
fn wide(tokens: Tokens) -> u128 {
    u128::from(tokens.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn holding(weight: u32, tokens: u64) -> Holding {
        Holding { weight, tokens: Tokens(tokens), is_backlogged: false }
    }

    #[test]
    fn what_is_not_used_is_divided_among_the_others() {
        assert_eq!(share(700, 4, &[holding(2, 1000), holding(1, 1000)]), 400);
        assert_eq!(share(700, 4, &[holding(2, 50), holding(1, 1000)]), 520);
        assert_eq!(share(700, 1, &[holding(4, 100), holding(2, 100)]), 500);
        assert_eq!(share(700, 1, &[]), 700);
        assert_eq!(share(700, 4, &[Holding { is_backlogged: true, ..holding(2, 50) }, holding(1, 1000)]), 400);
        assert_eq!(share(0, 1, &[holding(1, 0)]), 0);
    }

    #[test]
    fn nobody_comes_in_above_the_ceiling_and_low_priority_leaves_first() {
        let other = [holding(1, 700)];
        let admits = |tokens, own, others: &[Holding], priority| {
            super::admits(Tokens(1000), Tokens(tokens), own, others, priority)
        };
        let asks = |tokens, priority| admits(tokens, holding(1, 0), &other, priority);
        assert!(asks(100, Priority::Normal) && asks(140, Priority::Normal) && asks(300, Priority::High));
        assert!(!asks(301, Priority::High) && !asks(301, Priority::Normal) && !asks(1, Priority::Low));
        assert!(!admits(10, holding(1, 895), &[holding(1, 5)], Priority::Normal));
        assert!(admits(10, holding(1, 895), &[holding(1, 5)], Priority::High));
        assert!(admits(5000, holding(1, 0), &[], Priority::Normal));
        let most = holding(u32::MAX, u64::MAX);
        assert!(!super::admits(Tokens::MAX, Tokens::MAX, most, &[holding(1, u64::MAX)], Priority::Normal));
    }

    /// A server that works off so many tokens a step, request by request in the order of their arrival.
    #[derive(Default)]
    struct Server {
        queue: VecDeque<(usize, u64)>,
        held: Vec<u64>,
        refused: Vec<Option<u64>>,
    }

    impl Server {
        fn admit(&mut self, tenant: usize, weights: &[u32], tokens: u64, now: u64) -> bool {
            let of = |i: usize| {
                let is_backlogged = self.refused[i].is_some_and(|at| now - at < 30);
                Holding { weight: weights[i], tokens: Tokens(self.held[i]), is_backlogged }
            };
            let others = (0..weights.len()).filter(|i| *i != tenant).map(of);
            let others: Vec<Holding> =
                others.filter(|other| other.is_backlogged || other.tokens > Tokens::ZERO).collect();
            let comes = admits(Tokens(100_000), Tokens(tokens), of(tenant), &others, Priority::Normal);
            if comes {
                self.queue.push_back((tenant, tokens));
                self.held[tenant] += tokens;
            } else {
                self.refused[tenant] = Some(now);
            }
            comes
        }

        /// Continuous batching: everybody in the queue gets on at the same time.
        fn work(&mut self, tokens: u64) {
            let each = tokens / (self.queue.len() as u64).max(1);
            for (tenant, left) in &mut self.queue {
                let done = each.min(*left);
                *left -= done;
                self.held[*tenant] -= done;
            }
            self.queue.retain(|(_, left)| *left > 0);
        }
    }

    #[test]
    fn greedy_tenants_hold_their_weights_and_a_light_one_is_never_refused() {
        const WEIGHTS: [u32; 4] = [4, 2, 1, 1];
        for first in 0..3 {
            let mut server = Server { held: vec![0; 4], refused: vec![None; 4], ..Server::default() };
            let (mut seed, mut sums, mut measured) = (7u64 + first as u64, [0u64; 3], 0u64);
            let mut draw = |n: u64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) % n
            };
            for now in 0..6000 {
                // Each greedy one keeps asking, as impatient as the others are not; the first has the whole machine to begin with.
                for _ in 0..40 {
                    let tenant = if now < 100 { first } else { draw(3) as usize };
                    server.admit(tenant, &WEIGHTS, 200 + draw(800), now);
                }
                if now % 3 == 0 {
                    assert!(server.admit(3, &WEIGHTS, 500, now), "refused at {now}: {:?}", server.held);
                }
                assert!(server.held.iter().sum::<u64>() <= 100_000);
                server.work(4000);
                if now > 1000 {
                    measured += 1;
                    for (sum, held) in sums.iter_mut().zip(&server.held) {
                        *sum += held;
                    }
                }
            }
            let greedy: u64 = sums.iter().sum();
            for (tenant, sum) in sums.iter().enumerate() {
                let fair = greedy * u64::from(WEIGHTS[tenant]) / 7;
                let off = sum.abs_diff(fair) * 100 / fair;
                assert!(off <= 10, "tenant {tenant} holds {} of a fair {}", sum / measured, fair / measured);
            }
            // Of a pool of 80,000, after each step.
            assert!(greedy / measured > 65_000, "{}", greedy / measured);
        }
    }
}
