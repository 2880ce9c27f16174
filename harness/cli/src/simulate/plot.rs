//! A run as a picture: replicas against the work that arrives, and the TTFT that came of it.

use penstock_harness::chart::{self, Line, Panel};
use penstock_simulate::{Outcome, Point};

/// Draws a run as SVG. `ttft_objective` is in seconds.
pub fn svg(title: &str, outcome: &Outcome, ttft_objective: f64) -> String {
    let line = |name, colour, is_stepped, value| Line { name, colour, is_stepped, value };
    let objective = |_: &Point| ttft_objective;
    let replicas = [
        line("work that arrives", "#bbbbbb", true, &|point: &Point| point.work),
        line("ready", "#1f77b4", true, &|point| f64::from(point.ready)),
        line("replicas", "#d62728", true, &|point| f64::from(point.replicas)),
    ];
    let ttft = [
        line("objective", "#888888", false, &objective),
        line("95th percentile", "#2ca02c", false, &|point| point.ttft),
    ];
    let panels = [Panel { title: "replicas", lines: &replicas }, Panel { title: "TTFT, s", lines: &ttft }];
    chart::svg(title, &outcome.points, |point| point.at, &panels)
}
