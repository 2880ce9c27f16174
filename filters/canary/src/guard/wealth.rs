//! Evidence as the wealth of a gambler who bets against the canary being as good as the stable version.
//!
//! A gambler who starts with 1 and plays games that are fair, or worse, multiplies the wealth by `n` ever with a probability of at most
//! `1/n` (Ville 1939). So wealth is evidence, and may be looked at after every block (Waudby-Smith and Ramdas, "Estimating means of bounded
//! random variables by betting", JRSS B 2024; Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid
//! inference", Statistical Science 2023). The games are here, for one block each:
//!
//! * [`odds`]: so many of the records of a block say something bad; how many of these are the canary's? If the versions are equal, that is
//!   drawn from an urn (hypergeometric), whatever the rate, and however it changes from block to block. The bet is the ratio of
//!   likelihoods under odds that are `w` times as high and under equal odds (Fisher's noncentral hypergeometric distribution); where the
//!   canary is better, its mean is below 1. Block by block as by Turner, Ly and Grünwald, "Generic E-variables for exact sequential
//!   k-sample tests that allow for optional stopping", JSPI 2024; given how many are bad as by Lindon and Malek, "Anytime-valid inference
//!   for multinomial count data", NeurIPS 2022, but with the shares of the requests as they were, not as the weights say they should be.
//! * [`difference`]: each of the canary's amounts is set against some of the stable version's, and a part of the wealth on their
//!   difference, which is between -1 and 1.
//! * [`excess`]: a part of the wealth on each of the canary's requests being bad, at the odds of a rate that is given.
//!
//! All is done with the four basic operations on `f64`, which are the same in every sandbox and natively. Nothing can become infinite or
//! NaN: factors lie between 1e-30 and 1e120, and wealth is kept below [`WEALTH_MAX`].

use super::block::{Amounts, BLOCK, Counts};
use super::record::WHOLE;

/// How many bets are made at a time, small and large ones.
pub(super) const BETS: usize = 6;
/// How the wealth is divided among them.
const PRIOR: [f64; BETS] = [0.125, 0.125, 0.25, 0.25, 0.125, 0.125];
/// More evidence than anybody asks for; what is above is cut.
pub(super) const WEALTH_MAX: f64 = 1e18;

/// How many times as high the canary's odds of something bad are said to be. The lowest gains only where they are really some 1.25 times as
/// high: what differs by less is held against a canary by chance only.
const ODDS: [f64; BETS] = [1.5, 2.0, 3.0, 6.0, 12.0, 32.0];
/// The parts of the wealth that are set on differences.
const PARTS: [f64; BETS] = [0.0625, 0.125, 0.25, 0.5, 0.75, 0.9375];
/// Those that are set on bad ends.
const STAKES: [f64; BETS] = [0.03125, 0.0625, 0.125, 0.25, 0.5, 0.75];

/// What a block multiplies the bets by.
pub(super) type Factors = [f64; BETS];

/// The wealth of one test.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Wealth {
    /// How many blocks said anything.
    pub blocks: u64,
    /// What each bet has come to.
    pub bets: [f64; BETS],
}

impl Wealth {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.bets.iter().sum()
    }

    /// Plays a block.
    ///
    /// Wealth that is lost while a canary is good would have to be won back when it begins to fail. So not all is set from the beginning:
    /// each block a part is added that was kept back, half of all at the first, and later less. These parts add up to 1, so that it stays
    /// one gambler with one wealth.
    pub fn play(&mut self, factors: Factors) {
        self.blocks = self.blocks.saturating_add(1);
        let added = kept_for(self.blocks);
        for ((bet, prior), factor) in self.bets.iter_mut().zip(PRIOR).zip(factors) {
            *bet = ((*bet + added * prior) * factor).min(WEALTH_MAX);
        }
    }
}

/// What is kept for the `n`th block: the blocks from `2^m` on, up to twice as many, share `1 / ((m + 1) (m + 2))`, and these sum to 1.
fn kept_for(n: u64) -> f64 {
    let octave = n.checked_ilog2().unwrap_or(0);
    let blocks = 1u64.checked_shl(octave).unwrap_or(u64::MAX) as f64;
    1.0 / (blocks * f64::from(octave.saturating_add(1)) * f64::from(octave.saturating_add(2)))
}

/// The bets on how many of the bad ends are the canary's. `None` where that cannot be but one number.
pub(super) fn odds(counts: Counts) -> Option<Factors> {
    let Counts { canary, stable, canary_bad, bad } = counts;
    let (least, most) = (bad.saturating_sub(stable), bad.min(canary));
    if least == most {
        return None;
    }
    // Of all ways to draw the bad ones, those with `drawn` of the canary's, as a multiple of those with `least`.
    let (mut ways, mut all) = (1.0, 0.0);
    let (mut powers, mut sums, mut seen) = ([1.0; BETS], [0.0; BETS], [1.0; BETS]);
    for drawn in least..=most {
        all += ways;
        if drawn == canary_bad {
            seen = powers;
        }
        for ((sum, power), odds) in sums.iter_mut().zip(&mut powers).zip(ODDS) {
            *sum += ways * *power;
            *power *= odds;
        }
        let next = drawn.saturating_add(1);
        let more = f64::from(canary.saturating_sub(drawn)) * f64::from(bad.saturating_sub(drawn));
        let fewer = f64::from(next) * f64::from(stable.saturating_add(next).saturating_sub(bad));
        ways *= more / fewer;
    }
    let mut factors = seen;
    factors.iter_mut().zip(sums).for_each(|(factor, sum)| *factor *= all / sum);
    Some(factors)
}

/// Which of the versions has the larger amounts, where the canary is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Larger {
    Canary,
    Stable,
}

/// The bets on the canary's amounts being more than `allowed` times the stable version's, or less than the inverse of that. Each version's
/// amounts are dealt out to as many groups as there are amounts of the rarer one. `None` where one of them has none.
pub(super) fn difference(amounts: &Amounts, canary: u32, larger: Larger, allowed: f64) -> Option<Factors> {
    let of_canary = amounts.known(canary).filter(|(is_canary, _)| *is_canary).count();
    let groups = of_canary.min(amounts.known(canary).count().saturating_sub(of_canary));
    if groups == 0 {
        return None;
    }
    let mut dealt = [Group::default(); BLOCK as usize];
    let (mut next_canary, mut next_stable) = (0, 0);
    for (is_canary, parts) in amounts.known(canary) {
        let next: &mut usize = if is_canary { &mut next_canary } else { &mut next_stable };
        if let Some(group) = dealt.get_mut(*next) {
            let sum = if is_canary { &mut group.canary } else { &mut group.stable };
            *sum = (sum.0.saturating_add(u32::from(parts)), sum.1.saturating_add(u32::from(WHOLE)));
        }
        let after = next.saturating_add(1);
        *next = if after == groups { 0 } else { after };
    }
    let mut factors = [1.0; BETS];
    for Group { canary, stable } in dealt.into_iter().take(groups) {
        let [canary, stable] = [canary, stable].map(|(sum, most)| f64::from(sum) / f64::from(most));
        let difference = match larger {
            Larger::Canary => canary / allowed - stable,
            Larger::Stable => stable / allowed - canary,
        };
        factors.iter_mut().zip(PARTS).for_each(|(factor, part)| *factor *= 1.0 + part * difference);
    }
    Some(factors)
}

/// Some amounts of each version: their sum, and what it could have been. None is empty, as there are as many groups as amounts of the rarer
/// version.
#[derive(Clone, Copy, Default)]
struct Group {
    canary: (u32, u32),
    stable: (u32, u32),
}

/// The bets on more than a share of `ceiling`, which is between 0 and 1, of the canary's requests being bad. Of each request it is said that
/// it is not, and, of some, later, that it is: until then it counts as good. `None` where nothing is said.
pub(super) fn excess(requests: u32, bad: u32, ceiling: f64) -> Option<Factors> {
    if requests == 0 && bad == 0 {
        return None;
    }
    let mut factors = [1.0; BETS];
    for (factor, stake) in factors.iter_mut().zip(STAKES) {
        let (lost, won) = (1.0 - stake, 1.0 + stake * (1.0 / ceiling - 1.0));
        (0..requests).for_each(|_| *factor *= lost);
        (0..bad).for_each(|_| *factor *= won / lost);
    }
    Some(factors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ways to choose so many of `n`.
    fn choose(n: u32, k: u32) -> f64 {
        (0..k).fold(1.0, |ways, i| ways * f64::from(n - i) / f64::from(i + 1))
    }

    /// All that a block of so many requests can hold, with its probability where each ends badly with the probabilities given.
    fn all_counts(canary: u32, stable: u32, p_canary: f64, p_stable: f64) -> impl Iterator<Item = (f64, Counts)> {
        let binomial = |n: u32, k: u32, p: f64| choose(n, k) * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32);
        (0..=canary).flat_map(move |bad_c| {
            (0..=stable).map(move |bad_s| {
                let likely = binomial(canary, bad_c, p_canary) * binomial(stable, bad_s, p_stable);
                (likely, Counts { canary, stable, canary_bad: bad_c, bad: bad_c + bad_s })
            })
        })
    }

    fn mean(all: impl Iterator<Item = (f64, Counts)>, bets: impl Fn(Counts) -> Option<Factors>) -> Factors {
        all.fold([0.0; BETS], |mut mean, (likely, counts)| {
            let factors = bets(counts).unwrap_or([1.0; BETS]);
            mean.iter_mut().zip(factors).for_each(|(mean, factor)| *mean += likely * factor);
            mean
        })
    }

    #[test]
    fn the_parts_that_are_kept_sum_to_one() {
        let first: f64 = (1..1u64 << 20).map(kept_for).sum();
        // Each octave has its share; the sum of 1 / ((m + 1) (m + 2)) up to m is 1 - 1 / (m + 2).
        assert!((first - (1.0 - 1.0 / 21.0)).abs() < 1e-9, "{first}");
        assert!(kept_for(u64::MAX) > 0.0);
        assert_eq!(PRIOR.iter().sum::<f64>(), 1.0);
    }

    #[test]
    fn a_game_between_equals_is_fair_and_against_a_better_canary_unfair() {
        for (canary, stable) in [(1, 31), (2, 30), (16, 16), (31, 1), (3, 5)] {
            for p in [0.001, 0.02, 0.1, 0.5, 0.9] {
                let equal = mean(all_counts(canary, stable, p, p), odds);
                assert!(equal.iter().all(|mean| (mean - 1.0).abs() < 1e-9), "{canary}:{stable} at {p}: {equal:?}");
                let better = mean(all_counts(canary, stable, p * 0.8, p), odds);
                assert!(better.iter().all(|mean| *mean < 1.0), "{canary}:{stable} at {p}: {better:?}");
                let at_the_ceiling = mean(all_counts(canary, 0, p, p), |counts| excess(canary, counts.canary_bad, p));
                assert!(at_the_ceiling.iter().all(|mean| (mean - 1.0).abs() < 1e-9), "{canary} at {p}");
            }
        }
    }

    /// A block has both records of a request that failed at once. That it failed then makes the canary's share of the block larger.
    #[test]
    fn failures_beside_the_requests_that_were_sent_are_no_better_a_game() {
        for (canary, stable) in [(1, 27), (2, 26), (12, 12), (24, 1)] {
            for p in [0.001, 0.02, 0.1, 0.3] {
                let means = mean(all_counts(canary, stable, p, p), |Counts { canary, stable, canary_bad, bad }| {
                    odds(Counts { canary: canary + canary_bad, stable: stable + bad - canary_bad, canary_bad, bad })
                });
                assert!(means.iter().all(|mean| *mean <= 1.0 + 1e-9), "{canary}:{stable} at {p}: {means:?}");
            }
        }
    }

    #[test]
    fn the_bet_is_the_ratio_of_the_likelihoods() {
        for (canary, stable) in [(1u32, 31u32), (2, 30), (16, 16), (31, 1)] {
            for bad in 0..=canary + stable {
                let possible = bad.saturating_sub(stable)..=bad.min(canary);
                let weight = |drawn: u32, odds: f64| {
                    choose(canary, drawn) * choose(stable, bad - drawn) * odds.powi(drawn as i32)
                };
                let likelihood =
                    |drawn, odds| weight(drawn, odds) / possible.clone().map(|other| weight(other, odds)).sum::<f64>();
                for canary_bad in possible.clone() {
                    let ratios = ODDS.map(|odds| likelihood(canary_bad, odds) / likelihood(canary_bad, 1.0));
                    let factors = super::odds(Counts { canary, stable, canary_bad, bad }).unwrap_or([1.0; BETS]);
                    let is_near = ratios.iter().zip(factors).all(|(ratio, factor)| (factor / ratio - 1.0).abs() < 1e-9);
                    assert!(is_near, "{canary_bad} of {bad}, {canary}:{stable}: {factors:?}, not {ratios:?}");
                }
            }
        }
    }

    /// What the module says of the lowest of the odds.
    #[test]
    fn a_small_difference_gains_nothing() {
        let growth = |times: f64| {
            let p = 0.02;
            let worse = p * times / (1.0 - p + p * times);
            let logs =
                all_counts(2, 30, worse, p).map(|(likely, counts)| likely * odds(counts).map_or(0.0, |f| f[0].ln()));
            logs.sum::<f64>()
        };
        assert!(growth(1.2) < 0.0 && growth(1.3) > 0.0, "{} {}", growth(1.2), growth(1.3));
    }

    #[test]
    fn differences_of_means_are_fair_whatever_the_distributions() {
        // The canary's amounts are always a half; the stable version's are all or nothing. Their means are equal.
        let stable_sets = 0..1u32 << 6;
        let amounts = |set: u32| {
            let mut amounts = Amounts::default();
            amounts.0[..2].fill(WHOLE / 2);
            (0..6).for_each(|i| amounts.0[2 + i] = if set >> i & 1 == 1 { WHOLE } else { 0 });
            amounts
        };
        for larger in [Larger::Canary, Larger::Stable] {
            let means = stable_sets.clone().fold([0.0; BETS], |mut sums, set| {
                let factors = difference(&amounts(set), 0b11, larger, 1.0).unwrap();
                sums.iter_mut().zip(factors).for_each(|(sum, factor)| *sum += factor / 64.0);
                sums
            });
            assert!(means.iter().all(|mean| (mean - 1.0).abs() < 1e-9), "{means:?}");
        }
        assert_eq!(difference(&amounts(0), 0, Larger::Canary, 1.0), None);
        let longer = difference(&amounts(0), 0b11, Larger::Canary, 1.0).unwrap();
        let shorter = difference(&amounts(0), 0b11, Larger::Stable, 1.0).unwrap();
        assert!(longer.iter().all(|f| *f > 1.0) && shorter.iter().all(|f| *f < 1.0));
        // What is allowed is not held against it: a half is not more than 1.25 times 0.4.
        let mut near = amounts(0);
        near.0[2..8].fill(WHOLE / 5 * 2);
        assert!(difference(&near, 0b11, Larger::Canary, 1.3).unwrap().iter().all(|f| *f < 1.0));
        assert!(difference(&near, 0b11, Larger::Canary, 1.2).unwrap().iter().all(|f| *f > 1.0));
    }

    proptest! {
        /// Another order of the requests puts others beside each other; whichever one of a block is exchanged, no bet moves by more than
        /// its odds.
        #[test]
        fn one_record_moves_a_bet_by_no_more_than_its_odds(
            canary in 0u32..=32, canary_bad: prop::sample::Index, stable_bad: prop::sample::Index,
            from_canary: bool, from_bad: bool, to_canary: bool, to_bad: bool,
        ) {
            let mut cells = [[0u32; 2]; 2];
            cells[1][1] = canary_bad.index(canary as usize + 1) as u32;
            cells[1][0] = canary - cells[1][1];
            cells[0][1] = stable_bad.index(33 - canary as usize) as u32;
            cells[0][0] = 32 - canary - cells[0][1];
            let bets = |cells: [[u32; 2]; 2]| {
                let [[stable_good, stable_bad], [canary_good, canary_bad]] = cells;
                let counts = Counts {
                    canary: canary_good + canary_bad, stable: stable_good + stable_bad, canary_bad, bad: canary_bad + stable_bad,
                };
                odds(counts).unwrap_or([1.0; BETS])
            };
            let before = bets(cells);
            let from = &mut cells[usize::from(from_canary)][usize::from(from_bad)];
            prop_assume!(*from > 0);
            *from -= 1;
            cells[usize::from(to_canary)][usize::from(to_bad)] += 1;
            for ((before, after), odds) in before.into_iter().zip(bets(cells)).zip(ODDS) {
                let moved = after / before;
                prop_assert!(moved < odds * 1.000_001 && moved * odds > 0.999_999, "{before} to {after} at {odds}");
                prop_assert!((1e-30..1e30).contains(&before));
            }
        }

        #[test]
        fn wealth_stays_a_number(blocks in 0u64..=u64::MAX, bets: [u16; BETS], factors: [i8; BETS]) {
            let mut wealth = Wealth { blocks, bets: bets.map(|bet| WEALTH_MAX / f64::from(bet.max(1))) };
            for _ in 0..50 {
                wealth.play(factors.map(|factor| 10f64.powi(i32::from(factor).max(-30))));
            }
            prop_assert!(wealth.bets.iter().all(|bet| (0.0..=WEALTH_MAX).contains(bet)), "{wealth:?}");
        }
    }
}
