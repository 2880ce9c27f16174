//! The ways in which the plugins can be deployed.

/// Which plugins are deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// token-counter, tenant-bucket, canary-router and pending-gauge, one after the other.
    Row,
    /// The same four out of penstock.wasm, told apart by `root_id` and sharing one VM.
    RowInOneVm,
    /// penstock: all four in one.
    One,
}

impl Chain {
    /// The name on the command line.
    pub fn label(self) -> &'static str {
        match self {
            Chain::Row => "row",
            Chain::RowInOneVm => "row-in-one-vm",
            Chain::One => "one",
        }
    }

    /// Every chain.
    pub const ALL: [Chain; 3] = [Chain::Row, Chain::RowInOneVm, Chain::One];

    /// The plugins in chain order, by `root_id`.
    pub fn plugins(self) -> &'static [&'static str] {
        match self {
            Chain::Row | Chain::RowInOneVm => &["token-counter", "tenant-bucket", "canary-router", "pending-gauge"],
            Chain::One => &["penstock"],
        }
    }
}
