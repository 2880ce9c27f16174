//! The metrics that users see: their names, kinds and labels, in one place.

use core::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

/// What a metric does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up.
    Counter,
    /// Is set.
    Gauge,
    /// Is observed.
    Histogram,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $kind:ident [$($label:literal),*],)*) => {
        /// A metric of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Metric { $($(#[$doc])* $variant,)* }

        impl Metric {
            /// Its name, as Prometheus shows it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it does.
            pub fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)* }
            }

            /// Its labels, in the order in which [`Labels`] gives their values.
            pub fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($label),*],)* }
            }
        }

        /// Every metric's name.
        pub const NAMES: &[&str] = &[$($name),*];

        /// The labels of the metric called `name`.
        pub fn labels(name: &str) -> Option<&'static [&'static str]> {
            match name { $($name => Some(&[$($label),*]),)* _ => None }
        }
    };
}

metrics! {
    /// Streams that the filters saw, and what became of each.
    Streams = "penstock_streams_total" Counter ["handling"],
    /// Whether headers wait for the body: 1 where a request has shown it, 0 where they may not.
    HeadersWait = "penstock_headers_wait" Gauge [],
    /// Tokens admitted and not yet done.
    PendingTokens = "penstock_pending_tokens" Gauge ["model", "version", "phase"],
    /// Requests admitted and not yet done.
    PendingRequests = "penstock_pending_requests" Gauge ["model", "version"],
    /// Prompt tokens of requests that wait for their first answer, expected to be cached.
    PendingCached = "penstock_pending_cached_tokens" Gauge ["model", "version"],
    /// How long the oldest request has waited for its first token.
    OldestWait = "penstock_oldest_wait_milliseconds" Gauge ["model", "version"],
    /// Tokens of requests when they were admitted.
    Admitted = "penstock_admitted_tokens_total" Counter ["model", "version", "kind"],
    /// Tokens of requests that failed for want of capacity.
    RefusedDemand = "penstock_refused_demand_tokens_total" Counter ["model", "reason"],
    /// Prompt tokens that a replica reads in a second; 0 where that is not known.
    ReplicaPrefill = "penstock_replica_prefill_tokens_per_second" Gauge ["model", "version"],
    /// Tokens that a replica generates in a second; 0 where that is not known.
    ReplicaDecode = "penstock_replica_decode_tokens_per_second" Gauge ["model", "version"],
    /// Requests by how they ended.
    Requests = "penstock_requests_total" Counter ["model", "version", "tenant", "outcome"],
    /// Requests that were refused here, and why.
    Refused = "penstock_refused_total" Counter ["model", "tenant", "reason", "limit"],
    /// Requests that went on, and would have been refused if that were enforced.
    Observed = "penstock_observed_total" Counter ["reason", "limit"],
    /// Tokens of a limit that are spent or reserved, in the fullest of the tenant's buckets.
    LimitUsed = "penstock_limit_used_tokens" Gauge ["limit", "tenant"],
    /// What that bucket holds.
    LimitSize = "penstock_limit_size_tokens" Gauge ["limit", "tenant"],
    /// What was used beyond it.
    LimitDebt = "penstock_limit_debt_tokens" Gauge ["limit", "tenant"],
    /// Tokens used.
    Tokens = "penstock_tokens_total" Counter ["model", "version", "tenant", "kind"],
    /// What they cost, in millionths of a US dollar.
    Cost = "penstock_cost_microdollars_total" Counter ["model", "version", "tenant"],
    /// From the request's headers to the first token.
    Ttft = "penstock_ttft_milliseconds" Histogram ["model", "version"],
    /// Between tokens: decode time over the tokens after the first.
    InterToken = "penstock_inter_token_milliseconds" Histogram ["model", "version"],
    /// From the request's headers to the end.
    Duration = "penstock_duration_milliseconds" Histogram ["model", "version"],
    /// How far the count was from what the server reported.
    EstimateError = "penstock_estimate_error_tokens" Histogram ["model", "version"],
    /// What its guard says of a canary: 0 no request so far, 1 it runs, 2 rolled back, 3 ready to be promoted.
    CanaryState = "penstock_canary_state" Gauge ["model", "version"],
    /// How much of what is needed to roll it back there is against a canary, by signal.
    CanaryEvidence = "penstock_canary_evidence_percent" Gauge ["model", "version", "reason"],
    /// What callers said of answers.
    Feedback = "penstock_feedback_total" Counter ["model", "version", "kind"],
    /// Whether a version is left alone, because it fails.
    BreakerOpen = "penstock_breaker_open" Gauge ["model", "version"],
    /// Answers by why they ended.
    Finish = "penstock_finish_total" Counter ["model", "version", "reason"],
    /// When the versions of a model or their weights changed, since the proxy began; 0 where they did not.
    WeightsChanged = "penstock_weights_changed_timestamp_seconds" Gauge ["model"],
    /// Updates of shared state that another worker won.
    SharedContention = "penstock_shared_contention_total" Counter [],
}

/// Every label name that any metric has: the tags that Envoy has to extract.
pub const TAGS: &[&str] = &["model", "version", "tenant", "outcome", "kind", "phase", "reason", "limit", "handling"];

/// Label values, in the order of [`Metric::labels`].
pub type Labels = Vec<String>;

/// The stat name that Envoy splits into name and labels: `tag=.=value;.;` for each, then the name.
pub fn stat_name(metric: Metric, values: &[String]) -> String {
    let mut out = String::new();
    for (label, value) in metric.labels().iter().zip(values) {
        out.push_str(label);
        out.push_str("=.=");
        out.push_str(value);
        out.push_str(";.;");
    }
    out.push_str(metric.name());
    out
}

/// A metric with its label values, as a small integer: from its first use on, for as long as the worker lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesId(pub u32);

/// What serves a request, and for which of the named tenants, by their places in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Serving {
    /// The model's version.
    pub place: usize,
    /// The tenant.
    pub tenant: Option<usize>,
}

/// How many series there are of each [`Serving`].
const KEPT: usize = 16;

/// The series that one worker has used. Their number is bounded by the configuration: every label value is one of its names.
#[derive(Default)]
pub struct Registry {
    series: Vec<(Metric, Labels)>,
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Those that every request has, so that they are found without their names.
    kept: HashMap<Serving, [Option<SeriesId>; KEPT]>,
}

impl Registry {
    /// As [`Registry::id`], of what many requests have in common. `choice`: which of the metric's series it is, of those that differ in the
    /// last label.
    pub fn of(&mut self, serving: Option<Serving>, metric: Metric, choice: usize, labels: &[&str]) -> SeriesId {
        let place = match metric {
            Metric::Requests => Some(choice).filter(|choice| *choice < 7),
            Metric::Tokens => Some(choice).filter(|choice| *choice < 4).map(|choice| choice.saturating_add(7)),
            Metric::EstimateError => Some(11),
            Metric::Duration => Some(12),
            Metric::Ttft => Some(13),
            Metric::InterToken => Some(14),
            Metric::Cost => Some(15),
            _ => None,
        };
        let (Some(serving), Some(place)) = (serving, place) else { return self.id(metric, labels) };
        let known = |kept: &[Option<SeriesId>; KEPT]| kept.get(place).copied().flatten();
        if let Some(id) = self.kept.get(&serving).and_then(known) {
            return id;
        }
        let id = self.id(metric, labels);
        if let Some(kept) = self.kept.entry(serving).or_default().get_mut(place) {
            *kept = Some(id);
        }
        id
    }

    /// The integer of a series; the next one where it is new.
    pub fn id(&mut self, metric: Metric, labels: &[&str]) -> SeriesId {
        let Self { series, ids, hasher, .. } = self;
        let hash = hasher.hash_one((metric, labels));
        let is_it =
            |id: &u32| series.get(*id as usize).is_some_and(|(known, values)| *known == metric && values == labels);
        if let Some(id) = ids.find(hash, is_it) {
            return SeriesId(*id);
        }
        let id = u32::try_from(series.len()).unwrap_or(u32::MAX);
        series.push((metric, labels.iter().map(|label| (*label).to_owned()).collect()));
        let rehash = |id: &u32| {
            let known = series.get(*id as usize);
            known.map_or(0, |(metric, labels)| {
                let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                hasher.hash_one((*metric, labels.as_slice()))
            })
        };
        ids.insert_unique(hash, id, rehash);
        SeriesId(id)
    }

    /// What a series is.
    pub fn series(&self, id: SeriesId) -> Option<(Metric, &Labels)> {
        self.series.get(id.0 as usize).map(|(metric, labels)| (*metric, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_names_have_the_shape_that_the_tags_expect() {
        let name = stat_name(Metric::PendingTokens, &["chat".into(), "v1".into(), "prefill".into()]);
        assert_eq!(name, "model=.=chat;.;version=.=v1;.;phase=.=prefill;.;penstock_pending_tokens");
        assert_eq!(stat_name(Metric::SharedContention, &[]), "penstock_shared_contention_total");
    }

    #[test]
    fn a_series_keeps_its_integer() {
        let mut registry = Registry::default();
        let ids: Vec<SeriesId> =
            (0..100).map(|i| registry.id(Metric::Requests, &["chat", "v1", "t", i.to_string().as_str()])).collect();
        for (i, id) in ids.into_iter().enumerate() {
            assert_eq!(id, SeriesId(i as u32));
            assert_eq!(registry.id(Metric::Requests, &["chat", "v1", "t", i.to_string().as_str()]), id);
            assert_eq!(registry.series(id).unwrap().1[3], i.to_string());
        }
        assert_eq!(registry.id(Metric::Tokens, &["chat", "v1", "t", "0"]), SeriesId(100));
        assert_eq!(registry.series(SeriesId(101)), None);
    }

    #[test]
    fn a_series_is_found_by_its_place_as_by_its_name() {
        let (mut registry, mut seen) = (Registry::default(), Vec::new());
        let metrics = [
            (Metric::Requests, 7),
            (Metric::Tokens, 4),
            (Metric::EstimateError, 1),
            (Metric::Duration, 1),
            (Metric::Ttft, 1),
            (Metric::InterToken, 1),
            (Metric::Cost, 1),
            (Metric::Finish, 2),
        ];
        for _ in 0..2 {
            for (place, tenant) in [(0, None), (0, Some(0)), (1, None), (1, Some(0)), (1, Some(1))] {
                for (metric, choices) in metrics {
                    for choice in 0..choices {
                        let labels = [format!("v{place}"), format!("{tenant:?}"), format!("{metric:?} {choice}")];
                        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                        let id = registry.of(Some(Serving { place, tenant }), metric, choice, &labels);
                        assert_eq!(id, registry.id(metric, &labels));
                        seen.push(id);
                    }
                }
            }
        }
        let (first, second) = seen.split_at(seen.len() / 2);
        assert_eq!(first, second);
        assert_eq!(first.iter().map(|id| id.0).collect::<Vec<_>>(), (0..first.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn tags_are_the_labels_and_none_ends_another() {
        for name in NAMES {
            for label in labels(name).unwrap() {
                assert!(TAGS.contains(label), "{label}");
            }
        }
        for a in TAGS {
            assert!(TAGS.iter().all(|b| a == b || !a.ends_with(b)), "{a} ends with another tag");
        }
    }
}
