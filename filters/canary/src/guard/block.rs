//! Blocks: so many records that say something of an outcome, or of amounts, whoever served them. Each is judged when it is full.

use super::record::{Arm, Record};

/// How many records are a block.
pub(super) const BLOCK: u32 = u32::BITS;

/// How many records of each version say something of an outcome, and of how many it is so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub canary: u32,
    pub stable: u32,
    pub canary_bad: u32,
    pub bad: u32,
}

impl Counts {
    /// Adds one; the block, if that makes it full, and the next begins.
    pub fn push(&mut self, arm: Arm, is_bad: bool) -> Option<Self> {
        let bad = u32::from(is_bad);
        match arm {
            Arm::Canary => {
                self.canary = self.canary.saturating_add(1);
                self.canary_bad = self.canary_bad.saturating_add(bad);
            }
            Arm::Stable => self.stable = self.stable.saturating_add(1),
        }
        self.bad = self.bad.saturating_add(bad);
        (self.canary.saturating_add(self.stable) >= BLOCK).then(|| std::mem::take(self))
    }
}

/// Amounts by their places in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amounts(pub [u16; BLOCK as usize]);

impl Default for Amounts {
    fn default() -> Self {
        Self([Self::UNKNOWN; BLOCK as usize])
    }
}

impl Amounts {
    /// An amount that is not known.
    pub const UNKNOWN: u16 = u16::MAX;

    /// Those that are known, with whether the canary served them.
    pub fn known(&self, canary: u32) -> impl Iterator<Item = (bool, u16)> {
        let arms = (0..BLOCK).map(move |place| canary.checked_shr(place).unwrap_or(0) & 1 == 1);
        arms.zip(self.0).filter(|(_, parts)| *parts != Self::UNKNOWN)
    }
}

/// What requests cost and how long their answers were, and, as a bit for each place, which of them the canary served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    pub len: u32,
    pub canary: u32,
    pub cost: Amounts,
    pub length: Amounts,
}

impl Spent {
    /// Adds a record that knows one of both; the block, if that makes it full, and the next begins.
    pub fn push(&mut self, record: Record) -> Option<Self> {
        if record.cost.is_none() && record.length.is_none() {
            return None;
        }
        if record.arm == Arm::Canary {
            self.canary |= 1u32.checked_shl(self.len).unwrap_or(0);
        }
        for (amounts, parts) in [(&mut self.cost, record.cost), (&mut self.length, record.length)] {
            if let Some(amount) = usize::try_from(self.len).ok().and_then(|place| amounts.0.get_mut(place)) {
                *amount = parts.unwrap_or(Amounts::UNKNOWN);
            }
        }
        self.len = self.len.saturating_add(1);
        (self.len >= BLOCK).then(|| std::mem::take(self))
    }
}
