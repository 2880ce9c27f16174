//! What is remembered of who was served by which version: by its response, and by whoever comes back where the route draws.

use penstock_units::Fingerprint;

use crate::config::{Model, Owner};
use crate::facts::Facts;
use crate::flow::Flow;
use crate::identity::header;
use crate::keys::{self, Realm};
use crate::port::{Effect, Headers, Level};
use crate::response::Response;
use crate::served::{self, Tag};
use crate::stage::order::Stage;
use crate::want::Want;
use crate::world::World;

/// Under what a request is to be remembered.
#[derive(Default)]
pub struct Marks {
    /// It is to be remembered which version gave the response.
    pub response: bool,
    /// Under which its caller comes back, where the route draws.
    pin: Option<Fingerprint>,
}

/// What pins a caller.
#[derive(Clone, Copy)]
pub struct Sticky<'a> {
    /// What the first source says that says something.
    pub key: Option<&'a [u8]>,
    /// In front of that one, the response on which the request goes on.
    pub before: Option<&'a [u8]>,
}

/// The version that the caller comes back to, where the route draws.
pub fn pinned(
    marks: &mut Marks,
    flow: &Flow,
    model: &Model,
    Sticky { key, before }: Sticky<'_>,
    world: &mut World<'_>,
) -> Option<usize> {
    let realm = if flow.caller.is_named { Realm::Named } else { Realm::Strangers };
    let of = key.map(|key| realm.mark(world.worker.secret.fingerprint([b"pin", model.name.as_bytes(), key])));
    marks.pin = of;
    let before = before.and_then(|id| went_before(flow, model, id, world));
    let known = before.or_else(|| of.and_then(|of| place(model, served::by(of, &keys::pin(of), world.store)?, world)));
    // Nobody comes back to a version that the guard has taken back.
    let taken_back = world.worker.trials.taken_back(model);
    known.filter(|version| !taken_back.has(*version))
}

/// The version that gave the response on which this request goes on.
pub fn went_before(flow: &Flow, model: &Model, id: &[u8], world: &mut World<'_>) -> Option<usize> {
    let of = response(flow, id, world);
    place(model, served::by(of, &keys::response(of), world.store)?, world)
}

/// Which version of the model this stands for.
fn place(model: &Model, tag: Tag, world: &World<'_>) -> Option<usize> {
    let secret = world.worker.secret;
    model.versions.iter().position(|version| Tag::of(&secret, &version.name) == tag)
}

/// The head of the answer is here. Where the route draws, it says which version served, also to the plugin that keeps what is pending; where
/// there was no route, that is told.
pub fn heard(id: u32, marks: &Marks, flow: &mut Flow, headers: &Headers, response: &Response, world: &mut World<'_>) {
    let draws = world.worker.plugin.owns(Stage::Route);
    if !(draws || world.worker.plugin.owns(Stage::Pending)) || flow.facts.refused.is_some() {
        return;
    }
    if draws && response.lacks_route(world.properties) && !core::mem::replace(&mut world.worker.told_of_route, true) {
        let [model, version] = flow.served_by();
        let text = format!(
            "no route is for {model} {version}: requests that are drawn for it are answered 404; add a route on x-penstock-version"
        );
        world.out.push(Effect::Log(Level::Warn, text));
    }
    if !flow.config.has_pins {
        return;
    }
    let config = flow.config.clone();
    let Some(model) = flow.model(&config) else { return };
    if model.routing.as_ref().is_none_or(|routing| routing.owner == Owner::Penstock) {
        return;
    }
    let want = response.want(world.properties);
    let seen = seen(model, headers, world).filter(|_| want.is_none() && !response.lacks_route(world.properties));
    match (seen, marks.pin) {
        (Some(version), pin) => {
            flow.facts.version = Some(version.to_owned());
            // Not that of the pin.
            flow.place = None;
            world.worker.ledger.serves(id, flow.served_by());
            if let Some(of) = pin {
                served::remember(of, Tag::of(&world.worker.secret, version), &keys::pin(of), world.store);
            }
        }
        // The version is gone, as after a roll-out that was broken off.
        (None, Some(of)) if want == Some(Want::Backend) || response.lacks_route(world.properties) => {
            served::forget(of, &keys::pin(of), world.store);
        }
        (None, _) => {}
    }
}

/// The version that served: by what the route says, else by the cluster.
fn seen<'m>(model: &'m Model, headers: &Headers, world: &World<'_>) -> Option<&'m str> {
    let said = header(headers, "x-penstock-version");
    let by_name = model.versions.iter().find(|version| said == Some(version.name.as_bytes()));
    let by_cluster = || {
        if model.versions.iter().all(|version| version.cluster.is_none()) {
            return None;
        }
        let cluster = world.properties.get(&["xds", "cluster_name"])?;
        let is_it = |known: &String| known.as_bytes() == cluster;
        model.versions.iter().find(|version| version.cluster.as_ref().is_some_and(is_it))
    };
    by_name.or_else(by_cluster).map(|version| version.name.as_str())
}

/// What a response is remembered by: it is its tenant's, and no other's.
fn response(flow: &Flow, id: &[u8], world: &World<'_>) -> Fingerprint {
    let Facts { tenant, model, .. } = &flow.facts;
    let realm = if flow.caller.is_named { Realm::Named } else { Realm::Strangers };
    realm.mark(world.worker.secret.fingerprint([b"response", tenant.as_bytes(), model.as_bytes(), id]))
}

/// Some of the response is here. Once its server has said what it is called, it is remembered which version that was.
#[inline(never)]
pub fn remember(marks: &mut Marks, flow: &Flow, response: &Response, world: &mut World<'_>) {
    let (Some(id), Some(version)) = (response.id(), &flow.facts.version) else { return };
    let of = self::response(flow, id, world);
    served::remember(of, Tag::of(&world.worker.secret, version), &keys::response(of), world.store);
    marks.response = false;
}
