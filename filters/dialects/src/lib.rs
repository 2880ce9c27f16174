//! What a request asks and what a response reports, read from the bytes as they pass.
//!
//! The readers here are push parsers: they are fed the pieces in which a body arrives, keep a bounded state, and
//! never hold the body themselves. Texts that cost tokens go to a [`PromptSink`] piece by piece; everything else that
//! matters (the model and where it stands, the output ceiling, the reported usage) is kept in small records.
//!
//! What is particular to an API stands in one file, named after it, and nowhere else: start with `chat.rs`. What several have in
//! common is read in `request` and `response`; `dialect.rs` lists the dialects and passes each event to the right one.
//!
//! Only what comes compressed is taken as a whole, by `coding`, which makes it the text that the readers are fed.
//!
//! What this crate does not do: count tokens, decide anything, or build a JSON tree. It accepts slightly more than
//! RFC 8259 (raw control characters in strings, Python's `NaN` and `Infinity`), because a model server behind it may,
//! and a request that the server can read must not pass uncounted.

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

mod chat;
mod completions;
mod embeddings;
mod messages;
mod responses;

mod api;
mod coding;
mod dialect;
mod error;
mod json;
mod listing;
mod path;
mod request;
mod response;
mod sink;
mod splice;
mod sse;
mod target;
mod usage_filter;

pub use api::{Framing, ImagePrice, MODEL_BYTES_MAX, ModelAt};
pub use coding::Coding;
pub use coding::undecodable::Undecodable;
pub use dialect::{Dialect, count_body, error_body};
pub use error::ErrorKind;
pub use json::unreadable::{DEPTH_MAX, Fault, Unreadable};
pub use listing::Listing;
pub use path::normal;
pub use request::draft::UNREAD_FREE;
pub use request::image::{IMAGES_MAX, Image};
pub use request::media::{Media, Named};
pub use request::origin::{ORIGIN_BYTES_MAX, OriginKey};
pub use request::reader::RequestReader;
pub use request::{Request, StreamOptions};
pub use response::SHORTER_MAX;
pub use response::quality::{Finish, Quality};
pub use response::reader::{Reading, ResponseReader};
pub use response::usage::{USAGE_MAX, Usage};
pub use sink::{CompletionSink, Ignore, PromptSink};
pub use splice::{Splice, apply, quoted};
pub use target::Target;
pub use usage_filter::UsageFilter;
