//! What the queries of the ScaledObjects have to come to, worked out from what each gateway showed at each scrape, without PromQL.

use std::collections::{BTreeMap, BTreeSet};

/// Seconds between scrapes.
pub const SCRAPE: i64 = 5;
/// Seconds over which a rate is taken, and between the points of a trend.
const RATE: i64 = 60;
const STEP: i64 = 15;

/// The kinds of tokens that are admitted, and what is shed.
pub const COUNTED: [&str; 4] = ["prompt", "cached", "expected", "shed"];

/// What a gateway shows of one version at a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// Counters: prompt tokens, those of them that are cached, tokens that are expected of answers, and what was shed.
    pub prompt: f64,
    pub cached: f64,
    pub expected: f64,
    pub shed: f64,
    /// Gauges.
    pub prefill: f64,
    pub decode: f64,
}

/// How a scrape went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scrape {
    /// The gateway showed this.
    Seen(Shown),
    /// The gateway shows nothing of the version any more.
    Bare,
    /// It did not answer.
    Failed,
    /// It is no target.
    Gone,
    /// Prometheus did not run.
    Missed,
}

/// A gateway: the jobs that scrape it, and how each scrape went, from second 0 on. Where its jobs fare differently, there is one for each.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub pod: &'static str,
    pub jobs: Vec<&'static str>,
    pub scrapes: Vec<Scrape>,
    /// What it counts, of [`COUNTED`]: older modules count none of it.
    pub counts: &'static [&'static str],
}

/// What the query was made of.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub prefill: f64,
    pub decode: f64,
    pub share: f64,
    pub utilization: f64,
    pub backlog_seconds: f64,
    pub surge: f64,
    pub cold_start: i64,
    pub window: i64,
}

/// The gateways, and how Prometheus takes a range: from 3.0 on without its first instant.
pub struct Oracle<'a> {
    pub gateways: &'a [Gateway],
    pub is_open: bool,
}

impl Oracle<'_> {
    /// The query in replicas.
    pub fn replicas(&self, figures: &Figures, at: i64) -> Option<f64> {
        let trend = self.trend(figures, at).filter(|_| figures.cold_start > 0).map(|work| work / figures.utilization);
        let now = self.wanted(figures, at).map(|wanted| wanted.max(trend.unwrap_or(0.0)));
        self.held(at, figures.window, now, |at| self.wanted(figures, at))
    }

    /// The query in pending tokens.
    pub fn pending(&self, window: i64, at: i64) -> Option<f64> {
        let pending = |at| self.total(|gateway| gateway.at(at).map(|shown| shown.prefill + shown.decode));
        self.held(at, window, pending(at), pending)
    }

    /// What is asked for at an instant; and the most of what `was` wanted in the last while where a gateway is dark or nothing answers.
    fn held(&self, at: i64, window: i64, now: Option<f64>, was: impl Fn(i64) -> Option<f64>) -> Option<f64> {
        let is_there = |pod| self.gateways.iter().any(|gateway| gateway.pod == pod && gateway.at(at).is_some());
        let was_there = |gateway: &Gateway| self.instants(at, window, SCRAPE).any(|at| gateway.seen(at).is_some());
        let is_dark =
            self.gateways.iter().any(|gateway| gateway.fails(at) && !is_there(gateway.pod) && was_there(gateway));
        now.filter(|_| !is_dark).or_else(|| self.instants(at, window, STEP).filter_map(was).reduce(f64::max))
    }

    /// What is wanted of what is there, whatever comes.
    fn wanted(&self, figures: &Figures, at: i64) -> Option<f64> {
        let arriving = Some(self.arriving(figures, at)? / figures.utilization);
        let waiting = self.total(|gateway| gateway.at(at).map(|shown| shown.prefill));
        let replicas = |tokens: f64| tokens / figures.prefill / figures.backlog_seconds;
        let bound = (self.arriving(figures, at)? * figures.surge).max(1.0);
        let backlog = waiting.map(|tokens| replicas(tokens).min(bound));
        let standing = self.total(|gateway| self.standing(gateway, figures.cold_start.max(60) + 30, at)).map(replicas);
        [arriving, backlog, standing].into_iter().flatten().reduce(f64::max)
    }

    /// The least that waited at a gateway for so long; none where it was not there before.
    fn standing(&self, gateway: &Gateway, seconds: i64, at: i64) -> Option<f64> {
        let _was_there = gateway.at(at - seconds).filter(|_| at >= seconds)?;
        let seen = self.instants(at, seconds, SCRAPE).filter_map(|at| gateway.seen(at));
        seen.map(|shown| shown.prefill).reduce(f64::min)
    }

    /// Replicas that would have nothing else to do.
    fn arriving(&self, figures: &Figures, at: i64) -> Option<f64> {
        let total = |kind: &str, counter: fn(&Shown) -> f64| {
            self.total(|gateway| self.rate(gateway, counter, at).filter(|_| gateway.counts.contains(&kind)))
        };
        let (prompt, cached) = (total("prompt", |shown| shown.prompt)?, total("cached", |shown| shown.cached)?);
        let expected = total("expected", |shown| shown.expected)?;
        let shed = total("shed", |shown| shown.shed).unwrap_or(0.0);
        let fastest = figures.prefill.max(figures.decode);
        Some((prompt - cached) / figures.prefill + expected / figures.decode + shed * figures.share / fastest)
    }

    /// The sum over the gateways, each counted once.
    fn total(&self, of: impl Fn(&Gateway) -> Option<f64>) -> Option<f64> {
        let mut pods: BTreeMap<&str, f64> = BTreeMap::new();
        for gateway in self.gateways {
            let Some(value) = of(gateway) else { continue };
            let most = pods.entry(gateway.pod).or_insert(value);
            *most = most.max(value);
        }
        pods.into_values().reduce(|sum, more| sum + more)
    }

    /// How fast a counter of a gateway moved; one that falls began anew at 0. As Prometheus has it, what was seen stands for the whole range up to
    /// half an interval beyond it, or to the range's ends where these are nearer than the next scrape would have been.
    fn rate(&self, gateway: &Gateway, counter: fn(&Shown) -> f64, at: i64) -> Option<f64> {
        let instants = self.instants(at, RATE, SCRAPE);
        let seen: Vec<_> = instants.filter_map(|at| Some((at as f64, counter(&gateway.seen(at)?)))).collect();
        let (first, last) = (seen.first()?, seen.last()?);
        let moved: f64 =
            seen.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1 } else { pair[1].1 - pair[0].1 }).sum();
        let interval = (last.0 - first.0) / (seen.len() - 1) as f64;
        let beyond = |gap: f64| if gap < 1.1 * interval { gap } else { interval / 2.0 };
        let stands_for = last.0 - first.0 + beyond(first.0 - (at - RATE) as f64) + beyond(at as f64 - last.0);
        (seen.len() > 1).then(|| moved / (last.0 - first.0) * stands_for / RATE as f64)
    }

    /// The least squares of the last minutes, at the end of a cold start; none where a gateway of these minutes was not seen all through them.
    fn trend(&self, figures: &Figures, at: i64) -> Option<f64> {
        let range = 300.max(2 * figures.cold_start);
        let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
        for at in self.instants(at, range, STEP) {
            let moves = |gateway: &&Gateway| self.rate(gateway, |shown| shown.prompt, at).is_some();
            let pods: BTreeSet<_> = self.gateways.iter().filter(moves).map(|gateway| gateway.pod).collect();
            pods.into_iter().for_each(|pod| *seen.entry(pod).or_default() += 1);
        }
        if seen.into_values().any(|instants| instants < range / STEP) {
            return None;
        }
        let instants = self.instants(at, range, STEP);
        let points: Vec<_> = instants.filter_map(|t| Some(((t - at) as f64, self.arriving(figures, t)?))).collect();
        let n = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
        (points.len() > 1).then_some(y + slope * (figures.cold_start as f64 - x))
    }

    /// The instants of a range that ends here, at whole steps.
    fn instants(&self, at: i64, range: i64, step: i64) -> impl Iterator<Item = i64> + use<> {
        let is_open = self.is_open;
        let start = at - range;
        (start.max(0)..=at).filter(move |t| t % step == 0 && !(is_open && *t == start))
    }
}

impl Gateway {
    fn scrape(&self, at: i64) -> Option<&Scrape> {
        self.scrapes.get(usize::try_from(at / SCRAPE).ok()?)
    }

    /// What a scrape at this instant brought.
    fn seen(&self, at: i64) -> Option<Shown> {
        match self.scrape(at)? {
            Scrape::Seen(shown) => Some(*shown),
            _ => None,
        }
    }

    /// What holds at an instant: the last that was seen within five minutes, if no scrape since has said otherwise.
    fn at(&self, at: i64) -> Option<Shown> {
        let last = (0..300 / SCRAPE).map(|back| at - at % SCRAPE - back * SCRAPE);
        let mut scrapes = last.filter_map(|at| self.scrape(at)).skip_while(|scrape| **scrape == Scrape::Missed);
        match scrapes.next()? {
            Scrape::Seen(shown) => Some(*shown),
            _ => None,
        }
    }

    /// Whether it is a target, and does not answer.
    fn fails(&self, at: i64) -> bool {
        self.scrape(at) == Some(&Scrape::Failed)
    }
}
