//! Route: which version of the model serves the request, and what its server calls the model.

use super::order::Stage;
use crate::config::Model;
use crate::flow::Flow;
use crate::port::Effect;
use crate::world::World;

/// Draws the version, where the headers can still tell it.
pub fn run(flow: &mut Flow, world: &mut World<'_>) {
    let config = flow.config.clone();
    if let (true, Some(model)) = (flow.body.holds_headers(), flow.model(&config)) {
        draw(flow, model, world);
    }
}

/// Draws it before the body is there, where headers cannot wait: only possible where there is no choice of models.
pub fn run_ahead(flow: &mut Flow, world: &mut World<'_>) {
    let config = flow.config.clone();
    let mut models = config.models.iter().filter(|model| !model.is_implicit);
    if let (Some(model), None, true) = (models.next(), models.next(), world.worker.plugin.owns(Stage::Route)) {
        // Routes ask for both.
        world.out.push(Effect::RequestHeader("x-penstock-model", model.name.clone().into_bytes()));
        draw(flow, model, world);
    }
}

fn draw(flow: &mut Flow, model: &Model, world: &mut World<'_>) {
    let Some(split) = &model.split else { return };
    let key = model.sticky.iter().find_map(|source| flow.caller.shared_value(source, &model.name));
    let point = key.map_or_else(|| ((world.entropy)() >> 32) as u32, |key| penstock_canary::point(&model.name, key));
    let Some(version) = model.versions.get(split.draw(point)) else { return };
    flow.facts.version = Some(version.name.clone());
    world.out.push(Effect::RequestHeader("x-penstock-version", version.name.clone().into_bytes()));
}

/// Whether some version of the request's model is called otherwise by its server, so that the body has to be read for it.
pub fn needs_body(flow: &Flow, world: &World<'_>) -> bool {
    let model = flow.model(&flow.config).filter(|_| world.worker.plugin.owns(Stage::Route));
    model.is_some_and(|model| model.versions.iter().any(|version| version.model.is_some()))
}

/// Writes the model's name into the request, as the server that it goes to has it. `fallback`: the model that takes the place of the one
/// that was asked for.
pub fn write(flow: &mut Flow, fallback: Option<&str>, world: &World<'_>) {
    let Flow { config, facts, body, read: Some(read), .. } = flow else { return };
    let request = &read.request;
    let versions = config.model(&facts.model).filter(|_| world.worker.plugin.owns(Stage::Route));
    let version = versions.into_iter().flat_map(|model| &model.versions);
    let version = version.into_iter().find(|version| facts.version.as_ref() == Some(&version.name));
    let name = version.and_then(|version| version.model.as_deref()).or(fallback);
    if let Some(name) = name.filter(|name| request.model.as_deref() != Some(name)) {
        body.edit(request.with_model(name));
    }
}

/// What the client is told.
pub fn response_headers(flow: &Flow, world: &mut World<'_>) {
    if let Some(version) = flow.facts.version.as_ref().filter(|_| world.worker.plugin.owns(Stage::Route)) {
        world.out.push(Effect::ResponseHeader("x-penstock-version", version.clone().into_bytes()));
    }
}
