//! Lines over one time, or bars in groups, in panels below one another, as a picture (SVG 1.1).

use std::fmt::{Result, Write as _};

const WIDTH: f64 = 960.0;
const PANEL: f64 = 150.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 28.0;
/// Between a panel's ground and the next one's title.
const GAP: f64 = 34.0;
/// For the name of a line, at the right.
const NAME: f64 = 150.0;
/// From one line of a group's name to the next.
const LINE: f64 = 14.0;
/// From this on times are in minutes.
const LONG_SECONDS: f64 = 600.0;

/// One line of a panel.
pub struct Line<'a, P> {
    /// What it is called.
    pub name: &'a str,
    /// As SVG has colours.
    pub colour: &'a str,
    /// A number of things is one until it is another.
    pub is_stepped: bool,
    /// How high it is at a point; NaN where that is not known.
    pub value: &'a dyn Fn(&P) -> f64,
}

/// Lines on one scale, from 0 on.
pub struct Panel<'a, P> {
    /// What they show, and in which unit.
    pub title: &'a str,
    /// The lines.
    pub lines: &'a [Line<'a, P>],
}

/// Draws panels of what there is at these points, which come in the order of their times, in seconds.
pub fn svg<P>(heading: &str, points: &[P], at: impl Fn(&P) -> f64, panels: &[Panel<'_, P>]) -> String {
    let top = if heading.is_empty() { TOP } else { TOP + GAP };
    let height = panels.len() as f64 * (PANEL + GAP) + top;
    let seconds = points.last().map_or(1.0, |point| at(point).max(1.0));
    let mut text = page(height);
    if !heading.is_empty() {
        // Nothing can go wrong with a string.
        let _ = writeln!(text, "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>", escaped(heading));
    }
    let times: Vec<f64> = points.iter().map(at).collect();
    for (number, panel) in panels.iter().enumerate() {
        let top = top + number as f64 * (PANEL + GAP);
        let _ = draw(&mut text, panel, points, &times, top, seconds);
    }
    text.push_str("</svg>\n");
    text
}

fn draw<P>(text: &mut String, panel: &Panel<'_, P>, points: &[P], times: &[f64], top: f64, seconds: f64) -> Result {
    let ground = top + PANEL;
    let values = panel.lines.iter().flat_map(|line| points.iter().map(line.value)).filter(|value| value.is_finite());
    let most = ceiling(values.fold(0.0, f64::max));
    let x = |at: f64| LEFT + at / seconds * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| ground - value / most * PANEL;
    frame(text, panel.title, most, top)?;
    for tick in 0..=6 {
        let at = seconds * f64::from(tick) / 6.0;
        let (across, below) = (x(at), ground + 14.0);
        let (shown, unit) = if seconds < LONG_SECONDS { (at, "s") } else { (at / 60.0, "min") };
        writeln!(
            text,
            "<text x=\"{across:.1}\" y=\"{below}\" text-anchor=\"middle\" fill=\"#666666\">{shown:.0} {unit}</text>"
        )?;
    }
    for (number, line) in panel.lines.iter().enumerate() {
        let colour = line.colour;
        let values = points.iter().zip(times).map(|(point, at)| (*at, (line.value)(point)));
        // Where there is no value, there is no line.
        for known in values.collect::<Vec<_>>().split(|(_, value)| !value.is_finite()).filter(|known| !known.is_empty())
        {
            let mut path = String::new();
            let mut before = None;
            for (at, value) in known {
                let (across, up) = (x(*at), y(*value));
                if let (true, Some(before)) = (line.is_stepped, before) {
                    write!(path, "{across:.1},{before:.1} ")?;
                }
                write!(path, "{across:.1},{up:.1} ")?;
                before = Some(up);
            }
            let path = path.trim_end();
            writeln!(text, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>")?;
        }
        legend(text, line.name, colour, panel.lines.len() - number - 1, top)?;
    }
    Ok(())
}

/// Bars of several groups on one scale, from 0 on.
pub struct Bars<'a, const N: usize> {
    /// What they show, and in which unit.
    pub title: &'a str,
    /// The heights of each group's bars.
    pub groups: &'a [[f64; N]],
}

/// Draws panels of bars. Each bar of a group has a name and a colour, and each group a name, which can have several lines.
pub fn bars<const N: usize>(
    names: &[&str; N],
    colours: &[&str; N],
    groups: &[String],
    panels: &[Bars<'_, N>],
) -> String {
    let below = LINE * groups.iter().map(|name| name.lines().count()).max().unwrap_or_default() as f64;
    let step = PANEL + GAP + below;
    let mut text = page(panels.len() as f64 * step + TOP);
    for (number, panel) in panels.iter().enumerate() {
        let top = TOP + number as f64 * step;
        let _ = draw_bars(&mut text, panel, names, colours, groups, top);
    }
    text.push_str("</svg>\n");
    text
}

fn draw_bars<const N: usize>(
    text: &mut String,
    panel: &Bars<'_, N>,
    names: &[&str; N],
    colours: &[&str; N],
    groups: &[String],
    top: f64,
) -> Result {
    let most = ceiling(panel.groups.iter().flatten().copied().filter(|value| value.is_finite()).fold(0.0, f64::max));
    frame(text, panel.title, most, top)?;
    for (number, (name, colour)) in names.iter().zip(colours).enumerate() {
        legend(text, name, colour, N - number - 1, top)?;
    }
    let width = (WIDTH - LEFT - RIGHT) / groups.len().max(1) as f64;
    // A bar's width is left free between two groups.
    let bar = width / (N + 1) as f64;
    for (number, (name, heights)) in groups.iter().zip(panel.groups).enumerate() {
        let left = LEFT + width * number as f64 + bar / 2.0;
        for (number, (height, colour)) in heights.iter().zip(colours).enumerate() {
            // What was not measured is no number.
            let (x, height) = (left + bar * number as f64, height.max(0.0) / most * PANEL);
            let y = top + PANEL - height;
            writeln!(
                text,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{bar:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
            )?;
        }
        let middle = left + bar * N as f64 / 2.0;
        for (number, line) in name.lines().enumerate() {
            let (y, line) = (top + PANEL + LINE * (number + 1) as f64, escaped(line));
            writeln!(
                text,
                "<text x=\"{middle:.1}\" y=\"{y}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#666666\">{line}</text>"
            )?;
        }
    }
    Ok(())
}

/// The beginning of a picture of this height.
fn page(height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    )
}

/// A panel's title, and its scale up to `most`.
fn frame(text: &mut String, title: &str, most: f64, top: f64) -> Result {
    writeln!(text, "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}</text>", top - 8.0, escaped(title))?;
    for part in [0.0, 0.5, 1.0] {
        let (value, level) = (most * part, top + PANEL - part * PANEL);
        let end = WIDTH - RIGHT;
        writeln!(text, "<line x1=\"{LEFT}\" y1=\"{level:.1}\" x2=\"{end}\" y2=\"{level:.1}\" stroke=\"#dddddd\"/>")?;
        writeln!(text, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", LEFT - 8.0, level + 4.0)?;
    }
    Ok(())
}

/// The name of what has this colour, before so many others.
fn legend(text: &mut String, name: &str, colour: &str, others: usize, top: f64) -> Result {
    let place = WIDTH - RIGHT - NAME * others as f64;
    let name = escaped(name);
    writeln!(text, "<text x=\"{place}\" y=\"{}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>", top - 8.0)
}

/// The next number above that is 1, 2 or 5 times a power of ten.
fn ceiling(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_ends_at_a_round_number() {
        assert_eq!([0.0, 1.0, 1.5, 4.0, 51.0, 7000.0].map(ceiling), [1.0, 1.0, 2.0, 5.0, 100.0, 10_000.0]);
    }

    #[test]
    fn a_line_is_broken_where_nothing_is_known() {
        let value = |at: &usize| [1.0, 2.0, f64::NAN, 1.0][*at];
        let line = Line { name: "a", colour: "#000000", is_stepped: false, value: &value };
        let picture = svg("", &[0, 1, 2, 3], |at| *at as f64, &[Panel { title: "n", lines: &[line] }]);
        assert_eq!(picture.matches("<polyline").count(), 2);
        assert!(!picture.contains("NaN"));
    }

    #[test]
    fn a_bar_is_as_high_as_its_share_of_the_scale() {
        let panel = Bars { title: "n", groups: &[[5.0, 10.0], [0.0, f64::NAN]] };
        let picture = bars(&["a", "b"], &["#000000", "#ffffff"], &["one\n<1>".to_owned(), "two".to_owned()], &[panel]);
        for height in [PANEL / 2.0, PANEL, 0.0] {
            assert!(picture.contains(&format!("height=\"{height:.1}\"")), "{picture}");
        }
        assert!(picture.contains("&lt;1&gt;</text>") && !picture.contains("NaN"), "{picture}");
    }

    #[test]
    fn a_line_goes_from_the_first_point_to_the_last() {
        let value = |point: &(f64, f64)| point.1;
        let line = |is_stepped| Line { name: "n", colour: "#000000", is_stepped, value: &value };
        let lines = [line(true), line(false)];
        let panel = Panel { title: "n", lines: &lines };
        let picture = svg("", &[(0.0, 1.0), (10.0, 2.0)], |point| point.0, &[panel]);
        // Flat, then straight up to the top of the panel; and all the way up.
        let [from, to, middle, top] = [LEFT, WIDTH - RIGHT, TOP + PANEL / 2.0, TOP];
        for path in [
            format!("{from:.1},{middle:.1} {to:.1},{middle:.1} {to:.1},{top:.1}"),
            format!("{from:.1},{middle:.1} {to:.1},{top:.1}"),
        ] {
            assert!(picture.contains(&format!("points=\"{path}\"")), "{picture}");
        }
        // Nothing to draw is no reason to fail, and a heading is text.
        let nothing: [Panel<'_, (f64, f64)>; 0] = [];
        assert!(svg("a < b", &[], |point: &(f64, f64)| point.0, &nothing).contains("a &lt; b</text>\n</svg>"));
    }
}
