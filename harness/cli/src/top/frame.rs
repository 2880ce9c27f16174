//! Rows as lines of a terminal.

use super::rows::View;

/// What stands at the top when nobody answers.
const GONE: &str = "no answer; what is below is from before: ";

/// A frame of this many lines at most, none wider than `width`. `trouble` is why there is nothing newer.
pub fn frame(source: &str, view: Option<&View>, trouble: Option<&str>, (width, height): (usize, usize)) -> Vec<String> {
    let mut lines = vec![format!("penstock top  {source}")];
    lines.extend(trouble.map(|why| format!("{GONE}{why}")));
    match view {
        None if trouble.is_none() => lines.push("looking …".to_owned()),
        None => {}
        Some(view) if !view.filters => {
            lines.push("no metric of Penstock: no filter is in the chain, or it was asked nothing so far".to_owned());
        }
        Some(view) => rows(&mut lines, view),
    }
    if lines.len() > height {
        let more = lines.len() - height + 1;
        lines.truncate(height.saturating_sub(1));
        lines.push(format!("… {more} more lines"));
    }
    lines.iter().map(|line| fitting(line, width)).collect()
}

fn rows(lines: &mut Vec<String>, view: &View) {
    for model in &view.models {
        lines.push(String::new());
        lines.push(format!(
            "model {}: {:.0} + {:.0} tokens pending, {:.0} + {:.0} come in a second",
            model.name, model.prefill, model.decode, model.demand_prompt, model.demand_output
        ));
        lines.push(format!(
            "  {:<24}{:>8}{:>9}{:>8}{:>9}{:>9}{:>9}",
            "version", "pending", "req/s", "share", "5xx/s", "TTFT p50", "p95, ms"
        ));
        for version in &model.versions {
            let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
            lines.push(format!(
                "  {:<24}{:>8.0}{:>9.1}{:>8}{:>9.1}{:>9}{:>9}",
                fitting(&version.name, 23),
                version.pending,
                version.per_second,
                version.share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
                version.errors_per_second,
                ms(version.ttft_p50),
                ms(version.ttft_p95),
            ));
        }
    }
    lines.push(String::new());
    lines.push(format!("{:<26}{:>8}{:>12}{:>9}", "tenant", "req/s", "limited/s", "shed/s"));
    for tenant in &view.tenants {
        lines.push(format!(
            "{:<26}{:>8.1}{:>12.1}{:>9.1}",
            fitting(&tenant.name, 25),
            tenant.per_second,
            tenant.limited_per_second,
            tenant.shed_per_second
        ));
    }
}

/// As much as there is room for; nothing that a terminal obeys.
fn fitting(line: &str, width: usize) -> String {
    let shown = |letter: char| if letter.is_control() { '?' } else { letter };
    if line.chars().count() <= width {
        return line.chars().map(shown).collect();
    }
    line.chars().map(shown).take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::rows::tests::two;

    const TERMINAL: (usize, usize) = (80, 24);

    #[test]
    fn a_frame_says_what_there_is() {
        let lines = frame("http://127.0.0.1:9901/", Some(&two()), None, TERMINAL);
        let words = |start: &str| {
            let line = lines.iter().find(|line| line.trim_start().starts_with(start)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words("stable"), ["stable", "3", "3.0", "75", "%", "0.0", "67", "180"]);
        assert_eq!(words("canary"), ["canary", "0", "1.0", "25", "%", "1.0", "-", "-"]);
        assert_eq!(words("other"), ["other", "5.0", "5.0", "0.0"]);
        assert!(lines.iter().any(|line| line == "model chat: 1200 + 340 tokens pending, 27 + 0 come in a second"));
        assert!(lines.iter().all(|line| line.chars().count() <= TERMINAL.0) && lines.len() <= TERMINAL.1);
    }

    #[test]
    fn what_does_not_fit_is_said_and_what_is_gone_too() {
        let lines = frame("x", Some(&two()), Some("connection refused"), (20, 5));
        assert_eq!(lines.len(), 5);
        assert!(lines[1].starts_with("no answer;") && lines[4].contains("more lines"), "{lines:?}");
        let nobody = frame("x", Some(&View::default()), None, TERMINAL);
        assert!(nobody[1].contains("no filter is in the chain"), "{nobody:?}");
    }
}
