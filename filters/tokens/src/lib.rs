//! What a text costs: exact token counts for OpenAI's encodings, and for vocabularies of one's own.
//!
//! ```
//! use penstock_tokens::{Counter, Encoding};
//!
//! assert_eq!(Encoding::O200kBase.count("お誕生日おめでとう"), 8);
//!
//! let mut counter = Counter::new(Encoding::Cl100kBase);
//! counter.push("2 + 2");
//! counter.push(" = 4");
//! assert_eq!(counter.finish(), 7);
//! ```
//!
//! How it is done, and why each step is exact:
//!
//! 1. A text is cut into pieces, within which tokens are merged. `pieces` says by hand what the encoding's regular expression says;
//!    `block` finds the same cuts in ASCII for 64 bytes at a time, and leaves to `pieces` whatever it cannot tell.
//! 2. Most pieces are tokens: one probe of a perfect hash, in which the token itself lies, says so (`vocabulary`, `core`).
//! 3. For the others the one sequence of tokens is searched that merging leads to (`forward`). What is not found that way in reasonable
//!    time is merged as byte-pair encoding defines it (`merge`), window by window if it is long. How far a window's end can be wrong is
//!    known from the vocabulary. Short pieces that are no tokens are remembered by the thread, with their counts.
//! 4. Of a text that arrives in pieces only what is not decided yet is held (`counter`, `long`).
//!
//! The tables are made at build time by `penstock-token-tables` and are looked up where they lie; how they come into a VM's memory says `lazy`.
//!
//! What this crate does not do: it does not say which tokens, only how many; special tokens such as `<|endoftext|>` in a text count as the
//! characters that they consist of, as servers treat them in what users send; and it knows no SentencePiece.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;

pub mod framing;
pub mod ratio;

mod block;
mod classes;
mod core;
mod counter;
mod encoding;
mod forward;
mod lazy;
mod long;
mod merge;
mod pieces;
mod vocabulary;

pub use counter::{Count, Counter, cut};
pub use encoding::Encoding;
pub use vocabulary::{Malformed, Vocabulary};
