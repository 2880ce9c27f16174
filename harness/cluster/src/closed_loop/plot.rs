//! The samples as a picture: what is asked, what waits, who serves and how long the first token takes, over one time.

use penstock_harness::chart::{self, Line, Panel};

use super::sample::Sample;

/// Draws them, as SVG.
pub fn svg(samples: &[Sample]) -> String {
    let line = |name, colour, is_stepped, value| Line { name, colour, is_stepped, value };
    let demand = [line("arriving", "#1b6ca8", false, &|sample: &Sample| sample.demand_tokens_per_second)];
    let backlog = [line("pending", "#a83232", false, &|sample| sample.backlog_tokens)];
    let replicas = [
        line("wanted", "#888888", true, &|sample| f64::from(sample.replicas)),
        line("serving", "#2e7d32", true, &|sample| sample.serving as f64),
    ];
    let ttft = [
        line("p95", "#e0a030", false, &|sample| sample.ttft_p95_ms),
        line("p50", "#6a3d9a", false, &|sample| sample.ttft_p50_ms),
    ];
    let panels = [
        Panel { title: "demand, tokens per second", lines: &demand },
        Panel { title: "backlog, tokens", lines: &backlog },
        Panel { title: "replicas", lines: &replicas },
        Panel { title: "time to first token, ms", lines: &ttft },
    ];
    chart::svg("", samples, |sample| sample.at, &panels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn() {
        let sample = |at, replicas| Sample { at, replicas, ..Sample::default() };
        let picture = svg(&[sample(0.0, 1), sample(10.0, 2)]);
        assert_eq!(picture.matches("<polyline").count(), 6);
        // The wanted replicas: flat, then straight up.
        assert!(picture.contains("points=\"80.0,471.0 940.0,471.0 940.0,396.0\""), "{picture}");
        // Nothing to draw is no reason to fail.
        assert!(svg(&[]).ends_with("</svg>\n"));
    }
}
