//! What is answered here instead of by a server: how much a prompt costs, and which models there are.

use penstock_dialects::{Dialect, Listing, count_body};

use crate::flow::Flow;
use crate::refusal::Refusal;
use crate::stage::Stop;
use crate::stage::stop::Answer;

/// What the prompt costs, as the reservation of such a request would have it.
pub fn count(flow: &Flow) -> Stop {
    let facts = &flow.facts;
    let mut headers = vec![("x-penstock-prompt-tokens", facts.prompt_tokens.to_string())];
    if facts.estimated {
        headers.push(("x-penstock-estimated", "true".to_owned()));
    }
    let body = count_body(flow.dialect, facts.prompt_tokens.0).unwrap_or_default();
    Stop::Answer(Box::new(Answer { headers, body }))
}

/// The models that the caller may use, by all names that lead to one alone; or the one of this name.
pub fn models(flow: &Flow, name: Option<&str>) -> Stop {
    let config = &flow.config;
    let listing = if flow.dialect == Dialect::Messages { Listing::Anthropic } else { Listing::OpenAi };
    let body = match name {
        Some(name) => {
            let known = config.asked(name).filter(|model| !model.is_implicit && flow.may_use(model));
            if known.is_none() {
                return Refusal::unknown_model(name).into();
            }
            listing.one(name)
        }
        None => {
            let may_use =
                |at: usize| config.models.get(at).is_some_and(|model| !model.is_implicit && flow.may_use(model));
            let names = config.names.listed().filter(|(_, at)| may_use(*at)).map(|(name, _)| name);
            listing.all(&names.collect::<Vec<_>>())
        }
    };
    Stop::Answer(Box::new(Answer { headers: Vec::new(), body }))
}
