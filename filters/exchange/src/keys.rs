//! The keys of the shared data, all of them. ARCHITECTURE.md has them as a table, with what bounds each; a test compares the two.
//!
//! Shared data outlives a module that is reloaded, and nothing in it can be deleted. So a value whose layout changes gets another key: what
//! an older module wrote is never read as something else.

use penstock_units::Fingerprint;

/// How many pages fingerprints are spread over, for each kind of limit and realm.
const PAGES: u64 = 4096;
/// How many pages answers that were spoken of are spread over, for each realm.
const FEEDBACK_PAGES: u64 = 256;
/// How many pages series are spread over.
const STATS_PAGES: u64 = 128;

/// Who can make up fingerprints. Each realm has pages of its own, so that whoever fills those of one harms nobody in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Realm {
    /// Anybody.
    Strangers,
    /// Nobody: there are as many as the configuration has tenants and models.
    Configured,
    /// A tenant that has a name, by what it writes into its requests.
    Named,
}

impl Realm {
    /// The fingerprint, marked as one of this realm in its highest bits.
    pub fn mark(self, of: Fingerprint) -> Fingerprint {
        Fingerprint(of.0 >> 2 | (self as u64) << 62)
    }
}

/// The page of a fingerprint, among those of its realm.
fn page(of: Fingerprint) -> u64 {
    (of.0 >> 62).saturating_mul(PAGES).saturating_add(of.page(PAGES))
}

/// The key of all keyed hashes, drawn once per process.
pub const SECRET: &str = "penstock/secret";
/// By how much time is ahead of a system clock that was set back.
pub const CLOCK: &str = "penstock/clock";
/// Whether headers may wait for the body.
pub const WAIT: &str = "penstock/headers-wait";
/// Every series whose gauge this process ever set.
pub const SERIES: &str = "penstock/all-series";
/// Which buckets have gauges.
pub const SHOWN: &str = "penstock/limits-shown";
/// When these gauges were last set.
pub const SHOWN_AT: &str = "penstock/limits-shown-at";
/// Until when the rate limit service is left alone.
pub const MESH_DOWN: &str = "penstock/mesh-down";

/// Canaries that have or had a guard.
pub const GUARDED: &str = "penstock/guarded";

/// What is known of a canary, over all requests or of one category.
pub fn guard(model: &str, version: &str, category: Option<&str>) -> String {
    match category {
        None => joined(&["penstock/guard/", model, "/", version]),
        Some(category) => joined(&["penstock/guard-of/", model, "/", version, "/", category]),
    }
}

/// What all workers have heard of whether a version answers.
pub fn breaker(model: &str, version: &str) -> String {
    joined(&["penstock/breaker/", model, "/", version])
}

/// What all workers have heard of whether a version begins to answer in time.
pub fn lateness(model: &str, version: &str) -> String {
    ["penstock/late/", model, "/", version].concat()
}

/// The weights of a model's versions, and when they changed.
pub fn weights(model: &str) -> String {
    joined(&["penstock/weights/", model])
}

/// The series that this process shows, by their hashes.
pub fn stats(of: Fingerprint) -> String {
    numbered("penstock/stats/", of.page(STATS_PAGES))
}

/// Buckets that are not full.
pub fn bucket(of: Fingerprint) -> String {
    numbered("penstock/rate/", page(of))
}

/// Permits of concurrency limits, by owner and heartbeat.
pub fn permit(of: Fingerprint) -> String {
    numbered("penstock/permit/", page(of))
}

/// Answers that were spoken of.
pub fn feedback(of: Fingerprint) -> String {
    let realm = (of.0 >> 62).saturating_mul(FEEDBACK_PAGES);
    numbered("penstock/feedback/", realm.saturating_add(of.page(FEEDBACK_PAGES)))
}

/// What sessions used.
pub fn credit(of: Fingerprint) -> String {
    numbered("penstock/credit/", page(of))
}

/// Leases of limits that all proxies share.
pub fn lease(of: Fingerprint) -> String {
    numbered("penstock/mesh-lease/", page(of))
}

/// Which versions gave which responses.
pub fn response(of: Fingerprint) -> String {
    numbered("penstock/response/", page(of))
}

/// Which versions callers come back to.
pub fn pin(of: Fingerprint) -> String {
    numbered("penstock/pin/", page(of))
}

/// How much a model generates for a tenant.
pub fn answers(model: &str, tenant: &str) -> String {
    joined(&["penstock/answers/", model, "/", tenant])
}

/// What the tenants of a class say of how much a model generates.
pub fn expected(model: &str, class: &str) -> String {
    joined(&["penstock/expected/", model, "/", class])
}

/// What was learnt of a model's tokenizer.
pub fn ratio(model: &str) -> String {
    joined(&["penstock/ratio/", model])
}

/// What tenants say of how fast a model generates.
pub fn pace(model: &str) -> String {
    joined(&["penstock/paces/", model])
}

/// What was learnt of the servers of a version.
pub fn learnt(model: &str, version: &str) -> String {
    joined(&["penstock/servers/", model, "/", version])
}

/// What one worker's tenants hold of models with a ceiling.
pub fn load(slot: u32) -> String {
    numbered("penstock/loads/", u64::from(slot))
}

/// Tenants that a model refused a moment ago.
pub fn backlogged(model: &str) -> String {
    joined(&["penstock/wants/", model])
}

/// One worker's pending sums and heartbeat.
pub fn pending(slot: u32) -> String {
    numbered("penstock/flights/", u64::from(slot))
}

/// A key of several parts; `concat` costs twice as much.
fn joined(parts: &[&str]) -> String {
    let mut key = String::with_capacity(parts.iter().fold(0, |len, part| part.len().saturating_add(len)));
    parts.iter().for_each(|part| key.push_str(part));
    key
}

/// A key with a number in it. One is made for every update, and `format!` costs several times as much.
fn numbered(prefix: &str, number: u64) -> String {
    let mut key = String::with_capacity(prefix.len().saturating_add(20));
    key.push_str(prefix);
    push_digits(&mut key, number);
    key
}

fn push_digits(key: &mut String, number: u64) {
    if number >= 10 {
        push_digits(key, number / 10);
    }
    key.push(char::from(b'0'.wrapping_add((number % 10) as u8)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_put_together() {
        assert_eq!((joined(&["a/", "", "bc", "/d"]), joined(&[])), ("a/bc/d".to_owned(), String::new()));
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 4095, u64::MAX] {
            assert_eq!(numbered("a/", number), format!("a/{number}"));
        }
    }
}
