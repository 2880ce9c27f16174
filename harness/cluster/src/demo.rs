//! `penstock-cluster demo`: the closed loop for a person, with a line for every look and a picture at the end.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use penstock_cluster::closed_loop::{Options, Ramp, Sample, Stage, plot};
use penstock_cluster::kubernetes::Kubernetes;
use penstock_cluster::place::Place;
use penstock_cluster::scaling::{self, Prometheus, Scaling};

/// Plays a ramp of requests through the gateway, and shows how replicas follow.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Prints nothing but one JSON object at the end.
    #[arg(long)]
    json: bool,
    /// Where the picture goes, relative to the checkout.
    #[arg(long, default_value = "target/closed-loop.svg")]
    plot: PathBuf,
}

/// A replica serves two requests per second, and there are eight at the top. It loads for a minute, divided as all times of the chain are.
const OPTIONS: Options = Options {
    cold_start: Duration::from_secs(3),
    ramp: Ramp {
        low: 0.5,
        high: 8.0,
        rise: Duration::from_secs(40),
        hold: Duration::from_secs(40),
        fall: Duration::from_secs(20),
        tail: Duration::from_secs(40),
    },
};

pub async fn run(arguments: &Arguments) -> Result<(), String> {
    Prometheus::possible()?;
    let place = Place::find()?;
    let kubernetes = Kubernetes::start(&place).await?;
    let options = scaling::Options { gateways: 0, ..scaling::Options::default() };
    let mut scaling = Scaling::start(&place, &kubernetes, options).await?;
    let stage = Stage::start(&place, &kubernetes, &mut scaling, OPTIONS).await?;
    let mut looks: u64 = 0;
    let see = |sample: &Sample| {
        looks += 1;
        if !arguments.json && looks.is_multiple_of(4) {
            println!("{}", sample.line());
        }
    };
    let report = stage.play(&scaling, see).await?;
    let path = place.checkout.join(&arguments.plot);
    fs::write(&path, plot::svg(&report.samples)).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{}", report.json());
    if !arguments.json {
        println!("The picture is {}.", path.display());
    }
    if report.tally.lost.is_empty() { Ok(()) } else { Err(format!("{} requests were lost", report.tally.lost.len())) }
}
