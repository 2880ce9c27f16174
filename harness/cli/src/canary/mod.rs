//! `penstock canary`: two versions of a model beside one another, from what a Prometheus or an Envoy has counted.

mod compare;
mod counts;
mod read;
pub mod statistics;
mod table;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use reqwest::Url;
use serde_json::json;

use counts::Counts;

/// Options of `penstock canary`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock canary --prometheus http://127.0.0.1:9090 --model chat
  penstock canary --envoy http://127.0.0.1:9901 --json")]
pub struct Arguments {
    /// A Prometheus that scrapes the gateways, such as http://127.0.0.1:9090. This command speaks http alone.
    #[arg(long, required_unless_present = "envoy", conflicts_with = "envoy")]
    prometheus: Option<Url>,
    /// The admin address of one Envoy, such as http://127.0.0.1:15000. It is read until `--window` is over.
    #[arg(long)]
    envoy: Option<Url>,
    /// The time that counts: the last of it in a Prometheus (default: 1h), the next of it on an Envoy (default: 1m).
    #[arg(long, value_parser = window)]
    window: Option<Duration>,
    /// The model; every one with two versions and more, if none is named.
    #[arg(long)]
    model: Option<String>,
    /// The version that the other is compared with.
    #[arg(long, default_value = "stable")]
    stable: String,
    /// The version that is compared; every other, if none is named.
    #[arg(long)]
    canary: Option<String>,
    /// Print nothing but one JSON object.
    #[arg(long)]
    json: bool,
}

/// The least leaves a few scrapes in each stretch, the most is more than a Prometheus keeps.
fn window(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration from 12s to 90d; write 30s, 5m, 1h, 7d");
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.filter(|seconds| (12..=90 * 86_400).contains(seconds)).map(Duration::from_secs).ok_or_else(wrong)
}

/// Looks, and says what there is to see.
///
/// # Errors
/// When nobody answers, or there are no two versions to compare.
pub async fn run(arguments: Arguments) -> Result<(), String> {
    for address in arguments.prometheus.iter().chain(&arguments.envoy) {
        if address.scheme() != "http" {
            return Err(format!(
                "{address}: this command speaks http alone; ask from inside of the network, or through a port-forward"
            ));
        }
    }
    let (counts, words) = match (&arguments.prometheus, &arguments.envoy) {
        (Some(address), _) => {
            let window = arguments.window.unwrap_or(Duration::from_secs(3600));
            let counts = read::prometheus(address, window, arguments.model.as_deref()).await?;
            (counts, format!("The last {}, by {address}.", span(window)))
        }
        (None, Some(address)) => {
            let window = arguments.window.unwrap_or(Duration::from_secs(60));
            let is_shown = std::io::stderr().is_terminal() && !arguments.json;
            let counts = read::envoy(address, window, |done, all| {
                if is_shown {
                    eprint!("\rlooking: {done}/{all}{}", if done == all { "\n" } else { "" });
                }
            });
            (counts.await?, format!("{} of {address}.", span(window)))
        }
        (None, None) => return Err("name a --prometheus or an --envoy".to_owned()),
    };
    let pairs = pairs(&counts, &arguments)?;
    let compared: Vec<_> =
        pairs.iter().map(|(model, canary)| compare::compare(&counts, model, &arguments.stable, canary)).collect();
    if arguments.json {
        println!("{:#}", json!({"models": compared.iter().map(compare::Comparison::json).collect::<Vec<_>>()}));
        return Ok(());
    }
    for one in &compared {
        println!("{}", table::text(one));
    }
    println!("{words}");
    println!("In brackets: where the figure lies, at 95 %. *: differs beyond chance, for one");
    println!("look. Latencies are within Envoy's buckets.");
    Ok(())
}

/// What is compared: models, and their versions beside the stable one.
fn pairs(counts: &Counts, arguments: &Arguments) -> Result<Vec<(String, String)>, String> {
    let versions = counts.versions();
    let mut pairs = Vec::new();
    for (model, own) in &versions {
        let is_meant = arguments.model.as_ref().is_none_or(|wanted| wanted == model);
        if is_meant && own.contains(&arguments.stable) {
            let others = own.iter().filter(|version| **version != arguments.stable);
            let others = others.filter(|version| arguments.canary.as_ref().is_none_or(|wanted| wanted == *version));
            pairs.extend(others.map(|version| (model.clone(), version.clone())));
        }
    }
    if pairs.is_empty() {
        let list = |own: &BTreeSet<String>| own.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let seen: Vec<_> = versions.iter().map(|(model, own)| format!("{model} ({})", list(own))).collect();
        let seen = if seen.is_empty() { "no version served anything".to_owned() } else { seen.join("; ") };
        return Err(format!("there is no version to compare with `{}`: {seen}", arguments.stable));
    }
    Ok(pairs)
}

fn span(window: Duration) -> String {
    let seconds = window.as_secs();
    match seconds {
        _ if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}
