//! A request in several streams, as the proxy follows redirects of its server: see [`redirect`](crate::redirect).

use core::any::Any;

use super::{Exchange, State};
use crate::facts::Facts;
use crate::port::Effect;
use crate::world::World;

impl Exchange {
    /// The proxy follows a redirect: this stream is over, and the request is not. What is known of it waits for the stream that comes next.
    pub(super) fn end_of_first_pass(&mut self, world: &mut World<'_>) {
        // The plugins of a row share the number; each keeps its own.
        let known = Facts::published(world.properties).and_then(|facts| facts.redirected);
        let number = *self.flow.facts.redirected.get_or_insert_with(|| known.unwrap_or_else(world.entropy));
        world.out.push(Effect::Publish(self.flow.facts.encode()));
        let mut first = Self::new(self.id, self.flow.config.clone());
        first.state = State::Closed;
        core::mem::swap(self, &mut first);
        world.worker.redirected.keep(number, Box::new(first), world.now);
    }

    /// Settles the requests that came to no second pass, as a proxy may not follow where it said that it would. To be called with every
    /// tick; what they leave for the access log is nobody's by then.
    pub fn settle_late(world: &mut World<'_>) {
        let late = world.worker.redirected.late(world.now);
        Self::settle_without_second(late, world);
    }

    /// The same for all that wait, when nothing comes here any more.
    pub fn settle_waiting(world: &mut World<'_>) {
        let all = world.worker.redirected.all();
        Self::settle_without_second(all, world);
    }

    fn settle_without_second(waiting: Vec<Box<dyn Any>>, world: &mut World<'_>) {
        for late in waiting {
            if let Ok(mut late) = late.downcast::<Self>() {
                let before = world.out.len();
                late.settle(world);
                let told = world.out.split_off(before);
                world.out.extend(told.into_iter().filter(|effect| !matches!(effect, Effect::Publish(_))));
            }
        }
    }

    /// Goes on with what the first pass of this request left. Whether it is a second one.
    pub(super) fn second_pass(&mut self, known: Option<&Facts>, world: &mut World<'_>) -> bool {
        let first = known.and_then(|facts| world.worker.redirected.take(facts.redirected?));
        let first = first.and_then(|first| first.downcast::<Self>().ok());
        let is_second = first.is_some();
        if let Some(first) = first {
            *self = *first;
        }
        is_second
    }
}
