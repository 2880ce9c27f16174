//! A request and its answer: what is sent, and what came of it at both ends.

use std::time::Duration;

use super::format::{Abort, Unreachable};
use crate::message::Seen;

/// A request as it goes on the wire, and what the model server will answer.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Names and values, without the pseudo-headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, if it has one.
    pub body: Option<Vec<u8>>,
    /// In how many pieces the body arrives.
    pub chunks: usize,
    /// How long after the headers it comes.
    pub body_after: Duration,
    /// Which worker serves it; a proxy that chooses by itself may ignore this.
    pub worker: usize,
    /// When the client leaves.
    pub abort: Option<Abort>,
    /// The model server's answer.
    pub answer: Answer,
}

/// What the model server answers.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "as in the scenario file")]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub pieces: Vec<Vec<u8>>,
    pub delay: Duration,
    pub every: Duration,
    pub reset_after: Option<usize>,
    pub unreachable: Option<Unreachable>,
    pub follow: Option<Box<Answer>>,
}

impl Answer {
    /// Where the proxy is led, where it follows this answer by itself, and what it is answered there.
    pub fn followed(&self) -> Option<(&str, &Answer)> {
        let location = self.headers.iter().find(|(name, _)| name == "location")?;
        Some((std::str::from_utf8(&location.1).ok()?, self.follow.as_deref()?))
    }
}

/// What came of a request at both ends.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What the client got.
    pub client: Seen,
    /// What the model server got.
    pub upstream: Seen,
}
