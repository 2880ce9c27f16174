//! The tables behind token counting: their layout, and with the feature `generate` how they are made.
//!
//! From a vocabulary (tokens in merge order, and how texts are cut) [`generate`] makes one block of bytes that is looked up as it is,
//! without an initialisation:
//!
//! 1. **Whole pieces.** Most pieces of a text are a token. Three perfect hashes (by length, so that a slot is as wide as it must be)
//!    hold the tokens themselves, so that one probe and one comparison decide.
//! 2. **Pairs.** Merging the bytes of each token shows from which two tokens it comes about; a perfect hash leads from the two to the
//!    one. No other two ever merge: wherever the bytes of a token stand, they merge in the order in which they do alone, unless something
//!    merges across their border first. Tokens that merging never produces stay out: an encoder emits them for whole pieces only.
//! 3. **A trie** of the tokens that merging produces finds the longest one in a text.
//! 4. **Parts.** Of each token is known what it is made of, and whether its parts could merge with what is next to it before they were
//!    taken into it: so it can be seen whether two tokens that follow each other are what merging leaves.
//!
//! Nothing here is used at run time but [`layout`].

pub mod layout;

#[cfg(feature = "generate")]
mod classes;
#[cfg(feature = "generate")]
mod merges;
#[cfg(feature = "generate")]
mod perfect;
#[cfg(feature = "generate")]
mod source;
#[cfg(feature = "generate")]
mod table;
#[cfg(feature = "generate")]
mod trie;

#[cfg(feature = "generate")]
pub use classes::table as class_table;
#[cfg(feature = "generate")]
pub use source::Vocabulary;
#[cfg(feature = "generate")]
pub use table::generate;
