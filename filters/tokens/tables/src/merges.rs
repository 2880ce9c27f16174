//! How each token comes about by merging.

use std::collections::HashMap;

/// The tokens in merge order; a token's place is its number and its rank.
pub struct Merges {
    /// Left and right part of each token; itself twice for a single byte; `None` for a token that merging never produces.
    pub splits: Vec<Option<(u32, u32)>>,
}

impl Merges {
    /// How many bytes back what follows can change the merging.
    ///
    /// Where the same bytes are merged with something else after them, the first merge that differs is of the last token with what
    /// follows. After that, what starts where this token does may differ, and the next merge that does is of the token before it with such
    /// a one; it has a higher rank. And so on: so the longest chain of tokens counts in which each merges, with rising ranks, with
    /// something that starts with the one after it.
    pub fn reach(&self, tokens: &[Vec<u8>]) -> usize {
        // The bytes of the longest chain by the token that it starts with, grown in the order of the ranks.
        let mut chains = vec![0; tokens.len()];
        for (rank, split) in self.splits.iter().enumerate() {
            let Some((left, right)) = split.filter(|(left, _)| *left as usize != rank) else { continue };
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
