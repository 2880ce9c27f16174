//! A block: so many records, whoever served them, that are judged together.
//!
//! Outcomes are bit sets over the places of the block, so that counting is one instruction.

use super::record::{Arm, Outcome, Record};

/// How many records are a block: as many as an outcome's bits have room for.
pub(super) const BLOCK: u32 = u32::BITS;
/// Which records say something of an outcome, and which say that it was so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub known: u32,
    pub bad: u32,
}

/// The amounts of a block by their places.
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

/// How many of a block's requests of each version said something of an outcome, and of how many it was so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub canary: u32,
    pub stable: u32,
    pub canary_bad: u32,
    pub bad: u32,
}

/// The records since the last block was full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// How many there are, less than [`BLOCK`] but for the moment at which it is judged.
    pub len: u32,
    /// Which of them the canary served.
    pub canary: u32,
    pub outcomes: [Seen; Outcome::ALL.len()],
    pub cost: Amounts,
    pub length: Amounts,
}

impl Block {
    /// Adds a record; `true` where that makes it full.
    pub fn push(&mut self, record: Record) -> bool {
        let place = self.len.min(BLOCK.saturating_sub(1));
        let bit = 1u32.checked_shl(place).unwrap_or(0);
        if record.arm == Arm::Canary {
            self.canary |= bit;
        }
        for (seen, outcome) in self.outcomes.iter_mut().zip(Outcome::ALL) {
            seen.known |= if record.known & outcome.bit() != 0 { bit } else { 0 };
            seen.bad |= if record.bad & outcome.bit() != 0 { bit } else { 0 };
        }
        for (amounts, parts) in [(&mut self.cost, record.cost), (&mut self.length, record.length)] {
            if let Some(amount) = usize::try_from(place).ok().and_then(|place| amounts.0.get_mut(place)) {
                *amount = parts.unwrap_or(Amounts::UNKNOWN);
            }
        }
        self.len = place.saturating_add(1);
        self.len == BLOCK
    }

    /// How many requests of each version there are, the canary's first.
    pub fn arms(&self) -> (u32, u32) {
        let canary = self.canary.count_ones();
        (canary, self.len.saturating_sub(canary))
    }

    /// What it says of an outcome.
    pub fn counts(&self, outcome: Outcome) -> Counts {
        let Seen { known, bad } = self.outcomes.get(outcome as usize).copied().unwrap_or_default();
        Counts {
            canary: (known & self.canary).count_ones(),
            stable: (known & !self.canary).count_ones(),
            canary_bad: (bad & self.canary).count_ones(),
            bad: bad.count_ones(),
        }
    }
}
