//! How each token comes about by merging.

use std::collections::HashMap;

use crate::layout::{self, PAIR_BITS, entry};

/// The tokens in merge order; a token's place is its number and its rank.
pub struct Merges {
    /// Left and right part of each token; itself twice for a single byte; `None` for a token that merging never produces.
    pub splits: Vec<Option<(u32, u32)>>,
}

impl Merges {
    /// The tokens that two others merge into, and these.
    pub fn made(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let split =
            |(number, split): (usize, &Option<(u32, u32)>)| split.map(|(left, right)| (number as u32, left, right));
        self.splits.iter().enumerate().filter_map(split).filter(|(number, left, _)| number != left)
    }

    /// What the table says of each token; see [`entry`].
    pub fn entries(&self, tokens: &[Vec<u8>]) -> Vec<u64> {
        // The first merge in which each token is the left one, and the right one.
        let mut first_left = vec![u32::MAX; tokens.len()];
        let mut first_right = vec![u32::MAX; tokens.len()];
        for (number, left, right) in self.made() {
            let (left, right) = (&mut first_left[left as usize], &mut first_right[right as usize]);
            (*left, *right) = ((*left).min(number), (*right).min(number));
        }
        let flag = |is_so: bool, flag: u64| if is_so { flag } else { 0 };
        let mut entries: Vec<u64> = (0..tokens.len())
            .map(|number| layout::pair_key(number as u32, number as u32))
            .zip(first_left.iter().zip(&first_right))
            .map(|(key, (left, right))| {
                key | flag(*left < u32::MAX, entry::JOINS_NEXT) | flag(*right < u32::MAX, entry::JOINS_PREVIOUS)
            })
            .collect();
        // In the order in which they are made, so that their parts' are known.
        for (number, left, right) in self.made() {
            let right_joins = first_left[right as usize] < number;
            // Of two merges with the same result the left one comes first.
            let left_joins = first_right[left as usize] <= number;
            let right_more = right_joins || entries[right as usize] & entry::RIGHT_MORE != 0;
            let left_more = left_joins || entries[left as usize] & entry::LEFT_MORE != 0;
            let entry = &mut entries[number as usize];
            *entry = *entry >> PAIR_BITS << PAIR_BITS
                | layout::pair_key(left, right)
                | flag(right_joins, entry::RIGHT_JOINS)
                | flag(left_joins, entry::LEFT_JOINS)
                | flag(right_more, entry::RIGHT_MORE)
                | flag(left_more, entry::LEFT_MORE);
        }
        let ranks = ranks(tokens);
        for (token, entry) in tokens.iter().zip(&mut entries) {
            let is_made = |number: &u32| self.splits[*number as usize].is_some();
            let shorter = (1..token.len())
                .rev()
                .find_map(|length| Some((length, ranks.get(&token[..length]).copied().filter(is_made)?)));
            if let Some((length, number)) = shorter
                && token.len() - length < 1 << (u64::BITS - entry::LONGER_SHIFT)
            {
                *entry |=
                    u64::from(number) << entry::SHORTER_SHIFT | ((token.len() - length) as u64) << entry::LONGER_SHIFT;
            }
        }
        entries
    }

    /// How many bytes back what follows can change the merging.
    ///
    /// Where the same bytes are merged with something else after them, the first merge that differs is of the last token with what
    /// follows. After that, what starts where this token does may differ, and the next merge that does is of the token before it with such
    /// a one; it has a higher rank. And so on: so the longest chain of tokens counts in which each merges, with rising ranks, with
    /// something that starts with the one after it.
    pub fn reach(&self, tokens: &[Vec<u8>]) -> usize {
        // The bytes of the longest chain by the token that it starts with, grown in the order of the ranks.
        let mut chains = vec![0; tokens.len()];
        for (_, left, right) in self.made() {
            let mut start = right as usize;
            let mut longest = chains[start];
            while let Some((part, _)) = self.splits[start].filter(|(part, _)| *part as usize != start) {
                start = part as usize;
                longest = longest.max(chains[start]);
            }
            let chain = &mut chains[left as usize];
            *chain = (*chain).max(longest + tokens[left as usize].len());
        }
        chains.into_iter().max().unwrap_or_default()
    }
}

/// The rank of each token.
pub type Ranks<'a> = HashMap<&'a [u8], u32>;

/// The rank of each of `tokens`.
pub fn ranks(tokens: &[Vec<u8>]) -> Ranks<'_> {
    tokens.iter().enumerate().map(|(rank, token)| (token.as_slice(), rank as u32)).collect()
}

/// Merges the bytes of every token as the encoder does, and notes the last merge.
///
/// # Errors
/// When the vocabulary has no token for some byte, or is not ordered as merging needs it: a token may only be made of earlier ones.
pub fn analyse(tokens: &[Vec<u8>]) -> Result<Merges, String> {
    let ranks = ranks(tokens);
    if ranks.len() != tokens.len() {
        return Err("a token occurs twice".to_owned());
    }
    for byte in 0..=u8::MAX {
        if !ranks.contains_key([byte].as_slice()) {
            return Err(format!(
                "there is no token for the single byte 0x{byte:02x}: this is not a byte-level vocabulary"
            ));
        }
    }
    let mut splits = Vec::with_capacity(tokens.len());
    for (rank, token) in tokens.iter().enumerate() {
        let rank = rank as u32;
        let split = if token.len() == 1 { Some((rank, rank)) } else { last_merge(token, &ranks) };
        if let Some((left, right)) = split
            && token.len() > 1
            && (left >= rank || right >= rank)
        {
            return Err(format!("token {rank} is made of tokens {left} and {right}, which are merged after it"));
        }
        splits.push(split);
    }
    Ok(Merges { splits })
}

/// The two parts whose merge completes `token`, if merging its bytes ends in the one token.
fn last_merge(token: &[u8], ranks: &Ranks<'_>) -> Option<(u32, u32)> {
    let mut parts = None;
    let rest = merge(token, ranks, |_, ends, _| {
        if let [0, middle, _] = *ends {
            parts = ranks.get(&token[..middle]).copied().zip(ranks.get(&token[middle..]).copied());
        }
    });
    if rest == 1 { parts } else { None }
}

/// Merges bytes as the encoder does: of all neighbours that form a token those of the lowest rank, the leftmost first. `see` gets for each
/// merge, before it happens, its rank, the ends of the parts with a 0 before them, and which part merges with the next. Returns how many
/// parts are left.
pub fn merge(bytes: &[u8], ranks: &Ranks<'_>, mut see: impl FnMut(u32, &[usize], usize)) -> usize {
    let mut ends: Vec<usize> = (0..=bytes.len()).collect();
    loop {
        let rank = |at: usize| ranks.get(&bytes[ends[at]..ends[at + 2]]).copied();
        let lowest = (0..ends.len().saturating_sub(2)).filter_map(|at| Some((rank(at)?, at))).min();
        let Some((rank, at)) = lowest else { return ends.len() - 1 };
        see(rank, &ends, at);
        ends.remove(at + 1);
    }
}
