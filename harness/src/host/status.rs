//! The answers of host calls.

/// A proxy-wasm status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// There is no such thing.
    NotFound = 1,
    /// The call makes no sense now, or with these arguments.
    BadArgument = 2,
    /// The host cannot give what is there.
    SerializationFailure = 3,
    /// The host cannot read what the guest serialised.
    ParseFailure = 4,
    /// An address outside the guest's memory.
    InvalidMemoryAccess = 6,
    /// The value changed since it was read.
    CasMismatch = 8,
    /// It failed at once.
    InternalFailure = 10,
    /// The host does not offer this.
    Unimplemented = 12,
}
