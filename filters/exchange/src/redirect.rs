//! A redirect of the server that the proxy follows (Envoy: `internal_redirect_policy`): the filters see one request as two streams.
//!
//! The first stream ends without an answer, and the second begins at once, on the same worker, with the request as the first one forwarded it.
//! So what is known of the request is kept in between, and the second pass goes on with it: nothing is read, charged or drawn anew. Its number
//! stands in the facts, which the proxy hands on from stream to stream and no client can write.

use penstock_units::Nanos;

use crate::exchange::Exchange;
use crate::port::{Effect, Properties};
use crate::world::World;

/// For how long what waits for a second pass is kept: it comes at once, or never.
const WAIT: Nanos = Nanos(60 * Nanos::SECOND.0);

/// Whether this stream ended because the proxy follows a redirect.
pub fn follows(properties: &dyn Properties) -> bool {
    properties.get(&["response", "code_details"]).is_some_and(|details| details == b"internal_redirect")
}

/// Keeps an exchange for its second pass. Those that came to none are settled.
pub fn keep(number: u64, exchange: Exchange, world: &mut World<'_>) {
    let now = world.now;
    let waiting = core::mem::take(&mut world.worker.redirected);
    let is_late = |at: &Nanos| now.saturating_sub(*at) > WAIT;
    let (late, mut rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, (at, _))| is_late(at));
    rest.push((number, (now, Box::new(exchange))));
    world.worker.redirected = rest.into_iter().collect();
    for (_, (_, mut exchange)) in late {
        let before = world.out.len();
        exchange.settle(world);
        // The stream at hand is another one's.
        let told = world.out.split_off(before);
        world.out.extend(told.into_iter().filter(|effect| !matches!(effect, Effect::Publish(_))));
    }
}
