//! Why a request does not go on to the next stage.

use crate::config::Mode;
use crate::flow::Flow;
use crate::labels;
use crate::metrics::Metric;
use crate::port::{Call, Effect};
use crate::refusal::Refusal;
use crate::world::World;

/// Why a request does not go on to the next stage.
#[derive(Debug)]
pub enum Stop {
    /// It is refused.
    Refuse(Box<Refusal>),
    /// It is answered here.
    Answer(Box<Answer>),
    /// It waits: until a service has answered that is to be asked first, or for a server.
    Wait(Option<Box<Call>>),
    /// It is none of ours: passes untouched.
    Pass,
}

/// What is answered here, with status 200.
#[derive(Debug)]
pub struct Answer {
    /// Besides the content type.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

impl From<Answer> for Effect {
    fn from(Answer { mut headers, body }: Answer) -> Self {
        headers.push(("content-type", "application/json".to_owned()));
        Self::Reply { status: 200, headers, body }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(Box::new(refusal))
    }
}

/// Refuses, or lets the request go on where that is only observed: then what would have been is counted, and told to the client and the
/// access log.
///
/// # Errors
/// [`Stop::Refuse`] where it is enforced.
pub fn refuse(mode: Mode, refusal: Refusal, flow: &mut Flow, world: &mut World<'_>) -> Result<(), Stop> {
    if mode == Mode::Enforce {
        return Err(refusal.into());
    }
    let would = refusal.would();
    let told = flow.facts.would.get_or_insert_default();
    // A stage may run once more, when a service has answered.
    if told.split(", ").all(|known| known != would) {
        *told = if told.is_empty() { would } else { format!("{told}, {would}") };
        let limit = refusal.limit.as_deref().unwrap_or(labels::NO_LIMIT);
        let series = world.worker.series.id(Metric::Observed, &[refusal.reason.label(), limit]);
        world.out.push(Effect::Count(series, 1));
    }
    Ok(())
}
