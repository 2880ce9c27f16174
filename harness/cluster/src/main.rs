//! `penstock-cluster`: the cluster for a person. Started by `cargo xtask cluster`, in namespaces of its own.

mod demo;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use penstock_cluster::gateway::{self, Gateway};
use penstock_cluster::istiod::{Istiod, Mesh};
use penstock_cluster::kubernetes::Kubernetes;
use penstock_cluster::place::{DIRECTORY, Place};
use penstock_cluster::registry::Registry;
use penstock_cluster::{objects, servers};
use penstock_harness::model_server;

/// The real control plane of Kubernetes and Istio, a gateway and model servers, until Ctrl-C.
#[derive(Debug, Parser)]
struct Arguments {
    /// A directory with a kustomization.yaml that is applied, relative to the checkout; `none` for none.
    #[arg(long, default_value = "istio/mesh/trafficextension")]
    set: String,
    /// Where to write, line by line, the number of this process and the directories of the programs.
    #[arg(long)]
    pid_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Instead: Prometheus, KEDA and the HPA too, and a ramp of requests.
    Demo(demo::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("penstock-cluster: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    // The first process of a PID namespace is not ended by signals that it does not wait for.
    let interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let work = async {
        match &arguments.command {
            Some(Command::Demo(options)) => demo::run(options).await,
            None => serve(&arguments).await,
        }
    };
    tokio::select! {
        biased;
        _ = interrupted => Ok(()),
        done = work => done,
    }
}

/// Starts the cluster, and keeps it until it is not polled any more.
async fn serve(arguments: &Arguments) -> Result<(), String> {
    let began = Instant::now();
    let _cluster = up(arguments).await?;
    println!("up in {:.1} s", began.elapsed().as_secs_f64());
    println!("The gateway listens on 127.0.0.1:80 of the cluster's network; logs are in {DIRECTORY} of its files.");
    println!("In another terminal, for example:");
    println!("  cargo xtask cluster exec -- kubectl get --all-namespaces envoyfilters");
    println!(
        "  cargo xtask cluster exec -- curl -i 127.0.0.1/v1/chat/completions -H 'host: llm.example.com' -H 'content-type: application/json' \\"
    );
    println!("    -d '{{\"model\": \"chat\", \"messages\": [{{\"role\": \"user\", \"content\": \"hello\"}}]}}'");
    println!("Ctrl-C ends it.");
    std::future::pending().await
}

/// What lives as long as the cluster, in the order in which it is stopped.
type Cluster = (Gateway, Istiod, Registry, Kubernetes, Vec<servers::Server>);

async fn up(arguments: &Arguments) -> Result<Cluster, String> {
    let place = Place::find()?;
    if let Some(path) = &arguments.pid_file {
        write_pid_file(path, &place)?;
    }
    let mesh = Mesh::shipped(&place)?;
    let (kubernetes, registry) = tokio::try_join!(Kubernetes::start(&place), Registry::start(&place))?;
    let servers = servers::start(&model_server::Options::default()).await.map_err(|error| error.to_string())?;
    kubernetes.apply(&servers::objects(&servers)).await?;
    if arguments.set != "none" {
        let mut set = objects::kustomization(&place, &place.checkout.join(&arguments.set))?;
        registry.serve(&place, &mut set)?;
        kubernetes.apply(&set).await?;
    }
    let istiod = Istiod::start(&place, &mesh).await?;
    let gateway = Gateway::start(&place, &mesh, gateway::Options::default()).await?;
    Ok((gateway, istiod, registry, kubernetes, servers))
}

fn write_pid_file(path: &Path, place: &Place) -> Result<(), String> {
    // /proc is that of the outer PID namespace, and names this process as it is known there.
    let own = fs::read_link("/proc/self").map_err(|error| format!("/proc/self: {error}"))?;
    let mut text = format!("{}\n", own.display());
    place.directories().iter().for_each(|directory| text.push_str(&format!("{}\n", directory.display())));
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
