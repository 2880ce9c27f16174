//! Why a body cannot be read, in words that tell the sender what to mend.

/// How deep arrays and objects may nest. Model servers stop earlier; the limit is what keeps the state bounded.
pub const DEPTH_MAX: usize = 192;

/// The longest key or number that is reported in full, in bytes.
pub const SCRATCH_MAX: usize = 64;

/// How many keys and values a request may have. Small ones cost most to read, so that this bounds what a body costs: a prompt of token ids has
/// as many as its model takes.
pub const VALUES_MAX: u32 = 1 << 19;

/// Why a body cannot be read, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Offset from the start of the body.
    pub at: usize,
    /// What is wrong there.
    pub what: Fault,
}

/// The ways in which a body can be unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no body.
    Empty,
    /// A byte that no JSON text has at this place.
    Unexpected(u8),
    /// The body ended inside a value.
    Truncated,
    /// Nesting beyond [`DEPTH_MAX`].
    TooDeep,
    /// More keys and values than a request may have.
    TooMany,
    /// A string that is not UTF-8.
    NotUtf8,
    /// A value that the field cannot hold, as in `"model": 7`.
    Mistyped(&'static str),
    /// A field whose value is no whole number, or none that every server reads as the same.
    Number(&'static str),
    /// A field that is given twice, of which some servers read the first and some the last.
    Repeated(&'static str),
    /// A key that some servers take for this field: it differs in the case of letters only.
    Miscased(&'static str),
}

impl core::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let at = self.at;
        match self.what {
            Fault::Empty => write!(f, "the body is empty; send a JSON object"),
            Fault::Unexpected(byte) => {
                write!(f, "the body is not JSON: unexpected byte 0x{byte:02x} at offset {at}")
            }
            Fault::Truncated => write!(f, "the body is not JSON: it ends at offset {at}, inside a value"),
            Fault::TooDeep => {
                write!(f, "the body nests deeper than {DEPTH_MAX} levels at offset {at}")
            }
            Fault::TooMany => {
                write!(
                    f,
                    "the body has more than {VALUES_MAX} keys and values at offset {at}; send it in several requests"
                )
            }
            Fault::NotUtf8 => write!(f, "the body is not UTF-8 at offset {at}"),
            Fault::Mistyped(what) => write!(f, "{what} (offset {at})"),
            Fault::Number(key) => {
                write!(f, "{key} must be a whole number below 2^63, in at most {SCRATCH_MAX} characters (offset {at})")
            }
            Fault::Repeated(key) => write!(f, "{key} is given twice; send it once (offset {at})"),
            Fault::Miscased(key) => {
                write!(f, "a key is {key} but for the case of its letters; write {key} (offset {at})")
            }
        }
    }
}
