//! A run as a picture: replicas against the work that arrives, and the TTFT that came of it.

use std::fmt::Write as _;

use crate::outcome::{Outcome, Point};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 50.0;
const PANEL: f64 = 180.0;
const GAP: f64 = 40.0;

/// Draws a run as SVG. `ttft_objective` is in seconds.
#[must_use]
pub fn svg(title: &str, outcome: &Outcome, ttft_objective: f64) -> String {
    let points = &outcome.points;
    let end = points.last().map_or(1.0, |point| point.at.max(1.0));
    let replicas = points.iter().map(|point| f64::from(point.replicas).max(point.work)).fold(1.0, f64::max);
    let ttft = points.iter().map(|point| point.ttft).fold(ttft_objective * 2.0, f64::max);
    let height = 2.0 * PANEL + 3.0 * GAP;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>",
        escaped(title)
    );
    let top = Panel { top: GAP, end, most: replicas.ceil() };
    top.frame(&mut svg, "replicas");
    top.line(&mut svg, points, "#bbbbbb", 1.0, true, |point| point.work);
    top.line(&mut svg, points, "#1f77b4", 1.0, true, |point| f64::from(point.ready));
    top.line(&mut svg, points, "#d62728", 1.5, true, |point| f64::from(point.replicas));
    legend(&mut svg, GAP - 6.0, &[("#d62728", "replicas"), ("#1f77b4", "ready"), ("#bbbbbb", "work that arrives")]);
    let below = Panel { top: PANEL + 2.0 * GAP, end, most: ttft };
    below.frame(&mut svg, "s");
    below.line(&mut svg, points, "#2ca02c", 1.5, false, |point| point.ttft);
    let at = below.y(ttft_objective);
    let right = WIDTH - 10.0;
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#888888\" stroke-dasharray=\"4 3\"/>"
    );
    legend(&mut svg, PANEL + 2.0 * GAP - 6.0, &[("#2ca02c", "TTFT, 95th percentile"), ("#888888", "objective")]);
    svg.push_str("</svg>\n");
    svg
}

struct Panel {
    top: f64,
    end: f64,
    most: f64,
}

impl Panel {
    fn x(&self, at: f64) -> f64 {
        LEFT + at / self.end * (WIDTH - LEFT - 10.0)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL * (1.0 - (value / self.most).clamp(0.0, 1.0))
    }

    fn frame(&self, svg: &mut String, unit: &str) {
        let (bottom, right, top) = (self.top + PANEL, WIDTH - 10.0, self.top);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>");
        for share in [0.0, 0.5, 1.0] {
            let (value, y) = (self.most * share, self.y(self.most * share) + 4.0);
            let x = LEFT - 6.0;
            let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{value:.1}</text>");
        }
        let _ = writeln!(svg, "<text x=\"8\" y=\"{:.1}\">{unit}</text>", top - 6.0);
        for share in [0.25, 0.5, 0.75, 1.0] {
            let (x, minutes, y) = (self.x(self.end * share), self.end * share / 60.0, bottom + 15.0);
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{minutes:.0} min</text>");
        }
    }

    fn line(
        &self,
        svg: &mut String,
        points: &[Point],
        color: &str,
        width: f64,
        step: bool,
        of: impl Fn(&Point) -> f64,
    ) {
        let mut path = String::new();
        for (index, point) in points.iter().enumerate() {
            let (x, y) = (self.x(point.at), self.y(of(point)));
            let _ = match (index, step) {
                (0, _) => write!(path, "M{x:.1} {y:.1}"),
                (_, true) => write!(path, "H{x:.1}V{y:.1}"),
                (_, false) => write!(path, "L{x:.1} {y:.1}"),
            };
        }
        let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\"/>");
    }
}

fn legend(svg: &mut String, y: f64, entries: &[(&str, &str)]) {
    for (index, (color, text)) in entries.iter().enumerate() {
        let x = WIDTH - 460.0 + 150.0 * index as f64;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" fill=\"{color}\">{text}</text>");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
