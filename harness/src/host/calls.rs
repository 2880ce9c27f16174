//! Answers to the calls that plugins sent out.

use super::callouts::{Callout, Protocol};
use super::lock::lock;
use super::state::Answer;
use super::worker::Worker;
use crate::message::Headers;

/// The status that a plugin reads when the connection of its HTTP call broke (`BrokenConnection`).
const BROKEN_CONNECTION: u32 = 11;
/// gRPC's UNAVAILABLE.
const UNAVAILABLE: u32 = 14;

/// One callback to the plugin that made a call, and what it can read meanwhile.
struct Delivery<'a> {
    callback: &'static str,
    /// After the context and the token.
    arguments: &'a [u32],
    answer: Option<Answer>,
    status: (u32, &'static str),
}

impl Worker {
    /// The calls that wait for an answer, in the order in which they were sent.
    pub fn callouts(&self) -> Vec<Callout> {
        lock(&self.traffic).callouts.waiting().to_vec()
    }

    /// Answers an HTTP call. False when there is no such call (any more). Where the time of a call runs out, Envoy itself answers 504.
    pub fn answer_call(&mut self, token: u32, headers: Headers, body: &[u8]) -> bool {
        let arguments = [headers.len() as u32, body.len() as u32, 0];
        let answer = Some(Answer::Http { headers, body: body.to_vec() });
        let callback = "proxy_on_http_call_response";
        self.deliver(token, Protocol::Http, Delivery { callback, arguments: &arguments, answer, status: (0, "") })
    }

    /// Answers a gRPC call with a message, or with a status other than 0. False when there is no such call (any more).
    pub fn answer_grpc(&mut self, token: u32, status: u32, message: &[u8]) -> bool {
        if status != 0 {
            let (callback, status, arguments) = ("proxy_on_grpc_close", (status, "failed"), [status]);
            return self.deliver(
                token,
                Protocol::Grpc,
                Delivery { callback, arguments: &arguments, answer: None, status },
            );
        }
        let arguments = [message.len() as u32];
        let answer = Some(Answer::Grpc { message: message.to_vec() });
        let callback = "proxy_on_grpc_receive";
        self.deliver(token, Protocol::Grpc, Delivery { callback, arguments: &arguments, answer, status: (0, "") })
    }

    /// The connection of a call broke. False when there is no such call (any more).
    pub fn fail_call(&mut self, token: u32) -> bool {
        let (callback, status) = ("proxy_on_http_call_response", (BROKEN_CONNECTION, "reset"));
        let broken = Delivery { callback, arguments: &[0, 0, 0], answer: None, status };
        self.deliver(token, Protocol::Http, broken) || self.answer_grpc(token, UNAVAILABLE, &[])
    }

    fn deliver(&mut self, token: u32, protocol: Protocol, delivery: Delivery<'_>) -> bool {
        let Some(call) = lock(&self.traffic).callouts.take(token, protocol) else { return false };
        let vm = &mut self.slots[call.vm].vm;
        if vm.failed.is_some() {
            return false;
        }
        let (code, message) = delivery.status;
        vm.state().answer = delivery.answer;
        vm.state().status = (code, message.to_owned());
        // A trap is logged and leaves the VM dead; there is no stream to fail.
        let _ = vm.call(delivery.callback, call.root, &[&[call.root, token], delivery.arguments].concat());
        vm.state().answer = None;
        vm.state().status = (0, String::new());
        self.run_actions();
        true
    }
}
