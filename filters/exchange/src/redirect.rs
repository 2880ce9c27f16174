//! A redirect of the server that the proxy follows (Envoy: `internal_redirect_policy`): the filters see one request as two streams.
//!
//! The first stream ends without an answer, and the second begins at once, on the same worker, with the request as the first one forwarded it.
//! So what is known of the request is kept in between, and the second pass goes on with it: nothing is read, charged or drawn anew. Its number
//! stands in the facts, which the proxy hands on from stream to stream and no client can write.

use core::any::Any;

use hashbrown::HashMap;
use penstock_units::Nanos;

use crate::port::Properties;

/// For how long what waits for a second pass is kept: it comes at once, or never.
const WAIT: Nanos = Nanos(5 * Nanos::SECOND.0);
/// How many wait at most; of more than these the oldest have waited long enough.
const WAITING_MAX: usize = 1024;

/// Whether this stream ended because the proxy follows a redirect.
pub fn follows(properties: &dyn Properties) -> bool {
    properties.get(&["response", "code_details"]).is_some_and(|details| details == b"internal_redirect")
}

/// What waits for a second pass, by its number. What it is only the exchange knows.
#[derive(Default)]
pub struct Waiting(HashMap<u64, (Nanos, Box<dyn Any>)>);

impl Waiting {
    /// Keeps something.
    pub fn keep(&mut self, number: u64, what: Box<dyn Any>, now: Nanos) {
        self.0.insert(number, (now, what));
    }

    /// What has waited in vain.
    pub fn late(&mut self, now: Nanos) -> Vec<Box<dyn Any>> {
        let mut times: Vec<Nanos> = self.0.values().map(|(at, _)| *at).collect();
        times.sort_unstable();
        let oldest = times.len().checked_sub(WAITING_MAX).and_then(|more| times.get(more)).copied();
        let is_late = |at: Nanos| now.saturating_sub(at) > WAIT || oldest.is_some_and(|oldest| at < oldest);
        self.0.extract_if(|_, (at, _)| is_late(*at)).map(|(_, (_, what))| what).collect()
    }

    /// All that waits.
    pub fn all(&mut self) -> Vec<Box<dyn Any>> {
        self.0.drain().map(|(_, (_, what))| what).collect()
    }

    /// What waits under this number.
    pub fn take(&mut self, number: u64) -> Option<Box<dyn Any>> {
        self.0.remove(&number).map(|(_, what)| what)
    }
}
