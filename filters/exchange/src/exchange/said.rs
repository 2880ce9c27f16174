//! A request that says something of an answer: it is held until all of it is there, and answered here.

use super::{Exchange, State};
use crate::body::Head;
use crate::port::Effect;
use crate::refusal::Refusal;
use crate::stage::feedback;
use crate::world::World;

impl Exchange {
    /// Its headers are here. What is not held would reach a server.
    pub(super) fn feedback_begins(&mut self, end: bool, world: &mut World<'_>) {
        if end || !world.worker.waiting.holds(world.now) {
            let refusal = if end { Refusal::feedback_empty() } else { Refusal::feedback_unheld() };
            return self.stop(refusal.into(), world);
        }
        self.flow.body.head = Head::Held { length: None };
        self.state = State::Feedback(Box::default());
        if world.worker.patience().is_some() {
            world.out.push(Effect::Ticks(true));
        }
        world.out.push(Effect::Pause);
    }

    /// More of it is here.
    pub(super) fn feedback(&mut self, end: bool, world: &mut World<'_>) {
        let State::Feedback(said) = &self.state else { return };
        if said.bytes.len() > feedback::BYTES_MAX {
            return self.stop(Refusal::feedback_too_long(feedback::BYTES_MAX).into(), world);
        }
        if end {
            let stop = feedback::take(&self.flow, &said.bytes, world);
            self.stop(stop, world);
        }
    }

    /// A tick has passed: where headers cannot wait for the body, none of it comes.
    pub(super) fn feedback_waits(&mut self, world: &mut World<'_>) {
        let State::Feedback(said) = &mut self.state else { return };
        said.ticks = said.ticks.saturating_add(1);
        let is_late = world.worker.patience().is_some_and(|patience| said.ticks > patience);
        if is_late && !self.flow.body.has_begun {
            world.out.push(Effect::Ticks(false));
            self.stop(Refusal::feedback_unheld().into(), world);
        }
    }
}
