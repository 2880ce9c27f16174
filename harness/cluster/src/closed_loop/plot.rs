//! The samples as a picture (SVG 1.1): what is asked, what waits, who serves and how long the first token takes, over one time.

use std::fmt::Write;

use super::sample::Sample;

const WIDTH: f64 = 960.0;
const PANEL: f64 = 150.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 28.0;
/// Between a panel's ground and the next one's title.
const GAP: f64 = 34.0;

/// One line of a panel.
struct Line {
    name: &'static str,
    colour: &'static str,
    /// A number of things is one until it is another.
    is_stepped: bool,
    value: fn(&Sample) -> f64,
}

struct Panel {
    title: &'static str,
    lines: &'static [Line],
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "demand, tokens per second",
        lines: &[Line {
            name: "arriving",
            colour: "#1b6ca8",
            is_stepped: false,
            value: |sample| sample.demand_tokens_per_second,
        }],
    },
    Panel {
        title: "backlog, tokens",
        lines: &[Line { name: "pending", colour: "#a83232", is_stepped: false, value: |sample| sample.backlog_tokens }],
    },
    Panel {
        title: "replicas",
        lines: &[
            Line { name: "wanted", colour: "#888888", is_stepped: true, value: |sample| f64::from(sample.replicas) },
            Line { name: "serving", colour: "#2e7d32", is_stepped: true, value: |sample| sample.serving as f64 },
        ],
    },
    Panel {
        title: "time to first token, ms",
        lines: &[
            Line { name: "p95", colour: "#e0a030", is_stepped: false, value: |sample| sample.ttft_p95_ms },
            Line { name: "p50", colour: "#6a3d9a", is_stepped: false, value: |sample| sample.ttft_p50_ms },
        ],
    },
];

/// Draws them.
pub fn svg(samples: &[Sample]) -> String {
    let height = PANELS.len() as f64 * (PANEL + GAP) + TOP;
    let seconds = samples.last().map_or(1.0, |sample| sample.at.max(1.0));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (number, panel) in PANELS.iter().enumerate() {
        let top = TOP + number as f64 * (PANEL + GAP);
        // Nothing can go wrong with a string.
        let _ = draw(&mut text, panel, samples, top, seconds);
    }
    text.push_str("</svg>\n");
    text
}

fn draw(text: &mut String, panel: &Panel, samples: &[Sample], top: f64, seconds: f64) -> std::fmt::Result {
    let ground = top + PANEL;
    let values = panel.lines.iter().flat_map(|line| samples.iter().map(line.value));
    let most = ceiling(values.fold(0.0, f64::max));
    let x = |at: f64| LEFT + at / seconds * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| ground - value / most * PANEL;
    writeln!(text, "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}</text>", top - 8.0, panel.title)?;
    for part in [0.0, 0.5, 1.0] {
        let (value, level) = (most * part, y(most * part));
        let end = WIDTH - RIGHT;
        writeln!(text, "<line x1=\"{LEFT}\" y1=\"{level:.1}\" x2=\"{end}\" y2=\"{level:.1}\" stroke=\"#dddddd\"/>")?;
        writeln!(text, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", LEFT - 8.0, level + 4.0)?;
    }
    for tick in 0..=6 {
        let at = seconds * f64::from(tick) / 6.0;
        writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666666\">{at:.0} s</text>",
            x(at),
            ground + 14.0
        )?;
    }
    for (number, line) in panel.lines.iter().enumerate() {
        let mut points = String::new();
        let mut before = None;
        for sample in samples {
            let (across, up) = (x(sample.at), y((line.value)(sample)));
            if let (true, Some(before)) = (line.is_stepped, before) {
                write!(points, "{across:.1},{before:.1} ")?;
            }
            write!(points, "{across:.1},{up:.1} ")?;
            before = Some(up);
        }
        let (colour, name) = (line.colour, line.name);
        writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            points.trim_end()
        )?;
        let place = WIDTH - RIGHT - 70.0 * (panel.lines.len() - number - 1) as f64;
        writeln!(text, "<text x=\"{place}\" y=\"{}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>", top - 8.0)?;
    }
    Ok(())
}

/// The next number above that is 1, 2 or 5 times a power of ten.
fn ceiling(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number() {
        assert_eq!([0.0, 1.0, 1.5, 4.0, 51.0, 7000.0].map(ceiling), [1.0, 1.0, 2.0, 5.0, 100.0, 10_000.0]);
    }

    #[test]
    fn a_line_goes_from_the_first_sample_to_the_last() {
        let sample = |at, replicas| Sample { at, replicas, ..Sample::default() };
        let picture = svg(&[sample(0.0, 1), sample(10.0, 2)]);
        // The wanted replicas: flat, then straight up to the top of the panel.
        let [from, to, ground, top] =
            [LEFT, WIDTH - RIGHT, TOP + 2.0 * (PANEL + GAP) + PANEL / 2.0, TOP + 2.0 * (PANEL + GAP)];
        assert!(
            picture.contains(&format!("points=\"{from:.1},{ground:.1} {to:.1},{ground:.1} {to:.1},{top:.1}\"")),
            "{picture}"
        );
        assert_eq!(picture.matches("<polyline").count(), 6);
        // Nothing to draw is no reason to fail.
        assert!(svg(&[]).ends_with("</svg>\n"));
    }
}
