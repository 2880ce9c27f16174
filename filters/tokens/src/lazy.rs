//! Tables that a module's memory has once they are needed.
//!
//! `cargo xtask build` takes the tables out of what a module's memory begins with: they stay in the module, of which a process has one for all
//! VMs, and a VM copies a table when it first counts with it. So neither the VMs of a proxy's main thread, which count nothing, nor encodings
//! that no model uses cost memory. Natively, and in a module that was not built that way, they are always there.

use core::hint::black_box;

use crate::vocabulary::Vocabulary;

/// The vocabulary, when its table is there.
#[inline(always)]
pub(crate) fn loaded(vocabulary: &'static Vocabulary) -> &'static Vocabulary {
    // The compiler knows what is in a static, and is not to use that, here and until the vocabulary is looked into.
    let vocabulary = black_box(vocabulary);
    // A table begins with a letter, memory that nothing was copied into with a zero.
    if vocabulary.table.first() == Some(&0) {
        penstock_load_table(vocabulary.table.as_ptr().addr());
    }
    black_box(vocabulary)
}

/// Copies the table that has its place here: `harness/xtask/src/lazy_tables.rs` finds this by its name, and gives it a body.
#[cfg_attr(
    target_family = "wasm",
    expect(unsafe_code, reason = "a name that is kept, for a body that is written later")
)]
#[cfg_attr(target_family = "wasm", unsafe(no_mangle))]
#[inline(never)]
extern "C" fn penstock_load_table(at: usize) {
    black_box(at);
}
