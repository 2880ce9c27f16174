//! A guard as bytes.
//!
//! Layout, little-endian: version (1), plan (8), counts from (8), runs since (8; all ones before the first request), canary, stable, compared,
//! blind, early (8 each), breach: signal (1; all ones where there is none), against (1), requests (8); the block of requests that were sent:
//! canary, stable (1 each); for each outcome its block: canary, stable, bad of the canary's, bad (1 each); the block of amounts: length (1),
//! canary (4), for each place cost and length (2 each); then how many tests were played (1), and for each of them, in their order, its
//! number (1), its blocks (8), and its bets (8 each, as `f64`).

use penstock_units::Nanos;

use super::block::{Amounts, BLOCK, Counts, Spent};
use super::record::{Outcome, Signal, WHOLE};
use super::wealth::{BETS, WEALTH_MAX, Wealth};
use super::{Against, Breach, Guard, Standing, TESTS};

const VERSION: u8 = 1;
const NEVER: Nanos = Nanos::MAX;
const NO_SIGNAL: u8 = u8::MAX;
const HEAD: usize = 1 + 3 * 8 + 5 * 8 + 2 + 8;
const BLOCKS_MAX: usize = 2 + Outcome::ALL.len() * 4 + 1 + 4 + BLOCK as usize * 4;
const TEST: usize = 1 + 8 + BETS * 8;
/// No guard has more bytes.
pub const BYTES_MAX: usize = HEAD + BLOCKS_MAX + 1 + TESTS * TEST;

/// Bytes that are not a guard of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Guard {
    /// As bytes, [`BYTES_MAX`] at most.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES_MAX);
        out.push(VERSION);
        let Standing { canary, stable, compared, blind, early } = self.standing;
        let since = self.since.unwrap_or(NEVER).0;
        for number in [self.plan, self.from.0, since, canary, stable, compared, blind, early] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let (signal, against, requests) = match self.breach {
            None => (NO_SIGNAL, 0, 0),
            Some(Breach { signal, against, requests }) => (byte(signal.index()), against as u8, requests),
        };
        out.extend_from_slice(&[signal, against]);
        out.extend_from_slice(&requests.to_le_bytes());

        out.extend([self.sent.canary, self.sent.stable].map(small));
        for Counts { canary, stable, canary_bad, bad } in self.outcomes {
            out.extend([canary, stable, canary_bad, bad].map(small));
        }
        let Spent { len, canary, cost, length } = &self.spent;
        out.push(small(*len));
        out.extend_from_slice(&canary.to_le_bytes());
        for (_, (cost, length)) in (0..*len).zip(cost.0.iter().zip(length.0)) {
            out.extend_from_slice(&cost.to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
        }

        let played = || self.tests.iter().enumerate().filter(|(_, test)| test.blocks > 0);
        out.push(byte(played().count()));
        for (number, Wealth { blocks, bets }) in played() {
            out.push(byte(number));
            out.extend_from_slice(&blocks.to_le_bytes());
            bets.iter().for_each(|bet| out.extend_from_slice(&bet.to_le_bytes()));
        }
        out
    }

    /// The inverse of [`Guard::encode`].
    ///
    /// # Errors
    /// [`Unreadable`] for bytes of another layout, and for such as no guard can come to: what is wrong is not used to judge by.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        read(&mut Input(bytes)).ok_or(Unreadable)
    }
}

/// A count of what is in a block.
fn small(count: u32) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

fn byte(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(NO_SIGNAL)
}

fn read(input: &mut Input<'_>) -> Option<Guard> {
    if input.u8()? != VERSION {
        return None;
    }
    let mut guard = Guard::new(input.u64()?, Nanos(input.u64()?));
    guard.since = Some(Nanos(input.u64()?)).filter(|since| *since != NEVER);
    guard.standing = Standing {
        canary: input.u64()?,
        stable: input.u64()?,
        compared: input.u64()?,
        blind: input.u64()?,
        early: input.u64()?,
    };
    let (signal, against, requests) = (input.u8()?, input.u8()?, input.u64()?);
    if signal != NO_SIGNAL {
        let signal = *Signal::ALL.get(usize::from(signal))?;
        let against = [Against::Stable, Against::Ceiling].into_iter().find(|known| *known as u8 == against)?;
        guard.breach = Some(Breach { signal, against, requests });
    } else if against != 0 || requests != 0 {
        return None;
    }
    let [canary, stable] = input.take::<2>()?.map(u32::from);
    guard.sent = Some(Counts { canary, stable, ..Counts::default() }).filter(is_open)?;
    for counts in &mut guard.outcomes {
        let [canary, stable, canary_bad, bad] = input.take::<4>()?.map(u32::from);
        *counts = Some(Counts { canary, stable, canary_bad, bad }).filter(is_open)?;
    }
    guard.spent = spent(input)?;
    let mut next = 0;
    for _ in 0..input.u8()? {
        let number = usize::from(input.u8()?);
        let test = guard.tests.get_mut(number).filter(|_| number >= next)?;
        test.blocks = input.u64().filter(|blocks| *blocks > 0)?;
        for bet in &mut test.bets {
            // Neither a NaN nor what is infinite is in the range; minus zero would be, and would be written differently.
            *bet = Some(f64::from_bits(input.u64()?)).filter(|bet| (0.0..=WEALTH_MAX).contains(bet))?;
            bet.is_sign_positive().then_some(())?;
        }
        next = number.saturating_add(1);
    }
    input.0.is_empty().then_some(guard)
}

/// Whether a block can hold that, and is not full.
fn is_open(counts: &Counts) -> bool {
    let Counts { canary, stable, canary_bad, bad } = *counts;
    let stable_bad = bad.checked_sub(canary_bad);
    canary.saturating_add(stable) < BLOCK && canary_bad <= canary && stable_bad.is_some_and(|bad| bad <= stable)
}

fn spent(input: &mut Input<'_>) -> Option<Spent> {
    let len = u32::from(input.u8()?);
    let places = 1u32.checked_shl(len).filter(|_| len < BLOCK)?.saturating_sub(1);
    let mut spent = Spent { len, canary: input.u32().filter(|canary| canary & !places == 0)?, ..Spent::default() };
    let (Amounts(costs), Amounts(lengths)) = (&mut spent.cost, &mut spent.length);
    for (_, (cost, length)) in (0..len).zip(costs.iter_mut().zip(lengths)) {
        for amount in [cost, length] {
            *amount = input.u16().filter(|parts| *parts <= WHOLE || *parts == Amounts::UNKNOWN)?;
        }
    }
    Some(spent)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
