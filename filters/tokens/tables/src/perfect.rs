//! A perfect hash: every key has one slot, found with one displacement (Belazzougui, Botelho, Dietzfelbinger, "Hash, displace,
//! and compress", 2009, without the compressing).

use crate::layout;

/// Where each of the keys went.
pub struct Perfect {
    /// One per bucket.
    pub displacements: Vec<u16>,
    /// How many slots there are.
    pub slots: usize,
    /// The slot of each key, in the order of the keys.
    pub slot_of: Vec<usize>,
}

/// Places mixed keys, which must be distinct.
///
/// # Errors
/// When the keys cannot be placed, as when two of them are equal.
pub fn place(keys: &[u64]) -> Result<Perfect, String> {
    // Keys that differ in the last byte only are told apart by the eight bits of at least so many buckets.
    let buckets = (keys.len() / 5).max(256).next_power_of_two();
    // 2 % of free slots keep the search for the last buckets short; more are tried if that is not enough.
    (0..40)
        .find_map(|attempt| try_place(keys, buckets, keys.len() + keys.len() * (2 + attempt) / 100 + 1))
        .ok_or_else(|| format!("no perfect hash was found for {} tokens: two are alike", keys.len()))
}

/// Places the mixed keys of pairs.
///
/// # Errors
/// When they cannot be placed, which means that there are too many.
pub fn place_pairs(keys: &[u64]) -> Result<Perfect, String> {
    try_place(keys, layout::PAIR_BUCKETS, layout::PAIR_SLOTS)
        .ok_or_else(|| format!("no perfect hash was found for {} merges", keys.len()))
}

fn try_place(keys: &[u64], buckets: usize, slots: usize) -> Option<Perfect> {
    let shift = u64::BITS - buckets.trailing_zeros();
    let mut buckets: Vec<Vec<usize>> = vec![Vec::new(); buckets];
    for (index, key) in keys.iter().enumerate() {
        buckets[layout::bucket(*key, shift)].push(index);
    }
    let mut order: Vec<usize> = (0..buckets.len()).collect();
    order.sort_by_key(|bucket| std::cmp::Reverse(buckets[*bucket].len()));

    let mut placed = Perfect { displacements: vec![0; buckets.len()], slots, slot_of: vec![0; keys.len()] };
    let mut taken = vec![false; slots];
    let mut candidate = Vec::new();
    for bucket in order {
        let fits = (0..=u16::MAX).find(|displacement| {
            candidate.clear();
            buckets[bucket].iter().all(|key| {
                let slot = layout::slot(keys[*key], *displacement, slots);
                let free = !taken[slot] && !candidate.contains(&slot);
                candidate.push(slot);
                free
            })
        });
        placed.displacements[bucket] = fits?;
        for (key, slot) in buckets[bucket].iter().zip(&candidate) {
            taken[*slot] = true;
            placed.slot_of[*key] = *slot;
        }
    }
    Some(placed)
}
