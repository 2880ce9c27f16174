//! What a worker knows of one stream: plain data, changed by the chain (`chain.rs`) and by host calls (`abi.rs`).

use std::collections::{BTreeMap, HashMap};

use crate::message::{Headers, Seen};

/// Names a stream on its worker.
pub type StreamId = u64;

/// One of the two directions of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// Why a filter's later filters get nothing at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stopped {
    #[default]
    No,
    /// This filter still gets the body (Envoy's StopIteration and StopIterationAndBuffer).
    Single,
    /// This filter gets nothing either (StopAllIterationAndWatermark).
    All,
}

/// One filter's place in one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct FilterFlow {
    pub stopped: Stopped,
    /// The headers went on to the next filter.
    pub headers_passed: bool,
    /// Host calls may read and edit the headers.
    pub headers_visible: bool,
    /// What is held back here, and whether its end is among it.
    pub held: Option<Vec<u8>>,
    pub held_end: bool,
    /// The filter asked to buffer: it sees all that is held, not the last piece.
    pub buffering: bool,
    /// The piece of the body callback that is running.
    pub current: Option<Vec<u8>>,
}

impl FilterFlow {
    pub fn buffer(&mut self) -> Option<&mut Vec<u8>> {
        if self.buffering { self.held.as_mut() } else { self.current.as_mut() }
    }
}

/// One direction of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    pub started: bool,
    pub headers: Headers,
    pub headers_end: bool,
    pub filters: Vec<FilterFlow>,
    pub seen: Seen,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    pub request: Flow,
    pub response: Flow,
    /// Each filter's context, and which life of its VM that context belongs to.
    pub contexts: Vec<Option<(u32, u64)>>,
    pub filter_state: BTreeMap<String, Vec<u8>>,
    /// Values a test gave, by path joined with NUL.
    pub properties: HashMap<Vec<u8>, Vec<u8>>,
    pub local_reply: bool,
    pub finished: bool,
    pub log_phase: bool,
    pub details: String,
}

impl Stream {
    pub fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    pub fn filter(&mut self, direction: Direction, plugin: usize) -> &mut FilterFlow {
        &mut self.flow(direction).filters[plugin]
    }

    /// A local reply ends the request's way through the chain, not the response's.
    pub fn alive(&self, direction: Direction) -> bool {
        !self.finished && (direction == Direction::Response || !self.local_reply)
    }
}

/// What a plugin asked for during a call, done after the call has returned.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Continue(Direction),
    LocalReply(LocalReply),
    Reset,
}

#[derive(Clone, Debug)]
pub(super) struct LocalReply {
    pub status: u32,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub details: String,
}
