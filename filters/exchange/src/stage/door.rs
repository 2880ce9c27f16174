//! The door: by which path somebody comes, and who it is, at the headers; for which model, at the end of the body, whose texts have been
//! counted as they came. What is certain to be refused is refused here, before anything is estimated, asked or charged.

pub mod answer;
mod head;
mod host;
mod path;

use penstock_dialects::{Dialect, Request};

use self::head::Head;
use self::path::Way;
use super::order::Plugin;
use super::stop::{self, Stop};
use crate::config::{Config, CountEndpoints, Mode, Policy, UnknownModel};
use crate::facts::Facts;
use crate::flow::Flow;
use crate::identity::{ANONYMOUS, Caller, header};
use crate::port::{Effect, Headers};
use crate::refusal::Refusal;
use crate::world::World;

/// At the headers: the path, what an earlier plugin knows, and who asks. In a row of plugins the first decides about the path. `known` is
/// also what is left of a request that passed unread and comes once more, as the proxy follows a redirect with it: where it leads now has to
/// be open too.
///
/// # Errors
/// [`Stop::Pass`] for what is not the API of a model; [`Stop::Refuse`] for a path that is not open, and for a caller who may not ask.
pub fn at_headers(flow: &mut Flow, headers: &Headers, known: Option<Facts>, world: &mut World<'_>) -> Result<(), Stop> {
    // One that decides at the body has only left its mark by now.
    flow.is_known = known.as_ref().is_some_and(|facts| !facts.model.is_empty());
    let passed = known.as_ref().is_some_and(|facts| facts.passed);
    flow.is_first = known.is_none();
    flow.is_behind = known.is_some() && !passed;
    let is_first = passed || flow.is_first;
    flow.facts = known.unwrap_or_default();
    let head = Head::of(headers);
    if is_first && !host::is_ours(&head, world) {
        if flow.is_first && world.worker.plugin != Plugin::Penstock {
            flow.facts.passed = true;
            world.out.push(Effect::Publish(flow.facts.encode()));
        }
        return Err(Stop::Pass);
    }
    if is_first {
        world.out.extend(head.not_theirs().map(|name| Effect::DropRequestHeader(name.to_owned())));
    }
    let way = path::way(&flow.config, &head);
    match &way {
        Way::Open | Way::Public if passed => return Err(Stop::Pass),
        Way::Closed(_) if passed && flow.facts.would.is_some() => return Err(Stop::Pass),
        _ if passed => flow.facts = Facts::default(),
        _ => {}
    }
    flow.dialect = match way {
        Way::Api(dialect) | Way::Count(dialect) | Way::Closed(Some(dialect)) => dialect,
        _ if head.is_anthropic => Dialect::Messages,
        _ => Dialect::Chat,
    };
    match way {
        Way::Public => return Err(pass(flow, &head, world)),
        Way::Models(name, true) => return Err(answer::models(flow, name.as_deref())),
        _ => {}
    }
    let tenant = flow.is_known.then(|| flow.facts.tenant.clone());
    flow.caller = Caller::identify(&flow.config, &world.worker.secret, headers, world.properties, tenant);
    if !flow.is_known {
        identify(flow, headers, world)?;
    }
    if let (Way::Closed(_), true) = (&way, is_first) {
        stop::refuse(flow.config.paths.mode, Refusal::closed_path(), flow, world)?;
    }
    match way {
        Way::Api(_) | Way::Closed(Some(_)) => Ok(()),
        Way::Count(_) => count_only(flow),
        Way::Feedback => {
            flow.is_feedback = true;
            Ok(())
        }
        Way::Models(name, _) => Err(answer::models(flow, name.as_deref())),
        Way::Closed(None) | Way::Open | Way::Public => Err(pass(flow, &head, world)),
    }
}

/// What only asks for its count goes on being read, whoever counts it: it is for a model, which not everybody may use.
fn count_only(flow: &mut Flow) -> Result<(), Stop> {
    flow.is_count = true;
    match flow.config.count_endpoints {
        CountEndpoints::Answer | CountEndpoints::Forward => Ok(()),
        CountEndpoints::Refuse => Err(Refusal::no_counting().into()),
    }
}

/// Lets a request pass unread, and says so to the plugins behind this one, and to its own second pass; what would have refused it is left for
/// the access log.
fn pass(flow: &mut Flow, head: &Head<'_>, world: &mut World<'_>) -> Stop {
    flow.facts.passed = true;
    if world.worker.plugin != Plugin::Penstock || !head.is_safe() || flow.facts.would.is_some() {
        world.out.push(Effect::Publish(flow.facts.encode()));
    }
    Stop::Pass
}

/// Who asks, and whether they may ask at all.
fn identify(flow: &mut Flow, headers: &Headers, world: &mut World<'_>) -> Result<(), Stop> {
    let config = flow.config.clone();
    let tenant = config.tenant(&flow.caller.tenant);
    flow.facts.tenant.clone_from(&flow.caller.tenant);
    flow.facts.class = tenant.and_then(|tenant| tenant.class.as_deref()).map(str::to_owned);
    flow.facts.prompt_version = header(headers, "x-prompt-version").and_then(short_token);
    if tenant.is_some_and(|tenant| tenant.suspended) {
        return stop::refuse(config.tenant_mode, Refusal::suspended_tenant(), flow, world);
    }
    if flow.caller.has_unknown_key {
        return stop::refuse(config.tenant_mode, Refusal::unknown_key(), flow, world);
    }
    if config.deny_anonymous && flow.facts.tenant == ANONYMOUS {
        return stop::refuse(config.tenant_mode, Refusal::anonymous(), flow, world);
    }
    Ok(())
}

/// At the end of the body: the model.
///
/// # Errors
/// [`Stop`], as the configuration says.
pub fn at_body(flow: &mut Flow, world: &mut World<'_>) -> Result<(), Stop> {
    let config = flow.config.clone();
    let request = flow.read.as_ref().map(|read| &read.request);
    let name = request.and_then(|request| request.model.as_deref().or_else(|| unnamed(flow.dialect, request, &config)));
    let Some(name) = name else {
        return Err(or_pass(config.unreadable, Refusal::no_model()));
    };
    let unknown = || Refusal::unknown_model(name);
    // A model that is not theirs is as good as none: what there is besides is nobody's business.
    let model = config.asked(name).filter(|model| flow.may_use(model)).ok_or_else(unknown)?;
    let observed = (model.is_implicit && config.unknown_model == UnknownModel::Observe).then(unknown);
    flow.facts.model.clone_from(&model.name);
    if let Some(refusal) = observed {
        stop::refuse(Mode::Observe, refusal, flow, world)?;
    }
    if model.suspended { Err(Refusal::suspended_model().into()) } else { outlives(flow, &config) }
}

/// The model of a request that names none. In the Responses API a prompt template may name it, which only the server knows.
fn unnamed<'c>(dialect: Dialect, request: &Request, config: &'c Config) -> Option<&'c str> {
    let any = || config.model("*").filter(|_| dialect == Dialect::Responses).map(|model| model.name.as_str());
    config.default_model.as_deref().or_else(any).filter(|_| request.has_members)
}

/// Whether the answer is to be worked on after its response.
fn outlives(flow: &mut Flow, config: &Config) -> Result<(), Stop> {
    flow.facts.background = flow.read.as_ref().is_some_and(|read| read.request.background);
    if flow.facts.background && !config.serves_background { Err(Refusal::background().into()) } else { Ok(()) }
}

/// The refusal, unless such requests are to pass.
pub fn or_pass(policy: Policy, refusal: Refusal) -> Stop {
    match policy {
        Policy::Pass => Stop::Pass,
        Policy::Refuse => refusal.into(),
    }
}

/// A header value that may stand in a log: short, and made of token characters.
fn short_token(value: &[u8]) -> Option<String> {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || b"._-/:@+".contains(b);
    let text = core::str::from_utf8(value).ok()?;
    ((1..=64).contains(&value.len()) && value.iter().all(fits)).then(|| text.to_owned())
}
