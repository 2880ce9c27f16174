//! The Envoys that are compared.

use std::path::{Path, PathBuf};

use penstock_harness::envoy::{self, Chain, Envoy, Gateway};
use serde_json::json;

use super::upstream::Upstream;
use crate::proxy::build;

/// What stands before the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Nothing.
    Bare,
    /// A filter that does nothing.
    Noop,
    /// A filter that makes the calls which Penstock cannot do without, and decides nothing.
    Floor,
    /// Penstock.
    Penstock,
}

impl Filter {
    /// All of them, in the order of what they do.
    pub const ALL: [Self; 4] = [Self::Bare, Self::Noop, Self::Floor, Self::Penstock];
}

/// What is needed to start them.
pub struct Gateways {
    binary: PathBuf,
    checkout: PathBuf,
    noop: PathBuf,
    floor: PathBuf,
    o200k: PathBuf,
}

impl Gateways {
    /// Looks for Envoy, and compiles the filters that are compared.
    pub fn find() -> Result<Self, String> {
        let checkout = envoy::checkout()?;
        let binary = envoy::find(&checkout).ok_or("no Envoy; `cargo xtask tools` installs one")?;
        let (noop, floor) = (build(&checkout, "penstock-noop")?, build(&checkout, "penstock-floor")?);
        let o200k = checkout.join("target/o200k/penstock.wasm");
        Ok(Self { binary, checkout, noop, floor, o200k })
    }

    /// Penstock with that encoding alone in it, where `cargo xtask bench load` has built it.
    pub fn o200k(&self) -> Option<&Path> {
        self.o200k.is_file().then_some(&self.o200k)
    }

    /// One of each, with one worker.
    pub async fn start_all(&self, upstream: &Upstream) -> Result<Vec<(Filter, Envoy)>, String> {
        let mut envoys = Vec::new();
        for filter in Filter::ALL {
            envoys.push((filter, self.start(filter, None, upstream, 1).await?));
        }
        Ok(envoys)
    }

    /// One of them, or another module in its place. `envoy/gateway.yaml` without its access log, whose lines would be most of what is written to the disk here.
    pub async fn start(
        &self,
        filter: Filter,
        module: Option<&Path>,
        upstream: &Upstream,
        workers: u32,
    ) -> Result<Envoy, String> {
        let config = json!({
            "waitForBody": true,
            "tenant": {"from": [{"header": "x-api-key"}]},
            "models": [{"name": "chat", "tokenizer": "o200k_base", "versions": [
                {"name": "stable", "weight": 90, "model": "llama"}, {"name": "canary", "weight": 10, "model": "llama-r2"},
            ]}],
            "limits": [{"name": "tpm", "per": ["tenant"], "tokens": 1u64 << 40, "every": "1m"}],
        });
        let gateway = Gateway::load(&self.checkout, "gateway.yaml")?
            .cluster("stable", upstream.address())
            .cluster("canary", upstream.address())
            .set("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/access_log", json!([]))
            .plugin_config(&config);
        let gateway = match filter {
            Filter::Bare => gateway.chain(Chain::Without),
            Filter::Noop => gateway.chain(Chain::One).module(&self.noop),
            Filter::Floor => gateway.chain(Chain::One).module(&self.floor),
            Filter::Penstock => gateway.chain(Chain::One),
        };
        let gateway = module.map_or(gateway.clone(), |module| gateway.module(module));
        Envoy::start(&self.binary, &gateway.render(), workers).await
    }
}
