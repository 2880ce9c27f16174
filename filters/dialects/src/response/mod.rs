//! What a response reports: the usage, the texts that were generated, how it ended.

pub mod choices;
pub mod echo;
pub mod quality;
pub mod reader;
pub mod report;
pub mod strange;
pub mod usage;

#[cfg(test)]
mod tests;

/// By how many times another vocabulary may make fewer tokens of a text than the one that counts, or the one token for four bytes that stands
/// for it. It is three to five for scripts that only one of them has words of, so that eight is beyond all of them.
pub const SHORTER_MAX: u64 = 8;

/// What a text is that was generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// What the model says.
    Content,
    /// What it thought on the way, or said in another form than was asked for.
    Reasoning,
    /// The name of a tool, with which a call begins.
    ToolName,
    /// The arguments of the call, as a text that is to be JSON.
    ToolArguments,
    /// The arguments of the call as JSON, whose keys and values are texts each.
    ToolInput {
        /// Below the value, and so not its own key.
        nested: bool,
    },
}
