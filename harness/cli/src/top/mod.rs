//! `penstock top`: what the filters do at the moment, by what an Envoy or a Prometheus has counted.

mod frame;
mod rows;

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use penstock_harness::envoy::Metrics;
use reqwest::{Client, Url};
use serde_json::json;

use crate::http::client;
use crate::samples::{ask, number, sample, scrape};
use rows::{View, view};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Rates are over so many looks.
const LOOKS: usize = 5;
/// All that the filters count.
const QUERY: &str = "{__name__=~\"penstock_.*\"}";
/// A terminal that does not say how large it is.
const TERMINAL: (usize, usize) = (80, 24);
/// Another screen, without a cursor; and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// Options of `penstock top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock top --envoy http://127.0.0.1:9901
  penstock top --prometheus http://127.0.0.1:9090 --every 30
  penstock top --envoy http://127.0.0.1:9901 --once --json")]
pub struct Arguments {
    /// The admin address of one Envoy, such as http://127.0.0.1:15000.
    #[arg(long, required_unless_present = "prometheus", conflicts_with = "prometheus")]
    envoy: Option<Url>,
    /// A Prometheus that scrapes the gateways, such as http://127.0.0.1:9090. This command speaks http alone.
    #[arg(long)]
    prometheus: Option<Url>,
    /// Seconds between two looks: when not given, 2 at an Envoy (6 with --once), 15 at a Prometheus. Rates are over the last five of them.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: Option<u64>,
    /// Prints one frame, after two looks, and ends; also where standard output is no terminal.
    #[arg(long)]
    once: bool,
    /// Print nothing but one JSON object, once.
    #[arg(long)]
    json: bool,
}

/// Shows until it is interrupted, or once.
///
/// # Errors
/// Where it is to be shown once: when nobody answers.
pub async fn run(arguments: Arguments) -> Result<(), String> {
    let Arguments { envoy, prometheus, every, once, json } = arguments;
    let source = match (envoy, prometheus) {
        (Some(address), _) => Source { address, is_prometheus: false, client: client(TIMEOUT)? },
        (None, Some(address)) => Source { address, is_prometheus: true, client: client(TIMEOUT)? },
        (None, None) => return Err("name an --envoy or a --prometheus".to_owned()),
    };
    if source.address.scheme() != "http" {
        return Err(format!(
            "{}: this command speaks http alone; ask from inside of the network, or through a port-forward",
            source.address
        ));
    }
    let once = once || json || !std::io::stdout().is_terminal();
    let usual = match (source.is_prometheus, once) {
        (true, _) => 15,
        // Envoy adds its histograms up every 5 s (`stats_flush_interval`): two looks have to have that between them.
        (false, true) => 6,
        (false, false) => 2,
    };
    let every = Duration::from_secs(every.unwrap_or(usual));
    if once {
        return source.once(every, json).await;
    }
    print!("{ENTER}");
    let outcome = tokio::select! {
        gone = source.live(every) => gone,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    print!("{LEAVE}");
    let _ = std::io::stdout().flush();
    outcome
}

/// Who is asked.
struct Source {
    address: Url,
    is_prometheus: bool,
    client: Client,
}

impl Source {
    async fn look(&self) -> Result<Metrics, String> {
        if !self.is_prometheus {
            return scrape(&self.client, &self.address).await;
        }
        let series = ask(&self.client, &self.address, "api/v1/query", QUERY, &[]).await?;
        let samples = series.iter().filter_map(|one| {
            let name = one["metric"]["__name__"].as_str()?;
            Some(sample(name, &one["metric"], number(&one["value"][1])?))
        });
        Ok(Metrics(samples.collect()))
    }

    async fn once(&self, every: Duration, is_json: bool) -> Result<(), String> {
        let (before, began) = (self.look().await?, Instant::now());
        tokio::time::sleep(every).await;
        let after = self.look().await?;
        let seen = view(&before, &after, began.elapsed().as_secs_f64());
        if is_json {
            println!("{:#}", json!(seen));
        } else {
            let lines = frame::frame(self.address.as_str(), Some(&seen), None, (TERMINAL.0, usize::MAX));
            println!("{}", lines.join("\n"));
        }
        Ok(())
    }

    /// Never ends but when nobody can be shown anything: who does not answer may do so later.
    async fn live(&self, every: Duration) -> Result<(), String> {
        let mut looks: VecDeque<(Instant, Metrics)> = VecDeque::new();
        let mut seen: Option<View> = None;
        loop {
            let looked = self.look().await;
            let trouble = looked.as_ref().err().cloned();
            if let Ok(now) = looked {
                if let Some((when, before)) = looks.front() {
                    seen = Some(view(before, &now, when.elapsed().as_secs_f64()));
                }
                looks.push_back((Instant::now(), now));
                if looks.len() > LOOKS {
                    looks.pop_front();
                }
            }
            let lines = frame::frame(self.address.as_str(), seen.as_ref(), trouble.as_deref(), size());
            // Each line is cleared to its end, so nothing flickers.
            let text: String = lines.iter().map(|line| format!("{line}\u{1b}[K\r\n")).collect();
            let shown = write!(std::io::stdout(), "\u{1b}[H{}\u{1b}[J", text.trim_end_matches("\r\n"));
            shown.and_then(|()| std::io::stdout().flush()).map_err(|error| error.to_string())?;
            tokio::time::sleep(every).await;
        }
    }
}

/// How large the terminal is, as it is now.
fn size() -> (usize, usize) {
    let known = terminal_size::terminal_size();
    known.map_or(TERMINAL, |(width, height)| (usize::from(width.0), usize::from(height.0)))
}
