//! A trie of tokens as a double array (Aoe, "An efficient digital search algorithm by using a double-array structure", 1989), with
//! exclusive or instead of addition, so that the children of a node lie in one block of 256 cells.

use std::collections::HashSet;

use crate::layout::{CELL_LEAF, CELL_PAYLOAD_SHIFT, CELL_TOKEN, TERMINAL};

/// Cells of a block.
const BLOCK: usize = 256;
/// Cells that a payload can refer to.
const CELLS_MAX: usize = 1 << (u32::BITS - CELL_PAYLOAD_SHIFT);

/// What a cell is to hold.
enum Child {
    Token(u32),
    Node(usize),
}

struct Node {
    children: Vec<(u8, Child)>,
    /// Whether the way here is a token too.
    is_token: bool,
}

/// The cells of the trie of `tokens`, bytes and number each. One with [`TERMINAL`] after its first byte is left out: no text has it.
///
/// # Errors
/// When there are more nodes than cells can be addressed.
pub fn build(tokens: impl IntoIterator<Item = (Vec<u8>, u32)>) -> Result<Vec<u32>, String> {
    let mut sorted: Vec<_> = tokens.into_iter().filter(|(token, _)| !token[1..].contains(&TERMINAL)).collect();
    sorted.sort_unstable();
    let mut nodes = vec![];
    gather(&sorted, 0, &mut nodes);
    let mut array = Array::default();
    let mut bases = vec![0; nodes.len()];
    // The root, which was gathered last, has its children at the beginning.
    let root = nodes.len() - 1;
    array.take(0, &nodes[root].children);
    // Then large nodes first: small ones fit into what they leave free.
    let (mut single, mut order): (Vec<usize>, Vec<usize>) =
        (0..root).partition(|index| nodes[*index].children.len() == 1);
    order.sort_by_key(|index| std::cmp::Reverse(nodes[*index].children.len()));
    for index in order {
        bases[index] = array.place(&nodes[index].children);
    }
    // And at last those with one child, which fit into any free cell unless another node has that base; those with the same child together.
    let label = |index: &usize| nodes[*index].children[0].0;
    single.sort_by_key(label);
    for alike in single.chunk_by(|one, other| label(one) == label(other)) {
        let mut cells = 0..;
        for index in alike {
            let base = cells
                .by_ref()
                .map(|cell| cell ^ usize::from(label(index)))
                .find(|base| array.fits(*base, &nodes[*index].children));
            bases[*index] = base.unwrap_or_default();
            array.take(bases[*index], &nodes[*index].children);
        }
    }
    if array.taken.len() > CELLS_MAX {
        return Err(format!("the trie has {} cells; {CELLS_MAX} are possible", array.taken.len()));
    }
    let mut cells = vec![u32::from(TERMINAL); array.taken.len()];
    for (node, base) in nodes.iter().zip(&bases) {
        for (label, child) in &node.children {
            let (flags, payload) = match child {
                Child::Token(number) => (CELL_LEAF, *number),
                Child::Node(index) if nodes[*index].is_token => (CELL_TOKEN, bases[*index] as u32),
                Child::Node(index) => (0, bases[*index] as u32),
            };
            cells[base ^ usize::from(*label)] = payload << CELL_PAYLOAD_SHIFT | flags | u32::from(*label);
        }
    }
    Ok(cells)
}

/// The node of the tokens that share their first `depth` bytes. Appends those below it and then itself, and returns its index.
fn gather(tokens: &[(Vec<u8>, u32)], depth: usize, nodes: &mut Vec<Node>) -> usize {
    let is_here = |(token, _): &&(Vec<u8>, u32)| token.len() == depth;
    let here = tokens.first().filter(is_here).map(|(_, number)| *number);
    let mut children: Vec<(u8, Child)> = here.map(|number| (TERMINAL, Child::Token(number))).into_iter().collect();
    for group in tokens[children.len()..].chunk_by(|(one, _), (other, _)| one[depth] == other[depth]) {
        let child = match group {
            [(token, number)] if token.len() == depth + 1 => Child::Token(*number),
            _ => Child::Node(gather(group, depth + 1, nodes)),
        };
        children.push((group[0].0[depth], child));
    }
    nodes.push(Node { children, is_token: here.is_some() });
    nodes.len() - 1
}

/// Which cells and bases are taken.
#[derive(Default)]
struct Array {
    taken: Vec<bool>,
    bases: HashSet<usize>,
    /// For nodes of so many children, where the search for a place goes on.
    from: Vec<usize>,
}

impl Array {
    /// Finds a place for a node with these children, and returns its base.
    fn place(&mut self, children: &[(u8, Child)]) -> usize {
        let first = usize::from(children[0].0);
        if self.from.len() <= children.len() {
            self.from.resize(children.len() + 1, 0);
        }
        let cell = (self.from[children.len()]..).find(|cell| self.fits(cell ^ first, children)).unwrap_or_default();
        self.from[children.len()] = cell;
        self.take(cell ^ first, children);
        cell ^ first
    }

    fn fits(&self, base: usize, children: &[(u8, Child)]) -> bool {
        let is_free = |label: u8| !self.taken.get(base ^ usize::from(label)).copied().unwrap_or_default();
        children.iter().all(|(label, _)| is_free(*label)) && !self.bases.contains(&base)
    }

    fn take(&mut self, base: usize, children: &[(u8, Child)]) {
        self.bases.insert(base);
        let end = (base / BLOCK + 1) * BLOCK;
        if self.taken.len() < end {
            self.taken.resize(end, false);
        }
        for (label, _) in children {
            self.taken[base ^ usize::from(*label)] = true;
        }
    }
}
