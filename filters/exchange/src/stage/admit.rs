//! Admit: whether the model has room for a tenant, by what is pending; a model without room may fall back to another.
//!
//! Each worker writes what its tenants hold of every model with a ceiling into a slot of its own, with every admission and every heartbeat.
//! So the sums are as old as a heartbeat in what is done by now, and never in what was admitted: they are high rather than low. Two workers
//! that decide at the same instant do not see each other, which lets the ceiling be passed by one request for each further worker.
//!
//! Prompts count whole here, for what is held as for what asks, whatever is expected to be cached of them: a guess loosens no ceiling, and
//! nobody whose prompts are cached makes room for more of those that are not.

use hashbrown::HashMap;
use penstock_pending::fair::{self, Holding, Priority};
use penstock_units::{Nanos, Tokens};

use super::order::Stage;
use super::stop::{self, Stop};
use super::{count, limit, pending, route};
use crate::config::{Config, Mode, Model};
use crate::facts::Facts;
use crate::flow::Flow;
use crate::hash::Secret;
use crate::keys;
use crate::labels;
use crate::overflow::{Table, WAITING_MAX};
use crate::port::{Effect, Store};
use crate::refusal::Refusal;
use crate::want::Want;
use crate::world::World;

/// How long a refused tenant is taken to want more.
const BACKLOGGED: Nanos = Nanos(3_000_000_000);
/// Who stands for those others.
const OTHERS: u64 = 0;
/// Bytes of one of them: the tenant's hash, its weight, when.
const ENTRY: usize = 20;

/// What is remembered of a request.
#[derive(Default)]
pub struct State {
    /// The model that is served instead of the one that was asked for.
    pub fallback: Option<String>,
}

impl State {
    /// Another model serves. The plugins behind this one are told that it is not the one that was asked for.
    fn serves(&mut self, other: &Model, flow: &mut Flow) {
        self.fallback = Some(other.name.clone());
        flow.facts.chosen_by = Some(labels::FALLBACK.to_owned());
    }
}

/// Finds room: with the model that is asked for, or one that it falls back to, for which the request is counted anew.
///
/// # Errors
/// [`Stop::Refuse`] where none has room, and as one that is too large where none ever has; where its limits would refuse the request anyway,
/// that is what the client is told.
pub fn run(
    state: &mut State,
    counted: &mut count::State,
    limited: &mut limit::State,
    flow: &mut Flow,
    world: &mut World<'_>,
) -> Result<(), Stop> {
    let config = flow.config.clone();
    let Some(mut model) = flow.model(&config) else { return Ok(()) };
    // Whoever is refused anyway tries nothing.
    if world.worker.breakers.any_open()
        && limit::would_admit(limited, flow, world).is_ok()
        && instead(state, counted, flow, model, world)
    {
        return Ok(());
    }
    if flow.tries.is_none()
        && model.routing.as_ref().is_some_and(|routing| routing.weighs_fallbacks)
        && cheaper(state, counted, limited, flow, model, world)
    {
        return Ok(());
    }
    let mut never_has_room = true;
    // The configuration has no circle of fallbacks. One that does not take the prompt has no room for it either.
    loop {
        let takes = count::takes(counted, flow, model);
        let never = never_fits(model, flow);
        if takes && never.is_none() && has_room(model, flow, world) {
            return Ok(());
        }
        let fits = never.is_none();
        never_has_room &= !takes || never.is_some();
        let refusal = never.unwrap_or_else(|| Refusal::saturated(&model.name));
        if takes && model.ceiling_mode == Mode::Observe {
            return stop::refuse(Mode::Observe, refusal, flow, world);
        }
        let goes_otherwise = limit::would_admit(limited, flow, world);
        if goes_otherwise.is_ok() {
            remember(model, flow, world);
            // What it has never room for no replica would bring.
            if takes && fits {
                pending::wanted([labels::model(&model.name), labels::stable(model)], Want::Room, flow, world);
            }
        }
        let Some(next) = fallbacks(&config, model).find(|model| flow.may_use(model)) else {
            // Who is to come back later is told so only where that helps.
            return if never_has_room {
                Err(refusal.into())
            } else {
                goes_otherwise.and(Err(Refusal::saturated(&model.name).into()))
            };
        };
        model = next;
        flow.facts.model.clone_from(&model.name);
        flow.tries = None;
        state.serves(model, flow);
        if model.suspended {
            return Err(Refusal::suspended_model().into());
        }
        count::for_model(counted, flow, model, world);
    }
}

/// The refusal of a prompt that is longer than all that may ever be pending. A guess of its output refuses nothing for good.
fn never_fits(model: &Model, flow: &Flow) -> Option<Refusal> {
    let (prompt, ceiling) = (flow.facts.prompt_tokens, model.ceiling?);
    (prompt > ceiling).then(|| Refusal::never_has_room(&model.name, prompt, ceiling))
}

/// Whether another model serves while all versions of this one fail: the first of its fallbacks that takes the request, and does not fail
/// as well. Without one, it goes where it was asked to go.
fn instead(
    state: &mut State,
    counted: &mut count::State,
    flow: &mut Flow,
    model: &Model,
    world: &mut World<'_>,
) -> bool {
    if answers(flow, model, world) {
        return false;
    }
    let config = flow.config.clone();
    let mut other = model;
    while let Some(next) = other.fallback.as_ref().and_then(|name| config.models.iter().find(|next| next.name == *name))
    {
        other = next;
        if other.suspended || !flow.may_use(other) {
            continue;
        }
        count::for_model(counted, flow, other, world);
        if count::takes(counted, flow, other)
            && never_fits(other, flow).is_none()
            && has_room(other, flow, world)
            && answers(flow, other, world)
        {
            state.serves(other, flow);
            return true;
        }
    }
    flow.tries = None;
    count::for_model(counted, flow, model, world);
    false
}

/// Whether a model that this one falls back to serves, as a rule prefers what is cheapest: the first of those that cost least, where that is
/// less than what the model's own versions cost, or none of these is within its bounds. It has to have room, and its limits have to.
fn cheaper(
    state: &mut State,
    counted: &mut count::State,
    limited: &mut limit::State,
    flow: &mut Flow,
    model: &Model,
    world: &mut World<'_>,
) -> bool {
    let Some(own) = route::rules::preference(flow, model, world) else { return false };
    let config = flow.config.clone();
    let (mut least, mut serves) = (own.unwrap_or(u64::MAX), model);
    let next = |model: &&Model| model.fallback.as_ref().and_then(|name| config.model(name));
    for other in core::iter::successors(next(&model), next) {
        if other.suspended || !flow.may_use(other) {
            continue;
        }
        count::for_model(counted, flow, other, world);
        let fits = count::takes(counted, flow, other) && never_fits(other, flow).is_none();
        if !fits || !has_room(other, flow, world) || limit::would_admit(limited, flow, world).is_err() {
            continue;
        }
        if let Some(cost) = route::rules::at_most(flow, other, world).filter(|cost| *cost < least) {
            (least, serves) = (cost, other);
        }
    }
    count::for_model(counted, flow, serves, world);
    let is_other = serves.name != model.name;
    if is_other {
        state.serves(serves, flow);
    }
    is_other
}

/// Whether some version of the model that may serve this request is not left alone, or this request is to try one.
fn answers(flow: &mut Flow, model: &Model, world: &mut World<'_>) -> bool {
    flow.tries = None;
    let open = world.worker.breakers.left_alone(model, world.now);
    let taken_back = world.worker.trials.taken_back(model);
    let split = route::rules::split(flow, model);
    let shares = |version: &usize| split.is_none_or(|split| split.has(*version));
    let all = || (0..model.versions.len().max(1)).filter(shares);
    // Those that are taken back serve where there are no others.
    let is_out = |version: usize| taken_back.has(version) && all().any(|other| !taken_back.has(other));
    let mut versions = all().filter(|version| !is_out(*version));
    if model.fallback.is_none() || versions.clone().any(|version| !open.has(version)) {
        return true;
    }
    let World { worker, store, now, .. } = world;
    if !worker.plugin.owns(Stage::Route) {
        // The plugin that draws says which is tried.
        return versions.any(|version| worker.breakers.may(model, version, *now));
    }
    flow.tries = versions.find(|version| worker.breakers.lets(model, *version, *now, &mut **store));
    flow.tries.is_some()
}

/// The models that may take this one's place when it is full, in their order.
fn fallbacks<'c>(config: &'c Config, model: &'c Model) -> impl Iterator<Item = &'c Model> {
    let next = |model: &&'c Model| {
        model.fallback.as_ref().filter(|_| model.falls_back_when_full).and_then(|name| config.model(name))
    };
    core::iter::successors(next(&model), next)
}

/// What the client is told.
pub fn response_headers(state: &State, world: &mut World<'_>) {
    if let Some(fallback) = &state.fallback {
        world.out.push(Effect::ResponseHeader("x-penstock-fallback", fallback.clone().into_bytes()));
    }
}

/// Whether the request comes in.
fn has_room(model: &Model, flow: &Flow, world: &mut World<'_>) -> bool {
    let Some(ceiling) = model.ceiling else { return true };
    let facts = &flow.facts;
    let mut held = world.worker.loads(labels::model(&model.name), world.now, world.store);
    let secret = world.worker.secret;
    let own_hash = hash(&secret, &world.worker.config, &facts.tenant);
    let mut backlogged = backlogged(world.store, &model.name, world.now);
    let config = &world.worker.config;
    let own = Holding {
        weight: weight(config, &facts.tenant),
        tokens: held.remove(&facts.tenant).unwrap_or_default().tokens(),
        is_backlogged: backlogged.remove(&own_hash).is_some(),
    };
    let mut others: Vec<Holding> = Vec::with_capacity(held.len());
    for (tenant, sum) in held {
        let is_backlogged = backlogged.remove(&hash(&secret, config, &tenant)).is_some();
        others.push(Holding { weight: weight(config, &tenant), tokens: sum.tokens(), is_backlogged });
    }
    others.extend(backlogged.values().map(|weight| Holding {
        weight: *weight,
        tokens: Tokens::ZERO,
        is_backlogged: true,
    }));
    let priority = config.tenant(&facts.tenant).map_or(Priority::Normal, |tenant| tenant.priority);
    fair::admits(ceiling, tokens(facts), own, &others, priority)
}

fn tokens(facts: &Facts) -> Tokens {
    facts.prompt_tokens.saturating_add(facts.expected_output)
}

/// How much a tenant counts among others.
pub fn weight(config: &Config, tenant: &str) -> u32 {
    config.tenant(tenant).map_or(1, |tenant| tenant.weight)
}

/// What tells tenants apart here. Those without a name are one: a name costs nothing to make up.
fn hash(secret: &Secret, config: &Config, tenant: &str) -> u64 {
    let named = config.tenant(tenant).map_or("", |tenant| tenant.name.as_str());
    secret.hash([named.as_bytes()])
}

/// The weights of tenants that were refused a moment ago.
fn backlogged(store: &mut dyn Store, model: &str, now: Nanos) -> HashMap<u64, u32> {
    let page = store.get(&keys::backlogged(model)).unwrap_or_default();
    let recent = entries(&page).filter(|(.., at)| now.abs_diff(*at) < BACKLOGGED);
    recent.map(|(tenant, weight, _)| (tenant, weight)).collect()
}

/// Remembers that the tenant was refused for want of room, so that others leave it its share. What could not come in anyway waits for
/// nothing.
fn remember(model: &Model, flow: &Flow, world: &mut World<'_>) {
    if model.ceiling.is_some_and(|ceiling| tokens(&flow.facts) > ceiling) {
        return;
    }
    let (config, now, name) = (&flow.config, world.now, &flow.facts.tenant);
    let (tenant, weight) = (hash(&world.worker.secret, config, name), weight(config, name));
    let mut is_full = false;
    // Where that is contended others are refused as well, and remembered.
    let _ = world.store.update(&keys::backlogged(&model.name), &mut |old| {
        let mut page = Vec::with_capacity(WAITING_MAX.saturating_mul(ENTRY));
        let recent = |(known, _, at): &(u64, u32, Nanos)| *known != tenant && now.abs_diff(*at) < BACKLOGGED;
        let mut all: Vec<(u64, u32, Nanos)> = vec![(tenant, weight, now)];
        all.extend(entries(old.unwrap_or_default()).filter(recent));
        is_full = all.len() > WAITING_MAX;
        if is_full {
            // Whoever has waited longest joins the others. Some come back, and are among them all the same; but those who are not listed
            // weigh no more than all tenants without the listed ones.
            let rest = all.split_off(WAITING_MAX.saturating_sub(1));
            let sum = |weights: &mut dyn Iterator<Item = u32>| weights.fold(0u32, u32::saturating_add);
            let listed = sum(&mut all.iter().map(|(_, weight, _)| *weight));
            let everyone = sum(&mut config.tenants.iter().map(|tenant| tenant.weight)).saturating_add(1);
            let weight = sum(&mut rest.iter().map(|(_, weight, _)| *weight)).min(everyone.saturating_sub(listed));
            all.push((OTHERS, weight, rest.iter().map(|(.., at)| *at).max().unwrap_or(now)));
        }
        for (tenant, weight, at) in all {
            page.extend_from_slice(&tenant.to_le_bytes());
            page.extend_from_slice(&weight.to_le_bytes());
            page.extend_from_slice(&at.0.to_le_bytes());
        }
        Some(page)
    });
    if is_full {
        world.worker.overflow.note(Table::Waiting);
    }
}

fn entries(page: &[u8]) -> impl Iterator<Item = (u64, u32, Nanos)> {
    page.chunks_exact(ENTRY).filter_map(|entry| {
        let (tenant, rest) = entry.split_first_chunk()?;
        let (weight, at) = rest.split_first_chunk()?;
        let at = Nanos(u64::from_le_bytes(at.try_into().ok()?));
        Some((u64::from_le_bytes(*tenant), u32::from_le_bytes(*weight), at))
    })
}
