//! The double-array trie over the tokens (Aoe, 1989; Yata's darts-clone for the exclusive-or addressing).

use std::collections::BTreeMap;

use crate::layout::{Section, unit};

/// [`Section::TrieUnits`] and [`Section::TrieTokens`].
pub struct Trie {
    /// The units.
    pub units: Vec<u32>,
    /// The low bits of the token at each unit.
    pub tokens: Vec<u16>,
}

#[derive(Default)]
struct Node {
    children: BTreeMap<u8, usize>,
    token: Option<u32>,
}

/// A trie over tokens with their numbers. The root is the unit 0.
///
/// # Errors
/// When there are more units than a base can address.
pub fn build<'a>(tokens: impl Iterator<Item = (&'a [u8], u32)>) -> Result<Trie, String> {
    let mut nodes = vec![Node::default()];
    for (bytes, number) in tokens {
        let mut at = 0;
        for byte in bytes {
            at = match nodes[at].children.get(byte) {
                Some(child) => *child,
                None => {
                    let child = nodes.len();
                    nodes[at].children.insert(*byte, child);
                    nodes.push(Node::default());
                    child
                }
            };
        }
        nodes[at].token = Some(number);
    }

    // Large families first, while there is room; the many only children fill what is left between them.
    let mut order: Vec<usize> = (0..nodes.len()).filter(|node| !nodes[*node].children.is_empty()).collect();
    order.sort_by_key(|node| (std::cmp::Reverse(nodes[*node].children.len()), *node));
    let mut room = Room::new();
    let mut bases = vec![0u32; nodes.len()];
    let mut places = vec![0usize; nodes.len()];
    for node in order {
        let base = room.place(nodes[node].children.keys())?;
        bases[node] = base;
        for (byte, child) in &nodes[node].children {
            places[*child] = base as usize ^ usize::from(*byte);
        }
    }

    let mut trie = Trie { units: vec![0; room.end], tokens: vec![0; room.end] };
    trie.units[0] = bases[0] << unit::BASE_SHIFT;
    for (index, node) in nodes.iter().enumerate() {
        for (byte, child) in &node.children {
            let place = places[*child];
            let token = nodes[*child].token;
            let high = token.map_or(0, |token| unit::TOKEN | ((token >> 16) << unit::TOKEN_HIGH_SHIFT));
            trie.units[place] = u32::from(*byte) | unit::USED | high | (bases[*child] << unit::BASE_SHIFT);
            trie.tokens[place] = token.map_or(0, |token| token as u16);
            debug_assert_eq!(bases[index] as usize ^ usize::from(*byte), place);
        }
    }
    Ok(trie)
}

/// Which units and bases are taken.
struct Room {
    taken: Vec<bool>,
    base_used: Vec<bool>,
    /// No unit below this is free.
    first_free: usize,
    /// One past the last unit in use.
    end: usize,
}

impl Room {
    fn new() -> Self {
        let size = unit::BASES as usize;
        let mut room = Self { taken: vec![false; size], base_used: vec![false; size], first_free: 0, end: 1 };
        room.taken[0] = true;
        // Base 0 means "no children".
        room.base_used[0] = true;
        room
    }

    fn place<'a>(&mut self, labels: impl Iterator<Item = &'a u8> + Clone) -> Result<u32, String> {
        let first = labels.clone().next().copied().unwrap_or_default();
        while self.taken.get(self.first_free) == Some(&true) {
            self.first_free += 1;
        }
        let base = (self.first_free..self.taken.len())
            .filter(|place| !self.taken[*place])
            .map(|place| place ^ usize::from(first))
            .find(|base| !self.base_used[*base] && labels.clone().all(|label| !self.taken[base ^ usize::from(*label)]))
            .ok_or_else(|| {
                format!("the vocabulary needs more than {} trie units ({:?})", unit::BASES, Section::TrieUnits)
            })?;
        self.base_used[base] = true;
        for label in labels {
            let place = base ^ usize::from(*label);
            self.taken[place] = true;
            self.end = self.end.max(place + 1);
        }
        u32::try_from(base).map_err(|error| error.to_string())
    }
}
