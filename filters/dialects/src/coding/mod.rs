//! Content codings of requests (RFC 9110, 8.4): the bytes that a client compressed become the text that is read, counted and forwarded.
//!
//! What is decoded here is what goes on, so that nothing depends on how a server would read the same bytes. Whoever sends a body chooses what
//! decoding it costs, and three things bound that: how long it may become, of how many blocks it may be made (each may bring tables of its
//! own that cost thousands of times what its bytes do), and how far back it may refer. A body is one gzip member or one zstd frame, and ends
//! with it; encoders for HTTP make nothing else.

mod gzip;
pub mod undecodable;
mod zstd;

#[cfg(test)]
mod tests;

use undecodable::Undecodable;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip` (RFC 1952), also by its old name `x-gzip`.
    Gzip,
    /// `zstd` (RFC 8878).
    Zstd,
}

impl Coding {
    /// What a client is told about them, as `accept-encoding` has it.
    pub const ALL: &'static str = "gzip, zstd";

    /// The one of that name, in any case of letters (RFC 9110, 8.4.1).
    pub fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("gzip") || is("x-gzip") { Some(Self::Gzip) } else { is("zstd").then_some(Self::Zstd) }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What was compressed, where that is no more than `most` bytes.
    ///
    /// # Errors
    /// [`Undecodable`].
    pub fn decode(self, bytes: &[u8], most: usize) -> Result<Vec<u8>, Undecodable> {
        match self {
            Self::Gzip => gzip::decode(bytes, most),
            Self::Zstd => zstd::decode(bytes, most),
        }
    }
}
