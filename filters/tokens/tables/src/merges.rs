//! How each token comes about by merging.

use std::collections::HashMap;

/// The tokens in merge order; a token's place is its number and its rank.
pub struct Merges {
    /// Left and right part of each token; itself twice for a single byte; `None` for a token that merging never produces.
    pub splits: Vec<Option<(u32, u32)>>,
}

/// Merges the bytes of every token as the encoder does, and notes the last merge.
///
/// # Errors
/// When the vocabulary has no token for some byte, or is not ordered as merging needs it: a token may only be made of earlier ones.
pub fn analyse(tokens: &[Vec<u8>]) -> Result<Merges, String> {
    let ranks: HashMap<&[u8], u32> =
        tokens.iter().enumerate().map(|(rank, token)| (token.as_slice(), rank as u32)).collect();
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
fn last_merge(token: &[u8], ranks: &HashMap<&[u8], u32>) -> Option<(u32, u32)> {
    let mut ends: Vec<usize> = (0..=token.len()).collect();
    let rank = |ends: &[usize], at: usize, parts: usize| ranks.get(&token[ends[at]..ends[at + parts]]).copied();
    while ends.len() > 3 {
        let (_, at) = (0..ends.len() - 2).filter_map(|at| Some((rank(&ends, at, 2)?, at))).min()?;
        ends.remove(at + 1);
    }
    rank(&ends, 0, 2)?;
    Some((rank(&ends, 0, 1)?, rank(&ends, 1, 1)?))
}
