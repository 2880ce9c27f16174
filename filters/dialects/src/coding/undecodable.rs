//! Why a body cannot be decoded, and the bounds that it has to keep.

/// Of how many blocks a body may be made. Encoders make one of thousands of bytes or more.
pub const BLOCKS_MAX: usize = 2048;

/// How far back a zstd frame may refer: as far as whoever decodes a body has to be able to (RFC 9659).
pub const WINDOW_MAX: u64 = 8 << 20;

/// Why a body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// It is nothing of that coding, or not made well.
    Malformed,
    /// It ends too early.
    Truncated,
    /// What came of it is not what its checksum or its length says.
    Corrupt,
    /// Something follows its end, be it another member or frame.
    Trailing,
    /// It was made with a dictionary, which nobody has here.
    Dictionary,
    /// It refers back farther than what is kept of it.
    Window,
    /// It is made of more blocks than are read.
    Blocks,
    /// It becomes longer than allowed.
    TooLong,
}

impl core::fmt::Display for Undecodable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Malformed => write!(f, "it is not made as its content-encoding says"),
            Self::Truncated => write!(f, "it ends too early"),
            Self::Corrupt => write!(f, "its checksum or its length does not fit"),
            Self::Trailing => write!(f, "something follows its end; send it as one gzip member or one zstd frame"),
            Self::Dictionary => write!(f, "it was made with a dictionary; send it without one"),
            Self::Window => {
                write!(f, "its window is larger than {} MiB (RFC 9659); send it with a smaller one", WINDOW_MAX >> 20)
            }
            Self::Blocks => write!(f, "it is made of more than {BLOCKS_MAX} blocks; flush less often"),
            Self::TooLong => write!(f, "it becomes longer than allowed"),
        }
    }
}
