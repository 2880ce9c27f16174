//! The part of a worker that host calls may touch while a VM is running.

use std::collections::{HashMap, VecDeque};

use super::callouts::Callouts;
use super::stream::{Action, Stream, StreamId};

/// Streams, what plugins asked for on them, and calls to other services.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub streams: HashMap<StreamId, Stream>,
    /// What is to be done when the running callback has returned: stream, plugin, action.
    pub actions: VecDeque<(StreamId, usize, Action)>,
    pub callouts: Callouts,
}
