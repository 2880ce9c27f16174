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

extern crate alloc;

pub mod framing;
pub mod ratio;

mod block;
mod classes;
mod core;
mod counter;
mod encoding;
mod long;
mod merge;
mod pieces;
mod vocabulary;

pub use counter::{Count, Counter};
pub use encoding::Encoding;
pub use vocabulary::{Malformed, Vocabulary};
