//! Calls that plugins sent to other services and that wait for an answer, which the test gives by token.
//!
//! As in Envoy, a call belongs to its plugin's root context, whichever context sent it: the answer comes there, and a call outlives the
//! stream that it was sent for (proxy-wasm-cpp-host, `src/exports.cc`: `http_call` and `grpc_call` begin with `root_context()`).

use super::status::Status;
use super::stream::StreamId;
use crate::message::Headers;

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `proxy_http_call`.
    Http = 0,
    /// `proxy_grpc_call`.
    Grpc = 1,
}

/// A call that a plugin sent out, to be answered by the test.
#[derive(Clone, Debug)]
pub struct Callout {
    /// Names the call on its worker.
    pub token: u32,
    /// How it is made.
    pub protocol: Protocol,
    /// The cluster, or for gRPC the service definition or cluster name as the plugin gave it.
    pub upstream: Vec<u8>,
    /// `http`, or `service/method` of a gRPC call.
    pub method: String,
    /// Headers, or the initial metadata of a gRPC call.
    pub headers: Headers,
    /// Body or message.
    pub body: Vec<u8>,
    /// Milliseconds the plugin is ready to wait; the test decides whether they pass.
    pub timeout_ms: u32,
    /// The stream that it was sent for; `None` for a root context.
    pub stream: Option<StreamId>,
    pub(super) vm: usize,
    pub(super) root: u32,
}

/// All calls of one worker that have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Callouts {
    waiting: Vec<Callout>,
    last: u32,
}

impl Callouts {
    /// Notes a call and names it. As in Envoy, the last two bits of a token tell the protocol.
    pub fn send(&mut self, call: Callout) -> u32 {
        self.last += 1;
        let token = self.last << 2 | call.protocol as u32;
        self.waiting.push(Callout { token, ..call });
        token
    }

    pub fn waiting(&self) -> &[Callout] {
        &self.waiting
    }

    /// The call that is answered now; it no longer waits.
    pub fn take(&mut self, token: u32, protocol: Protocol) -> Option<Callout> {
        let place = self.waiting.iter().position(|call| (call.token, call.protocol) == (token, protocol))?;
        Some(self.waiting.remove(place))
    }

    /// `proxy_grpc_cancel` and, for calls that are no streams, `proxy_grpc_close`. HTTP calls cannot be cancelled.
    pub fn cancel_grpc(&mut self, vm: usize, token: u32) -> Result<(), Status> {
        if token & 3 != Protocol::Grpc as u32 {
            return Err(Status::BadArgument);
        }
        let place =
            self.waiting.iter().position(|call| (call.vm, call.token) == (vm, token)).ok_or(Status::NotFound)?;
        self.waiting.remove(place);
        Ok(())
    }

    /// The VM died: nobody is left to be answered.
    pub fn forget_vm(&mut self, vm: usize) {
        self.waiting.retain(|call| call.vm != vm);
    }
}
