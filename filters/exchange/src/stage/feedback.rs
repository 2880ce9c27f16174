//! Feedback: what callers say of answers, by the names of their requests ([`penstock_canary::feedback`]). It is answered here, for whoever
//! may ask, and feeds the guard of the version that served the request.
//!
//! Any plugin of a row may be the one that answers, so it is told to all workers at once, and not by way of the worker's own trials: there is
//! one update for each, and no more of them than there are requests.

use penstock_canary::feedback::{Refused, SIGNATURE, Signature, Ticket, spend};
use penstock_canary::guard::{Outcome, Record};
use penstock_units::{Fingerprint, Nanos};
use serde::Deserialize;

use super::stop::{Answer, Stop};
use crate::config::{Config, Feedback, Model, Source};
use crate::flow::Flow;
use crate::hash::Secret;
use crate::keys::{self, Realm};
use crate::labels;
use crate::metrics::Metric;
use crate::port::Effect;
use crate::refusal::Refusal;
use crate::trials::{self, Subject};
use crate::world::World;

/// How long what is said may be.
pub const BYTES_MAX: usize = 4096;

/// What has come of a request that says something.
#[derive(Default)]
pub struct Posted {
    /// Its body.
    pub bytes: Vec<u8>,
    /// For how many ticks nothing of it has come.
    pub ticks: u64,
}

/// What is said; other fields are not read.
#[derive(Deserialize)]
struct Said {
    request_id: String,
    score: f64,
}

/// The name of a request for its caller to speak of it by. `is_evidence`: what is said of it is for the guard.
pub fn name(flow: &Flow, is_evidence: bool, sent: Nanos, world: &World<'_>) -> Option<String> {
    let feedback = flow.config.feedback.as_ref()?;
    let secret = secret(feedback, world);
    let [model, version] = flow.served_by();
    let request = (world.entropy)();
    let Fingerprint(series) = series(secret, [model, version], is_evidence);
    let ticket = Ticket {
        request,
        series: Fingerprint(series ^ veil(secret, request)),
        tenant: tenant(flow, secret),
        seconds: u32::try_from(sent.0.checked_div(Nanos::SECOND.0).unwrap_or(0)).unwrap_or(u32::MAX),
    };
    Some(ticket.encode(|bytes| sign(secret, bytes)))
}

/// Takes what is said.
///
/// # Errors
/// Always: the answer, or the refusal of what cannot be read, or is said of a request that is nobody's, another's, too old, or was spoken of.
pub fn take(flow: &Flow, body: &[u8], world: &mut World<'_>) -> Stop {
    match told(flow, body, world) {
        Ok(()) => Stop::Answer(Box::new(Answer { headers: Vec::new(), body: br#"{"accepted":true}"#.to_vec() })),
        Err(refusal) => (*refusal).into(),
    }
}

fn told(flow: &Flow, body: &[u8], world: &mut World<'_>) -> Result<(), Box<Refusal>> {
    let config = flow.config.clone();
    let Some(feedback) = &config.feedback else { return Err(Box::new(Refusal::closed_path())) };
    let said: Said = serde_json::from_slice(body).map_err(|error| Box::new(Refusal::feedback_unread(&error)))?;
    if !(-1.0..=1.0).contains(&said.score) {
        return Err(Box::new(Refusal::feedback_score(said.score)));
    }
    let (secret, now) = (secret(feedback, world), world.now);
    let by = tenant(flow, secret);
    let refused = |why| Box::new(Refusal::feedback(why));
    let ticket =
        Ticket::accept(&said.request_id, by, now, feedback.age_max, |bytes| sign(secret, bytes)).map_err(refused)?;
    let realm = if flow.caller.is_named { Realm::Named } else { Realm::Strangers };
    let mut spent = Ok(());
    let updated =
        world.store.update(&keys::feedback(realm.mark(by)), &mut |old| match spend(old.unwrap_or_default(), &ticket) {
            Ok(page) => {
                spent = Ok(());
                Some(page)
            }
            Err(why) => {
                spent = Err(why);
                None
            }
        });
    spent.map_err(refused)?;
    if updated.is_err() {
        return Err(Box::new(Refusal::feedback_contended()));
    }
    let series = Fingerprint(ticket.series.0 ^ veil(secret, ticket.request));
    let (model, version, is_evidence) = find(&config, secret, series).ok_or_else(|| refused(Refused::Unknown))?;
    let is_bad = said.score < feedback.negative_below;
    let [of, by] = labels::served(model, model.versions.get(version));
    let labels = [of, by, if is_bad { "bad" } else { "good" }];
    world.out.push(Effect::Count(world.worker.series.id(Metric::Feedback, &labels), 1));
    if is_evidence {
        let sent = Nanos::SECOND.saturating_mul(u64::from(ticket.seconds));
        let subject = Subject { model: model.place, version, category: None, sent };
        let record = |arm| Record::of(arm, sent).outcome(Outcome::Feedback, is_bad);
        trials::tell_now(model, subject, record, now, world.store, world.out);
    }
    Ok(())
}

/// The key under which names are signed: the one that all proxies are given, else this process's own.
fn secret(feedback: &Feedback, world: &World<'_>) -> Secret {
    feedback.key.map_or(world.worker.secret, Secret)
}

fn sign(secret: Secret, bytes: &[u8]) -> Signature {
    let halves = [b"feedback 1".as_slice(), b"feedback 2"].map(|half| secret.hash([half, bytes]).to_le_bytes());
    let mut signature = [0; SIGNATURE];
    signature.iter_mut().zip(halves.as_flattened()).for_each(|(to, from)| *to = *from);
    signature
}

/// Whoever asks, as all proxies that share the key know it.
fn tenant(flow: &Flow, secret: Secret) -> Fingerprint {
    let key = flow.caller.shared_value(&Source::Tenant, "").unwrap_or_default();
    secret.fingerprint([b"feedback of".as_slice(), &[u8::from(flow.caller.is_named)], key])
}

/// What hides the series of a request: two names say nothing of whether the same version served both.
fn veil(secret: Secret, request: u64) -> u64 {
    secret.fingerprint([b"veil of".as_slice(), &request.to_le_bytes()]).0
}

fn series(secret: Secret, [model, version]: [&str; 2], is_evidence: bool) -> Fingerprint {
    secret.fingerprint([b"feedback on".as_slice(), model.as_bytes(), version.as_bytes(), &[u8::from(is_evidence)]])
}

/// What served a request, by what its name says of it, and whether it is evidence.
fn find(config: &Config, secret: Secret, of: Fingerprint) -> Option<(&Model, usize, bool)> {
    config.models.iter().find_map(|model| {
        (0..model.versions.len().max(1)).find_map(|version| {
            let labels = labels::served(model, model.versions.get(version));
            let series = |is_evidence| series(secret, labels, is_evidence);
            [true, false].into_iter().find(|is_evidence| series(*is_evidence) == of).map(|is| (model, version, is))
        })
    })
}
