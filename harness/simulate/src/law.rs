//! Signals: what each trigger asks Prometheus, and by what the HPA divides the answer.

use serde::Serialize;

use crate::replica::Figures;
use crate::scrape::{Buckets, Scrapes};
use crate::series::{Series, predict_linear, quantile, subquery};
use crate::trace::{Micros, SECOND, Trace};

/// The step of subqueries, and how often recording rules are evaluated.
const STEP: Micros = 15 * SECOND;
/// For how long it may be that replicas are still to come, at least, and how long it takes until it is seen what they do.
const COMING_MIN: Micros = 60 * SECOND;
const REACTION: Micros = 30 * SECOND;

/// One external metric of the kind `AverageValue`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// The total; `None` where the query has no answer.
    pub value: Option<f64>,
    /// What one replica may have of it.
    pub target: f64,
}

/// A trigger, or several of which the largest counts. Windows are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "law", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Law {
    /// Penstock's: work that arrives, in units of a replica's capacity, now or as it will be after a cold start; or the prefill backlog in
    /// seconds.
    Penstock {
        /// What share of a replica's capacity may be used.
        utilization: f64,
        /// Seconds of prefill that may wait for one replica.
        backlog_seconds: f64,
        /// How many times the work that arrives the backlog may ask for, until it has stood for as long as a replica takes to come; 0 for no
        /// bound.
        surge: f64,
        /// Over how long arrivals are counted.
        rate_window: f64,
        /// From how long a trend is taken; 0 for none.
        trend_window: f64,
        /// How far ahead the trend is followed.
        ahead: f64,
        /// Prompt tokens that a replica prefills in a second, as measured.
        prefill: f64,
        /// Output tokens that a replica decodes in a second, as measured.
        decode: f64,
    },
    /// Pending tokens of both phases, as Penstock's first ScaledObjects had them.
    PendingTokens {
        /// Tokens for one replica.
        per_replica: f64,
    },
    /// llm-d, `keda-epp-token-aware`: prefill backlog over the peak prefill throughput, and KV caches.
    LlmdTokens {
        /// Seconds of backlog for one replica; 1.5 as shipped.
        seconds: f64,
        /// Share of a KV cache; 0.8 as shipped.
        kv: f64,
        /// Peak prefill throughput, as measured.
        prefill: f64,
    },
    /// llm-d, `keda-epp-queue`: requests that wait and requests that run.
    LlmdQueue {
        /// Waiting requests for one replica; 1 as shipped.
        waiting: f64,
        /// Running requests for one replica; 16 as shipped.
        running: f64,
    },
    /// llm-d, `slo-aware`: predicted latencies over their objectives.
    LlmdLatency {
        /// Above which share of the objective it scales up; 0.55 as shipped.
        up: f64,
        /// Below which it scales down; 0.40 as shipped.
        down: f64,
        /// The objective of TTFT.
        ttft: f64,
        /// The objective of the time per output token.
        tpot: f64,
        /// Whether latencies are forecast when a request comes, without error, or known when it has its token, as where llm-d's predictor is
        /// not enabled. A real predictor is between the two.
        foresight: bool,
    },
    /// Requests a second.
    Requests {
        /// For one replica.
        per_replica: f64,
        /// Over how long they are counted.
        window: f64,
    },
    /// Requests a second, or requests that wait.
    RequestsOrWaiting {
        /// Requests a second for one replica.
        per_replica: f64,
        /// Waiting requests for one replica.
        waiting: f64,
    },
    /// Requests that are not answered to the end.
    InFlight {
        /// For one replica.
        per_replica: f64,
    },
    /// Requests that wait for a model server.
    Waiting {
        /// For one replica.
        per_replica: f64,
    },
    /// KV cache use.
    KvUse {
        /// Share for one replica.
        share: f64,
    },
    /// GPU utilisation.
    Gpu {
        /// Share for one replica.
        share: f64,
    },
    /// Output tokens a second.
    Decode {
        /// For one replica.
        per_replica: f64,
        /// Over how long they are counted.
        window: f64,
    },
    /// No trigger: as many replicas as at the beginning.
    Fixed,
}

impl Law {
    /// Penstock's, for replicas with these figures, measured with requests as the trace has them on average; no trend.
    #[must_use]
    pub fn penstock(figures: &Figures, trace: &Trace, utilization: f64, backlog_seconds: f64) -> Self {
        let (prompt, output) = trace.means();
        Self::Penstock {
            utilization,
            backlog_seconds,
            surge: 2.0,
            rate_window: 60.0,
            trend_window: 0.0,
            ahead: 0.0,
            prefill: figures.prompts_rate(),
            decode: figures.decode_rate(prompt, output),
        }
    }

    /// Penstock's with other windows; any other is left as it is.
    #[must_use]
    pub fn with_windows(mut self, rate: f64, trend: f64, further: f64) -> Self {
        if let Self::Penstock { rate_window, trend_window, ahead, .. } = &mut self {
            (*rate_window, *trend_window, *ahead) = (rate, trend, further);
        }
        self
    }

    /// Penstock's with another bound of what a backlog may ask for; any other is left as it is.
    #[must_use]
    pub fn bounded(mut self, times: f64) -> Self {
        if let Self::Penstock { surge, .. } = &mut self {
            *surge = times;
        }
        self
    }

    /// Penstock's with figures that are so many times what was measured; any other is left as it is.
    #[must_use]
    pub fn overrated(mut self, times: f64) -> Self {
        if let Self::Penstock { prefill, decode, .. } = &mut self {
            *prefill *= times;
            *decode *= times;
        }
        self
    }

    /// Penstock's at another utilization; any other is left as it is.
    #[must_use]
    pub fn at(mut self, share: f64) -> Self {
        if let Self::Penstock { utilization, .. } = &mut self {
            *utilization = share;
        }
        self
    }

    /// Output tokens a second that Penstock's takes for a replica's capacity.
    #[must_use]
    pub fn decode(&self) -> Option<f64> {
        if let Self::Penstock { decode, .. } = self { Some(*decode) } else { None }
    }

    /// # Errors
    /// Which threshold divides nothing.
    pub fn check(&self) -> Result<(), String> {
        let thresholds: Vec<(&str, f64)> = match *self {
            Self::Penstock { utilization, backlog_seconds, rate_window, prefill, decode, .. } => vec![
                ("utilization", utilization),
                ("backlog seconds", backlog_seconds),
                ("rate window", rate_window),
                ("prefill tokens a second", prefill),
                ("decode tokens a second", decode),
            ],
            Self::LlmdTokens { seconds, kv, prefill } => {
                vec![("seconds of backlog", seconds), ("share of a KV cache", kv), ("prefill tokens a second", prefill)]
            }
            Self::LlmdQueue { waiting, running } => vec![("waiting requests", waiting), ("running requests", running)],
            Self::LlmdLatency { up, down, ttft, tpot, .. } => {
                vec![
                    ("upper threshold", up),
                    ("lower threshold", down),
                    ("TTFT", ttft),
                    ("time per output token", tpot),
                ]
            }
            Self::Requests { per_replica, window } | Self::Decode { per_replica, window } => {
                vec![("threshold", per_replica), ("rate window", window)]
            }
            Self::RequestsOrWaiting { per_replica, waiting } => {
                vec![("threshold", per_replica), ("waiting requests", waiting)]
            }
            Self::PendingTokens { per_replica } | Self::InFlight { per_replica } | Self::Waiting { per_replica } => {
                vec![("threshold", per_replica)]
            }
            Self::KvUse { share } | Self::Gpu { share } => vec![("threshold", share)],
            Self::Fixed => Vec::new(),
        };
        // Less than a thousandth is 0 for Kubernetes.
        let wrong = thresholds.iter().find(|(_, value)| !value.is_finite() || *value < 0.001);
        wrong.map_or(Ok(()), |(name, value)| Err(format!("{}: {name} is {value}; write 0.001 or more", self.name())))
    }

    /// What it is called on the command line and in tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Penstock { .. } => "penstock",
            Self::PendingTokens { .. } => "pending-tokens",
            Self::LlmdTokens { .. } => "llmd-tokens",
            Self::LlmdQueue { .. } => "llmd-queue",
            Self::LlmdLatency { .. } => "llmd-latency",
            Self::Requests { .. } => "requests",
            Self::RequestsOrWaiting { .. } => "requests-or-waiting",
            Self::InFlight { .. } => "in-flight",
            Self::Waiting { .. } => "waiting",
            Self::KvUse { .. } => "kv",
            Self::Gpu { .. } => "gpu",
            Self::Decode { .. } => "decode",
            Self::Fixed => "fixed",
        }
    }

    /// Its thresholds, in words.
    #[must_use]
    pub fn thresholds(&self) -> String {
        match self {
            Self::Penstock { utilization, backlog_seconds, surge, rate_window, trend_window, .. } => {
                let bound = if *surge > 0.0 { format!(" up to {surge} × work") } else { String::new() };
                let trend = if *trend_window > 0.0 { format!(", trend {trend_window} s") } else { String::new() };
                format!("utilization {utilization}, backlog {backlog_seconds} s{bound}, rate {rate_window} s{trend}")
            }
            Self::PendingTokens { per_replica } => format!("{per_replica} tokens"),
            Self::LlmdTokens { seconds, kv, .. } => format!("{seconds} s, KV {kv}"),
            Self::LlmdQueue { waiting, running } => format!("{waiting} waiting, {running} running"),
            Self::LlmdLatency { up, down, foresight, .. } => {
                let what = if *foresight { "forecast" } else { "as measured" };
                format!("{up} up, {down:.2} down, {what}")
            }
            Self::Requests { per_replica, window } => format!("{per_replica:.2}/s over {window} s"),
            Self::RequestsOrWaiting { per_replica, waiting } => format!("{per_replica:.2}/s, {waiting} waiting"),
            Self::InFlight { per_replica } | Self::Waiting { per_replica } => format!("{per_replica}"),
            Self::KvUse { share } | Self::Gpu { share } => format!("{share}"),
            Self::Decode { per_replica, window } => format!("{per_replica:.0} tokens/s over {window} s"),
            Self::Fixed => String::new(),
        }
    }

    /// What its queries answer now.
    pub(crate) fn demands(&self, scrapes: &Scrapes, now: Micros) -> Vec<Demand> {
        let gauge = |series: &Series, target: f64| Demand { value: series.at(now), target };
        let rate =
            |series: &Series, window: f64, target: f64| Demand { value: series.rate(now, micros(window)), target };
        match *self {
            Self::Penstock { .. } => vec![Demand { value: self.replicas(scrapes, now), target: 1.0 }],
            Self::PendingTokens { per_replica } => {
                let sum = scrapes.pending_prefill.at(now).zip(scrapes.pending_decode.at(now));
                vec![Demand { value: sum.map(|(prefill, decode)| prefill + decode), target: per_replica }]
            }
            Self::LlmdTokens { seconds, kv, prefill } => {
                let backlog = scrapes.pending_prefill.at(now).map(|tokens| tokens / prefill);
                vec![Demand { value: backlog, target: seconds }, gauge(&scrapes.kv, kv)]
            }
            Self::LlmdQueue { waiting, running } => {
                vec![gauge(&scrapes.waiting, waiting), gauge(&scrapes.running, running)]
            }
            Self::LlmdLatency { .. } => vec![Demand { value: self.latency(scrapes, now), target: 1.0 }],
            Self::Requests { per_replica, window } => vec![rate(&scrapes.requests, window, per_replica)],
            Self::RequestsOrWaiting { per_replica, waiting } => {
                vec![rate(&scrapes.requests, 60.0, per_replica), gauge(&scrapes.waiting, waiting)]
            }
            Self::InFlight { per_replica } => vec![gauge(&scrapes.in_flight, per_replica)],
            Self::Waiting { per_replica } => vec![gauge(&scrapes.waiting, per_replica)],
            Self::KvUse { share } => vec![gauge(&scrapes.kv, share)],
            Self::Gpu { share } => vec![gauge(&scrapes.busy, share)],
            Self::Decode { per_replica, window } => vec![rate(&scrapes.generated, window, per_replica)],
            Self::Fixed => Vec::new(),
        }
    }

    /// How many replicas Penstock's query asks for.
    fn replicas(&self, scrapes: &Scrapes, now: Micros) -> Option<f64> {
        let Self::Penstock { utilization, backlog_seconds, surge, rate_window, trend_window, ahead, prefill, decode } =
            *self
        else {
            return None;
        };
        let arriving = |at: Micros| {
            let prompt = scrapes.prompt.rate(at, micros(rate_window))?;
            let expected = scrapes.expected.rate(at, micros(rate_window))?;
            Some(prompt / prefill + expected / decode)
        };
        let mut work = arriving(now)?;
        let bound = if surge > 0.0 { (work * surge).max(1.0) } else { f64::INFINITY };
        if trend_window > 0.0 {
            let trend = subquery(now, micros(trend_window), STEP, arriving);
            work = work.max(predict_linear(&trend, now, ahead).unwrap_or(0.0));
        }
        let replicas = |tokens: f64| tokens / prefill / backlog_seconds;
        let backlog = replicas(scrapes.pending_prefill.at(now)?).min(bound);
        let coming = micros(ahead).max(COMING_MIN) + REACTION;
        let standing = scrapes.pending_prefill.least(now, coming).map_or(0.0, replicas);
        Some((work / utilization).max(backlog).max(standing))
    }

    /// How many replicas llm-d's formula asks for: the saturation is averaged over 45 s, what starts is credited on the way up.
    fn latency(&self, scrapes: &Scrapes, now: Micros) -> Option<f64> {
        let Self::LlmdLatency { up, down, ttft, tpot, .. } = *self else { return None };
        let worst = |at: Micros| {
            let tail = |buckets: &Buckets| quantile(0.9, &buckets.rates(at, 60 * SECOND)?);
            let [ttft, tpot] = [tail(&scrapes.ttft).unwrap_or(0.0) / ttft, tail(&scrapes.tpot).unwrap_or(0.0) / tpot];
            Some(ttft.max(tpot).min(2.0))
        };
        let recorded = subquery(now, 45 * SECOND, STEP, worst);
        let saturation = recorded.iter().map(|(_, value)| value).sum::<f64>() / recorded.len().max(1) as f64;
        let (replicas, ready) = (scrapes.replicas.at(now)?, scrapes.ready.at(now)?);
        let credit = if ready > 0.0 && ready < replicas { ready / replicas } else { 1.0 };
        Some(if saturation > up {
            replicas + (replicas * (saturation * credit / up - 1.0)).ceil()
        } else if saturation < down {
            replicas - (replicas * (1.0 - saturation / down)).floor()
        } else {
            replicas
        })
    }
}

fn micros(seconds: f64) -> Micros {
    (seconds * SECOND as f64) as Micros
}
