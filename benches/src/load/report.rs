//! What was measured, as a table, as JSON and as a picture.

use std::fmt::{self, Display, Write as _};
use std::fs;
use std::thread::available_parallelism;

use penstock_harness::chart::{Bars, bars};
use serde_json::{Value, json};

use super::gateways::Filter;
use super::plan::{Answer, Row};

const FILTERS: usize = Filter::ALL.len();
const NAMES: [&str; FILTERS] = ["bare", "no-op", "floor", "Penstock"];
const COLOURS: [&str; FILTERS] = ["#bbbbbb", "#7a9cc6", "#d9a441", "#b03a48"];
const MB: f64 = 1e6;

/// Per filter, one of each round.
type Rounds<T> = [Vec<T>; FILTERS];

/// All of it.
pub struct Report {
    rounds: usize,
    load_average: [String; 2],
    pub(super) rows: Vec<(Row, Rounds<Load>)>,
    pub(super) paced: Vec<(u32, Rounds<Paced>)>,
    pub(super) events: Rounds<f64>,
    pub(super) memory: Vec<Memory>,
}

/// A turn at a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub per_second: f64,
    pub cpu_us: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// A turn at a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paced {
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Resident memory of Envoys with so many workers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub workers: u32,
    pub noop: f64,
    pub penstock: f64,
    /// Of a module with that encoding alone.
    pub o200k: Option<f64>,
}

/// The three quartiles over the rounds.
#[derive(Clone, Copy, Debug)]
struct Spread([f64; 3]);

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self([1, 2, 3].map(|quarter| values.get(values.len() * quarter / 4).copied().unwrap_or(f64::NAN)))
    }

    fn median(&self) -> f64 {
        self.0[1]
    }

    fn json(&self) -> Value {
        let [low, median, high] = self.0.map(|value| (value * 1000.0).round() / 1000.0);
        json!({"median": median, "quartiles": [low, high]})
    }
}

impl Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, median, high] = self.0;
        write!(f, "{median:.2} ({low:.2} to {high:.2})")
    }
}

impl Report {
    /// An empty one, of so many rounds that begin now.
    pub(super) fn new(rounds: usize) -> Self {
        let load_average = [load_average(), String::new()];
        Self { rounds, load_average, rows: vec![], paced: vec![], events: Rounds::default(), memory: vec![] }
    }

    /// As it ends.
    pub(super) fn ended(mut self) -> Self {
        self.load_average[1] = load_average();
        self
    }

    /// What a program reads.
    pub fn json(&self) -> Value {
        let of_filters = |of: &dyn Fn(Filter) -> Value| -> Value {
            Filter::ALL.iter().map(|filter| (NAMES[*filter as usize].to_owned(), of(*filter))).collect()
        };
        let rows = self.rows.iter().map(|(row, figures)| {
            let filters = of_filters(&|filter| {
                let one = &figures[filter as usize];
                json!({
                    "requests_per_second": Spread::of(one.iter().map(|load| load.per_second)).json(),
                    "of_noop": ratio(figures, filter, Filter::Noop, |load| load.per_second).json(),
                    "cpu_us": Spread::of(one.iter().map(|load| load.cpu_us)).json(),
                    "cpu_of_floor": ratio(figures, filter, Filter::Floor, |load| load.cpu_us).json(),
                    "p50_ms": Spread::of(one.iter().map(|load| load.p50_ms)).json(),
                    "p99_ms": Spread::of(one.iter().map(|load| load.p99_ms)).json(),
                })
            });
            json!({
                "prompt_bytes": row.prompt,
                "connections": row.connections,
                "answer": if row.answer == Answer::Json { "json" } else { "50 events" },
                "prompts": if row.is_same { "same" } else { "distinct" },
                "filters": filters,
            })
        });
        let paced = self.paced.iter().map(|(rate, figures)| {
            let filters = of_filters(&|filter| {
                json!({
                    "p50_ms": Spread::of(figures[filter as usize].iter().map(|paced| paced.p50_ms)).json(),
                    "p99_ms": Spread::of(figures[filter as usize].iter().map(|paced| paced.p99_ms)).json(),
                    "p50_beyond_bare_ms": beyond(figures, filter, Filter::Bare, |paced| paced.p50_ms).json(),
                    "p99_beyond_bare_ms": beyond(figures, filter, Filter::Bare, |paced| paced.p99_ms).json(),
                })
            });
            json!({"requests_per_second": rate, "filters": filters})
        });
        let events = of_filters(&|filter| {
            json!({
                "cpu_us": Spread::of(self.events[filter as usize].iter().copied()).json(),
                "beyond_noop_us": beyond(&self.events, filter, Filter::Noop, |spent| *spent).json(),
            })
        });
        let memory = self.memory.iter().map(|memory| {
            let mb = |bytes: f64| (bytes / MB).round();
            let Memory { workers, noop, penstock, o200k } = memory;
            json!({"workers": workers, "noop_mb": mb(*noop), "penstock_mb": mb(*penstock), "o200k_mb": o200k.map(mb)})
        });
        let beyond_noop = |of: &dyn Fn(&Memory) -> Option<f64>| {
            self.beyond_noop_mb(of).map(|[first, further]| json!({"first_worker": first, "further_worker": further}))
        };
        json!({
            "rounds": self.rounds,
            "cores": available_parallelism().map_or(0, |cores| cores.get()),
            "load_average": self.load_average,
            "under_load": rows.collect::<Vec<_>>(),
            "evenly_spaced": paced.collect::<Vec<_>>(),
            "event_of_a_stream": events,
            "memory": {
                "resident": memory.collect::<Vec<_>>(),
                "beyond_noop_mb": beyond_noop(&|memory| Some(memory.penstock)),
                "o200k_beyond_noop_mb": beyond_noop(&|memory| memory.o200k),
            },
        })
    }

    /// Megabytes beyond the no-op filter's: with the first worker, and with each further one.
    fn beyond_noop_mb(&self, of: impl Fn(&Memory) -> Option<f64>) -> Option<[f64; 2]> {
        let beyond = |memory: &Memory| of(memory).map(|bytes| (bytes - memory.noop) / MB);
        let (first, last) = (self.memory.first()?, self.memory.last()?);
        let more = f64::from((last.workers - first.workers).max(1));
        let tenths = |mb: f64| (mb * 10.0).round() / 10.0;
        Some([tenths(beyond(first)?), tenths((beyond(last)? - beyond(first)?) / more)])
    }

    /// What people read.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} rounds in turns; medians, and quartiles in brackets. Load average before and after: {}.\n",
            self.rounds,
            self.load_average.join("; ")
        );
        // Nothing can go wrong with a string.
        for (row, figures) in &self.rows {
            let _ = writeln!(
                text,
                "\n{row}\n{:<10}{:>9}  {:<22}{:>8}  {:<22}{:>8}{:>8}",
                "", "req/s", "of the no-op", "CPU µs", "of the floor", "p50 ms", "p99 ms"
            );
            for filter in Filter::ALL {
                let of = |get: fn(&Load) -> f64| Spread::of(figures[filter as usize].iter().map(get)).median();
                let _ = writeln!(
                    text,
                    "{:<10}{:>9.0}  {:<22}{:>8.1}  {:<22}{:>8.2}{:>8.2}",
                    NAMES[filter as usize],
                    of(|load| load.per_second),
                    ratio(figures, filter, Filter::Noop, |load| load.per_second).to_string(),
                    of(|load| load.cpu_us),
                    ratio(figures, filter, Filter::Floor, |load| load.cpu_us).to_string(),
                    of(|load| load.p50_ms),
                    of(|load| load.p99_ms),
                );
            }
        }
        for (rate, figures) in &self.paced {
            let _ = writeln!(text, "\n{rate} requests a second, evenly spaced: ms, and beyond bare");
            for filter in Filter::ALL {
                let of = |get: fn(&Paced) -> f64| Spread::of(figures[filter as usize].iter().map(get)).median();
                let _ = writeln!(
                    text,
                    "{:<10}p50 {:.2}, {:<24} p99 {:.2}, {}",
                    NAMES[filter as usize],
                    of(|paced| paced.p50_ms),
                    beyond(figures, filter, Filter::Bare, |paced| paced.p50_ms).to_string(),
                    of(|paced| paced.p99_ms),
                    beyond(figures, filter, Filter::Bare, |paced| paced.p99_ms),
                );
            }
        }
        let _ = writeln!(text, "\nan event of a stream, one by one: CPU µs, and beyond the no-op");
        for filter in Filter::ALL {
            let spent = Spread::of(self.events[filter as usize].iter().copied());
            let more = beyond(&self.events, filter, Filter::Noop, |spent| *spent);
            let _ = writeln!(text, "{:<10}{spent}, {more}", NAMES[filter as usize]);
        }
        let _ = writeln!(
            text,
            "\nresident memory, MB: the no-op; beyond it with the first worker, and with each further one"
        );
        let noop: Vec<String> = self.memory.iter().map(|memory| format!("{:.0}", memory.noop / MB)).collect();
        let _ = writeln!(text, "{:<20}{}", "no-op", noop.join(", "));
        let all = self.beyond_noop_mb(|memory| Some(memory.penstock));
        let one = self.beyond_noop_mb(|memory| memory.o200k);
        for (name, beyond) in [("Penstock", all), ("with o200k alone", one)] {
            if let Some([first, further]) = beyond {
                let _ = writeln!(text, "{name:<20}{first}, {further}");
            }
        }
        text
    }

    /// Throughput and CPU, as bars.
    pub fn svg(&self) -> String {
        let groups: Vec<String> = self.rows.iter().map(|(row, _)| row.short()).collect();
        let of_noop = |get: fn(&Load) -> f64| -> Vec<[f64; FILTERS]> {
            let medians = |figures: &Rounds<Load>| {
                Filter::ALL.map(|filter| ratio(figures, filter, Filter::Noop, get).median() * 100.0)
            };
            self.rows.iter().map(|(_, figures)| medians(figures)).collect()
        };
        let (throughput, cpu) = (of_noop(|load| load.per_second), of_noop(|load| load.cpu_us));
        let panels = [
            Bars { title: "Requests a second, % of the no-op's", groups: &throughput },
            Bars { title: "CPU of Envoy for a request, % of the no-op's", groups: &cpu },
        ];
        bars(&NAMES, &COLOURS, &groups, &panels)
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prompt, connections, .. } = self;
        let prompts = if self.is_same { "the same prompt each time" } else { "another prompt each time" };
        let answer = if self.answer == Answer::Json { "JSON" } else { "50 events" };
        let plural = if *connections == 1 { "" } else { "s" };
        write!(f, "{} prompt, {connections} connection{plural}, {answer}, {prompts}", size(*prompt))
    }
}

impl Row {
    /// What tells it apart, in two lines.
    fn short(&self) -> String {
        let what = match (self.answer, self.is_same) {
            (Answer::Events, _) => "50 events",
            (Answer::Json, true) => "same prompt",
            (Answer::Json, false) => "JSON",
        };
        format!("{}, {} conn.\n{what}", size(self.prompt), self.connections)
    }
}

fn size(bytes: usize) -> String {
    if bytes < 1000 { format!("{bytes} B") } else { format!("{} KB", bytes / 1000) }
}

/// One filter's figures by another one's, round by round.
fn ratio<T>(figures: &Rounds<T>, filter: Filter, by: Filter, get: impl Fn(&T) -> f64) -> Spread {
    pairs(figures, filter, by, |one, other| get(one) / get(other))
}

/// One filter's figures less another one's, round by round.
fn beyond<T>(figures: &Rounds<T>, filter: Filter, than: Filter, get: impl Fn(&T) -> f64) -> Spread {
    pairs(figures, filter, than, |one, other| get(one) - get(other))
}

fn pairs<T>(figures: &Rounds<T>, filter: Filter, other: Filter, get: impl Fn(&T, &T) -> f64) -> Spread {
    Spread::of(figures[filter as usize].iter().zip(&figures[other as usize]).map(|(one, other)| get(one, other)))
}

/// The system's own, so that who reads figures knows what else ran.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_compared_within_a_round() {
        // The machine is twice as slow in the second round.
        let figures = [vec![4.0, 8.0, 4.0], vec![2.0, 4.0, 2.0], vec![], vec![]];
        let of = |spread: Spread| spread.0;
        assert_eq!(of(ratio(&figures, Filter::Bare, Filter::Noop, |value| *value)), [2.0; 3]);
        assert_eq!(of(beyond(&figures, Filter::Bare, Filter::Noop, |value| *value)), [2.0, 2.0, 4.0]);
    }

    #[test]
    fn memory_is_that_of_the_first_worker_and_of_each_further_one() {
        let mut report = Report::new(1);
        let memory = |workers, noop: f64, penstock: f64| {
            let o200k = (workers > 1).then_some(0.0);
            Memory { workers, noop: noop * MB, penstock: penstock * MB, o200k }
        };
        report.memory = vec![memory(1, 100.0, 160.0), memory(2, 101.0, 169.0), memory(4, 103.0, 187.0)];
        assert_eq!(report.beyond_noop_mb(|memory| Some(memory.penstock)), Some([60.0, 8.0]));
        assert_eq!(report.beyond_noop_mb(|memory| memory.o200k), None, "it was not measured");
    }
}
