//! A request that is held back: for its body, for a service, or for a server.

use super::{Exchange, State};
use crate::body::Head;
use crate::port::{CallAnswer, CallId, Effect};
use crate::stage::{Stage, hold, limit};
use crate::world::World;

impl Exchange {
    /// A tick has passed: headers that have been held for too long without a body are let go, and what waits for a server looks for it.
    pub(super) fn tick(&mut self, world: &mut World<'_>) {
        if matches!(self.state, State::Waiting) {
            return self.look(world);
        }
        if matches!(self.state, State::Feedback(..)) {
            return self.feedback_waits(world);
        }
        let body = &mut self.flow.body;
        let State::Reading(reading) = &mut self.state else { return };
        if body.has_begun || !body.holds_headers() {
            return;
        }
        reading.ticks = reading.ticks.saturating_add(1);
        if world.worker.patience().is_some_and(|patience| reading.ticks > patience) {
            body.let_headers_go(Head::Released(world.now), world.out);
            world.out.push(Effect::Ticks(false));
            world.out.push(Effect::Resume);
        }
    }

    /// Looks for the server that the request waits for.
    pub(super) fn look(&mut self, world: &mut World<'_>) {
        match hold::look(&mut self.hold, &mut self.flow, world) {
            hold::Next::Stay => {}
            hold::Next::Go => {
                self.state = State::Decided;
                self.forward(world);
            }
            hold::Next::Refuse(refusal) => {
                let stop = hold::refuse(self.id, *refusal, &self.flow, world);
                self.stop(stop, world);
            }
        }
    }

    /// A service has answered, or not: the stage that asked goes on. As others may have come in meanwhile, a request that was read here has
    /// to find room once more before that, with its fallbacks.
    pub(super) fn call_done(&mut self, id: CallId, answer: Option<CallAnswer<'_>>, world: &mut World<'_>) {
        if hold::answered(&mut self.hold, &self.flow, id, answer, world) {
            return;
        }
        if !matches!(self.state, State::Waiting) || !limit::awaits(&self.limit, id) {
            return limit::late(&mut self.limit, id, answer, world);
        }
        match limit::answered(&mut self.limit, &mut self.flow, answer, world) {
            Ok(()) if self.flow.is_known => self.decide(Stage::Limit, world),
            Ok(()) => self.decide(Stage::Admit, world),
            Err(stop) => self.stop(stop, world),
        }
    }
}
