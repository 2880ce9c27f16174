//! Whether a model still has room for a tenant: what is pending, told by the workers that forward, read by the workers that count.
//!
//! Each worker writes what its tenants hold of every model with a ceiling into a slot of its own, with every admission and every heartbeat.
//! So the sums are as old as a heartbeat in what is done by now, and never in what was admitted: they are high rather than low. Two workers
//! that decide at the same instant do not see each other, which lets the ceiling be passed by one request for each further worker.

use hashbrown::HashMap;
use penstock_pending::fair::{self, Holding, Priority};
use penstock_pending::slot::{SLOTS, Slot};

use crate::config::{Config, Model};
use crate::exchange::model_label;
use crate::facts::Facts;
use crate::identity::Secret;
use crate::port::{Store, World};

/// How long a refused tenant is taken to want more, in nanoseconds.
const WANTS: u64 = 3_000_000_000;
/// How many refused tenants are remembered for a model.
const WANTING_MAX: usize = 64;
/// Bytes of one of them: the tenant's hash, its weight, when.
const ENTRY: usize = 20;

/// Where a worker says what its tenants hold.
pub fn load_key(slot: u32) -> String {
    format!("penstock/load/{slot}")
}

fn wants_key(model: &str) -> String {
    format!("penstock/wants/{model}")
}

/// Whether the request of these facts comes in. A refusal is remembered, so that others leave the tenant its share.
pub fn admits(model: &Model, facts: &Facts, world: &mut World<'_>) -> bool {
    let Some(ceiling) = model.ceiling else { return true };
    let now = world.now;
    let silence_max = world.worker.silence_max();
    let label = model_label(&model.name);
    let mut held: HashMap<String, u64> = HashMap::new();
    for slot in 0..SLOTS {
        let Some(bytes) = world.store.get(&load_key(slot)) else { break };
        let Some(slot) = Slot::decode(&bytes).filter(|slot| slot.lives(now, silence_max)) else { continue };
        for (series, sum) in slot.rows {
            if series.model == label {
                // The tenant stands in the place of the version.
                let tokens = held.entry(series.version).or_insert(0);
                *tokens = tokens.saturating_add(sum.tokens());
            }
        }
    }
    let secret = world.worker.secret;
    let own_hash = hash(&secret, &facts.tenant);
    let mut wanting = wanting(world.store, &model.name, now);
    let config = &world.worker.config;
    let own = Holding {
        weight: weight(config, &facts.tenant),
        tokens: held.remove(&facts.tenant).unwrap_or(0),
        wants: wanting.remove(&own_hash).is_some(),
    };
    let mut others: Vec<Holding> = Vec::with_capacity(held.len());
    for (tenant, tokens) in held {
        let wants = wanting.remove(&hash(&secret, &tenant)).is_some();
        others.push(Holding { weight: weight(config, &tenant), tokens, wants });
    }
    others.extend(wanting.values().map(|weight| Holding { weight: *weight, tokens: 0, wants: true }));
    let tokens = facts.prompt_tokens.saturating_add(facts.expected_output);
    let priority = config.tenant(&facts.tenant).map_or(Priority::Normal, |tenant| tenant.priority);
    let comes = fair::admits(ceiling, tokens, own, &others, priority);
    if !comes {
        remember(world.store, &model.name, own_hash, own.weight, now);
    }
    comes
}

fn weight(config: &Config, tenant: &str) -> u32 {
    config.tenant(tenant).map_or(1, |tenant| tenant.weight)
}

fn hash(secret: &Secret, tenant: &str) -> u64 {
    secret.hash([tenant.as_bytes()])
}

/// The weights of tenants that were refused a moment ago.
fn wanting(store: &mut dyn Store, model: &str, now: u64) -> HashMap<u64, u32> {
    let page = store.get(&wants_key(model)).unwrap_or_default();
    let recent = entries(&page).filter(|(.., at)| now.abs_diff(*at) < WANTS);
    recent.map(|(tenant, weight, _)| (tenant, weight)).collect()
}

fn remember(store: &mut dyn Store, model: &str, tenant: u64, weight: u32, now: u64) {
    // Where that is contended others are refused as well, and remembered.
    let _ = store.update(&wants_key(model), &mut |old| {
        let mut page = Vec::with_capacity(WANTING_MAX.saturating_mul(ENTRY));
        let others = entries(old.unwrap_or_default())
            .filter(|(known, _, at)| *known != tenant && now.abs_diff(*at) < WANTS)
            .take(WANTING_MAX.saturating_sub(1));
        for (tenant, weight, at) in core::iter::once((tenant, weight, now)).chain(others) {
            page.extend_from_slice(&tenant.to_le_bytes());
            page.extend_from_slice(&weight.to_le_bytes());
            page.extend_from_slice(&at.to_le_bytes());
        }
        Some(page)
    });
}

fn entries(page: &[u8]) -> impl Iterator<Item = (u64, u32, u64)> {
    page.chunks_exact(ENTRY).filter_map(|entry| {
        let (tenant, rest) = entry.split_first_chunk()?;
        let (weight, at) = rest.split_first_chunk()?;
        Some((u64::from_le_bytes(*tenant), u32::from_le_bytes(*weight), u64::from_le_bytes(at.try_into().ok()?)))
    })
}
